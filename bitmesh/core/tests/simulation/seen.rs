//! What an evening has seen happen.

/// How often each thing happened: a simulation in which it never does proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub granted: u64,
    pub repeated: u64,
    pub stopped: u64,
    pub switched: u64,
    pub resumed: u64,
    pub not_durable: u64,
    pub no_room: u64,
    pub busy: u64,
    pub crashes: u64,
    pub reboots: u64,
    pub packets: u64,
    pub denied: u64,
    pub compared: u64,
    pub allowed: u64,
    pub forgotten: u64,
    pub rested: u64,
}

impl Seen {
    const fn each(&mut self) -> [&mut u64; 16] {
        [
            &mut self.granted,
            &mut self.repeated,
            &mut self.stopped,
            &mut self.switched,
            &mut self.resumed,
            &mut self.not_durable,
            &mut self.no_room,
            &mut self.busy,
            &mut self.crashes,
            &mut self.reboots,
            &mut self.packets,
            &mut self.denied,
            &mut self.compared,
            &mut self.allowed,
            &mut self.forgotten,
            &mut self.rested,
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        self.each().into_iter().zip(other.each()).for_each(|(sum, more)| *sum += *more);
    }

    pub fn rarest(mut self) -> u64 {
        self.each().into_iter().map(|count| *count).min().unwrap_or(0)
    }
}
