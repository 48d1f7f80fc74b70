//! The payer's promises, on paper: no gateway but a scripted one, no clock.

mod bids;
mod offers;
mod paying;

use bitcoin::{Amount, Network, ScriptBuf};

use super::*;
use crate::channel::message::{Agreement, Challenge, Message, Offer};
use crate::channel::{ChannelSecret, Opened, OutputScript, Role, Seed, SessionSecret, Terms};
use crate::wire::{ChannelId, OpenResponse, SignedOffer};
use crate::{Mac, MilliSat, Tariff};

const NOW_UNIX_S: u64 = 1_800_000_000;
const TIP: u32 = 1_000;
const CHALLENGE: Challenge = Challenge([7; 32]);
const TARIFF: Tariff = Tariff {
    uplink_msat_per_mib: 500,
    downlink_msat_per_mib: 1_000,
    msat_per_minute: 60,
    ..Tariff::FREE
};

fn sat(sat: u64) -> Amount {
    Amount::from_sat(sat)
}

fn script(byte: u8) -> OutputScript {
    let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat());
    OutputScript::new(script).unwrap()
}

fn seed(role: Role) -> Seed {
    Seed::new([if role == Role::Payer { 1 } else { 2 }; 32])
}

fn channel_secret(role: Role) -> ChannelSecret {
    seed(role).channel_secret(Network::Regtest, role, 1).unwrap()
}

fn session_secret(role: Role) -> SessionSecret {
    seed(role).session_secret(Network::Regtest, role, 1).unwrap()
}

fn limits() -> Limits {
    Limits {
        network: Network::Regtest,
        max_msat_per_mib: 1_000,
        max_msat_per_minute: 100,
        budget: sat(50_000),
        max_first_update: sat(2_000),
        max_lock_blocks: 300,
    }
}

fn offer() -> Offer {
    Offer {
        network: Network::Regtest,
        gateway_key: seed(Role::Payee).offer_secret(Network::Regtest).unwrap().public_key(),
        tariff: TARIFF,
        min_capacity: sat(10_000),
        max_capacity: sat(1_000_000),
        min_first_update: sat(1_000),
        max_close_fee: sat(2_000),
        lock_blocks: 288,
        margin_blocks: 36,
        confirmations: 1,
        valid_until_unix_s: NOW_UNIX_S + 60,
        challenge: CHALLENGE,
    }
}

fn signed(offer: Offer) -> SignedOffer {
    let secret = seed(Role::Payee).offer_secret(Network::Regtest).unwrap();
    let signature = offer.sign(&secret);
    SignedOffer { offer, signature, unconfirmed: None }
}

fn accepted() -> Accepted {
    limits().accept(signed(offer()), &CHALLENGE, NOW_UNIX_S).unwrap()
}

fn own() -> OwnSide {
    OwnSide {
        payer_key: channel_secret(Role::Payer).public_key(),
        session_key: session_secret(Role::Payer).public_key(),
        change_script: script(0xaa),
    }
}

fn agreement(offer: &Offer) -> Agreement {
    let own = own();
    Agreement {
        offer: offer.digest(),
        tariff: offer.tariff,
        terms: Terms {
            network: offer.network,
            payer_key: own.payer_key,
            payee_key: channel_secret(Role::Payee).public_key(),
            expiry_height: TIP + offer.lock_blocks,
            margin_blocks: offer.margin_blocks,
            change_script: own.change_script,
            payout_script: script(0xbb),
            min_capacity: offer.min_capacity,
            max_capacity: offer.max_capacity,
            min_first_update: offer.min_first_update,
            max_close_fee: offer.max_close_fee,
        },
        payer_session_key: own.session_key,
        payee_session_key: session_secret(Role::Payee).public_key(),
        mac: Mac::new([2, 0, 0, 0, 0, 1]),
    }
}

/// What a gateway answers that signs whatever it made of the agreement.
fn answer(agreement: Agreement) -> OpenResponse {
    let signature = agreement.sign(&session_secret(Role::Payee));
    let opened = Opened::new(agreement.terms.clone()).unwrap();
    OpenResponse {
        channel: ChannelId::from(agreement.digest()),
        address: opened.address().to_string(),
        agreement,
        signature,
    }
}
