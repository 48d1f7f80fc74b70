//! Where the chain is read.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bitcoin::Network;
use serde::Deserialize;
use toml::Spanned;

use super::check::absolute;
use super::error::Wrong;
use crate::chain::light::{DEFAULT_PEERS, MAX_PEERS, MIN_PEERS};

/// A light client's folder beside the database, unless another is named.
const DATA_DIR: &str = "chain";

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
    /// Peers, by a light client.
    Bip157(Peers),
}

/// Whom a light client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The only ones that are asked; none: those that the network's DNS seeds name.
    pub named: Vec<SocketAddr>,
    /// How many it connects to, if they answer.
    pub wanted: u8,
    /// How many must agree on what is in a block.
    pub required: u8,
    /// Where the headers are kept.
    pub data_dir: PathBuf,
}

/// Where the chain is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Who is asked.
    pub kind: ChainKind,
    /// The chain that it must be on.
    pub network: Network,
}

/// The light client is the default: it needs nothing of the operator's.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Bip157,
    Bitcoind,
    Esplora,
}

/// `[chain]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChain {
    #[serde(default)]
    kind: Kind,
    url: Option<Spanned<String>>,
    network: Spanned<String>,
    cookie_file: Option<Spanned<PathBuf>>,
    user: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    ca_file: Option<Spanned<PathBuf>>,
    peers: Option<Spanned<Vec<Spanned<String>>>>,
    trust_one_peer: Option<Spanned<bool>>,
    data_dir: Option<Spanned<PathBuf>>,
}

/// Checks the table. `database` is the agent's.
pub(super) fn check(raw: Spanned<RawChain>, database: &Path) -> Result<Chain, Wrong> {
    let span = raw.span();
    let raw = raw.into_inner();
    let network = network(&raw.network)?;
    let kind = match raw.kind {
        Kind::Bip157 => bip157(raw, network, span, database)?,
        Kind::Bitcoind => bitcoind(raw, span)?,
        Kind::Esplora => esplora(raw, span)?,
    };
    Ok(Chain { kind, network })
}

fn bip157(
    raw: RawChain,
    network: Network,
    span: Range<usize>,
    database: &Path,
) -> Result<ChainKind, Wrong> {
    const NODE: &str = "`kind = \"bitcoind\"`";
    const OTHERS: &str = "`kind = \"bitcoind\"` and `kind = \"esplora\"`, and none is named";
    none_of(&[(&raw.url, "url")], OTHERS)?;
    none_of(&[(&raw.user, "user")], NODE)?;
    none_of(&[(&raw.cookie_file, "cookie_file"), (&raw.password_file, "password_file")], NODE)?;
    none_of(&[(&raw.ca_file, "ca_file")], "`kind = \"esplora\"`")?;
    let trusts_one = raw.trust_one_peer.as_ref().is_some_and(|trusts| *trusts.get_ref());
    let (named, place) = match raw.peers {
        Some(peers) => {
            let place = peers.span();
            (named(peers.into_inner(), network)?, place)
        }
        None => (Vec::new(), span),
    };
    let wanted = match named.len() {
        0 if network == Network::Regtest => {
            let what = "nobody knows the peers of a regtest: add `peers = [\"HOST:PORT\"]`";
            return Err(Wrong::new(place, what.to_owned()));
        }
        0 => DEFAULT_PEERS,
        1 if !trusts_one => {
            let what = "one peer can hide a close that cheats you: name two or more in `peers`, or \
                        say `trust_one_peer = true` of a node of your own";
            return Err(Wrong::new(place, what.to_owned()));
        }
        count => u8::try_from(count).unwrap_or(u8::MAX).min(DEFAULT_PEERS),
    };
    if let Some(trusts) = raw.trust_one_peer.filter(|trusts| *trusts.get_ref() && wanted > 1) {
        let what = "`trust_one_peer` is for a single one in `peers`: leave it out";
        return Err(Wrong::new(trusts.span(), what.to_owned()));
    }
    let data_dir = match raw.data_dir {
        Some(path) => absolute("data_dir", path)?.1,
        None => database.with_file_name(DATA_DIR),
    };
    Ok(ChainKind::Bip157(Peers { named, wanted, required: wanted.min(MIN_PEERS), data_dir }))
}

fn named(raw: Vec<Spanned<String>>, network: Network) -> Result<Vec<SocketAddr>, Wrong> {
    let mut peers = Vec::new();
    for peer in raw {
        let (span, text) = (peer.span(), peer.into_inner());
        let with_port = || Some(SocketAddr::new(text.parse().ok()?, default_port(network)));
        let Some(address) = text.parse().ok().or_else(with_port) else {
            let what = format!("the peer `{text}` is no address: give IP:PORT, or [IPv6]:PORT");
            return Err(Wrong::new(span, what));
        };
        // Its word would count twice.
        if peers.contains(&address) {
            let what = format!("the peer `{text}` is there twice: remove one");
            return Err(Wrong::new(span, what));
        }
        if peers.len() == MAX_PEERS {
            return Err(Wrong::new(span, format!("more than {MAX_PEERS} peers: remove some")));
        }
        peers.push(address);
    }
    Ok(peers)
}

const fn default_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8_333,
        Network::Signet => 38_333,
        Network::Testnet => 18_333,
        Network::Regtest => 18_444,
        _ => 48_333,
    }
}

/// Refuses keys of another kind.
fn none_of<T>(given: &[(&Option<Spanned<T>>, &str)], only: &str) -> Result<(), Wrong> {
    let wrong = given.iter().find_map(|(value, key)| Some((value.as_ref()?, key)));
    wrong.map_or(Ok(()), |(value, key)| Err(not_for(value, key, only)))
}

/// Refuses what is only for a light client.
fn no_light_client(raw: &RawChain) -> Result<(), Wrong> {
    const ONLY: &str = "`kind = \"bip157\"`";
    none_of(&[(&raw.peers, "peers")], ONLY)?;
    none_of(&[(&raw.trust_one_peer, "trust_one_peer")], ONLY)?;
    none_of(&[(&raw.data_dir, "data_dir")], ONLY)
}

fn bitcoind(raw: RawChain, span: Range<usize>) -> Result<ChainKind, Wrong> {
    if let Some(file) = raw.ca_file {
        return Err(not_for(&file, "ca_file", "`kind = \"esplora\"`"));
    }
    no_light_client(&raw)?;
    let url = url(raw.url, span.clone(), &["http://"], "http://HOST:PORT")?;
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

fn esplora(raw: RawChain, span: Range<usize>) -> Result<ChainKind, Wrong> {
    const ONLY: &str = "`kind = \"bitcoind\"`";
    for (file, key) in [(&raw.cookie_file, "cookie_file"), (&raw.password_file, "password_file")] {
        if let Some(file) = file {
            return Err(not_for(file, key, ONLY));
        }
    }
    if let Some(user) = &raw.user {
        return Err(not_for(user, "user", ONLY));
    }
    no_light_client(&raw)?;
    let schemes = ["https://", "http://"];
    let url = url(raw.url, span, &schemes, "https://HOST/PATH, or http://HOST:PORT of your own")?;
    let ca_file = raw.ca_file.map(|file| absolute("ca_file", file)).transpose()?;
    Ok(ChainKind::Esplora { url, ca_file: ca_file.map(|(_, path)| path) })
}

fn url(
    url: Option<Spanned<String>>,
    span: Range<usize>,
    schemes: &[&str],
    give: &str,
) -> Result<String, Wrong> {
    let Some(url) = url else {
        return Err(Wrong::new(span, format!("`url` is missing: give {give}")));
    };
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
