//! Five hundred visitors, each with a MAC address of its own and a live page: the gateway stays
//! small, and every page hears of every second.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::crowd::{Visitor, crowd, memory_kib, put_first};
use bitmesh_tests::lab::Lab;
use bitmesh_tests::scale::of_soak;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, gettid};

const VISITORS: u16 = 500;
/// What the gateway may hold of memory, at its peak.
const MAX_RSS_KIB: u64 = 64 << 10;
/// Events come every second: on time is before the next one is due.
const MAX_GAP: Duration = Duration::from_secs(2);
/// A page has its first event so soon, and a page that is asked for is there.
const MAX_FIRST: Duration = Duration::from_secs(5);
const GRANT_MSAT: u64 = 1_000;
/// More for one visitor after another, while all pages are open.
const TOP_UPS: u16 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of events that are not read yet, at most.
const MAX_SAID: usize = 64 << 10;

/// A page that is open: what came of its events and is not read yet.
struct Page {
    visitor: Visitor,
    stream: TcpStream,
    said: Vec<u8>,
    seen: VecDeque<Instant>,
    left_msat: u64,
    /// When it showed the top-up.
    topped_up: Option<Instant>,
}

impl Page {
    fn open(visitor: Visitor) -> Result<Self> {
        let mut whole = String::new();
        visitor.ask("/", "Connection: close\r\n")?.read_to_string(&mut whole)?;
        ensure!(whole.ends_with("</html>"), "no page: {whole}");
        let stream = visitor.ask("/live?lang=en", "")?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            visitor,
            stream,
            said: Vec::new(),
            seen: VecDeque::new(),
            left_msat: 0,
            topped_up: None,
        })
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<()> {
        let mut part = [0; 8_192];
        match self.stream.read(&mut part) {
            Ok(0) => anyhow::bail!("the stream of {} ended", self.visitor.device()),
            Ok(length) => self.said.extend(&part[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).with_context(|| self.visitor.device()),
        }
        ensure!(self.said.len() < MAX_SAID, "no event in {MAX_SAID} bytes");
        while let Some(end) = self.said.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.said.drain(..end + 2).collect();
            self.hear(&String::from_utf8_lossy(&event))?;
        }
        Ok(())
    }

    fn hear(&mut self, event: &str) -> Result<()> {
        ensure!(!event.contains("\n:"), "the gateway had too much to do");
        let (_, rest) = event.split_once("\"id\":\"left\",\"value\":\"").context("no balance")?;
        self.left_msat = rest.split('"').next().unwrap_or_default().parse()?;
        let now = Instant::now();
        if self.left_msat > GRANT_MSAT {
            self.topped_up.get_or_insert(now);
        }
        self.seen.push_back(now);
        Ok(())
    }
}

/// Reads all pages for so long, or until this holds.
fn listen(pages: &mut [Page], until: Instant, done: impl Fn(&[Page]) -> bool) -> Result<()> {
    while !done(pages) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let wait = PollTimeout::try_from(left.min(Duration::from_millis(100)))?;
        let mut ready: Vec<_> =
            pages.iter().map(|page| PollFd::new(page.stream.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut ready, wait)?;
        let ready: Vec<bool> = ready
            .iter()
            .map(|one| one.revents().is_some_and(|events| !events.is_empty()))
            .collect();
        for (page, _) in pages.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            page.read()?;
        }
    }
    Ok(())
}

/// What it used of one processor, in seconds.
fn cpu_s(pid: Pid) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no name")?;
    let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted
        .get((sorted.len() as f64 * share) as usize)
        .or(sorted.last())
        .copied()
        .unwrap_or_default()
}

#[test]
fn five_hundred_visitors_with_live_pages_are_told_of_every_second_by_a_small_gateway() -> Result<()>
{
    let lab = Lab::with_subscribers(2)?;
    let crowd = crowd(&lab, VISITORS)?;
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000_000)))?;
    let pid = agent.pid()?;
    for measured in [pid, gettid()] {
        put_first(measured)?;
    }
    let before = memory_kib(pid, "VmRSS:")?;
    let grant = |visitor: &Visitor| {
        agent.ask(&["grant", &visitor.mac(), "--msat", &GRANT_MSAT.to_string()])
    };
    for visitor in (0..VISITORS).map(Visitor) {
        grant(&visitor)?;
    }
    let mut pages = crowd
        .enter(|| (0..VISITORS).map(|n| Page::open(Visitor(n))).collect::<Result<Vec<_>>>())?;
    let every_page_heard = |pages: &[Page]| pages.iter().all(|page| !page.seen.is_empty());
    listen(&mut pages, Instant::now() + MAX_FIRST, every_page_heard)?;
    for page in &mut pages {
        ensure!(!page.seen.is_empty(), "{} heard nothing", page.visitor.device());
        ensure!(page.left_msat == GRANT_MSAT, "{} msat are left", page.left_msat);
        page.seen.clear();
    }

    let seconds = of_soak(120, 15);
    let (since, used) = (Instant::now(), cpu_s(pid)?);
    let until = since + Duration::from_secs(seconds);
    let granted = thread::scope(|scope| {
        // Beside the pages: starting a program takes a while, and nobody is to wait for it.
        let granting = scope.spawn(|| -> Result<Vec<(usize, Instant)>> {
            let top_up = |n: u16| {
                thread::sleep(PAUSE);
                let number = n * (VISITORS / TOP_UPS);
                grant(&Visitor(number))?;
                Ok((usize::from(number), Instant::now()))
            };
            (0..TOP_UPS).map(top_up).collect()
        });
        listen(&mut pages, until, |_| false)?;
        granting.join().map_err(|_| anyhow::anyhow!("the top-ups panicked"))?
    })?;
    let mut delays = Vec::new();
    for (number, granted) in granted {
        let shown = pages[number].topped_up.context("a top-up is not shown")?;
        delays.push(shown.saturating_duration_since(granted));
    }
    let took = since.elapsed();
    let cpu = (cpu_s(pid)? - used) / took.as_secs_f64();
    let peak = memory_kib(pid, "VmHWM:")?;

    let mut gaps = Vec::new();
    for page in &pages {
        let all = page.seen.iter().zip(page.seen.iter().skip(1));
        gaps.extend(all.map(|(one, next)| next.duration_since(*one)));
    }
    gaps.sort();
    delays.sort();
    eprintln!(
        "{VISITORS} live pages for {took:.0?}: {} events, gaps {:.3?} in the middle, {:.3?} for 99 %, \
         {:.3?} at most; top-ups shown after {:.3?} to {:.3?}; the agent: {before} KiB at first, \
         {peak} KiB at its peak, {:.0} % of a processor",
        gaps.len(),
        at(&gaps, 0.5),
        at(&gaps, 0.99),
        at(&gaps, 1.0),
        at(&delays, 0.0),
        at(&delays, 1.0),
        cpu * 100.0,
    );
    // A busy processor makes each second a little longer.
    let due = took.as_secs() * 9 / 10;
    let fewest = pages.iter().map(|page| page.seen.len() as u64).min().unwrap_or(0);
    ensure!(fewest >= due, "{fewest} events in {took:?}");
    ensure!(at(&gaps, 1.0) <= MAX_GAP, "an update was late");
    ensure!(at(&delays, 1.0) <= MAX_GAP, "a top-up was shown late");
    ensure!(peak <= MAX_RSS_KIB, "the gateway took {peak} KiB");
    Ok(())
}
