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
    assert!(alone.starts_with("[channels] needs a bitcoin node"), "{alone}");
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
