use super::*;

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
        lans: vec![Lan {
            interface: "wlan0".into(),
            portal_port: 2121,
            resolver: true,
            names: vec![],
        }],
        tariffs: BTreeMap::from([("default".into(), Tariff::default())]),
        payments: None,
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
    let first = Lan {
        interface: "br-lan".into(),
        portal_port: 80,
        resolver: false,
        names: vec!["gateway.lan".into()],
    };
    assert_eq!(config.lans[0], first);
    assert_eq!(config.lans.len(), 2);
    let tariff = Tariff { uplink_msat_per_mib: 1, downlink_msat_per_mib: 2, msat_per_minute: 3 };
    assert_eq!(config.tariffs["default"], tariff);
    assert_eq!(config.tariffs["night"], Tariff::default());
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
    refused(
        "\ndatabse = \"/x\"\n",
        "gateway.toml:2: unknown key `databse`: use one of `database`, `socket`, `bpffs`, \
         `hook`, `lan`, `tariffs`, `chain`, `channels`",
    );
    refused(
        "[[lan]]\ninterface = \"a\"\n\nport = 1\n",
        "gateway.toml:4: unknown key `port`: use one of `interface`, `portal_port`, `resolver`, \
         `names`",
    );
    refused(
        "[tariffs.default]\nmsat_per_mib = 1\n",
        "gateway.toml:2: unknown key `msat_per_mib`: use one of `uplink_msat_per_mib`, \
         `downlink_msat_per_mib`, `msat_per_minute`",
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
        "hook = \"xdp\"\n",
        "gateway.toml:1: `hook` can't be `xdp`: use one of `auto`, `tcx`, `clsact`",
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
