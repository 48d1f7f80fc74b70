//! BitMesh's core: accounts, sessions, ledger and tariff.
//!
//! The core is sans-IO. It has no clock, socket, file or thread: the shell feeds it facts
//! ([`Input`]) with the time at which they were learnt, and carries out its obligations
//! ([`Command`]). One seed can thus replay a whole evening of subscribers and crashes.
//!
//! ```text
//! shell: handle_input(now, Input) → poll_command() until None → poll_timeout() → …
//! ```

mod account;
pub mod backup;
pub mod bargain;
pub mod channel;
mod channel_record;
pub mod gateway;
mod io;
pub mod ledger;
pub mod payer;
mod record;
mod tariff;
mod units;
mod view;
pub mod wire;

pub use bitmesh_common::abi::Mac;
pub use channel_record::{
    ChannelEnd, ChannelPhase, ChannelState, ChannelUpdate, CloseTx, Countersigned, Frozen, Funding,
    Meter, SpendKind, Transfer,
};
pub use gateway::allowance::{ALLOWANCE_EVERY, AllowanceError, AllowancePolicy, MAX_ALLOWANCES};
pub use gateway::channels::{
    ChannelAnswer, ChannelCommand, ChannelInput, ChannelLine, ChannelPolicy, ChannelResult,
    EarlyCredit, Entropy, FromBackup, Payout, PolicyError, Purpose,
};
pub use gateway::{Gateway, RestoreError};
pub use io::{
    AccountImage, Answer, BatchId, Command, Gate, Held, Input, Reading, Refusal, RequestId, Sample,
};
pub use ledger::{ByKind, Charges, Credits, Statement, Withdrawals};
pub use record::{AccountState, Credit, CreditId, CreditKind, Epoch, Record, Snapshot, Usage};
pub use tariff::{Tariff, TariffError};
pub use units::{BootTime, MilliSat, Units};
pub use view::{AccountView, StateWord, Summary};
