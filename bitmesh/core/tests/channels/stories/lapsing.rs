//! Channels that come to nothing are told of for a while.

use bitmesh_core::gateway::channels::{MAX_LAPSED, SIGNED_LAPSE_S, UNSIGNED_LAPSE_S};
use bitmesh_core::wire::ChannelWord;

use super::*;

impl World {
    fn lapsed(&self) -> Vec<String> {
        let lines = self.gateway.as_ref().unwrap().channels();
        let lapsed = lines.into_iter().filter(|line| line.state == ChannelWord::Lapsed);
        lapsed.map(|line| line.sentence).collect()
    }

    fn later(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds + 1)).unwrap();
        self.poll_chain().unwrap();
        self.pass(SECOND).unwrap();
    }
}

#[test]
fn a_channel_that_came_to_nothing_says_why() {
    let mut world = world();
    ok(world.open(0, BYTES));
    world.later(UNSIGNED_LAPSE_S);
    assert_eq!(world.lapsed(), ["lapsed: its payer never signed it"]);
    ok(world.open(0, BYTES));
    world.is_chain_down = true;
    ok(world.fund(0, CAPACITY));
    world.is_chain_down = false;
    world.later(SIGNED_LAPSE_S);
    let late = &world.lapsed()[1];
    assert!(
        late.starts_with("lapsed: no funding was seen in time; one that comes later"),
        "{late}"
    );
    assert!(world.store.channels.is_empty(), "the disk holds none of them");
}

#[test]
fn so_many_are_told_of_and_no_more() {
    let mut world = world();
    for _ in 0..MAX_LAPSED + 3 {
        ok(world.open(0, BYTES));
        world.later(UNSIGNED_LAPSE_S);
    }
    assert_eq!(world.lapsed().len(), MAX_LAPSED);
}
