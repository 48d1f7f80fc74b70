//! The thread that follows the chain for the channels: their obligations in, facts out.

mod orders;
#[cfg(test)]
mod tests;
mod tracker;
mod turn;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bitmesh_core::{ChannelCommand, ChannelInput};
use tokio::sync::mpsc;

use self::orders::Orders;
pub(super) use self::turn::unix_s;

use self::turn::Turn;
use super::AgentError;
use super::rights;
use crate::chain::bitcoind::{Auth, Bitcoind, Password, RpcConfig};
use crate::chain::doctor::examine;
use crate::chain::esplora::{Esplora, EsploraConfig};
use crate::chain::light::{LightClient, LightConfig};
use crate::chain::{ChainSource, Cursor};
use crate::config::{Chain, ChainAuth, ChainKind};
use crate::control::ChainStatus;
use crate::doctor::Check;

/// How often the node is asked for blocks.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(1);

/// How long the node may take for one answer.
pub(super) const RPC_TIMEOUT: Duration = Duration::from_secs(20);

/// News that wait for the event loop, at most; then the thread waits.
pub(super) const MAX_UNREAD_NEWS: usize = 1_024;

/// Bytes of a file with a password, at most.
const MAX_PASSWORD_BYTES: u64 = 1_024;

/// What the thread says.
#[derive(Debug)]
pub(super) enum News {
    /// Something about a channel, or the chain.
    Fact(Box<ChannelInput>),
    /// How it stands.
    Status(ChainStatus),
    /// All that is in these blocks was told long ago: go on from here after a restart.
    Settled(Cursor),
}

/// The event loop's end of the thread. Dropping it ends the thread, at its next turn.
#[derive(Debug)]
pub(super) struct ChainWorker {
    orders: Arc<Orders>,
}

impl ChainWorker {
    /// Starts the thread, which has no more rights than it needs to read the node's cookie. It
    /// asks nothing before [`Self::begin`].
    pub(super) fn start(
        config: &Chain,
        cursor: Option<Cursor>,
        tell: mpsc::Sender<News>,
    ) -> Result<Self, AgentError> {
        let orders = Arc::new(Orders::default());
        let source = source(config)?;
        let theirs = Arc::clone(&orders);
        thread::Builder::new()
            .name("chain".to_owned())
            .spawn(move || {
                if let Err(error) = rights::drop_all_but_reading() {
                    tracing::error!(%error, "the chain is not followed");
                    return;
                }
                match source {
                    Source::Bitcoind(node) => follow(node, cursor, &theirs, &tell),
                    Source::Esplora(server) => follow(server, cursor, &theirs, &tell),
                    Source::Light(client) => follow(*client, cursor, &theirs, &tell),
                }
            })
            .map_err(AgentError::Runtime)?;
        Ok(Self { orders })
    }

    /// All channels that there are were told: the chain can be read.
    pub(super) fn begin(&self) {
        self.orders.begin();
    }

    /// Takes an obligation. Never waits.
    pub(super) fn order(&self, command: ChannelCommand) {
        self.orders.add(command);
    }
}

impl Drop for ChainWorker {
    fn drop(&mut self) {
        self.orders.end();
    }
}

/// Who is asked.
enum Source {
    Bitcoind(Bitcoind),
    Esplora(Esplora),
    Light(Box<LightClient>),
}

/// The source of a configuration. Nothing is asked yet.
fn source(config: &Chain) -> Result<Source, AgentError> {
    let timeout = RPC_TIMEOUT;
    match &config.kind {
        ChainKind::Bitcoind { url, auth } => {
            let rpc = RpcConfig { url: url.clone(), auth: self::auth(auth)?, timeout };
            Ok(Source::Bitcoind(Bitcoind::at(rpc, config.network)?))
        }
        ChainKind::Esplora { url, ca_file } => {
            let (url, ca_file) = (url.clone(), ca_file.clone());
            let server = EsploraConfig { url, ca_file, timeout };
            Ok(Source::Esplora(Esplora::to(&server, config.network)?))
        }
        ChainKind::Bip157(peers) => Ok(Source::Light(Box::new(LightClient::new(LightConfig {
            network: config.network,
            peers: peers.named.clone(),
            wanted: peers.wanted,
            required: peers.required,
            folder: peers.data_dir.clone(),
        })))),
    }
}

/// Looks at the source of a configuration.
pub(super) fn look_at(config: &Chain) -> Result<Vec<Check>, AgentError> {
    Ok(match source(config)? {
        Source::Bitcoind(mut node) => examine(&mut node, config.network),
        Source::Esplora(mut server) => examine(&mut server, config.network),
        Source::Light(mut client) => examine(client.as_mut(), config.network),
    })
}

/// Follows a chain until nobody listens any more.
fn follow(
    source: impl ChainSource,
    cursor: Option<Cursor>,
    orders: &Orders,
    tell: &mpsc::Sender<News>,
) {
    let mut turn = Turn::new(source, cursor);
    while let Some(todo) = orders.take(turn.pause()) {
        turn.take(todo, tell);
    }
}

fn auth(config: &ChainAuth) -> Result<Auth, AgentError> {
    match config {
        ChainAuth::Cookie(path) => Ok(Auth::Cookie(path.clone())),
        ChainAuth::User { name, password_file } => {
            let password =
                Password::new(first_line(password_file).map_err(|error| AgentError::Password {
                    path: password_file.clone(),
                    error,
                })?);
            Ok(Auth::User { name: name.clone(), password })
        }
    }
}

fn first_line(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_PASSWORD_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let text = fs::read_to_string(path)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
