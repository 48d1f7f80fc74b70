//! The gateway's machine is gone. A seed and a backup, or an old copy of the database, close every
//! channel on a new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bitcoin::Transaction;
use bitmesh_core::channel::SpendPath;
use bitmesh_tests::payments::{Customer, Market, paid};
use bitmesh_tests::udp::{Pace, Receiver, Sender, V4_HEADER_BYTES};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const CAPACITY_SAT: u64 = 100_000;
const PACKETS: u64 = 2_000;
const PACE: Pace = Pace { payload: 996, every: Duration::from_millis(1), packets: Some(PACKETS) };
/// What the packets cost, in satoshi: one each.
const USED_SAT: u64 = PACKETS * (996 + V4_HEADER_BYTES) / Market::BYTES_PER_SAT;
/// What `recover` may take, in seconds.
const RECOVERY_S: u32 = 120;
/// An output that returns costs so much at the least feerates, at most.
const RETURN_COST_SAT: u64 = 500;

/// Pays, downloads, and pays once more, when the books know what was used. Gives the credit.
fn has_an_evening(market: &Market, customer: &mut Customer, credit: u64) -> Result<u64> {
    customer.pay(credit)?;
    let there = Receiver::start(&market.lab.internet, bitmesh_tests::lab::SERVER_V4)?;
    Sender::start(&customer.station.namespace, there.address, PACE)?.finish()?;
    there.stop()?;
    let id = customer.id.to_string();
    until("the books know what was used", || {
        Ok(market.row(&id)?["charged_msat"] == USED_SAT * 1_000)
    })?;
    customer.pay(credit + 100)?;
    Ok(credit + 100)
}

/// Everything that is saved is saved.
fn is_up_to_date(market: &Market) -> Result<()> {
    until(
        "the backup is up to date",
        || Ok(market.agent.ask(&["status"])?["backup"]["behind"] == 0),
    )
    .with_context(|| market.agent.said())
}

/// A machine with nothing but the configuration, as it was.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(market: &Market) -> Result<Self> {
        let folder = TempDir::with_prefix("bitmesh-new-machine-")?;
        let text = fs::read_to_string(market.agent.house.config())?;
        let old = market.agent.house.folder().display().to_string();
        let text = text.replace(&old, &folder.path().display().to_string());
        let bpffs = market.agent.house.bpffs.display().to_string();
        let text = text.replace(&bpffs, &format!("{bpffs}-of-the-new-machine"));
        fs::write(folder.path().join("gateway.toml"), text)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Brings a file of the old machine.
    fn bring(&self, market: &Market, name: &str) -> Result<()> {
        fs::copy(market.agent.house.folder().join(name), self.path(name)).context("bring")?;
        Ok(())
    }

    fn recover(&self, market: &Market, backup: Option<&Path>) -> Result<std::process::Output> {
        let config = self.path("gateway.toml").display().to_string();
        let backup = backup.map(|path| path.display().to_string());
        let mut words = vec!["recover", "--json", "--config", &config];
        words.extend(backup.iter().flat_map(|path| ["--backup", path]));
        market.agent.command_within(RECOVERY_S, &words)
    }

    /// Recovers while a miner goes on as ever. Gives what it says of each channel.
    fn recovers(&self, market: &Market, backup: Option<&Path>) -> Result<Vec<Value>> {
        let done = AtomicBool::new(false);
        let output = std::thread::scope(|threads| {
            let miner = threads.spawn(|| -> Result<()> {
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_secs(2));
                    market.node(|node| node.mine(1))?;
                }
                Ok(())
            });
            let output = self.recover(market, backup);
            done.store(true, Ordering::Relaxed);
            miner.join().map_err(|_| anyhow!("the miner panicked"))??;
            output
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
        let rows: Value = serde_json::from_slice(&output.stdout)?;
        rows["channels"].as_array().cloned().context("no rows")
    }
}

/// The close of this channel, from the chain alone.
fn close_of(market: &Market, customer: &Customer, row: &Value) -> Result<Transaction> {
    use bitcoin::consensus::encode::deserialize_hex;
    let txid = row["closing_txid"].as_str().context("no close")?;
    let outpoint = customer.outpoint()?;
    let height = market.node(bitmesh_tests::regtest::Regtest::height)?;
    for height in (0..=height).rev() {
        let params = serde_json::json!([height]);
        let hash = market.node(|node| node.call("getblockhash", &params))?;
        let raw = market.node(|node| node.call("getblock", &serde_json::json!([hash, 0])))?;
        let block: bitcoin::Block = deserialize_hex(raw.as_str().context("no block")?)?;
        if let Ok(tx) = bitmesh_tests::payments::spender(&block, outpoint) {
            ensure!(tx.compute_txid().to_string() == txid, "another close: {tx:?}");
            return Ok(tx);
        }
    }
    Err(anyhow!("no block spends the channel: {row}"))
}

