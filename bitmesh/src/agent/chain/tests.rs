//! What the channels hear of a chain in memory.

use std::time::Duration;

use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Txid};
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{ChannelCommand, ChannelInput, Purpose};
use tokio::sync::mpsc;

use super::News;
use super::orders::Orders;
use super::turn::{REPLAYED_BLOCKS, Turn};
use crate::chain::fake::{FakeChain, FakeSource, Health};
use crate::chain::{ChainSource as _, Cursor, Peers};
use crate::control::{ChainState, ChainStatus, PeersStatus};

const FUNDING: Amount = Amount::from_sat(100_000);
const CHANNEL: ChannelId = ChannelId([1; 32]);

/// A chain, and what follows it.
struct Rig {
    chain: FakeChain,
    orders: Orders,
    turn: Turn<FakeSource>,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    status: Option<ChainStatus>,
}

impl Rig {
    fn new(chain: &FakeChain, cursor: Option<Cursor>) -> Self {
        let (tell, news) = mpsc::channel(1_024);
        let turn = Turn::new(chain.source(Network::Regtest), cursor);
        let orders = Orders::default();
        orders.begin();
        Self { chain: chain.clone(), orders, turn, tell, news, status: None }
    }

    fn with_blocks(blocks: u32) -> Self {
        let chain = FakeChain::new(Network::Regtest);
        chain.mine(blocks);
        Self::new(&chain, None)
    }

    fn watch(&self, channel: ChannelId, since_height: u32) {
        let (script, outpoint) = (script_of(channel), None);
        self.orders.add(ChannelCommand::Watch { channel, script, outpoint, since_height });
    }

    /// Turns until nothing more is said, with the mempool read each time.
    fn heard(&mut self) -> Vec<ChannelInput> {
        let mut heard = Vec::new();
        for _ in 0..40 {
            self.turn.hurry();
            let todo = self.orders.take(Duration::ZERO).expect("not ended");
            self.turn.take(todo, &self.tell);
            while let Ok(news) = self.news.try_recv() {
                match news {
                    News::Fact(fact) => heard.push(*fact),
                    News::Status(status) => self.status = Some(status),
                    News::Settled(_) => {}
                }
            }
        }
        heard
    }

    /// The same without what is said of the chain as a whole.
    fn heard_of_channels(&mut self) -> Vec<ChannelInput> {
        let mut heard = self.heard();
        heard.retain(|fact| {
            !matches!(
                fact,
                ChannelInput::Tip { .. } | ChannelInput::FeeRate(_) | ChannelInput::ChainDown
            )
        });
        heard
    }

    fn pay(&self, channel: ChannelId) -> OutPoint {
        self.chain.pay(&script_of(channel), FUNDING)
    }

    fn height(&self) -> u32 {
        self.chain.tip().block.height
    }
}

fn script_of(channel: ChannelId) -> ScriptBuf {
    let mut script = vec![0x51, 0x20];
    script.extend(channel.0);
    ScriptBuf::from_bytes(script)
}

fn seen(outpoint: OutPoint, height: Option<u32>) -> ChannelInput {
    ChannelInput::FundingSeen { channel: CHANNEL, outpoint, capacity: FUNDING, height }
}

fn spend(outpoint: OutPoint) -> bitcoin::Transaction {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    let input = bitcoin::TxIn { previous_output: outpoint, ..bitcoin::TxIn::default() };
    let script_pubkey = script_of(ChannelId([9; 32]));
    let value = FUNDING - Amount::from_sat(1_000);
    let output = bitcoin::TxOut { value, script_pubkey };
    let version = Version::non_standard(3);
    bitcoin::Transaction {
        version,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    }
}

#[test]
fn a_funding_is_told_in_the_mempool_in_its_block_and_when_it_is_gone() {
    let mut rig = Rig::with_blocks(20);
    rig.watch(CHANNEL, 20);
    rig.heard();
    let outpoint = rig.pay(CHANNEL);
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, None)]);
    rig.chain.evict(&outpoint.txid);
    let gone = ChannelInput::FundingGone { channel: CHANNEL, outpoint };
    assert_eq!(rig.heard_of_channels(), [gone]);
    let outpoint = rig.pay(CHANNEL);
    rig.chain.mine(1);
    let height = rig.height();
    assert_eq!(rig.heard_of_channels().last(), Some(&seen(outpoint, Some(height))));
}

