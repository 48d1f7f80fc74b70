//! Where the chain is read.

use std::path::PathBuf;

use bitcoin::Network;
use serde::Deserialize;
use toml::Spanned;

use super::check::absolute;
use super::error::Wrong;

/// Who the node is told that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainAuth {
    /// Whoever can read this file of the node's.
    Cookie(PathBuf),
    /// A user of the node's configuration.
    User {
        /// The name.
        name: String,
        /// The file whose first line is the password.
        password_file: PathBuf,
    },
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// A bitcoin node.
    Bitcoind {
        /// `http://HOST:PORT`.
        url: String,
        /// Who asks.
        auth: ChainAuth,
    },
    /// A server of the Esplora API.
    Esplora {
        /// `https://HOST/PATH` or `http://HOST:PORT/PATH`.
        url: String,
        /// Certificates of who vouches for it, in place of the machine's own list.
        ca_file: Option<PathBuf>,
    },
}

/// Where the chain is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Who is asked.
    pub kind: ChainKind,
    /// The chain that it must be on.
    pub network: Network,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Bitcoind,
    Esplora,
}

/// `[chain]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChain {
    kind: Kind,
    url: Spanned<String>,
    network: Spanned<String>,
    cookie_file: Option<Spanned<PathBuf>>,
    user: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    ca_file: Option<Spanned<PathBuf>>,
}

/// Checks the table.
pub(super) fn check(raw: Spanned<RawChain>) -> Result<Chain, Wrong> {
    let span = raw.span();
    let raw = raw.into_inner();
    let network = network(&raw.network)?;
    let kind = match raw.kind {
        Kind::Bitcoind => bitcoind(raw, span)?,
        Kind::Esplora => esplora(raw)?,
    };
    Ok(Chain { kind, network })
}

fn bitcoind(raw: RawChain, span: std::ops::Range<usize>) -> Result<ChainKind, Wrong> {
    if let Some(file) = raw.ca_file {
        return Err(not_for(&file, "ca_file", "`kind = \"esplora\"`"));
    }
    let url = url(raw.url, &["http://"], "http://HOST:PORT")?;
    let auth = match (raw.cookie_file, raw.user, raw.password_file) {
        (Some(cookie), None, None) => ChainAuth::Cookie(absolute("cookie_file", cookie)?.1),
        (None, Some(user), Some(file)) => ChainAuth::User {
            name: user.into_inner(),
            password_file: absolute("password_file", file)?.1,
        },
        _ => {
            let what = "give either `cookie_file`, or `user` and `password_file`";
            return Err(Wrong::new(span, what.to_owned()));
        }
    };
    Ok(ChainKind::Bitcoind { url, auth })
}

fn esplora(raw: RawChain) -> Result<ChainKind, Wrong> {
    const ONLY: &str = "`kind = \"bitcoind\"`";
    for (file, key) in [(&raw.cookie_file, "cookie_file"), (&raw.password_file, "password_file")] {
        if let Some(file) = file {
            return Err(not_for(file, key, ONLY));
        }
    }
    if let Some(user) = &raw.user {
        return Err(not_for(user, "user", ONLY));
    }
    let schemes = ["https://", "http://"];
    let url = url(raw.url, &schemes, "https://HOST/PATH, or http://HOST:PORT of your own")?;
    let ca_file = raw.ca_file.map(|file| absolute("ca_file", file)).transpose()?;
    Ok(ChainKind::Esplora { url, ca_file: ca_file.map(|(_, path)| path) })
}

fn url(url: Spanned<String>, schemes: &[&str], give: &str) -> Result<String, Wrong> {
    if schemes.iter().any(|scheme| url.get_ref().starts_with(scheme)) {
        return Ok(url.into_inner());
    }
    let what = format!("`url` is `{}`: give {give}", url.get_ref());
    Err(Wrong::new(url.span(), what))
}

fn not_for<T>(value: &Spanned<T>, key: &str, only: &str) -> Wrong {
    Wrong::new(value.span(), format!("`{key}` is only for {only}: leave it out"))
}

fn network(name: &Spanned<String>) -> Result<Network, Wrong> {
    name.get_ref().parse().map_err(|_| {
        let what = format!(
            "`network` can't be `{}`: use one of `bitcoin`, `testnet4`, `signet`, `regtest`",
            name.get_ref()
        );
        Wrong::new(name.span(), what)
    })
}
