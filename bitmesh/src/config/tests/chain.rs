//! Where the chain is read.

use super::*;

/// Who is asked, with another line in place of one.
fn kind(line: &str, other: &str) -> ChainKind {
    selling(line, other).expect("valid").payments.expect("both tables").chain.kind
}

#[test]
fn a_node_is_asked_with_its_cookie_or_a_password() {
    let url = "http://127.0.0.1:18443".to_owned();
    let auth = ChainAuth::Cookie("/node/.cookie".into());
    assert_eq!(kind("", ""), ChainKind::Bitcoind { url: url.clone(), auth });
    let user = "user = \"gateway\"\npassword_file = \"/etc/password\"";
    let password_file = "/etc/password".into();
    let auth = ChainAuth::User { name: "gateway".into(), password_file };
    let expected = ChainKind::Bitcoind { url, auth };
    assert_eq!(kind("cookie_file = \"/node/.cookie\"", user), expected);
}

/// A configuration that reads the chain from a server, with these lines.
fn esplora(lines: &str) -> Result<Config, String> {
    let chain = format!("[chain]\nkind = \"esplora\"\nnetwork = \"regtest\"\n{lines}\n");
    parse(&format!("{SMALLEST}{chain}{CHANNELS}"))
}

#[test]
fn a_server_needs_an_address_alone_and_its_own_authority_may_be_named() {
    let kind = |lines| esplora(lines).expect("valid").payments.expect("both tables").chain.kind;
    let url = "https://esplora.example/api".to_owned();
    let line = "url = \"https://esplora.example/api\"";
    assert_eq!(kind(line), ChainKind::Esplora { url: url.clone(), ca_file: None });
    let with_file = format!("{line}\nca_file = \"/etc/ssl/own.pem\"");
    let ca_file = Some("/etc/ssl/own.pem".into());
    assert_eq!(kind(&with_file), ChainKind::Esplora { url, ca_file });
}

#[test]
fn a_server_that_cannot_be_asked_is_refused() {
    let only = "is only for `kind = \"bitcoind\"`: leave it out";
    for (lines, why) in [
        ("url = \"esplora.example\"", "`url` is `esplora.example`: give https://".to_owned()),
        ("url = \"http://a\"\ncookie_file = \"/a\"", format!("`cookie_file` {only}")),
        ("url = \"http://a\"\npassword_file = \"/a\"", format!("`password_file` {only}")),
        ("url = \"http://a\"\nuser = \"a\"", format!("`user` {only}")),
        ("url = \"http://a\"\nca_file = \"a\"", "`ca_file` is `a`: give a path".to_owned()),
    ] {
        let said = complaint(esplora(lines));
        assert!(said.starts_with(&why), "{said}");
    }
}

#[test]
fn a_chain_without_channels_and_channels_without_a_chain_are_refused() {
    let alone = complaint(parse(&format!("{SMALLEST}{CHAIN}")));
    assert_eq!(alone, "[chain] is of no use alone: add [channels] with `payout_address = \"…\"`");
    let alone = complaint(parse(&format!("{SMALLEST}{CHANNELS}")));
    assert!(alone.starts_with("[channels] needs the bitcoin chain"), "{alone}");
}

#[test]
fn a_node_that_cannot_be_asked_is_refused() {
    let wrong = [
        ("kind = \"bitcoind\"", "kind = \"electrum\"", "`kind` can't be `electrum`"),
        ("http://127.0.0.1:18443", "127.0.0.1:18443", "`url` is `127.0.0.1:18443`"),
        ("network = \"regtest\"", "network = \"moon\"", "`network` can't be `moon`"),
        ("cookie_file = \"/node/.cookie\"", "", "give either `cookie_file`"),
        ("cookie_file = \"/node/.cookie\"", "user = \"me\"", "give either `cookie_file`"),
        ("\"/node/.cookie\"", "\"node/.cookie\"", "`cookie_file` is `node/.cookie`"),
        ("cookie_file", "cookie", "unknown key `cookie`"),
        ("cookie_file", "ca_file", "`ca_file` is only for `kind = \"esplora\"`"),
    ];
    for (line, other, why) in wrong {
        let said = complaint(selling(line, other));
        assert!(said.starts_with(why), "{said}");
    }
}

/// A configuration whose `[chain]` has these lines alone.
fn light(lines: &str) -> Result<Config, String> {
    parse(&format!("{SMALLEST}[chain]\n{lines}\n{CHANNELS}"))
}

