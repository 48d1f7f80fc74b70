//! A real bitcoin node on regtest, alone in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, Transaction};
use bitmesh::chain::ChainError;
use bitmesh::chain::bitcoind::{Auth, Bitcoind, Rpc, RpcConfig};
use bitmesh::chain::conformance::TestChain;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process;

/// Names the program of the node; `cargo xtask test payments` sets it.
pub const BITCOIND_EXE: &str = "BITCOIND_EXE";

/// How long the node may take to start, to stop, or to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks that are mined at the start: of the coins in them, those of the first hundred can be
/// spent, after a reorganisation of a hundred blocks too.
pub const FIRST_BLOCKS: u32 = 201;

const WALLET: &str = "miner";

/// Always given.
const ARGUMENTS: &[&str] = &[
    "-regtest",
    "-server",
    "-listen=0",
    "-dnsseed=0",
    "-printtoconsole=0",
    "-fallbackfee=0.00002",
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
];

/// How to start a node.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More arguments.
    pub arguments: Vec<String>,
    /// Leaves the policy on version-3 transactions at the node's own default.
    pub own_policy: bool,
}

/// A running node, or one that was stopped; ended on drop, with its files.
#[derive(Debug)]
pub struct Regtest {
    folder: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Regtest {
    /// A node that enforces TRUC, with a chain of [`FIRST_BLOCKS`] blocks whose coins
    /// are in its wallet.
    ///
    /// # Errors
    ///
    /// Fails if there is no program or if it does not start, with what it said.
    pub fn start() -> Result<Self> {
        let node = Self::launch(&Options::default())?;
        node.open_wallet()?;
        node.mine(FIRST_BLOCKS)?;
        Ok(node)
    }

    /// A node with nothing but the genesis block, and no wallet.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn launch(options: &Options) -> Result<Self> {
        let program = program()?;
        let folder = TempDir::with_prefix("bitmesh-regtest-")?;
        let port = free_port()?;
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(|&word| word.to_owned()).collect();
        arguments.push(format!("-datadir={}", folder.path().display()));
        arguments.push(format!("-rpcport={port}"));
        arguments.extend(options.arguments.iter().cloned());
        if !options.own_policy && is_knots(&program)? {
            // Bitcoin Core has no other policy, and does not know the argument.
            arguments.push("-corepolicy=1".to_owned());
        }
        let mut node = Self { folder, program, arguments, port, child: None };
        node.start_again()?;
        Ok(node)
    }

