//! Channels from the disk, and selling new ones.

use bitcoin::Amount;

use super::book::{Channel, Shop};
use super::open::least_first_update;
use super::{ChannelPolicy, MAX_CHANNELS};
use crate::channel::{KeyError, MAX_CAPACITY, MIN_MARGIN_BLOCKS, Role};
use crate::channel_record::{ChannelState, ChannelUpdate, Transfer};
use crate::gateway::{Gateway, RestoreError};
use crate::record::{CreditKind, Snapshot};
use crate::units::MilliSat;
use crate::wire::ChannelId;

/// Why channels can't be sold under this policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too little time to close.
    #[error("the margin must be {MIN_MARGIN_BLOCKS} blocks or more, not {0}")]
    Margin(u32),
    /// No time to pay.
    #[error("a channel must be locked for more blocks than its margin of {margin}, not {lock}")]
    Lock {
        /// Blocks to the expiry.
        lock: u32,
        /// Blocks of them in which there is no credit.
        margin: u32,
    },
    /// The bounds contradict each other or the limit.
    #[error(
        "the capacities don't fit: first update ≤ minimum ≤ maximum ≤ {} sat",
        MAX_CAPACITY.to_sat()
    )]
    Capacity,
    /// It would not pay for a close.
    #[error("the first update must credit {} sat or more, to pay for a close", .0.to_sat())]
    FirstUpdate(Amount),
    /// The seed gives no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Money is at stake under another seed.
    #[error("channel {0} has keys of another seed: restore the seed that belongs to the database")]
    OtherSeed(ChannelId),
}

impl ChannelPolicy {
    fn check(&self) -> Result<(), PolicyError> {
        let (lock, margin) = (self.lock_blocks, self.margin_blocks);
        if margin < MIN_MARGIN_BLOCKS {
            return Err(PolicyError::Margin(margin));
        }
        if lock <= margin {
            return Err(PolicyError::Lock { lock, margin });
        }
        let least = least_first_update();
        if self.min_first_update < least {
            return Err(PolicyError::FirstUpdate(least));
        }
        let ordered = self.min_first_update <= self.min_capacity
            && self.min_capacity <= self.max_capacity
            && self.max_capacity <= MAX_CAPACITY;
        if ordered { Ok(()) } else { Err(PolicyError::Capacity) }
    }
}

impl Gateway {
    /// The gateway sells channels under this policy, and takes up those that there are: it has
    /// them watched, and closes broadcast again.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if the policy can't stand, or the seed is not the one of a channel.
    pub fn with_channels(mut self, policy: ChannelPolicy) -> Result<Self, PolicyError> {
        policy.check()?;
        for channel in self.channels.all.values().filter(|channel| !channel.is_over()) {
            check_seed(&policy, &channel.state)?;
        }
        let offer_secret = policy.seed.offer_secret(policy.network)?;
        self.channels.shop = Some(Shop { policy, offer_secret });
        let ids: Vec<ChannelId> = self.channels.all.keys().copied().collect();
        for id in ids {
            if self.channels.all.get(&id).is_some_and(|channel| !channel.is_over()) {
                self.watch(id);
                self.proceed(id);
            }
        }
        Ok(self)
    }

    pub(in crate::gateway) fn load_channels(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<(), RestoreError> {
        if snapshot.channels.len() > MAX_CHANNELS {
            return Err(RestoreError::TooManyChannels(snapshot.channels.len()));
        }
        let highest = snapshot.channels.iter().map(|state| state.index).chain(snapshot.key_index);
        self.channels.next_index = highest.max().map_or(0, |index| index.saturating_add(1));
        for state in &snapshot.channels {
            if self.channels.all.contains_key(&state.id) {
                return Err(RestoreError::ChannelTwice(state.id));
            }
            self.channels.insert(Channel::new(state.clone()));
        }
        self.load_transfers(&snapshot.transfers)?;
        for update in &snapshot.updates {
            self.load_update(update)?;
        }
        let macs: Vec<_> = self.channels.of_station.keys().copied().collect();
        for mac in macs {
            self.recount(Some(mac));
        }
        Ok(())
    }

    fn load_transfers(&mut self, transfers: &[Transfer]) -> Result<(), RestoreError> {
        let mut transfers: Vec<&Transfer> = transfers.iter().collect();
        transfers.sort_by_key(|transfer| (transfer.channel, transfer.number));
        for transfer in transfers {
            let Transfer { channel: id, from, kept, .. } = *transfer;
            let channel = self.channels.all.get(&id).ok_or(RestoreError::NoChannel(id))?;
            if !channel.place.is_followed_by(transfer) {
                return Err(RestoreError::Transfers(id));
            }
            self.channels.rehome(transfer);
            if kept > MilliSat(0) {
                let account = self.accounts.get_mut(&from).ok_or(RestoreError::NoAccount(from))?;
                let credits = account.credits.with(CreditKind::Channel, kept);
                account.credits = credits.ok_or(RestoreError::TooMuch(from))?;
            }
        }
        Ok(())
    }

    fn load_update(&mut self, update: &ChannelUpdate) -> Result<(), RestoreError> {
        let id = update.channel;
        let lost = RestoreError::NoChannel(id);
        let channel = self.channels.all.get_mut(&id).ok_or(lost)?;
        let mac = channel.mac();
        if channel.newest.replace(*update).is_some() {
            return Err(RestoreError::ChannelTwice(id));
        }
        let credit = channel.credit_here();
        let account = self.accounts.get_mut(&mac).ok_or(RestoreError::NoAccount(mac))?;
        let credits = account.credits.with(CreditKind::Channel, credit);
        account.credits = credits.ok_or(RestoreError::TooMuch(mac))?;
        Ok(())
    }
}

fn check_seed(policy: &ChannelPolicy, state: &ChannelState) -> Result<(), PolicyError> {
    let terms = &state.agreement.terms;
    let secret = policy.seed.channel_secret(terms.network, Role::Payee, state.index)?;
    let ours = secret.public_key() == terms.payee_key;
    if ours { Ok(()) } else { Err(PolicyError::OtherSeed(state.id)) }
}
