//! Tokens against forged forms (CSRF): a page of another site can send a form to the portal in the
//! visitor's name, but can't read the token that the visitor's own page has.

use std::time::Duration;

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256};
use bitmesh_core::Mac;
use rustix::io::Result;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

/// How long a token holds at least; at most twice that.
const PERIOD: Duration = Duration::from_secs(3_600);

/// Makes and checks tokens. Its key is new at each start.
#[derive(Debug)]
pub(super) struct Passes {
    key: Key,
    since: Instant,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Passes {
    /// Draws a key.
    pub(super) fn new() -> Result<Self> {
        let mut key = [0; 32];
        getrandom(&mut key, GetRandomFlags::empty())?;
        Ok(Self { key: Key(key), since: Instant::now() })
    }

    /// A token for this station, as hex.
    pub(super) fn issue(&self, mac: Mac) -> String {
        self.of(mac, self.period()).to_string()
    }

    /// Whether it is one for this station, and not too old.
    pub(super) fn is_good(&self, mac: Mac, token: &str) -> bool {
        let Ok(token) = token.parse::<Hmac<sha256::Hash>>() else { return false };
        let now = self.period();
        let differ = |period| differ(&token, &self.of(mac, period));
        let (this, last) = (differ(now), now.checked_sub(1).map_or(1, differ));
        this == 0 || last == 0
    }

    fn period(&self) -> u64 {
        self.since.elapsed().as_secs() / PERIOD.as_secs()
    }

    fn of(&self, mac: Mac, period: u64) -> Hmac<sha256::Hash> {
        let mut engine = HmacEngine::new(&self.key.0);
        engine.input(&mac.octets);
        engine.input(&period.to_be_bytes());
        Hmac::from_engine(engine)
    }
}

/// 0 if they are the same; takes the same time wherever they differ.
fn differ(a: &Hmac<sha256::Hash>, b: &Hmac<sha256::Hash>) -> u8 {
    let pairs = a.as_byte_array().iter().zip(b.as_byte_array());
    std::hint::black_box(pairs.fold(0, |sum, (a, b)| sum | (a ^ b)))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const BOB: Mac = Mac::new([2, 0, 0, 0, 0, 0x0b]);
    const CAROL: Mac = Mac::new([2, 0, 0, 0, 0, 0x0c]);

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_its_station_and_its_gateway_alone() {
        let passes = Passes::new().expect("random numbers");
        let token = passes.issue(BOB);
        assert!(passes.is_good(BOB, &token));
        assert!(!passes.is_good(CAROL, &token));
        assert!(!Passes::new().expect("random numbers").is_good(BOB, &token));
        let other = format!("{}{}", if token.starts_with('0') { '1' } else { '0' }, &token[1..]);
        for wrong in ["", "0", &token[1..], &other] {
            assert!(!passes.is_good(BOB, wrong), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_holds_for_an_hour_at_least_and_two_at_most() {
        let passes = Passes::new().expect("random numbers");
        advance(PERIOD / 2).await;
        let token = passes.issue(BOB);
        advance(PERIOD).await;
        assert!(passes.is_good(BOB, &token));
        advance(PERIOD).await;
        assert!(!passes.is_good(BOB, &token));
    }
}