    /// Starts it again, at the same address.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.rpc()?.call::<Value>("getblockcount", &json!([]));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if !error.is_transient() || Instant::now() > deadline => {
                    bail!("the node does not start: {error}; {}", self.said());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            if let Some(status) = self.child.as_mut().context("no node")?.try_wait()? {
                self.child = None;
                bail!("the node ended with {status}: {}", self.said());
            }
        }
    }

    /// As [`Self::start_again`], with more arguments, which stay.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.arguments.extend(arguments.iter().map(|&word| word.to_owned()));
        self.start_again()
    }

    /// Starts it without waiting for its first answer.
    ///
    /// # Errors
    ///
    /// Fails if the program can't be started.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(self.folder.path().join("stderr"))?;
        self.child = Some(command.stderr(log).spawn().context("cannot start bitcoind")?);
        Ok(())
    }

    /// Stops it in order, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.call("stop", &json!([]))?;
        self.wait_for_the_end()
    }

    /// Sends a signal that ends it, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        self.wait_for_the_end()
    }

    fn wait_for_the_end(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        bail!("the node does not stop: {}", self.said())
    }

    /// Sends it a signal: `SIGSTOP` makes a slow node of it.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().context("the node does not run")?.id();
        process::signal(Pid::from_raw(i32::try_from(id)?), signal)
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port on the loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where its wallet answers.
    #[must_use]
    pub fn wallet_url(&self) -> String {
        format!("{}/wallet/{WALLET}", self.url())
    }

    /// Its cookie file.
    #[must_use]
    pub fn cookie(&self) -> PathBuf {
        self.folder.path().join("regtest/.cookie")
    }

    /// How to ask it.
    #[must_use]
    pub fn config(&self) -> RpcConfig {
        RpcConfig { url: self.url(), auth: Auth::Cookie(self.cookie()), timeout: PATIENCE }
    }

    /// It as a chain source, which expects this network.
    ///
    /// # Errors
    ///
    /// Never fails with an address of this machine.
    pub fn source(&self, network: Network) -> Result<Bitcoind> {
        Ok(Bitcoind::at(self.config(), network)?)
    }

    fn rpc(&self) -> Result<Rpc, ChainError> {
        Rpc::new(self.config())
    }

    /// Asks it anything.
    ///
    /// # Errors
    ///
    /// Fails with the node's words if it refuses.
    pub fn call(&self, method: &'static str, params: &Value) -> Result<Value> {
        Ok(self.rpc()?.call(method, params)?)
    }

    /// Asks its wallet anything.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub fn wallet(&self, method: &'static str, params: &Value) -> Result<Value> {
        let url = self.wallet_url();
        Ok(Rpc::new(RpcConfig { url, ..self.config() })?.call(method, params)?)
    }

    /// Makes the wallet, which it opens by itself from then on.
    ///
    /// # Errors
    ///
    /// Fails if there is one.
    pub fn open_wallet(&self) -> Result<()> {
        let params = json!({"wallet_name": WALLET, "load_on_startup": true});
        self.call("createwallet", &params).map(drop)
    }

    /// A new address of the wallet.
    ///
    /// # Errors
    ///
    /// Fails without a wallet.
    pub fn address(&self) -> Result<Address> {
        let address = self.wallet("getnewaddress", &json!([]))?;
        let address: Address<_> = address.as_str().context("no address")?.parse()?;
        Ok(address.require_network(Network::Regtest)?)
    }

    /// Mines so many blocks for the wallet; the first holds all of the mempool.
    ///
    /// # Errors
    ///
    /// Fails without a wallet.
    pub fn mine(&self, blocks: u32) -> Result<()> {
        self.call("generatetoaddress", &json!([blocks, self.address()?])).map(drop)
    }

    /// Mines so many blocks that hold nothing.
    ///
    /// # Errors
    ///
    /// Fails without a wallet.
    pub fn mine_empty(&self, blocks: u32) -> Result<()> {
        // A new address: the blocks must not be the same as others at that height.
        let address = self.address()?;
        for _ in 0..blocks {
            self.call("generateblock", &json!([address, []]))?;
        }
        Ok(())
    }

    /// Height of the tip.
    ///
    /// # Errors
    ///
    /// Fails if the node does not answer.
    pub fn height(&self) -> Result<u32> {
        Ok(u32::try_from(self.call("getblockcount", &json!([]))?.as_u64().context("no height")?)?)
    }

    /// Lets another branch win, of `length` empty blocks (more than `depth`), which leaves the
    /// newest `depth` blocks behind.
    ///
    /// # Errors
    ///
    /// Fails if the node refuses.
    pub fn reorganise(&self, depth: u32, length: u32) -> Result<()> {
        let first = self.height()?.checked_sub(depth).context("too deep")? + 1;
        let old = self.call("getblockhash", &json!([first]))?;
        self.call("invalidateblock", &json!([old]))?;
        self.mine_empty(length)?;
        let new = self.call("getblockhash", &json!([first]))?;
        // Invalidating a block does not bring what is deep below back into the mempool, as a
        // stronger branch does: so that one wins once more, against the old one.
        self.call("invalidateblock", &json!([new]))?;
        self.call("reconsiderblock", &json!([old]))?;
        self.call("reconsiderblock", &json!([new]))?;
        let won = self.call("getblockhash", &json!([first]))?;
        if won == new { Ok(()) } else { bail!("the new branch is not the longer one") }
    }

    /// Pays from the wallet to a script that has an address; the transaction is in the mempool.
    ///
    /// # Errors
    ///
    /// Fails if the wallet has too little.
    pub fn pay(&self, script: &ScriptBuf, amount: Amount) -> Result<(OutPoint, Transaction)> {
        let address = Address::from_script(script, Network::Regtest)?;
        let txid = self.wallet("sendtoaddress", &json!([address, amount.to_btc()]))?;
        let sent = self.wallet("gettransaction", &json!([txid]))?;
        let hex = sent["hex"].as_str().context("no transaction")?;
        let transaction: Transaction = deserialize_hex(hex)?;
        let vout = transaction.output.iter().position(|output| output.script_pubkey == *script);
        let vout = u32::try_from(vout.ok_or_else(|| anyhow!("the payment has no such output"))?)?;
        Ok((OutPoint::new(transaction.compute_txid(), vout), transaction))
    }

    /// Its command-line client and its folder.
    #[must_use]
    pub fn command_line(&self) -> (String, String) {
        let client = self.program.with_file_name("bitcoin-cli");
        (client.display().to_string(), self.folder.path().display().to_string())
    }

    /// What it complained of, and the end of its log.
    #[must_use]
    pub fn said(&self) -> String {
        let read =
            |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let log = read("regtest/debug.log");
        let lines: Vec<&str> = log.lines().collect();
        read("stderr") + &lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Regtest {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended on its own.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the node said: {}", self.said());
        }
    }
}

/// The program of the node.
fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BITCOIND_EXE) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("bitcoind"));
    found.into_iter().find(|program| program.is_file()).with_context(|| {
        format!("no bitcoind: run `cargo xtask test payments`, or set {BITCOIND_EXE}")
    })
}

fn is_knots(program: &Path) -> Result<bool> {
    let said = Command::new(program).arg("--version").output().context("cannot start bitcoind")?;
    Ok(String::from_utf8_lossy(&said.stdout).contains("Knots"))
}

/// A port that nobody listens at now.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The node under the checks that hold for every chain source.
#[allow(clippy::expect_used)]
impl TestChain for Regtest {
    type Source = Bitcoind;

    fn source(&self, network: Network) -> Bitcoind {
        Self::source(self, network).expect("an address of this machine")
    }

    fn mine(&mut self, blocks: u32) {
        Self::mine(self, blocks).expect("the node mines");
    }

    fn reorganise(&mut self, depth: u32) {
        Self::reorganise(self, depth, depth + 1).expect("the node reorganises its chain");
    }

    fn pay(&mut self, script: &ScriptBuf, amount: Amount) -> OutPoint {
        Self::pay(self, script, amount).expect("the node pays").0
    }

    fn stop(&mut self) {
        Self::stop(self).expect("the node stops");
    }

    fn start(&mut self) {
        self.start_again().expect("the node starts again");
    }
}