#[test]
fn a_reorganisation_takes_a_funding_out_of_its_block_and_a_conflict_takes_it_away() {
    let mut rig = Rig::with_blocks(20);
    rig.watch(CHANNEL, 20);
    let outpoint = rig.pay(CHANNEL);
    rig.chain.mine(2);
    rig.heard();
    rig.chain.reorganise(2, 3);
    let heard = rig.heard_of_channels();
    assert!(!heard.is_empty() && heard.iter().all(|fact| *fact == seen(outpoint, None)));
    rig.chain.mine(1);
    let height = rig.height();
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, Some(height))]);
    rig.chain.reorganise(1, 2);
    rig.chain.evict(&outpoint.txid);
    let gone = ChannelInput::FundingGone { channel: CHANNEL, outpoint };
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, None), gone]);
}

#[test]
fn to_a_light_client_a_funding_out_of_its_block_is_not_gone_and_its_peers_are_told() {
    let mut rig = Rig::with_blocks(20);
    rig.chain.set_peers(Some(Peers { connected: 3, required: 2 }));
    rig.watch(CHANNEL, 20);
    let outpoint = rig.pay(CHANNEL);
    let heard = rig.heard();
    let tip = heard.iter().find(|fact| matches!(fact, ChannelInput::Tip { .. }));
    let block_unix_s = Some(rig.chain.tip().time.into());
    let Some(ChannelInput::Tip { height: 20, block_unix_s: told, .. }) = tip else {
        panic!("the tip is told: {heard:?}");
    };
    assert_eq!(*told, block_unix_s, "newer blocks may be withheld");
    let status = rig.status.clone().unwrap();
    assert_eq!(status.peers, Some(PeersStatus { connected: 3, required: 2 }));
    rig.chain.mine(2);
    rig.heard();
    rig.chain.reorganise(2, 3);
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, None)], "it may be in a mempool");
    rig.chain.mine(1);
    let height = rig.height();
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, Some(height))]);
}

#[test]
fn a_node_of_ours_is_not_taken_to_withhold_blocks() {
    let mut rig = Rig::with_blocks(20);
    let heard = rig.heard();
    let known = |fact: &ChannelInput| matches!(fact, ChannelInput::Tip { block_unix_s: None, .. });
    assert!(heard.iter().any(known), "{heard:?}");
    assert_eq!(rig.status.clone().unwrap().peers, None);
}

#[test]
fn a_spend_is_told_with_its_block_and_when_its_block_is_undone() {
    let mut rig = Rig::with_blocks(20);
    rig.watch(CHANNEL, 20);
    let outpoint = rig.pay(CHANNEL);
    rig.chain.mine(1);
    rig.heard();
    let tx = Box::new(spend(outpoint));
    let txid = tx.compute_txid();
    let (channel, purpose) = (CHANNEL, Purpose::UnilateralClose);
    rig.orders.add(ChannelCommand::Broadcast { channel, purpose, tx: tx.clone() });
    rig.heard();
    assert_eq!(rig.chain.mempool(), [*tx.clone()]);
    rig.chain.mine(1);
    let height = Some(rig.height());
    assert_eq!(rig.heard_of_channels(), [ChannelInput::SpendSeen { channel, tx, height }]);
    rig.chain.reorganise(1, 2);
    let heard = rig.heard_of_channels();
    assert_eq!(heard.first(), Some(&ChannelInput::SpendGone { channel, txid }));
}

