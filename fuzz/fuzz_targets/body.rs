//! Any bytes as a body of the payment API, in either direction: read or refused, and what is read
//! is written and read again as the same.
//!
//! The input's first byte says which body.

#![no_main]

use std::fmt::Debug;

use bitcoin::OutPoint;
use bitmesh_core::channel::Opened;
use bitmesh_core::channel::message::Message as _;
use bitmesh_core::wire::{
    ApiError, ChallengeResponse, ChannelId, ChannelView, CloseBody, CloseCompletion, CloseOffer,
    Closed, FundingRequest, OfferRequest, OpenRequest, OpenResponse, ResumeBody, SessionView,
    SignedOffer, StreamMessage, UpdateAccepted, UpdateBody,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
    Some(value)
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    // Letters, so that a corpus reads well.
    match which {
        b'a' => drop(read::<OfferRequest>(bytes)),
        b'b' => {
            if let Some(signed) = read::<SignedOffer>(bytes) {
                let _ = signed.offer.verify(&signed.offer.gateway_key, &signed.signature);
            }
        }
        b'c' => {
            if let Some(open) = read::<OpenRequest>(bytes) {
                let _ = open.offer.verify(&open.offer.gateway_key, &open.signature);
            }
        }
        b'd' => {
            if let Some(answer) = read::<OpenResponse>(bytes) {
                let agreement = answer.agreement;
                let _ = agreement.verify(&agreement.payee_session_key, &answer.signature);
                assert_eq!(ChannelId::from(agreement.digest()), agreement.digest().into());
                if let Ok(opened) = Opened::new(agreement.terms) {
                    let _ = opened.check_address(&answer.address);
                }
            }
        }
        b'e' => {
            if let Some(request) = read::<FundingRequest>(bytes)
                && let Some(raw) = request.raw_tx
            {
                let _ = bitcoin::consensus::deserialize::<bitcoin::Transaction>(raw.as_bytes());
            }
        }
        b'f' => drop(read::<ChannelView>(bytes)),
        b'g' => drop(read::<SessionView>(bytes)),
        b'h' => {
            if let Some(body) = read::<UpdateBody>(bytes)
                && let Ok(update) = body.of(OutPoint::null())
            {
                assert_eq!(update.change().to_sat(), body.change_sat);
                assert_eq!(update.wire_signature(), body.signature.0);
            }
        }
        b'i' => drop(read::<UpdateAccepted>(bytes)),
        b'j' => drop(read::<StreamMessage>(bytes)),
        b'k' => drop(read::<ChallengeResponse>(bytes)),
        b'l' => drop(read::<CloseBody>(bytes)),
        b'm' => drop(read::<CloseOffer>(bytes)),
        b'n' => drop(read::<CloseCompletion>(bytes)),
        b'o' => drop(read::<Closed>(bytes)),
        b'p' => drop(read::<ResumeBody>(bytes)),
        _ => drop(read::<ApiError>(bytes)),
    }
});
