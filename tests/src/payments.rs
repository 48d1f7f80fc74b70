//! A gateway that sells channels beside a real node, and a payer made of the core's parts.

mod confirmed;
mod customer;
mod door;
mod market;

pub use self::confirmed::Expected;
pub use self::customer::{Customer, Sent};
pub use self::door::{Answer, HOST, get, post, post_text, raw, raw_at, send};
pub use self::market::{Market, native_address, paid, spender};
