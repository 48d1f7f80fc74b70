//! The channel against a real node: what it relays and mines, and who got what.
//!
//! Needs a Bitcoin node: `BITCOIND_EXE` names its program. Amounts are recomputed from the blocks
//! alone.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

use std::process::Command;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hex::FromHex;
use bitcoin::{Amount, Block, FeeRate, Network, OutPoint, ScriptBuf, Transaction};
use bitmesh_core::MilliSat;
use bitmesh_core::channel::{
    ChannelSecret, CooperativePlan, Count, NonceSeed, Opened, OutputScript, Payee, PayeeClosing,
    Payer, PayerClosing, Role, Seed, SpendPath, Terms, close_batch, first_refund_block, refund,
};
use corepc_node::{Conf, Node};
use serde_json::{Value, json};

const CAPACITY: Amount = Amount::from_sat(200_000);
const TWO: FeeRate = FeeRate::from_sat_per_vb_u32(2);
const STEP: Amount = Amount::from_sat(1_000);

/// A node of its own, with coins, for one test.
struct Chain {
    node: Node,
    miner: String,
}

impl Chain {
    fn start() -> Self {
        let exe = std::env::var("BITCOIND_EXE").expect(
            "this test needs a Bitcoin node: set BITCOIND_EXE to the path of a bitcoind \
             (Bitcoin Core 29 or later, or Knots)",
        );
        let version = Command::new(&exe).arg("--version").output().unwrap();
        let mut conf = Conf::default();
        conf.args = vec!["-regtest", "-fallbackfee=0.00002", "-txindex=1"];
        if String::from_utf8_lossy(&version.stdout).contains("Knots") {
            // Knots does not enforce TRUC (BIP 431) of its own accord.
            conf.args.push("-corepolicy=1");
        }
        let node = Node::with_conf(&exe, &conf).unwrap();
        let chain = Self { node, miner: String::new() };
        let miner = chain.text("getnewaddress", &[]);
        let chain = Self { miner, ..chain };
        chain.mine(101);
        chain
    }

    fn try_call(&self, method: &str, args: &[Value]) -> Result<Value, String> {
        self.node.client.call(method, args).map_err(|error| error.to_string())
    }

