use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn refused(arguments: &[&str]) -> String {
    let error = Cli::try_parse_from(arguments).err().expect("must be refused");
    usage(&error.to_string())
}

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_argument_has_a_help_text() {
    for command in Cli::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
    }
}

#[test]
fn a_wrong_use_is_one_line_that_says_where_to_look() {
    assert_eq!(
        refused(&["bitmesh", "grant", "02:00:00:00:00:0a"]),
        "the following required arguments were not provided: --msat <N>: see `bitmesh --help`"
    );
    assert_eq!(
        refused(&["bitmesh", "stop", "bob"]),
        "invalid value 'bob' for '<MAC>': not a MAC address: write six octets, like \
         02:00:00:00:00:0a: see `bitmesh --help`"
    );
    assert_eq!(
        refused(&["bitmesh", "status", "--jsn"]),
        "unexpected argument '--jsn' found: see `bitmesh --help`"
    );
}

#[test]
fn help_is_no_error() {
    let error = Cli::try_parse_from(["bitmesh", "--help"]).err().expect("help");
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
}