/// The chain pays what the newest update and what was used say.
fn is_closed(market: &Market, customer: &Customer, credit: u64, rows: &[Value]) -> Result<()> {
    let id = customer.id.to_string();
    let row = rows.iter().find(|row| row["channel"] == id).context("it is not recovered")?;
    ensure!(row["credited_sat"] == credit, "not the newest update: {row}");
    let tx = close_of(market, customer, row)?;
    let back = paid(&tx, customer.agreement.terms.change_script.as_script());
    let unused = credit - USED_SAT;
    let most = CAPACITY_SAT - credit + unused;
    let least = most - RETURN_COST_SAT;
    ensure!((least..=most).contains(&back), "{back} sat go back, not {least} to {most}: {tx:?}");
    ensure!(paid(&tx, &market.payout.script_pubkey()) > 0, "the gateway gets nothing: {tx:?}");
    Ok(())
}

/// Two channels on which something was used. A third is closed, on a fourth nothing was paid.
fn evening(market: &Market) -> Result<(Vec<Customer<'_>>, Vec<u64>)> {
    let mut all = Customer::all_funded(market, &market.lab.subscribers, CAPACITY_SAT)?;
    all.truncate(3);
    let mut gone = all.remove(2);
    gone.pay(5_000)?;
    gone.close(SpendPath::KeyPath)?;
    market.node_holds(1)?;
    let mut credits = Vec::new();
    for (credit, customer) in [5_000, 6_000].into_iter().zip(&mut all) {
        credits.push(has_an_evening(market, customer, credit)?);
    }
    market.mine(6)?;
    is_up_to_date(market)?;
    Ok((all, credits))
}

#[test]
fn a_backup_restored_on_a_new_machine_closes_every_channel() -> Result<()> {
    let backup = TempDir::with_prefix("bitmesh-backup-")?;
    let table = format!("\n[backup]\ndirectory = {:?}\n", backup.path());
    let market = Market::with_tables(4, &table)?;
    let (all, credits) = evening(&market)?;
    let saved = fs::read_dir(backup.path())?.count();
    ensure!(saved == 4, "{saved} files are there, not three channels' and the keys'");
    market.agent.signal(Signal::SIGKILL)?;
    let machine = Machine::new(&market)?;
    let without = machine.recover(&market, Some(backup.path()))?;
    let said = String::from_utf8_lossy(&without.stderr);
    ensure!(said.contains("seed") && said.contains("missing"), "without the seed: {said}");
    machine.bring(&market, "seed")?;
    let alone = machine.recover(&market, None)?;
    let said = String::from_utf8_lossy(&alone.stderr);
    ensure!(said.contains("the seed brings back the keys alone"), "with the seed alone: {said}");
    let rows = machine.recovers(&market, Some(backup.path()))?;
    // The third was closed before: so the chain says, until that is buried.
    let over =
        rows.iter().filter(|row| row["sentence"].to_string().contains("both sides closed it"));
    ensure!(rows.len() == 3 && over.count() == 1, "{rows:?}");
    for (customer, credit) in all.iter().zip(&credits) {
        is_closed(&market, customer, *credit, &rows)?;
    }
    // Once more changes nothing.
    let again = machine.recovers(&market, Some(backup.path()))?;
    let txids =
        |rows: &[Value]| rows.iter().map(|row| row["closing_txid"].clone()).collect::<Vec<_>>();
    ensure!(txids(&again) == txids(&rows), "{again:?}, before {rows:?}");
    Ok(())
}

/// A command that appends what it reads, once it is allowed to.
fn command(folder: &Path) -> Result<String> {
    let script = folder.join("save");
    let text = format!(
        "#!/bin/sh\n[ -e {0}/allowed ] || {{ echo 'not yet' >&2; exit 1; }}\ncat >>{0}/lines\n",
        folder.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(format!("\n[backup]\ncommand = [{script:?}]\n"))
}

#[test]
fn a_backup_that_fails_harms_no_payment_and_with_an_old_database_closes_every_channel() -> Result<()>
{
    let backup = TempDir::with_prefix("bitmesh-backup-")?;
    let market = Market::with_tables(4, &command(backup.path())?)?;
    let machine = Machine::new(&market)?;
    {
        let mut early = Customer::funded(&market, &market.lab.subscribers[3], CAPACITY_SAT)?;
        early.pay(2_000)?;
        early.close(SpendPath::KeyPath)?;
        market.node_holds(1)?;
        market.mine(1)?;
    }
    let status = market.agent.ask(&["status"])?;
    let why = status["backup"]["why"].as_str().context("nobody is told that it fails")?;
    ensure!(why.contains("ended with exit status: 1"), "{status}");
    // The copy of the database, of before the evening: with `sqlite3 .backup` it would be one file.
    for name in ["bitmesh.db", "bitmesh.db-wal", "seed"] {
        machine.bring(&market, name)?;
    }
    fs::write(backup.path().join("allowed"), "")?;
    let (all, credits) = evening(&market)?;
    market.agent.signal(Signal::SIGKILL)?;
    let lines = backup.path().join("lines");
    // A power cut tore the last line.
    let torn = fs::read_to_string(&lines)? + "{\"kind\":\"channel\",\"format\":1,\"cha";
    fs::write(&lines, torn)?;
    let rows = machine.recovers(&market, Some(&lines))?;
    for (customer, credit) in all.iter().zip(&credits) {
        is_closed(&market, customer, *credit, &rows)?;
    }
    Ok(())
}
