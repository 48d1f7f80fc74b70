//! Stories with a known end.

mod backup;
mod batching;
mod bidding;
mod chain;
mod closing;
mod early;
mod lapsing;
mod opening;
mod operator;
mod paying;
mod refusing;
mod resuming;
mod silence;

use std::time::Duration;

use bitmesh_common::gate::Direction;
use bitmesh_core::wire::{ApiError, ChannelId, ChannelView};
use bitmesh_core::{AccountView, CreditId, Input, MilliSat, Tariff};

use crate::subscriber::Heard;
use crate::world::World;

/// 1 msat a byte, either way.
const BYTES: Tariff = Tariff {
    uplink_msat_per_mib: 1 << 20,
    downlink_msat_per_mib: 1 << 20,
    msat_per_minute: 0,
    ..Tariff::FREE
};

/// 1 msat a millisecond.
const TIME: Tariff = Tariff {
    uplink_msat_per_mib: 0,
    downlink_msat_per_mib: 0,
    msat_per_minute: 60_000,
    ..Tariff::FREE
};

const CAPACITY: u64 = 100_000;

const SECOND: Duration = Duration::from_secs(1);

/// A world in which all is well, with one subscriber.
fn world() -> World {
    let mut world = World::new(1, None).unwrap();
    world.subscriber();
    world
}

/// The same with a channel that takes updates.
fn ready(tariff: Tariff) -> (World, ChannelId) {
    let mut world = world();
    let id = world.ready(0, tariff, CAPACITY);
    (world, id)
}

/// The same on which `credit` was paid.
fn paid(tariff: Tariff, credit: u64) -> (World, ChannelId) {
    let (mut world, id) = ready(tariff);
    ok(world.pay(0, credit));
    (world, id)
}

fn ok<T>(heard: Heard<T>) -> T {
    heard.expect("no violation").expect("the agent lives").expect("not refused")
}

fn refused<T: std::fmt::Debug>(heard: Heard<T>) -> ApiError {
    heard.expect("no violation").expect("the agent lives").expect_err("refused")
}

fn reason<T: std::fmt::Debug>(heard: Heard<T>) -> String {
    refused(heard).reason
}

impl World {
    /// Billed bytes; whether all of them passed.
    fn use_bytes(&mut self, who: usize, bytes: u64) -> bool {
        let mac = self.subscribers[who].mac;
        let parts = (0..bytes / 50_000).map(|_| 50_000).chain([bytes % 50_000]);
        let parts: Vec<u64> = parts.filter(|part| *part > 0).collect();
        parts.into_iter().all(|part| self.kernel.packet(self.now, mac, Direction::Downlink, part))
    }

    fn view(&self, id: ChannelId) -> ChannelView {
        self.gateway.as_ref().unwrap().channel(id).unwrap()
    }

    fn sentence(&self, id: ChannelId) -> String {
        let lines = self.gateway.as_ref().unwrap().channels();
        lines.into_iter().find(|line| line.channel == id).unwrap().sentence
    }

    fn account(&self, who: usize) -> AccountView {
        self.gateway.as_ref().unwrap().account(self.subscribers[who].mac).unwrap()
    }

    fn grant_msat(&mut self, who: usize, msat: u64, tariff: Tariff) {
        let (request, mac) = (self.request(), self.subscribers[who].mac);
        let (id, amount) = (CreditId(u128::from(request.0)), MilliSat(msat));
        self.tell(Input::Grant { request, id, mac, amount, tariff }).unwrap();
        self.pass(SECOND).unwrap();
        assert!(matches!(self.operator.remove(&request), Some(Ok(_))));
    }

    fn restart(&mut self) {
        self.kill_agent();
        self.start_agent().unwrap();
        self.pass(SECOND).unwrap();
    }
}
