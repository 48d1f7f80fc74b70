//! The demonstration: from the first packet that is refused to the last that is paid for.

mod outcome;
mod show;
mod stage;
mod trade;
mod visitor;

pub use outcome::Outcome;
pub use show::Show;
pub use stage::Stage;
pub use trade::Trade;
