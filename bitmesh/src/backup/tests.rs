use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn keys(highest_index: u32) -> BackupLine {
    BackupLine::Keys { highest_index }
}

fn over(byte: u8) -> BackupLine {
    BackupLine::Over { channel: ChannelId([byte; 32]) }
}

fn script(folder: &Path, text: &str) -> Target {
    let path = folder.join("save");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Target::Command(vec![path.display().to_string(), folder.display().to_string()])
}

fn start(target: Target) -> Backup {
    Backup::start(target, || true).unwrap()
}

#[test]
fn a_directory_holds_the_newest_line_private_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let backup = start(Target::Directory(folder.path().to_owned()));
    for index in 0..100 {
        backup.keep(keys(index));
    }
    assert!(backup.finish(PATIENCE));
    let file = folder.path().join("keys.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(folder.path().join("torn.json"), "{\"kind\":\"ke").unwrap();
    fs::write(folder.path().join("note.txt"), "not ours").unwrap();
    let Read { lines, damaged } = read(folder.path()).unwrap();
    assert_eq!(lines, [keys(99)]);
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].contains("torn.json, line 1"), "{damaged:?}");
}

#[test]
fn a_file_of_a_channel_that_is_over_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("{}.json", ChannelId([7; 32])));
    fs::write(&file, "{}").unwrap();
    let backup = start(Target::Directory(folder.path().to_owned()));
    backup.keep(over(7));
    backup.keep(over(8));
    assert!(backup.finish(PATIENCE));
    assert!(!file.exists());
}

#[test]
fn a_command_gets_lines_and_what_it_failed_to_save_it_gets_again() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[ -e \"$1/once\" ] || { touch \"$1/once\"; exit 3; }\ncat >>\"$1/lines\"";
    let backup = start(script(folder.path(), text));
    backup.keep(keys(1));
    backup.keep(over(1));
    let deadline = Instant::now() + PATIENCE;
    while backup.health().why.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(backup.health().why.unwrap().contains("exit status: 3"));
    backup.keep(keys(2));
    assert!(backup.finish(PATIENCE));
    let Read { lines, damaged } = read(&folder.path().join("lines")).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(lines, [keys(2), over(1)]);
}

#[test]
fn who_pays_never_waits_for_a_copy_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let backup = start(script(folder.path(), "exec sleep 60"));
    let began = Instant::now();
    for byte in 0..=255 {
        backup.keep(over(byte));
        backup.keep(over(byte));
    }
    assert!(backup.health().behind >= 255);
    assert!(!backup.finish(Duration::from_millis(10)));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_target_that_is_not_there_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    for target in [
        Target::Directory(folder.path().join("gone")),
        Target::Command(vec![folder.path().join("gone").display().to_string()]),
    ] {
        let backup = start(target);
        backup.keep(keys(1));
        let deadline = Instant::now() + PATIENCE;
        while backup.health().why.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let why = backup.health().why.unwrap();
        assert!(why.contains("gone") && why.contains(": mend it"), "{why}");
    }
}
