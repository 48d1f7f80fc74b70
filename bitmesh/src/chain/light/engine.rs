//! The thread that speaks to the peers, and what it has learnt.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bip157::chain::BlockHeaderChanges;
use bip157::{Builder, Client, Event, Info, Node, Requester, ServiceFlags, TrustedPeer, Warning};
use bitcoin::FeeRate;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{interval, sleep, timeout};

use super::LightConfig;
use super::filters::Filters;
use super::headers::Headers;
use crate::chain::{Block, ChainError};

/// How long a peer may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may take to answer, a block included; then another is asked. A node that was asked
/// for the filter of a block that it has had for milliseconds may never answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long peers are kept; then others are looked for, so that nobody chooses whom we hear.
const MAX_CONNECTION: Duration = Duration::from_secs(6 * 3_600);

/// Until peers are looked for again after there were none.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often peers are counted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the peers may take for a filter before it is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long the crate may take for a question that needs no peer.
const INNER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is wrong with a peer that can only be asked for headers.
const NO_FILTERS: &str = "it serves no filters, see its -peerblockfilters";

/// Headers that one life of the crate's client reads, at most; then it begins anew from what is
/// kept, which takes less memory.
const MAX_NEW_HEADERS: u32 = 20_000;

/// Why nobody can be asked.
#[derive(Clone, Debug)]
pub(super) struct Down {
    /// Peers that answered.
    pub(super) answered: usize,
    /// Peers that can't be connected to.
    unreachable: usize,
    /// What became of the others.
    pub(super) why: &'static str,
}

/// What the peers say.
#[derive(Debug)]
pub(super) struct State {
    pub(super) headers: Headers,
    pub(super) filters: Filters,
    /// Peers that are connected.
    pub(super) connected: usize,
    /// The least that all peers relay.
    pub(super) relay_minimum: FeeRate,
    /// The newest header was read, and as many peers as must agree were there since.
    pub(super) is_ready: bool,
    /// Why there is nobody to ask; nothing while peers are looked for the first time.
    pub(super) is_down: Option<Down>,
    /// Asks the peers, while there are any.
    pub(super) peers: Option<(Requester, Handle)>,
    /// The lowest block whose filter a reader waits for, and since when.
    wanted: Option<(u32, Instant)>,
    /// The newest header was read in this life of the crate's client.
    is_synced: bool,
    /// From this height on, filters come by themselves.
    covered_from: u32,
    ended: bool,
}