#[test]
fn a_transaction_that_the_node_refuses_is_told_and_not_tried_again() {
    let mut rig = Rig::with_blocks(20);
    rig.heard();
    let unknown = OutPoint::new(<Txid as bitcoin::hashes::Hash>::all_zeros(), 0);
    let (channel, purpose, tx) = (CHANNEL, Purpose::Funding, Box::new(spend(unknown)));
    rig.orders.add(ChannelCommand::Broadcast { channel, purpose, tx });
    let heard = rig.heard_of_channels();
    assert!(matches!(heard.as_slice(), [ChannelInput::BroadcastRefused { .. }]), "{heard:?}");
}

#[test]
fn a_node_that_is_gone_is_told_and_what_happened_meanwhile_is_made_up_for() {
    let mut rig = Rig::with_blocks(20);
    rig.watch(CHANNEL, 20);
    assert!(rig.heard().iter().any(|fact| matches!(fact, ChannelInput::Tip { height: 20, .. })));
    for health in [Health::Down, Health::Slow, Health::WarmingUp, Health::Syncing { behind: 9 }] {
        rig.chain.set_health(health);
        let heard = rig.heard();
        assert!(heard.iter().all(|fact| *fact == ChannelInput::ChainDown), "{heard:?}");
        assert!(!heard.is_empty(), "{health:?}");
        let status = rig.status.clone().expect("told");
        assert!(status.state == ChainState::Unavailable && status.why.is_some(), "{status:?}");
    }
    let outpoint = rig.pay(CHANNEL);
    let (channel, purpose) = (CHANNEL, Purpose::CooperativeClose);
    let tx = Box::new(spend(outpoint));
    rig.orders.add(ChannelCommand::Broadcast { channel, purpose, tx });
    rig.heard();
    rig.chain.mine(30);
    rig.chain.set_health(Health::Up);
    let heard = rig.heard();
    assert!(heard.contains(&seen(outpoint, Some(21))), "{heard:?}");
    assert!(heard.iter().any(|fact| matches!(fact, ChannelInput::Tip { height: 50, .. })));
    assert_eq!(rig.status.as_ref().map(|status| status.state), Some(ChainState::Following));
    assert_eq!(rig.chain.mempool().len(), 1, "the close was not sent when the node came back");
}

#[test]
fn a_channel_that_is_watched_late_is_looked_for_in_the_blocks_since_its_open() {
    let mut rig = Rig::with_blocks(20);
    rig.heard();
    let outpoint = rig.pay(CHANNEL);
    rig.chain.mine(3);
    assert_eq!(rig.heard_of_channels(), []);
    rig.watch(CHANNEL, 20);
    assert_eq!(rig.heard_of_channels(), [seen(outpoint, Some(21))]);
    // Said again, it changes nothing.
    rig.watch(CHANNEL, 20);
    assert_eq!(rig.heard_of_channels(), []);
}

#[test]
fn after_a_restart_nothing_between_is_missed_and_what_can_be_undone_is_known_again() {
    let mut rig = Rig::with_blocks(100);
    rig.watch(CHANNEL, 100);
    let outpoint = rig.pay(CHANNEL);
    rig.chain.mine(1);
    rig.heard();
    let kept = rig.chain.source(Network::Regtest).cursor(None).expect("a cursor");
    let chain = rig.chain.clone();
    chain.mine(2);
    let mut again = Rig::new(&chain, Some(kept));
    again.watch(CHANNEL, 100);
    assert_eq!(again.heard_of_channels(), [seen(outpoint, Some(101))]);
    let deep = u32::try_from(REPLAYED_BLOCKS).expect("small") / 4;
    chain.reorganise(deep, deep + 1);
    assert!(again.heard_of_channels().contains(&seen(outpoint, None)));
}

#[test]
fn a_channel_that_is_over_is_heard_of_no_more() {
    let mut rig = Rig::with_blocks(20);
    rig.watch(CHANNEL, 20);
    rig.heard();
    rig.orders.add(ChannelCommand::Unwatch { channel: CHANNEL });
    rig.heard();
    rig.pay(CHANNEL);
    rig.chain.mine(1);
    assert_eq!(rig.heard_of_channels(), []);
}

#[test]
fn obligations_end_with_the_event_loop() {
    let orders = Orders::default();
    orders.end();
    assert!(orders.take(Duration::from_secs(60)).is_none());
}