#[test]
fn without_a_kind_peers_are_asked_and_two_of_those_named_must_agree() {
    let peers = |lines: &str| {
        let kind = light(lines).expect("valid").payments.expect("both tables").chain.kind;
        let ChainKind::Bip157(peers) = kind else { panic!("{kind:?}") };
        peers
    };
    let both = "network = \"regtest\"\npeers = [\"127.0.0.1:18444\", \"::1\"]";
    let expected = Peers {
        named: vec!["127.0.0.1:18444".parse().unwrap(), "[::1]:18444".parse().unwrap()],
        wanted: 2,
        required: 2,
        data_dir: "/var/lib/bitmesh/chain".into(),
    };
    assert_eq!(peers(both), expected);
    assert_eq!(peers(&format!("kind = \"bip157\"\n{both}")), expected);
    let four = "network = \"regtest\"\ndata_dir = \"/headers\"\n\
                peers = [\"10.0.0.1\", \"10.0.0.2\", \"10.0.0.3\", \"10.0.0.4\"]";
    let four = peers(four);
    assert_eq!((four.named.len(), four.wanted, four.required), (4, 3, 2));
    assert_eq!(four.data_dir, Path::new("/headers"));
    let one = "network = \"regtest\"\npeers = [\"10.0.0.1\"]\ntrust_one_peer = true";
    assert_eq!((peers(one).wanted, peers(one).required), (1, 1));
    let text = format!("{SMALLEST}[chain]\nnetwork = \"bitcoin\"\n{MAINNET_CHANNELS}");
    let kind = parse(&text).expect("valid").payments.expect("both tables").chain.kind;
    let ChainKind::Bip157(seeded) = kind else { panic!("{kind:?}") };
    assert_eq!((seeded.named, seeded.wanted, seeded.required), (vec![], 3, 2));
}

const MAINNET_CHANNELS: &str = r#"
[channels]
payout_address = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
"#;

#[test]
fn peers_that_cannot_be_believed_are_refused() {
    let regtest = "network = \"regtest\"\n";
    let peers = |peers: &str| format!("{regtest}peers = [{peers}]");
    let many: Vec<String> = (0..16).map(|number| format!("\"10.0.0.{number}\"")).collect();
    for (lines, why) in [
        (regtest.to_owned(), "nobody knows the peers of a regtest: add `peers"),
        (peers(""), "nobody knows the peers of a regtest: add `peers"),
        (peers("\"10.0.0.1\""), "one peer can hide a close that cheats you: name two or more"),
        (peers("\"bob\", \"carol\""), "the peer `bob` is no address: give IP:PORT"),
        (peers("\"10.0.0.1\", \"10.0.0.1:18444\""), "the peer `10.0.0.1:18444` is there twice"),
        (peers(&many.join(", ")), "more than 15 peers: remove some"),
        (
            format!("{}\ntrust_one_peer = true", peers("\"10.0.0.1\", \"10.0.0.2\"")),
            "`trust_one_peer` is for a single one in `peers`",
        ),
        (format!("{regtest}url = \"http://a\""), "`url` is only for `kind = \"bitcoind\"`"),
        (format!("{regtest}cookie_file = \"/a\""), "`cookie_file` is only for `kind"),
        (format!("{regtest}ca_file = \"/a\""), "`ca_file` is only for `kind = \"esplora\"`"),
        ("kind = \"bip157\"".to_owned(), "`network` is missing"),
    ] {
        let said = complaint(light(&lines));
        assert!(said.starts_with(why), "{said}");
    }
    let said = complaint(selling("cookie_file", "peers = [\"10.0.0.1\"]\ncookie_file"));
    assert!(said.starts_with("`peers` is only for `kind = \"bip157\"`"), "{said}");
}

#[test]
fn a_light_client_gives_no_credit_before_a_block() {
    let two = "network = \"regtest\"\npeers = [\"10.0.0.1\", \"10.0.0.2\"]";
    let early = "unconfirmed_sat = 2000\nunconfirmed_total_sat = 10000";
    let text = format!("{SMALLEST}[chain]\n{two}\n{CHANNELS}{early}\n");
    let said = complaint(parse(&text));
    assert!(said.starts_with("`unconfirmed_sat` counts what is in no block yet"), "{said}");
}