/// The state, and who waits for it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the thread.
    look: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is there, for at most `patience`.
    pub(super) fn wait<T>(
        &self,
        patience: Duration,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&mut state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A reader waits for the filter of the block at this height.
    pub(super) fn want(&self, height: u32) {
        let mut state = self.lock();
        if state.wanted.is_none_or(|(wanted, _)| wanted != height) {
            state.wanted = Some((height, Instant::now()));
            drop(state);
            self.look.notify_one();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts looking for peers.
    pub(super) fn start(config: &LightConfig) -> Result<Self, ChainError> {
        let headers = Headers::open(&config.folder, config.network);
        let headers =
            headers.map_err(|error| ChainError::Headers { path: config.folder.clone(), error })?;
        let state = State {
            is_synced: false,
            covered_from: u32::MAX,
            headers,
            filters: Filters::default(),
            connected: 0,
            relay_minimum: FeeRate::BROADCAST_MIN,
            is_ready: false,
            is_down: None,
            peers: None,
            wanted: None,
            ended: false,
        };
        let (changed, look) = (Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, look });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ChainError::NoThread)?;
        let (config, theirs) = (config.clone(), Arc::clone(&shared));
        let thread = thread::Builder::new().name("peers".to_owned()).spawn(move || {
            runtime.block_on(run(&config, &theirs));
            // A name that is being looked up must not hold anybody up.
            runtime.shutdown_background();
        });
        Ok(Self { shared, thread: Some(thread.map_err(ChainError::NoThread)?) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.look.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic was told already.
            let _ = thread.join();
        }
    }
}

/// Lives of the crate's client, one after another.
async fn run(config: &LightConfig, shared: &Shared) {
    let mut quorum = config.wanted;
    loop {
        let down = live(config, quorum, shared).await;
        quorum = next_quorum(config, down.as_ref());
        let mut is_over = false;
        shared.change(|state| {
            is_over = state.ended;
            (state.peers, state.connected, state.is_synced) = (None, 0, false);
            if down.is_some() {
                (state.is_ready, state.is_down) = (false, down);
            }
        });
        if is_over {
            return;
        }
        // Woken or not: there is no hurry, but an end is not waited for.
        let _ = timeout(RETRY_AFTER, shared.look.notified()).await;
        if shared.lock().ended {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Some of those named may be away: the others will do, if there are enough.
fn next_quorum(config: &LightConfig, down: Option<&Down>) -> u8 {
    let away = down.map_or(0, |down| down.unreachable);
    let there = u8::try_from(config.peers.len().saturating_sub(away)).unwrap_or(u8::MAX);
    if (config.required..config.wanted).contains(&there) { there } else { config.wanted }
}

/// One life of the crate's client. Says why it ended, unless it goes on at once.
async fn live(config: &LightConfig, quorum: u8, shared: &Shared) -> Option<Down> {
    let (first, node, client) = client(config, quorum, shared);
    let Client { requester, mut info_rx, mut warn_rx, mut event_rx } = client;
    // Dropped at the end of this life, with all connections.
    let mut peers = tokio::task::JoinSet::new();
    peers.spawn(node.run());
    shared.lock().peers = Some((requester.clone(), Handle::current()));
    let begun_at = shared.lock().headers.tip().height;
    let mut tally = Tally::default();
    let mut looks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = peers.join_next() => {
                while let Ok(info) = info_rx.try_recv() { tally.hear(&info); }
                while let Ok(warning) = warn_rx.try_recv() { tally.note(warning); }
                return Some(tally.down());
            }
            Some(event) = event_rx.recv() => {
                if matches!(event, Event::FiltersSynced(_)) {
                    looks.reset_immediately();
                }
                shared.change(|state| state.take(event));
            }
            Some(info) = info_rx.recv() => tally.hear(&info),
            Some(warning) = warn_rx.recv() => tally.note(warning),
            () = shared.look.notified() => {}
            _ = looks.tick() => count(&requester, quorum, shared).await,
        }
        let mut state = shared.lock();
        if state.ended || state.must_begin_anew(first, begun_at) {
            return None;
        }
        state.ask_for_filters(&requester);
    }
}

fn client(config: &LightConfig, quorum: u8, shared: &Shared) -> (u32, Node, Client) {
    let mut state = shared.lock();
    let wanted = state.wanted.map(|(height, _)| height);
    let (first, chain) = state.headers.state(wanted);
    state.covered_from = u32::MAX;
    let mut builder = Builder::new(config.network)
        .chain_state(chain)
        .required_peers(quorum)
        .headers_only_sync()
        .fetch_witness_data()
        .handshake_timeout(CONNECT_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .maximum_connection_time(MAX_CONNECTION);
    if !config.peers.is_empty() {
        let peers = config.peers.iter().map(|peer| TrustedPeer::from_socket_addr(*peer));
        builder = builder.add_peers(peers).whitelist_only();
    }
    let (node, client) = builder.build();
    (first, node, client)
}

impl State {
    fn take(&mut self, event: Event) {
        match event {
            Event::ChainUpdate(BlockHeaderChanges::Connected(new)) => self.connect(new.header),
            Event::ChainUpdate(BlockHeaderChanges::Reorganized { accepted, .. }) => {
                if let Some(lowest) = accepted.first() {
                    self.headers.disconnect_from(lowest.height);
                }
                accepted.iter().for_each(|new| self.connect(new.header));
            }
            Event::ChainUpdate(BlockHeaderChanges::ForkAdded(_)) => {}
            Event::FiltersSynced(_) => {
                if !self.is_synced {
                    self.covered_from = self.headers.tip().height.saturating_add(1);
                }
                self.is_synced = true;
            }
            Event::IndexedFilter(filter) => {
                let block = Block { height: filter.height(), hash: filter.block_hash() };
                if !self.filters.keep(block, filter.block_filter()) {
                    // It is asked for again when its turn comes.
                    self.covered_from = u32::MAX;
                }
            }
        }
    }

    fn connect(&mut self, header: bitcoin::block::Header) {
        if !self.headers.connect(header) {
            tracing::warn!("a header does not follow from those that are kept");
        }
    }

    /// Whether the crate's client can't give what is wanted, or holds more than it needs to.
    fn must_begin_anew(&self, first: u32, begun_at: u32) -> bool {
        let too_deep = self.wanted.is_some_and(|(height, _)| {
            height <= first && height > self.headers.oldest().saturating_add(1)
        });
        let grown = self.headers.tip().height.saturating_sub(begun_at) > MAX_NEW_HEADERS;
        self.is_synced && (too_deep || grown)
    }

    /// Asks the peers for filters that a reader waits for and that do not come by themselves.
    fn ask_for_filters(&mut self, requester: &Requester) {
        let Some((height, since)) = self.wanted.filter(|_| self.is_synced) else { return };
        let block = self.headers.hash_at(height).map(|hash| Block { height, hash });
        if block.is_none_or(|block| self.filters.get(block).is_some()) {
            self.wanted = None;
            return;
        }
        let is_late = since.elapsed() >= ASK_AGAIN_AFTER;
        if height < self.covered_from || is_late {
            // It fails only if the client has ended.
            let _ = requester.rescan_from(height.saturating_sub(1));
            self.covered_from = height;
            self.wanted = Some((height, Instant::now()));
        }
    }
}

async fn count(requester: &Requester, quorum: u8, shared: &Shared) {
    let asked = async { (requester.peer_info().await, requester.broadcast_min_feerate().await) };
    let answered = timeout(INNER_TIMEOUT, pin!(asked)).await;
    let Ok((Ok(peers), Ok(minimum))) = answered else { return };
    let serving =
        peers.iter().filter(|(_, services)| services.has(ServiceFlags::COMPACT_FILTERS)).count();
    shared.change(|state| {
        (state.connected, state.relay_minimum) = (serving, minimum);
        if state.is_synced && serving >= usize::from(quorum) {
            (state.is_ready, state.is_down) = (true, None);
        } else if state.is_synced && serving < peers.len() {
            let down = Down { answered: serving, unreachable: 0, why: NO_FILTERS };
            (state.is_ready, state.is_down) = (false, Some(down));
        } else if peers.is_empty() && state.is_ready {
            let why = "all connections ended";
            (state.is_ready, state.is_down) =
                (false, Some(Down { answered: 0, unreachable: 0, why }));
        }
    });
}

/// What became of the peers in one life of the crate's client.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    unreachable: usize,
    complaint: Option<&'static str>,
}

impl Tally {
    fn hear(&mut self, info: &Info) {
        self.answered += usize::from(matches!(info, Info::SuccessfulHandshake));
    }

    fn note(&mut self, warning: Warning) {
        tracing::debug!(%warning, "of the peers");
        self.unreachable += usize::from(matches!(warning, Warning::CouldNotConnect));
        let complaint = match warning {
            Warning::CouldNotConnect => "it can't be connected to",
            Warning::PeerTimedOut => "it takes too long",
            Warning::NoCompactFilters => NO_FILTERS,
            Warning::UnexpectedSyncError { .. } => "what it says makes no sense",
            _ => return,
        };
        self.complaint = Some(complaint);
    }

    fn down(&self) -> Down {
        let why = self.complaint.unwrap_or("the connection ended");
        Down { answered: self.answered, unreachable: self.unreachable, why }
    }
}
