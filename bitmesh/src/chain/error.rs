//! Why the chain can't be asked, and what to do.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::Network;

/// Bytes of a server's own words that are passed on, at most.
const MAX_REASON_BYTES: usize = 512;

/// Why a chain source has no answer. Each text is one line with what is wrong and its cure.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nobody answers.
    #[error("the bitcoin node at {url} does not answer ({reason}): start it, or mend its address")]
    Down {
        /// Where it should be.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// It takes too long.
    #[error("the bitcoin node did not answer {method} within {} s: see its load and disk", .after.as_secs())]
    Slow {
        /// What it was asked.
        method: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It is starting (RPC error -28).
    #[error("the bitcoin node is starting ({0}): it will be asked again")]
    WarmingUp(String),
    /// It has not got the whole chain yet.
    #[error(
        "the bitcoin node is catching up, at block {blocks} of {headers}: wait until it is done"
    )]
    Syncing {
        /// The height that it knows.
        blocks: u32,
        /// The height that its headers promise.
        headers: u32,
    },
    /// It has more to do than it takes (HTTP 503).
    #[error("the bitcoin node is overloaded: ask it less, or raise its -rpcworkqueue")]
    Busy,
    /// It asks for fewer questions (HTTP 429).
    #[error(
        "the server at {url} answers no more questions for now (HTTP 429): it is asked again later, or use one of your own"
    )]
    Crowded {
        /// Where it is.
        url: String,
    },
    /// It can't answer for now: it says so, or who stands before it does.
    #[error("the server at {url} can't answer for now (HTTP {status}): see its log")]
    Unwell {
        /// Where it is.
        url: String,
        /// What it answers (RFC 9110, 15).
        status: u16,
    },
    /// It has a part of the chain that is known.
    #[error(
        "the bitcoin node is behind, at block {height} of {known} that are known: wait until it has caught up, or ask another"
    )]
    Behind {
        /// The height of its newest block.
        height: u32,
        /// The height that was read before.
        known: u32,
    },
    /// The cookie can't be read.
    #[error("cannot read the node's cookie {} ({error}): start the node, or mend the path", .path.display())]
    Cookie {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The password is wrong (HTTP 401).
    #[error("the bitcoin node refuses the user or password: mend them, or use its cookie file")]
    Unauthorized,
    /// This method or address is not allowed (HTTP 403).
    #[error("the bitcoin node forbids {0}: see its -rpcallowip and -rpcwhitelist")]
    Forbidden(&'static str),
    /// It is another chain.
    #[error("the bitcoin node is not on {expected}: start it there, or mend the configuration")]
    WrongNetwork {
        /// The chain that is wanted.
        expected: Network,
    },
    /// A block is needed that was pruned.
    #[error("the bitcoin node has pruned block {height}: let it keep more (-prune), and reindex")]
    Pruned {
        /// Its height.
        height: u32,
    },
    /// No block of the cursor is in the chain.
    #[error(
        "none of the blocks known is in the node's chain any more: check that the node is on the right chain, then start anew from a height"
    )]
    CursorLost,
    /// The chain is shorter.
    #[error("the chain has no block {height}: its newest is {tip}")]
    NoSuchHeight {
        /// The height that was asked for.
        height: u32,
        /// The height of the tip.
        tip: u32,
    },
    /// It does not know the method.
    #[error("the bitcoin node does not know {0}: it must be version 24 or newer")]
    TooOld(&'static str),
    /// No peer of a light client answers.
    #[error("no peer on {network} answers ({why}): start one of `peers`, or mend the connection")]
    NoPeers {
        /// The chain that they must be on.
        network: Network,
        /// What was tried.
        why: String,
    },
    /// Fewer peers answer than must agree.
    #[error(
        "{connected} of the {required} peers that must agree on a block answer: start more, or add some to `peers`"
    )]
    FewPeers {
        /// Those that answer.
        connected: usize,
        /// Those that must agree.
        required: usize,
    },
    /// It is older than what a light client keeps.
    #[error(
        "block {height} is older than what the light client keeps ({oldest} is the oldest): use a node for it"
    )]
    TooOldBlock {
        /// The height that was asked for.
        height: u32,
        /// The oldest that it has.
        oldest: u32,
    },
    /// A light client's folder can't be used.
    #[error("cannot keep the chain's headers in {} ({error}): mend the folder, or its rights", .path.display())]
    Headers {
        /// Where they should be.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The thread of a light client did not start.
    #[error("the light client does not start ({0}): see what else uses this machine's memory")]
    NoThread(std::io::Error),
    /// It says no, for a reason of its own.
    #[error("the bitcoin node refuses {method}: {message} (code {code})")]
    Refused {
        /// What it was asked.
        method: &'static str,
        /// The number of its reason.
        code: i64,
        /// Its reason.
        message: String,
    },
    /// What it says makes no sense.
    #[error("the answer to {method} makes no sense ({what}): check that a bitcoin node is there")]
    Nonsense {
        /// What it was asked.
        method: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// The answer is longer than allowed.
    #[error("the answer to {method} is longer than {limit} bytes, and was not read")]
    TooLong {
        /// What it was asked.
        method: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The address can't be used.
    #[error("{0} is no address of a node: write http://HOST:PORT, and the password elsewhere")]
    Address(&'static str),
    /// The address of an Esplora server can't be used.
    #[error("this is no address of an Esplora server: write https://HOST/PATH or http://HOST:PORT")]
    Esplora,
    /// There is nobody whose word on certificates is taken.
    #[error("no certificate authority is known ({0}): install ca-certificates, or give `ca_file`")]
    NoAuthorities(String),
}

impl ChainError {
    /// Whether it passes without anybody's help: ask again later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Down { .. }
                | Self::Slow { .. }
                | Self::WarmingUp(_)
                | Self::Syncing { .. }
                | Self::Busy
                | Self::Crowded { .. }
                | Self::Unwell { .. }
                | Self::Behind { .. }
                // A node that is down has no cookie.
                | Self::Cookie { .. }
                | Self::Unauthorized
                | Self::NoPeers { .. }
                | Self::FewPeers { .. }
        )
    }
}

/// Words of a server, made safe for a line of a log.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    line.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_REASON_BYTES).then_some(c)
        })
        .collect()
}
