//! The load: one thread, connections that stay, requests that are bytes already.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::buyer::Buyer;
use super::crowd::PATIENCE;
use super::http::Answer;

/// Between two updates of a station: the portal answers 25 requests of one in a second.
pub(super) const PACE: Duration = Duration::from_millis(41);

/// Answers that are taken in one go.
const MAX_EVENTS: usize = 256;

/// Who sends how much, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Stations that are connected at the same time.
    pub(super) together: usize,
    /// Updates that a station sends in one go.
    pub(super) of_one: usize,
    /// Updates in all, at most.
    pub(super) most: usize,
    /// Between two updates of a station, at least.
    pub(super) pace: Duration,
    /// For how long updates are sent; at the end their answers are waited for.
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// From the first update to the last answer.
    pub(super) took: Duration,
    /// From each update to its answer, in order of size.
    pub(super) latencies: Vec<Duration>,
}

impl Outcome {
    /// Updates that count, a second.
    pub(super) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// So many of all were answered in this time; milliseconds.
    pub(super) fn within_ms(&self, share: f64) -> f64 {
        let place = (self.latencies.len() as f64 * share) as usize;
        let found = self.latencies.get(place).or(self.latencies.last());
        found.copied().unwrap_or_default().as_secs_f64() * 1_000.0
    }
}

/// A station that is connected.
struct Visit {
    buyer: usize,
    stream: TcpStream,
    answer: Answer,
    left: usize,
    began: Option<Instant>,
    sent: usize,
    at: Instant,
}

/// Sends updates of the buyers from inside their namespace, and waits for every answer.
///
/// # Errors
///
/// Fails if an update does not count, or is not answered.
pub(super) fn run(buyers: &mut [Buyer], shape: Shape) -> Result<Outcome> {
    let mut load = Load {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        waiting: (0..buyers.len()).collect(),
        buyers,
        shape,
        visits: Vec::new(),
        due: BinaryHeap::new(),
        sent: 0,
        under_way: 0,
        outcome: Outcome::default(),
    };
    for slot in 0..shape.together {
        let visit = load.enter(slot)?.context("fewer stations than places")?;
        load.visits.push(visit);
    }
    load.pay()
}

struct Load<'a> {
    epoll: Epoll,
    buyers: &'a mut [Buyer],
    shape: Shape,
    visits: Vec<Visit>,
    /// Stations whose turn comes.
    waiting: VecDeque<usize>,
    /// When each place sends next.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    sent: usize,
    under_way: usize,
    outcome: Outcome,
}

impl Load<'_> {
    /// The next station connects; it comes again after all the others.
    fn enter(&mut self, slot: usize) -> Result<Option<Visit>> {
        let Some(buyer) = self.waiting.pop_front() else { return Ok(None) };
        self.waiting.push_back(buyer);
        let stream = self.buyers[buyer].station.connect()?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))?;
        let (answer, left) = (Answer::default(), self.shape.of_one);
        let at = Instant::now();
        Ok(Some(Visit { buyer, stream, answer, left, began: None, sent: 0, at }))
    }

    fn pay(mut self) -> Result<Outcome> {
        let start = Instant::now();
        // Not all in one moment: they don't know of each other.
        let apart = self.shape.pace / u32::try_from(self.shape.together)?;
        for slot in 0..self.visits.len() {
            self.due.push(Reverse((start + apart * u32::try_from(slot)?, slot)));
        }
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        loop {
            let now = Instant::now();
            let is_late = now.duration_since(start) >= self.shape.time;
            while let Some(Reverse((at, slot))) = self.due.peek().copied() {
                if is_late || at > now || self.is_enough() {
                    break;
                }
                self.due.pop();
                self.send(slot)?;
            }
            let is_over = is_late || self.is_enough();
            if is_over && self.under_way == 0 {
                break;
            }
            let ready = self.epoll.wait(&mut events, self.patience(is_over)?)?;
            ensure!(ready > 0 || now.elapsed() < PATIENCE, "no answer in {PATIENCE:?}");
            for event in &events[..ready] {
                self.read(usize::try_from(event.data())?)?;
            }
        }
        self.outcome.took = start.elapsed();
        self.outcome.latencies.sort_unstable();
        Ok(self.outcome)
    }

    const fn is_enough(&self) -> bool {
        self.sent >= self.shape.most
    }

    /// Until an answer or the next update.
    fn patience(&self, is_over: bool) -> Result<EpollTimeout> {
        let next = self.due.peek().filter(|_| !is_over);
        let wait = next.map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        // In milliseconds, rounded up: not to wake for nothing.
        let wait = wait.map_or(PATIENCE, |wait| wait + Duration::from_micros(999));
        Ok(EpollTimeout::try_from(wait)?)
    }

    fn send(&mut self, slot: usize) -> Result<()> {
        let visit = &mut self.visits[slot];
        let request = self.buyers[visit.buyer].requests.pop_front();
        let request = request.context("more was sent than was signed")?;
        visit.at = Instant::now();
        visit.began.get_or_insert(visit.at);
        visit.sent += 1;
        visit.left -= 1;
        self.sent += 1;
        self.under_way += 1;
        // It is short, and nothing else waits to be sent.
        visit.stream.write_all(&request).context("an update is not sent at once")
    }

    fn read(&mut self, slot: usize) -> Result<()> {
        let visit = &mut self.visits[slot];
        let mut part = [0; 2_048];
        let length = match visit.stream.read(&mut part) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        ensure!(length > 0, "the gateway hung up: {}", visit.answer.text());
        if !visit.answer.take(&part[..length])? {
            return Ok(());
        }
        if !visit.answer.is_good() {
            bail!("an update does not count: {}", visit.answer.text());
        }
        visit.answer.clear();
        self.outcome.latencies.push(visit.at.elapsed());
        self.under_way -= 1;
        self.buyers[visit.buyer].accepted += 1;
        let mut next = visit.began.unwrap_or(visit.at)
            + self.shape.pace * u32::try_from(visit.sent).unwrap_or(u32::MAX);
        if visit.left == 0 && self.sent < self.shape.most {
            self.epoll.delete(&visit.stream)?;
            let another = self.enter(slot)?.context("nobody is left")?;
            self.visits[slot] = another;
            next = Instant::now();
        }
        self.due.push(Reverse((next, slot)));
        Ok(())
    }
}
