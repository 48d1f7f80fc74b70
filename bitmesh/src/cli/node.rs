//! A subscriber's own node: its wallet pays fundings, its chain knows refunds.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::hex::FromHex as _;
use bitcoin::{Address, Amount, BlockHash, FeeRate, Network, OutPoint, Script, Transaction, Txid};
use bitmesh_core::channel::OutputScript;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::chain::bitcoind::{Auth, Bitcoind, DEFAULT_TIMEOUT, Password, Rpc, RpcConfig};
use crate::chain::{Broadcast, ChainSource as _};
use crate::payer::{Node, Wallet};

/// Bytes of a file with a password, at most.
const MAX_PASSWORD_BYTES: u64 = 4_096;

/// Blocks within which a refund should be confirmed.
const TARGET_BLOCKS: u16 = 6;

/// How to prove to a node who asks. Passwords come from files, never from the command line.
#[derive(Args)]
pub(super) struct NodeAuth {
    /// The node's cookie file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rpc_user", "rpc_password_file"])]
    rpc_cookie_file: Option<PathBuf>,
    /// A user of the node
    #[arg(long, value_name = "NAME", requires = "rpc_password_file")]
    rpc_user: Option<String>,
    /// The file whose first line is that user's password
    #[arg(long, value_name = "FILE", requires = "rpc_user")]
    rpc_password_file: Option<PathBuf>,
}

impl NodeAuth {
    /// The node at this address, once it was seen to be on `network`.
    pub(super) fn connect(&self, url: &str, network: Network) -> Result<OwnNode, Failure> {
        let auth = match (&self.rpc_cookie_file, &self.rpc_user, &self.rpc_password_file) {
            (Some(cookie), _, _) => Auth::Cookie(cookie.clone()),
            (None, Some(name), Some(file)) => {
                Auth::User { name: name.clone(), password: password(file)? }
            }
            _ => {
                let what = "the node wants to know who asks: give --rpc-cookie-file, or --rpc-user \
                            and --rpc-password-file";
                return Err(Failure::Told(what.to_owned()));
            }
        };
        let config = RpcConfig { url: url.to_owned(), auth, timeout: DEFAULT_TIMEOUT };
        let rpc = Rpc::new(config.clone())?;
        let genesis: BlockHash = rpc.call("getblockhash", &json!([0]))?;
        if genesis != genesis_block(network).block_hash() {
            let what = format!("the node at {url} is not on {network}: see --network");
            return Err(Failure::Told(what));
        }
        Ok(OwnNode { chain: Bitcoind::at(config, network)?, rpc, network })
    }
}

fn password(path: &PathBuf) -> Result<Password, Failure> {
    let failed = |error| Failure::Told(format!("{}: {error}: mend the path", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PASSWORD_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Password::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// A node that trusts us.
pub(super) struct OwnNode {
    rpc: Rpc,
    chain: Bitcoind,
    network: Network,
}

#[derive(Deserialize)]
struct Funded {
    psbt: String,
}

#[derive(Deserialize)]
struct Finished {
    #[serde(default)]
    hex: String,
    complete: bool,
}

#[derive(Deserialize)]
struct Scanned {
    unspents: Vec<Unspent>,
}

#[derive(Deserialize)]
struct Unspent {
    txid: Txid,
    vout: u32,
    #[serde(deserialize_with = "bitcoin::amount::serde::as_btc::deserialize")]
    amount: Amount,
}

impl OwnNode {
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Result<T, String> {
        self.rpc.call(method, params).map_err(|error| error.to_string())
    }

    fn tip_height(&mut self) -> Result<u32, String> {
        self.chain.tip().map(|tip| tip.block.height).map_err(|error| error.to_string())
    }

    fn send(&mut self, tx: &Transaction) -> Result<(), String> {
        match self.chain.broadcast(tx) {
            Ok(Broadcast::Refused(refused)) => Err(refused.to_string()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Wallet for OwnNode {
    fn height(&mut self) -> Result<u32, String> {
        self.tip_height()
    }

    fn change_script(&mut self) -> Result<OutputScript, String> {
        let address: Address<NetworkUnchecked> =
            self.ask("getnewaddress", &json!(["BitMesh", "bech32m"]))?;
        let address = address.require_network(self.network).map_err(|error| error.to_string())?;
        OutputScript::new(address.script_pubkey()).map_err(|error| error.to_string())
    }

    fn pay(&mut self, to: &Address, amount: Amount) -> Result<Vec<u8>, String> {
        // An amount as text is read to the satoshi.
        let btc = amount.display_in(bitcoin::Denomination::Bitcoin).to_string();
        let outputs = json!([{ to.to_string(): btc }]);
        // Locked: the wallet does not use these coins elsewhere before they are broadcast.
        let options = json!({"lockUnspents": true});
        let funded: Funded =
            self.ask("walletcreatefundedpsbt", &json!([[], outputs, 0, options]))?;
        let signed: Funded = self.ask("walletprocesspsbt", &json!([funded.psbt]))?;
        let finished: Finished = self.ask("finalizepsbt", &json!([signed.psbt]))?;
        if !finished.complete {
            return Err("the wallet does not sign by itself: unlock it, or pay the address \
                        yourself"
                .to_owned());
        }
        Vec::from_hex(&finished.hex).map_err(|error| format!("the wallet gave no hex: {error}"))
    }

    fn broadcast(&mut self, tx: &Transaction) -> Result<(), String> {
        self.send(tx)
    }
}

impl Node for OwnNode {
    fn height(&mut self) -> Result<u32, String> {
        self.tip_height()
    }

    fn outputs(&mut self, script: &Script) -> Result<Vec<(OutPoint, Amount)>, String> {
        let descriptor = format!("raw({})", script.to_hex_string());
        let found: Scanned = self.ask("scantxoutset", &json!(["start", [descriptor]]))?;
        let outputs = found.unspents.into_iter();
        Ok(outputs.map(|found| (OutPoint::new(found.txid, found.vout), found.amount)).collect())
    }

    fn feerate(&mut self) -> Result<FeeRate, String> {
        let estimate = self.chain.fee_rate(TARGET_BLOCKS).map_err(|error| error.to_string())?;
        Ok(estimate.rate)
    }

    fn broadcast(&mut self, tx: &Transaction) -> Result<(), String> {
        self.send(tx)
    }
}

/// An address as the command line gives it, of this chain and of a kind that closes can pay to.
pub(super) fn script_of(
    address: &Address<NetworkUnchecked>,
    network: Network,
) -> Result<OutputScript, Failure> {
    let address = address.clone().require_network(network)?;
    Ok(OutputScript::new(address.script_pubkey())?)
}

/// A transaction as nodes take it.
pub(super) fn hex_of(tx: &Transaction) -> String {
    serialize_hex(tx)
}