    fn call(&self, method: &str, args: &[Value]) -> Value {
        self.try_call(method, args).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn text(&self, method: &str, args: &[Value]) -> String {
        self.call(method, args).as_str().unwrap().to_owned()
    }

    fn height(&self) -> u32 {
        u32::try_from(self.call("getblockcount", &[]).as_u64().unwrap()).unwrap()
    }

    fn mine(&self, blocks: u32) {
        self.call("generatetoaddress", &[json!(blocks), json!(self.miner)]);
    }

    /// A new address of the node's wallet, as the script of an output.
    fn script(&self) -> OutputScript {
        let address = self.text("getnewaddress", &[json!(""), json!("bech32m")]);
        let info = self.call("getaddressinfo", &[json!(address)]);
        let script = ScriptBuf::from_hex(info["scriptPubKey"].as_str().unwrap()).unwrap();
        OutputScript::new(script).unwrap()
    }

    fn send(&self, tx: &Transaction) -> Result<(), String> {
        self.try_call("sendrawtransaction", &[json!(serialize_hex(tx))]).map(|_| ())
    }

    /// Mines one block and gives it, read from its bytes.
    fn next_block(&self) -> Block {
        self.mine(1);
        let hash = self.text("getbestblockhash", &[]);
        deserialize_hex(&self.text("getblock", &[json!(hash), json!(0)])).unwrap()
    }

    /// Pays `amount` to an address and gives the raw transaction.
    fn pay(&self, address: &str, amount: Amount) -> Vec<u8> {
        let txid = self.text("sendtoaddress", &[json!(address), json!(amount.to_btc())]);
        let hex = self.call("gettransaction", &[json!(txid)])["hex"].as_str().unwrap().to_owned();
        Vec::<u8>::from_hex(&hex).unwrap()
    }
}

/// Both ends of a channel whose funding is mined.
struct Ends {
    index: u32,
    opened: Opened,
    outpoint: OutPoint,
    payer: Payer,
    payee: Payee,
}

fn secret(role: Role, index: u32) -> ChannelSecret {
    let seed = Seed::new([if role == Role::Payer { 0xb0 } else { 0xa1 }; 32]);
    seed.channel_secret(Network::Regtest, role, index).unwrap()
}

fn open(chain: &Chain, index: u32) -> Opened {
    Opened::new(Terms {
        network: Network::Regtest,
        payer_key: secret(Role::Payer, index).public_key(),
        payee_key: secret(Role::Payee, index).public_key(),
        expiry_height: chain.height() + 60,
        margin_blocks: 36,
        change_script: chain.script(),
        payout_script: chain.script(),
        min_capacity: Amount::from_sat(10_000),
        max_capacity: Amount::from_sat(1_000_000),
        min_first_update: Amount::from_sat(2_000),
        max_close_fee: Amount::from_sat(5_000),
    })
    .unwrap()
}

/// Funds channels and mines all fundings in one block.
fn fund(chain: &Chain, indices: &[u32]) -> Vec<Ends> {
    let ends = indices
        .iter()
        .map(|index| {
            let opened = open(chain, *index);
            let raw = chain.pay(&opened.address().to_string(), CAPACITY);
            let channel = opened.clone().fund(&raw).unwrap();
            assert_eq!(channel.capacity(), CAPACITY);
            let payer = Payer::new(channel.clone(), secret(Role::Payer, *index), None).unwrap();
            let outpoint = channel.outpoint();
            let payee = Payee::new(channel, secret(Role::Payee, *index), None).unwrap();
            Ends { index: *index, opened, outpoint, payer, payee }
        })
        .collect();
    chain.mine(1);
    ends
}

impl Ends {
    /// The payer pays step by step up to `credit`, then both close at `used`.
    fn pay_and_close(
        mut self,
        chain: &Chain,
        credit: u64,
        used: u64,
    ) -> (PayerClosing, PayeeClosing) {
        let credit = Amount::from_sat(credit);
        let count = Count { counted: MilliSat(credit.to_sat() * 1_000), step: STEP };
        let steps = 20;
        for step in 1..=steps {
            let part = (credit * step / steps).max(self.opened.terms().min_first_update);
            if part <= self.payer.signed() {
                continue;
            }
            let update = self.payer.sign(part, &count).unwrap();
            let verified = self.payee.verify(update, chain.height()).unwrap();
            self.payee.accept(verified).unwrap();
        }
        assert_eq!(self.payee.credit(), MilliSat(credit.to_sat() * 1_000));
        (self.payer.close(), self.payee.close(MilliSat(used * 1_000)).unwrap())
    }
}

/// What a block says about the spending of an outpoint of [`CAPACITY`].
fn spender(block: &Block, outpoint: OutPoint) -> &Transaction {
    let spends = |tx: &&Transaction| tx.input.iter().any(|input| input.previous_output == outpoint);
    block.txdata.iter().find(spends).expect("the block spends the channel")
}

fn paid_to(tx: &Transaction, script: &OutputScript) -> u64 {
    let to_it = tx.output.iter().filter(|output| output.script_pubkey == *script.as_script());
    to_it.map(|output| output.value.to_sat()).sum()
}

fn fee(tx: &Transaction) -> u64 {
    let out: Amount = tx.output.iter().map(|output| output.value).sum();
    (CAPACITY * u64::try_from(tx.input.len()).unwrap() - out).to_sat()
}

#[test]
fn the_node_derives_the_same_address_from_the_descriptor() {
    let chain = Chain::start();
    let opened = open(&chain, 1);
    let info = chain.call("getdescriptorinfo", &[json!(opened.descriptor())]);
    let derived = chain.call("deriveaddresses", &[info["descriptor"].clone()]);
    assert_eq!(derived, json!([opened.address().to_string()]));
    assert_eq!(opened.check_address(derived[0].as_str().unwrap()), Ok(()));
}

#[test]
fn a_unilateral_close_is_mined_and_pays_the_newest_update_less_return_and_fee() {
    let chain = Chain::start();
    let channels = fund(&chain, &[1, 2, 3]);
    let whole = CAPACITY.to_sat();
    for (ends, (credit, used, size, returned)) in channels.into_iter().zip([
        (60_000, 60_000, 205, 0),
        (60_000, 45_678, 248, 14_322 - 2 * 43),
        (whole, whole, 162, 0),
    ]) {
        let (outpoint, terms) = (ends.outpoint, ends.opened.terms().clone());
        let (_, payee) = ends.pay_and_close(&chain, credit, used);
        let close = payee.unilateral(&terms.payout_script, TWO).unwrap();
        chain.send(&close.tx).unwrap();
        let block = chain.next_block();
        let mined = spender(&block, outpoint);
        assert_eq!(mined.vsize(), size);
        assert_eq!(fee(mined), 2 * u64::try_from(size).unwrap());
        assert_eq!(paid_to(mined, &terms.change_script), whole - credit + returned);
        assert_eq!(paid_to(mined, &terms.payout_script), credit - returned - fee(mined));
    }
}

#[test]
fn the_payee_raises_the_fee_with_the_same_signature_of_the_payer() {
    let chain = Chain::start();
    let ends = fund(&chain, &[1]).remove(0);
    let (outpoint, payout) = (ends.outpoint, ends.opened.terms().payout_script.clone());
    let (_, payee) = ends.pay_and_close(&chain, 60_000, 60_000);
    let slow = payee.unilateral(&payout, TWO).unwrap();
    let fast = payee.unilateral(&payout, FeeRate::from_sat_per_vb_u32(20)).unwrap();
    assert_eq!(slow.tx.input[0].witness.nth(1), fast.tx.input[0].witness.nth(1));
    chain.send(&slow.tx).unwrap();
    chain.send(&fast.tx).unwrap();
    assert_eq!(chain.call("getrawmempool", &[]), json!([fast.tx.compute_txid()]));
    assert_eq!(spender(&chain.next_block(), outpoint).compute_txid(), fast.tx.compute_txid());
}

#[test]
fn the_payee_can_not_take_more_than_the_newest_update_gives() {
    let chain = Chain::start();
    let ends = fund(&chain, &[1]).remove(0);
    let payout = ends.opened.terms().payout_script.clone();
    let (_, payee) = ends.pay_and_close(&chain, 60_000, 60_000);
    let close = payee.unilateral(&payout, TWO).unwrap();
    let mut greedy = close.tx.clone();
    greedy.output[0].value -= Amount::ONE_SAT;
    let mut alone = close.tx;
    alone.output.remove(0);
    for tx in [greedy, alone] {
        let refused = chain.send(&tx).unwrap_err();
        assert!(refused.contains("Schnorr"), "{refused}");
    }
}

#[test]
fn a_cooperative_close_by_both_paths_is_mined_and_pays_the_charges_and_the_rest() {
    let chain = Chain::start();
    let used_msat = 45_677_001;
    for (ends, (path, size)) in fund(&chain, &[1, 2])
        .into_iter()
        .zip([(SpendPath::KeyPath, 154), (SpendPath::PayLeaf, 204)])
    {
        let (outpoint, terms) = (ends.outpoint, ends.opened.terms().clone());
        let (payer, payee) = ends.pay_and_close(&chain, 60_000, 45_678);
        let plan =
            CooperativePlan::at_feerate(payee.channel(), path, payee.charges(), TWO).unwrap();
        let count = Count { counted: MilliSat(used_msat), step: Amount::ZERO };
        let tx = sign_together(&payer, &payee, &plan, &count);
        chain.send(&tx).unwrap();
        let block = chain.next_block();
        let mined = spender(&block, outpoint);
        assert_eq!((mined.version.0, mined.vsize()), (3, size));
        assert_eq!(fee(mined), 2 * u64::try_from(size).unwrap());
        assert_eq!(paid_to(mined, &terms.payout_script), used_msat.div_ceil(1_000));
        let rest = CAPACITY.to_sat() - used_msat.div_ceil(1_000) - fee(mined);
        assert_eq!(paid_to(mined, &terms.change_script), rest);
    }
}

/// The payer's half first, then the payee completes.
fn sign_together(
    payer: &PayerClosing,
    payee: &PayeeClosing,
    plan: &CooperativePlan,
    count: &Count,
) -> Transaction {
    if plan.path() == SpendPath::PayLeaf {
        let half = payer.sign_pay_leaf(plan, count).unwrap();
        return payee.complete_pay_leaf(plan, &half).unwrap();
    }
    let entropy = |byte: u8| NonceSeed::new([byte; 32]);
    let signing = payee.start_key_path(plan.clone(), entropy(1)).unwrap();
    let half = payer.sign_key_path(plan, count, &signing.nonce(), entropy(2)).unwrap();
    signing.complete(payee, &half).unwrap()
}

#[test]
fn a_cooperative_close_replaces_a_unilateral_one_that_is_not_mined_yet() {
    let chain = Chain::start();
    let ends = fund(&chain, &[1]).remove(0);
    let payout = ends.opened.terms().payout_script.clone();
    let (payer, payee) = ends.pay_and_close(&chain, 60_000, 45_000);
    chain.send(&payee.unilateral(&payout, TWO).unwrap().tx).unwrap();
    let rate = FeeRate::from_sat_per_vb_u32(10);
    let path = SpendPath::KeyPath;
    let plan = CooperativePlan::at_feerate(payee.channel(), path, payee.charges(), rate).unwrap();
    let count = Count { counted: MilliSat(45_000_000), step: Amount::ZERO };
    let tx = sign_together(&payer, &payee, &plan, &count);
    chain.send(&tx).unwrap();
    assert_eq!(chain.call("getrawmempool", &[]), json!([tx.compute_txid()]));
}

#[test]
fn a_batch_of_channels_is_mined_in_one_transaction() {
    let chain = Chain::start();
    let whole = CAPACITY.to_sat();
    let paid =
        [(whole, whole), (60_000, 60_000), (30_000, 20_000), (whole, 90_000), (2_000, 2_000)];
    let mut channels = Vec::new();
    let payout = chain.script();
    for (ends, (credit, used)) in fund(&chain, &[1, 2, 3, 4, 5]).into_iter().zip(paid) {
        let change = ends.opened.terms().change_script.clone();
        let returned = if credit - used >= 330 + 2 * 43 { credit - used - 2 * 43 } else { 0 };
        let (outpoint, (_, payee)) = (ends.outpoint, ends.pay_and_close(&chain, credit, used));
        channels.push((outpoint, change, credit, returned, payee));
    }
    let batch: Vec<_> = channels.iter().map(|(.., payee)| (payee, 1)).collect();
    let close = close_batch(&batch, &payout, TWO).unwrap();
    chain.send(&close.tx).unwrap();
    let block = chain.next_block();
    let mined = spender(&block, channels[0].0);
    let mut claimed = 0;
    for (outpoint, change, credit, returned, _) in &channels {
        assert!(std::ptr::eq(spender(&block, *outpoint), mined));
        assert_eq!(paid_to(mined, change), whole - credit + returned);
        claimed += credit - returned;
    }
    assert_eq!(paid_to(mined, &payout), claimed - fee(mined));
    assert_eq!(fee(mined), 2 * u64::try_from(mined.vsize()).unwrap());
    // 151 vB for each with change, less 43 without one, more 43 with a return.
    assert!(mined.vsize().abs_diff(54 + 5 * 151) <= 4, "{} vB", mined.vsize());
}

#[test]
fn a_batch_goes_on_without_a_channel_that_was_closed_meanwhile() {
    let chain = Chain::start();
    let payout = chain.script();
    let closings: Vec<_> = fund(&chain, &[1, 2, 3])
        .into_iter()
        .map(|ends| ends.pay_and_close(&chain, 50_000, 50_000).1)
        .collect();
    let mut batch: Vec<_> = closings.iter().map(|payee| (payee, 1)).collect();
    let stale = close_batch(&batch, &payout, TWO).unwrap();
    chain.send(&closings[1].unilateral(&payout, TWO).unwrap().tx).unwrap();
    chain.mine(1);
    assert!(chain.send(&stale.tx).unwrap_err().contains("missingorspent"));
    batch.remove(1);
    chain.send(&close_batch(&batch, &payout, TWO).unwrap().tx).unwrap();
}

#[test]
fn a_refund_is_refused_before_the_expiry_and_mined_after_it_without_the_gateway() {
    let chain = Chain::start();
    let ends = fund(&chain, &[1]).remove(0);
    let Ends { index, opened, outpoint, .. } = ends;
    let (expiry, change) = (opened.terms().expiry_height, opened.terms().change_script.clone());
    // A second payment to the address, by mistake, comes back with the refund.
    let again = chain.pay(&opened.address().to_string(), CAPACITY);
    let again = opened.clone().fund(&again).unwrap().outpoint();
    chain.mine(1);
    let secret = secret(Role::Payer, index);
    let one = refund(&opened, &secret, &[(outpoint, CAPACITY)], &change, TWO).unwrap();
    while chain.height() < expiry {
        assert!(chain.send(&one.tx).unwrap_err().contains("non-final"));
        chain.mine((expiry - chain.height()).div_ceil(2));
    }
    chain.send(&one.tx).unwrap();
    assert_eq!(one.tx.vsize(), 138);
    // Raised, and with the second output: it replaces the first.
    let outputs = [(outpoint, CAPACITY), (again, CAPACITY)];
    let five = FeeRate::from_sat_per_vb_u32(5);
    let both = refund(&opened, &secret, &outputs, &change, five).unwrap();
    chain.send(&both.tx).unwrap();
    let block = chain.next_block();
    assert_eq!(chain.height(), first_refund_block(expiry));
    let mined = spender(&block, outpoint);
    assert!(std::ptr::eq(mined, spender(&block, again)));
    assert_eq!(paid_to(mined, &change), 2 * CAPACITY.to_sat() - both.fee.to_sat());
    assert_eq!(fee(mined), 5 * u64::try_from(mined.vsize()).unwrap());
}
