//! From an update's arrival to the gate's new balance in the kernel's map.

use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::buyer::Buyer;
use super::crowd::PATIENCE;
use super::http::Answer;
use super::load::PACE;
use crate::payments::Market;

/// Between two looks at the map.
const LOOK: Duration = Duration::from_micros(20);

/// Sends updates of one station, and looks at the map meanwhile. Gives the milliseconds that each
/// balance took: the map is read by itself, whatever the gateway answers.
///
/// # Errors
///
/// Fails if an update does not count, or the balance stays.
pub(super) fn measure_ms(market: &Market, buyer: &mut Buyer, times: usize) -> Result<Vec<f64>> {
    let pins = market.agent.pins()?;
    let mac = buyer.station.mac();
    let prepaid = || Ok::<u64, anyhow::Error>(pins.account_of(mac)?.prepaid);
    market.lab.subscriber().namespace.enter(|| {
        let mut stream = buyer.station.connect()?;
        let mut took = Vec::new();
        for _ in 0..times {
            let request = buyer.requests.pop_front().context("more is sent than was signed")?;
            let before = prepaid()?;
            let sent = Instant::now();
            stream.write_all(&request)?;
            while prepaid()? == before {
                ensure!(sent.elapsed() < PATIENCE, "the balance stays {before}");
                sleep(LOOK);
            }
            took.push(sent.elapsed().as_secs_f64() * 1_000.0);
            read(&mut stream)?;
            buyer.accepted += 1;
            sleep(PACE.saturating_sub(sent.elapsed()));
        }
        Ok(took)
    })
}

fn read(stream: &mut std::net::TcpStream) -> Result<()> {
    let (mut answer, mut part) = (Answer::default(), [0; 2_048]);
    loop {
        let length = std::io::Read::read(stream, &mut part)?;
        ensure!(length > 0, "the gateway hung up: {}", answer.text());
        if answer.take(&part[..length])? {
            ensure!(answer.is_good(), "an update does not count: {}", answer.text());
            return Ok(());
        }
    }
}
