//! Comparing a channel that the gateway opened with what was asked for.

use crate::channel::message::Message;
use crate::channel::{FundingError, MessageError, Opened, OutputScript, PublicKey, TermsError};
use crate::payer::{Accepted, ChainView};
use crate::wire::{ChannelId, OpenRequest, OpenResponse};

/// What the payer brings to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSide {
    /// C.
    pub payer_key: PublicKey,
    /// The key that signs its messages.
    pub session_key: PublicKey,
    /// Where its side goes.
    pub change_script: OutputScript,
}

/// Why a channel is not paid. Nothing was signed or shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// A field of the agreement is not what was offered.
    #[error(transparent)]
    Offered(#[from] MessageError),
    /// A field of the agreement is not what this side asked for.
    #[error("the gateway wrote {0} into the agreement otherwise than asked: not signed, not paid")]
    Changed(&'static str),
    /// It does not sign its own words.
    #[error("the gateway's signature of the agreement does not hold: not signed, not paid")]
    Forged,
    /// The name is not the digest.
    #[error("the gateway calls the channel by another name than its agreement's digest: not paid")]
    OtherName,
    /// The coins would be locked for longer than was offered.
    #[error(
        "the channel would end at block {expiry}, and the offer allows {latest} at most: not \
         signed, not paid"
    )]
    LockedTooLong {
        /// What the gateway wrote.
        expiry: u32,
        /// The latest that the payer's view of the chain and the offer allow.
        latest: u32,
    },
    /// There would be no time to use it.
    #[error("the channel takes no payment from block {0} on, which is past: not signed, not paid")]
    TooLate(u32),
    /// The terms can't stand.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The gateway's address is another one.
    #[error(transparent)]
    Address(#[from] FundingError),
}

impl Accepted {
    /// What to ask the gateway.
    #[must_use]
    pub fn request(&self, own: &OwnSide) -> OpenRequest {
        OpenRequest {
            offer: self.offer().clone(),
            signature: self.signature(),
            payer_key: own.payer_key,
            payer_session_key: own.session_key,
            change_script: own.change_script.clone(),
        }
    }

    /// Checks the gateway's answer, field by field, and computes the address anew.
    ///
    /// # Errors
    ///
    /// [`OpenRefused`] names what is not as it was offered.
    pub fn check(
        &self,
        own: &OwnSide,
        view: ChainView,
        answer: &OpenResponse,
    ) -> Result<Opened, OpenRefused> {
        self.check_fields(own, answer)?;
        let agreement = &answer.agreement;
        let terms = &agreement.terms;
        let latest = view.latest_expiry(self.offer.lock_blocks);
        if terms.expiry_height > latest {
            return Err(OpenRefused::LockedTooLong { expiry: terms.expiry_height, latest });
        }
        if !view.is_before(terms.last_call()) {
            return Err(OpenRefused::TooLate(terms.last_call()));
        }
        agreement
            .verify(&agreement.payee_session_key, &answer.signature)
            .map_err(|_| OpenRefused::Forged)?;
        if answer.channel != ChannelId::from(agreement.digest()) {
            return Err(OpenRefused::OtherName);
        }
        let opened = Opened::new(terms.clone())?;
        opened.check_address(&answer.address)?;
        Ok(opened)
    }

    fn check_fields(&self, own: &OwnSide, answer: &OpenResponse) -> Result<(), OpenRefused> {
        let agreement = &answer.agreement;
        agreement.check_against(&self.offer)?;
        let same = [
            (agreement.payer_session_key == own.session_key, "the payer's session key"),
            (agreement.payee_session_key != own.session_key, "its own session key"),
            (agreement.terms.payer_key == own.payer_key, "the payer's key"),
            (agreement.terms.change_script == own.change_script, "the change script"),
        ];
        match same.iter().find(|(same, _)| !same) {
            Some((_, what)) => Err(OpenRefused::Changed(what)),
            None => Ok(()),
        }
    }
}
