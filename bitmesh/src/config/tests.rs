use bitmesh_core::bargain::{BargainPolicy, DemandPolicy, Hours};
use bitmesh_core::{EarlyCredit, Payout as _};

use super::*;

mod chain;

const SMALLEST: &str = "[[lan]]\ninterface = \"wlan0\"\n[tariffs.default]\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("gateway.toml"), text).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(parse(text).expect_err("must be refused"), expected);
}

#[test]
fn the_smallest_configuration_gets_the_defaults() {
    let config = parse(SMALLEST).expect("valid");
    let expected = Config {
        database: "/var/lib/bitmesh/bitmesh.db".into(),
        socket: "/run/bitmesh/bitmesh.sock".into(),
        bpffs: "/sys/fs/bpf/bitmesh".into(),
        hook: Hook::Auto,
        allow_bypass: false,
        anti_spoof: true,
        dhcp_leases: None,
        allowance: None,
        lans: vec![Lan {
            interface: "wlan0".into(),
            portal_port: 2121,
            resolver: true,
            names: vec![],
        }],
        tariffs: BTreeMap::from([("default".into(), Tariff::default())]),
        payments: None,
        backup: None,
        portal: PortalPages::default(),
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        r#"
        database = "/tmp/db"
        socket = "/tmp/socket"
        bpffs = "/sys/fs/bpf/other"
        hook = "clsact"
        allow_bypass = true
        anti_spoof = false
        [[lan]]
        interface = "br-lan"
        portal_port = 80
        resolver = false
        names = ["Gateway.lan"]
        [[lan]]
        interface = "wlan1"
        [tariffs.default]
        uplink_msat_per_mib = 1
        downlink_msat_per_mib = 2
        msat_per_minute = 3
        [tariffs.night]
        "#,
    )
    .expect("valid");
    assert_eq!(config.hook, Hook::Clsact);
    assert!(config.allow_bypass);
    assert!(!config.anti_spoof);
    let xdp = parse(&format!("hook = \"xdp\"\n{SMALLEST}"));
    assert_eq!(xdp.expect("it can be chosen").hook, Hook::Xdp);
    let first = Lan {
        interface: "br-lan".into(),
        portal_port: 80,
        resolver: false,
        names: vec!["gateway.lan".into()],
    };
    assert_eq!(config.lans[0], first);
    assert_eq!(config.lans.len(), 2);
    let tariff = Tariff {
        uplink_msat_per_mib: 1,
        downlink_msat_per_mib: 2,
        msat_per_minute: 3,
        ..Tariff::FREE
    };
    assert_eq!(config.tariffs["default"], tariff);
    assert_eq!(config.tariffs["night"], Tariff::default());
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
    refused(
        "\ndatabse = \"/x\"\n",
        "gateway.toml:2: unknown key `databse`: use one of `database`, `socket`, `bpffs`, \
         `hook`, `anti_spoof`, `dhcp_leases`, `allow_bypass`, `pay_allowance_kib`, \
         `pay_allowance_total_kib`, `lan`, `tariffs`, `chain`, `channels`, `bargaining`, `backup`, `portal`",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\n\nport = 1\n",
        "gateway.toml:4: unknown key `port`: use one of `interface`, `portal_port`, `resolver`, \
         `names`",
    );
    refused(
        "[tariffs.default]\nmsat_per_mib = 1\n",
        "gateway.toml:2: unknown key `msat_per_mib`: use one of `uplink_msat_per_mib`, \
         `downlink_msat_per_mib`, `msat_per_minute`, `uplink_kbit_per_s`, `downlink_kbit_per_s`, \
         `throttle_kbit_per_s`",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_line_and_key() {
    refused(
        "[[lan]]\ninterface = \"a\"\nportal_port = \"web\"\n",
        "gateway.toml:3: `portal_port` can't be string \"web\": give a whole number from 0 to 65535",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\nportal_port = 70000\n",
        "gateway.toml:3: `portal_port` can't be integer `70000`: give a whole number from 0 to \
         65535",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\nresolver = 1\n",
        "gateway.toml:3: `resolver` can't be integer `1`: give true or false",
    );
    refused(
        "[tariffs.default]\nmsat_per_minute = -1\n",
        "gateway.toml:2: `msat_per_minute` can't be integer `-1`: give a whole number, 0 or more",
    );
    refused(
        "database = 7\n",
        "gateway.toml:1: `database` can't be integer `7`: give a text in quotes",
    );
    refused(
        "[lan]\ninterface = \"a\"\n",
        "gateway.toml:1: `lan` can't be a table: give a table in double brackets, as in [[lan]]",
    );
}

#[test]
fn a_value_out_of_its_range_is_refused_with_its_line() {
    refused(
        "hook = \"nft\"\n",
        "gateway.toml:1: `hook` can't be `nft`: use one of `auto`, `tcx`, `clsact`, `xdp`",
    );
    refused(
        "\n\nsocket = \"here\"\n",
        "gateway.toml:3: `socket` is `here`: give a path that starts with /",
    );
    refused(
        &format!("socket = \"/{}\"\n", "s".repeat(107)),
        "gateway.toml:1: `socket` is too long: a socket's path has at most 107 bytes",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\nportal_port = 0\n",
        "gateway.toml:3: `portal_port` can't be 0: give the port of the portal",
    );
    refused(
        "[[lan]]\ninterface = \"a/b\"\n",
        "gateway.toml:2: `a/b` is no name of an interface: see `ip link`",
    );
    refused(
        "[[lan]]\ninterface = \"sixteen-bytes-if\"\n",
        "gateway.toml:2: `sixteen-bytes-if` is too long for an interface, which has at most 15 \
         bytes: see `ip link`",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\n[[lan]]\ninterface = \"a\"\n",
        "gateway.toml:4: the interface `a` is there twice: remove one",
    );
    refused(
        &format!("{SMALLEST}\n[tariffs.\"two words\"]\n"),
        "gateway.toml:5: `two words` is no name of a tariff: use 1 to 32 letters, digits, - and _",
    );
    refused(
        &format!("{SMALLEST}msat_per_minute = 268435456\n"),
        "gateway.toml:3: tariff `default`: a minute costs at most 268435455 msat, not 268435456: \
         lower the price",
    );
}

#[test]
fn what_is_missing_is_named() {
    refused("", "gateway.toml: no LAN interface: add [[lan]] with `interface = \"…\"`");
    refused(
        "[[lan]]\ninterface = \"a\"\n[tariffs.night]\n",
        "gateway.toml: there is no tariff `default`: add [tariffs.default]",
    );
    refused(
        "\n[[lan]]\nresolver = true\n",
        "gateway.toml:2: `interface` is missing: add `interface = …` to this table",
    );
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let error = parse("hook = \"auto\"\nlan = [\n").expect_err("must be refused");
    assert!(error.starts_with("gateway.toml:"), "{error}");
    assert!(error.ends_with(": this is not TOML, mend the line"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn more_lans_than_the_kernel_holds_are_refused() {
    let mut text = String::new();
    for n in 0..9 {
        text.push_str(&format!("[[lan]]\ninterface = \"if{n}\"\n"));
    }
    refused(&text, "gateway.toml:18: more than 8 LAN interfaces: remove some");
}

#[test]
fn a_file_that_is_missing_or_endless_is_refused() {
    let missing = Config::load(Path::new("/no/such/file.toml")).expect_err("refused").to_string();
    assert_eq!(
        missing,
        "/no/such/file.toml: No such file or directory (os error 2): give the path of a readable \
         configuration with --config"
    );
    let endless = Config::load(Path::new("/dev/zero")).expect_err("refused").to_string();
    assert_eq!(endless, "/dev/zero: longer than 65536 bytes: give a configuration of bitmesh");
}

const CHAIN: &str = r#"
[chain]
kind = "bitcoind"
url = "http://127.0.0.1:18443"
network = "regtest"
cookie_file = "/node/.cookie"
"#;

const CHANNELS: &str = r#"
[channels]
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
"#;

/// A configuration that sells channels, with another line in place of one.
fn selling(line: &str, other: &str) -> Result<Config, String> {
    let text = format!("{SMALLEST}{CHAIN}{CHANNELS}");
    assert!(text.contains(line), "{line}");
    parse(&text.replace(line, other))
}

/// The part of a complaint behind the file and the line.
#[track_caller]
fn complaint(config: Result<Config, String>) -> String {
    let error = config.expect_err("must be refused");
    assert!(error.starts_with("gateway.toml:"), "{error}");
    error.splitn(3, ':').nth(2).expect("a line").trim().to_owned()
}

#[test]
fn what_sells_channels_gets_the_defaults() {
    let payments = selling("", "").expect("valid").payments.expect("both tables");
    let Channels { lock_blocks, margin_blocks, confirmations, .. } = payments.channels;
    assert_eq!((lock_blocks, margin_blocks, confirmations), (1_008, 144, 1));
    assert_eq!(payments.channels.seed_file, Path::new("/var/lib/bitmesh/seed"));
}

#[test]
fn bargaining_has_defaults_but_for_the_floor_and_a_time_of_day_may_pass_midnight() {
    let table = "[bargaining]\nfloor_percent = 60\ncapacity_kbit_per_s = 5000\n\
                 [[bargaining.hours]]\nfrom = \"22:00\"\nuntil = \"06:30\"\nfloor_percent = 30\n";
    let text = format!("{SMALLEST}{CHAIN}{CHANNELS}{table}");
    let policy = parse(&text).expect("valid").payments.and_then(|both| both.bargaining);
    let demand = DemandPolicy { capacity_kbit_per_s: 5_000, busy_percent: 50 };
    let night = Hours { from_minute: 22 * 60, until_minute: 390, floor_percent: 30 };
    let expected = BargainPolicy {
        floor_percent: 60,
        step_percent: 10,
        rounds: 4,
        demand: Some(demand),
        hours: vec![night],
    };
    assert_eq!(policy, Some(expected));
    assert_eq!(selling("", "").expect("valid").payments.and_then(|both| both.bargaining), None);
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused() {
    let with = |lines: &str| {
        let policy = format!("[bargaining]\n{lines}\n");
        complaint(parse(&format!("{SMALLEST}{CHAIN}{CHANNELS}{policy}")))
    };
    assert_eq!(with("floor_percent = 0"), "`floor_percent` is 0: give 1 to 100");
    assert_eq!(with("floor_percent = 9\nrounds = 17"), "`rounds` is 17: give 1 to 16");
    let hours = "floor_percent = 9\n[[bargaining.hours]]\nfrom = \"24:00\"\nuntil = \"1:00\"\n\
                 floor_percent = 9";
    assert_eq!(with(hours), "`from` is `24:00`: give a time of day as \"18:00\"");
    let alone = complaint(parse(&format!("{SMALLEST}[bargaining]\nfloor_percent = 9\n")));
    assert_eq!(alone, "[bargaining] is about the price of channels: add [chain] and [channels]");
}

#[test]
fn terms_that_cannot_stand_are_refused() {
    let wrong = [
        ("tariff = \"night\"", "there is no tariff `night`: use one of default"),
        ("lock_blocks = 149", "`lock_blocks` (149) must be `margin_blocks` (144) and at least 6"),
        ("lock_blocks = 100000", "`lock_blocks` is 100000: give 1 to 52560"),
        ("margin_blocks = 35", "`margin_blocks` is 35: give 36 to 52560"),
        ("confirmations = 145", "`confirmations` is 145: give 1 to 144"),
        ("min_first_update_sat = 534", "`min_first_update_sat` is 534: give 535 to 100000000"),
        ("min_capacity_sat = 999", "`min_capacity_sat` (999) is below `min_first_update_sat`"),
        ("max_capacity_sat = 9999", "`max_capacity_sat` (9999) is below `min_capacity_sat`"),
        ("max_capacity_sat = 100000001", "`max_capacity_sat` is 100000001: give"),
        ("seed_file = \"seed\"", "`seed_file` is `seed`: give a path that starts with /"),
        ("seed = \"secret\"", "unknown key `seed`"),
        ("lock_blocks = -1", "`lock_blocks` can't be integer `-1`: give a whole number"),
    ];
    for (line, why) in wrong {
        let said = complaint(selling("[channels]", &format!("[channels]\n{line}")));
        assert!(said.starts_with(why), "{line}: {said}");
    }
}

#[test]
fn a_payout_that_a_close_could_not_pay_is_refused() {
    let given = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    for (other, why) in [
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt08", "`payout_address` is no bitcoin address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "`payout_address` is not of regtest"),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "`payout_address` is of an old kind"),
    ] {
        let said = complaint(selling(given, other));
        assert!(said.starts_with(why), "{said}");
    }
}

/// An extended public key of the test chains.
const XPUB: &str = "tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp";

#[test]
fn a_descriptor_gives_each_channel_an_output_of_its_own() {
    let address = "payout_address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"";
    for (descriptor, is_ranged) in [
        (format!("tr({XPUB}/0/*)"), true),
        (format!("wpkh({XPUB}/0/*)"), true),
        (format!("wsh(multi(1,{XPUB}/0/*,{XPUB}/1/*))"), true),
        (format!("wpkh({XPUB}/0/7)"), false),
    ] {
        let given = selling(address, &format!("payout_descriptor = \"{descriptor}\""));
        let payout = given.expect("valid").payments.expect("both tables").channels.payout;
        let scripts = [0, 1, 1, (1 << 31) - 1].map(|index| payout.script(index).expect("a script"));
        assert_eq!(scripts[1], scripts[2]);
        assert_eq!(scripts[0] != scripts[1] && scripts[1] != scripts[3], is_ranged);
        assert!(!format!("{payout:?}").contains("tpub"), "not for the log");
    }
}

#[test]
fn a_descriptor_that_a_close_could_not_pay_is_refused_and_not_repeated() {
    let address = "payout_address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"";
    let mainnet = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8";
    let secret = "cVt4o7BGAig1UXywgGSmARhxMdzP5qvQsxKkSsc1XEkw3tDTQFpy";
    for (descriptor, why) in [
        (format!("pkh({XPUB}/0/*)"), "is of an old kind"),
        (format!("sh(wpkh({XPUB}/0/*))"), "is of an old kind"),
        (format!("wpkh({mainnet}/0/*)"), "has keys of another chain than regtest"),
        (format!("wpkh({XPUB}/<0;1>/*)"), "has several paths"),
        (format!("wpkh({XPUB}/0/*h)"), "needs private keys"),
        (format!("wpkh({secret})"), "is no output descriptor of public keys"),
        (format!("wpkh({XPUB}/0/*)#00000000"), "is no output descriptor"),
        ("bcrt1q".to_owned(), "is no output descriptor"),
    ] {
        let given = selling(address, &format!("payout_descriptor = \"{descriptor}\""));
        let error = given.expect_err("must be refused");
        assert!(error.contains(&format!("`payout_descriptor` {why}")), "{descriptor}: {error}");
        assert!(error.starts_with("gateway.toml:12: "), "{error}");
        assert!(!error.contains(secret) && !error.contains("tpub"), "{error}");
    }
}

#[test]
fn an_address_or_a_descriptor_is_given_and_not_both() {
    let line = "payout_address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"";
    let none = complaint(selling(line, ""));
    assert!(none.contains("add `payout_address = \"…\"` or `payout_descriptor"), "{none}");
    let both = complaint(selling(line, &format!("{line}\npayout_descriptor = \"wpkh({XPUB})\"")));
    assert!(both.starts_with("give either `payout_address` or `payout_descriptor`"), "{both}");
}

#[test]
fn a_name_that_no_host_can_have_is_refused() {
    refused(
        "[[lan]]\ninterface = \"a\"\nnames = [\"a b\"]\n",
        "gateway.toml:3: `a b` is no name of a host: use letters, digits, - and dots",
    );
}

#[test]
fn the_page_about_the_place_has_an_address_of_a_page() {
    let venue = |url: &str| parse(&format!("{SMALLEST}[portal]\nvenue_info_url = \"{url}\"\n"));
    let config = venue("https://cafe.example/menu").expect("valid");
    assert_eq!(config.portal.venue.as_deref(), Some("https://cafe.example/menu"));
    for url in ["", "cafe.example", "javascript:x", "https://", "https:///x", "http://a b"] {
        let said = venue(url).expect_err(url).to_string();
        assert!(said.contains("`venue_info_url` is no address of a page"), "{said}");
    }
}

#[test]
fn a_backup_goes_to_a_directory_or_a_command_and_belongs_to_channels() {
    let with = |lines: &str| parse(&format!("{SMALLEST}{CHAIN}{CHANNELS}[backup]\n{lines}\n"));
    let directory = with("directory = \"/mnt/usb\"").expect("valid").backup;
    assert_eq!(directory, Some(Target::Directory("/mnt/usb".into())));
    let command = with("command = [\"/bin/save\", \"x\"]").expect("valid").backup;
    assert_eq!(command, Some(Target::Command(vec!["/bin/save".into(), "x".into()])));
    let either = "give either `directory` or `command`";
    assert_eq!(complaint(with("")), either);
    assert_eq!(complaint(with("directory = \"/a\"\ncommand = [\"/b\"]")), either);
    let own = "`directory` is the database's own: name one on another disk";
    assert_eq!(complaint(with("directory = \"/var/lib/bitmesh\"")), own);
    for words in ["[]", "[\"save\"]"] {
        let named = complaint(with(&format!("command = {words}")));
        assert!(named.starts_with("`command` names a program and its arguments"), "{named}");
    }
    let alone = complaint(parse(&format!("{SMALLEST}[backup]\ndirectory = \"/mnt/usb\"\n")));
    assert_eq!(alone, "[backup] keeps a copy of the channels: add [chain] and [channels]");
}

#[test]
fn leases_are_a_file_and_serve_who_asks_whose_an_address_is() {
    let with = |lines: &str| parse(&format!("{lines}\n{SMALLEST}"));
    let path = "dhcp_leases = \"/tmp/dhcp.leases\"";
    assert_eq!(with(path).expect("valid").dhcp_leases, Some("/tmp/dhcp.leases".into()));
    for (lines, why) in [
        ("dhcp_leases = \"dhcp.leases\"".to_owned(), "give a path that starts with /"),
        (format!("anti_spoof = false\n{path}"), "asks nobody: remove one of them"),
    ] {
        assert!(with(&lines).expect_err("must be refused").to_string().contains(why), "{lines}");
    }
}

#[test]
fn an_allowance_is_given_by_one_line_and_has_its_bounds() {
    let given = |lines: &str| parse(&format!("{lines}\n{SMALLEST}"));
    assert_eq!(given("").expect("valid").allowance, None);
    let policy = given("pay_allowance_kib = 512").expect("valid").allowance.expect("given");
    assert_eq!((policy.amount.0, policy.total.0), (512, 32_768));
    let both = "pay_allowance_kib = 8\npay_allowance_total_kib = 16";
    assert_eq!(given(both).expect("valid").allowance.expect("given").total.0, 16);
    for (lines, why) in [
        ("pay_allowance_kib = 0", "give a number from 1 to 1048576"),
        ("pay_allowance_kib = 1048577", "give a number from 1 to 1048576"),
        ("pay_allowance_total_kib = 16", "without `pay_allowance_kib`"),
        ("pay_allowance_kib = 8\npay_allowance_total_kib = 15", "16 to 32768"),
        ("pay_allowance_kib = 8\npay_allowance_total_kib = 32769", "16 to 32768"),
    ] {
        let error = given(lines).expect_err("must be refused").to_string();
        assert!(error.contains(why), "{lines}: {error}");
    }
}

#[test]
fn credit_before_a_confirmation_is_off_and_has_two_limits_or_none() {
    let with = |lines: &str| parse(&format!("{SMALLEST}{CHAIN}{CHANNELS}{lines}\n"));
    let early = |lines: &str| with(lines).expect("valid").payments.expect("both").channels.early;
    assert_eq!(early(""), None);
    let sat = bitcoin::Amount::from_sat;
    let both = early("unconfirmed_sat = 2000\nunconfirmed_total_sat = 9000");
    assert_eq!(both, Some(EarlyCredit { per_channel: sat(2_000), in_total: sat(9_000) }));
    let one = complaint(with("unconfirmed_sat = 2000"));
    assert!(one.starts_with("credit before the funding is confirmed has two limits"), "{one}");
    let less = complaint(with("unconfirmed_sat = 2000\nunconfirmed_total_sat = 1999"));
    assert!(less.starts_with("`unconfirmed_total_sat` is 1999: give 2000 to"), "{less}");
    let none = complaint(with("confirmations = 0"));
    assert!(none.starts_with("`confirmations` is 0: give 1 to"), "{none}");
}
