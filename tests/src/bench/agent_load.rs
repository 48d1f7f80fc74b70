//! What the agent takes of the machine.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitmesh_common::gate::Direction;
use nix::unistd::{SysconfVar, sysconf};

use super::contender::Contender;
use super::flood::Flood;
use super::report::Report;
use super::turns::Run;

/// Packets between two looks at the clock.
const BURST: u32 = 50_000;

/// Times and sizes of a process at one moment.
struct Look {
    at: Instant,
    cpu_seconds: f64,
    written_bytes: u64,
}

/// Floods a lab for so long, and adds what its agent took meanwhile.
///
/// # Errors
///
/// Fails if the agent has died.
pub(super) fn measure(contender: &Contender, time: Duration, report: &mut Report) -> Result<()> {
    let agent = contender.agent.as_ref().context("a lab with an agent")?;
    let pid = agent.pid()?.as_raw();
    let flood = Flood::new(&contender.lab, Direction::Uplink, contender.clients)?;
    let (before, after) = contender.awake(|_| {
        // What waited while it was stopped is done before the clock starts.
        thread::sleep(Duration::from_secs(1));
        let before = look(pid)?;
        while before.at.elapsed() < time {
            if let Run::Invalid(why) = flood.run(BURST)? {
                eprintln!("while the agent was watched: {why}");
            }
        }
        Ok((before, look(pid)?))
    })?;
    let seconds = (after.at - before.at).as_secs_f64();
    let cpu = (after.cpu_seconds - before.cpu_seconds) / seconds * 100.0;
    let written = (after.written_bytes - before.written_bytes) as f64 / seconds / 1024.0;
    let name = |what: &str| format!("agent_{}_{what}", contender.clients);
    report.add_single(&name("cpu"), cpu, "% of a core");
    report.add_single(&name("written"), written, "KiB/s");
    report.add_single(&name("memory"), memory_mib(pid)?, "MiB");
    Ok(())
}

fn look(pid: i32) -> Result<Look> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything; proc_pid_stat(5) counts from 3 after it.
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "a process has times: {stat}");
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("the system says how long a tick is")?;
    Ok(Look {
        at: Instant::now(),
        cpu_seconds: ticks.iter().sum::<u64>() as f64 / a_second as f64,
        written_bytes: number(&format!("/proc/{pid}/io"), "write_bytes:")?,
    })
}

fn memory_mib(pid: i32) -> Result<f64> {
    Ok(number(&format!("/proc/{pid}/status"), "VmRSS:")? as f64 / 1024.0)
}

fn number(file: &str, key: &str) -> Result<u64> {
    let said = fs::read_to_string(file)?;
    let line = said.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.with_context(|| format!("{file} has no {key}"))?.parse().context("a number")
}
