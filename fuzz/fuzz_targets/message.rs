//! Any bytes as what a channel is made of: messages that are signed, updates, fundings. Nothing
//! panics, a forged signature never holds, and equal messages have equal digests.

#![no_main]

use bitcoin::{Amount, Network, OutPoint};
use bitmesh_core::channel::message::{
    Agreement, CloseRequest, Message, MessageSignature, Offer, Receipt, Resume,
};
use bitmesh_core::channel::{Opened, Payee, Role, Seed, Update};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What no key signed.
const FORGED: MessageSignature = MessageSignature([7; 64]);

fn digested<T: Message + Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(message.digest(), again.digest());
    Some(message)
}

fn channel(agreement: Agreement, bytes: &[u8]) {
    let key = agreement.payee_session_key;
    assert!(agreement.verify(&key, &FORGED).is_err(), "a forged signature holds");
    let Ok(opened) = Opened::new(agreement.terms.clone()) else { return };
    assert!(opened.check_address(&opened.address().to_string()).is_ok());
    let _ = opened.clone().fund(bytes);
    let least = agreement.terms.min_capacity;
    let Ok(funded) = opened.pinned(OutPoint::null(), least) else { return };
    let change = funded.creditable(Amount::ZERO);
    assert!(change <= least);
    // The corpus has an agreement with this key.
    let secret = Seed::new([1; 32]).channel_secret(Network::Regtest, Role::Payee, 1);
    let secret = secret.expect("a key");
    if let Some((signature, _)) = bytes.split_first_chunk::<65>()
        && let Ok(update) = Update::from_wire(OutPoint::null(), least.to_sat() / 2, signature)
        && let Ok(payee) = Payee::new(funded, secret, None)
    {
        assert!(payee.verify(update, 0).is_err(), "a forged update holds");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    match which {
        b'a' => drop(digested::<Offer>(bytes)),
        b'b' => {
            // What follows a line's end is bytes for the channel: a funding, a signature.
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            let (json, rest) = bytes.split_at(end);
            if let Some(agreement) = digested::<Agreement>(json) {
                channel(agreement, rest.get(1..).unwrap_or_default());
            }
        }
        b'c' => drop(digested::<Resume>(bytes)),
        b'd' => drop(digested::<CloseRequest>(bytes)),
        b'e' => drop(digested::<Receipt>(bytes)),
        _ => {
            if let Some(([change @ .., _], signature)) = bytes.split_first_chunk::<9>()
                && let Some((signature, _)) = signature.split_first_chunk::<65>()
            {
                let change = u64::from_le_bytes(*change);
                if let Ok(update) = Update::from_wire(OutPoint::null(), change, signature) {
                    assert_eq!(
                        (update.change().to_sat(), update.wire_signature()),
                        (change, *signature)
                    );
                }
            }
        }
    }
});
