//! What a node says about a transaction.

use super::event::{Broadcast, Refusal, Refused};

/// RPC error: an input is missing or spent, or the node's own fee limit is exceeded.
const TRANSACTION_ERROR: i64 = -25;
/// RPC error: the transaction is confirmed.
const ALREADY_IN_CHAIN: i64 = -27;

/// Words that begin a reason, and what they stand for. The nodes' codes do not tell these apart.
const REASONS: &[(&str, Refusal)] = &[
    ("bad-txns-inputs-missingorspent", Refusal::MissingInputs),
    ("missing-inputs", Refusal::MissingInputs),
    ("non-final", Refusal::NotFinal),
    ("non-BIP68-final", Refusal::NotFinal),
    ("bad-txns-premature-spend-of-coinbase", Refusal::NotFinal),
    ("min relay fee not met", Refusal::FeeTooLow),
    ("mempool min fee not met", Refusal::FeeTooLow),
    ("mempool full", Refusal::FeeTooLow),
    ("insufficient fee", Refusal::Conflict),
    ("txn-mempool-conflict", Refusal::Conflict),
    ("too many potential replacements", Refusal::Conflict),
    ("replacement-", Refusal::Conflict),
    ("bad-txns-spends-conflicting-tx", Refusal::Conflict),
    ("mandatory-script-verify-flag-failed", Refusal::Invalid),
    ("mempool-script-verify-flag-failed", Refusal::Invalid),
    ("non-mandatory-script-verify-flag", Refusal::Invalid),
    ("block-script-verify-flag-failed", Refusal::Invalid),
    ("bad-txns-", Refusal::Invalid),
];

/// Puts the error of `sendrawtransaction`, its number and its words, into a word of ours.
pub(super) fn refusal(code: i64, reason: String) -> Broadcast {
    if code == ALREADY_IN_CHAIN {
        return Broadcast::AlreadyConfirmed;
    }
    // The same transaction, its witness aside, serves as well.
    if reason.contains("txn-already-in-mempool")
        || reason.contains("txn-same-nonwitness-data-in-mempool")
    {
        return Broadcast::AlreadyInMempool;
    }
    if reason.contains("txn-already-known") {
        return Broadcast::AlreadyConfirmed;
    }
    let known = REASONS.iter().find(|(word, _)| reason.starts_with(word));
    let kind = match known {
        Some((_, kind)) => *kind,
        None if code == TRANSACTION_ERROR && reason.contains("issing inputs") => {
            Refusal::MissingInputs
        }
        None => Refusal::Policy,
    };
    Broadcast::Refused(Refused { kind, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: i64, message: &str) -> Option<Refusal> {
        match refusal(code, message.to_owned()) {
            Broadcast::Refused(refused) => Some(refused.kind),
            _ => None,
        }
    }

    #[test]
    fn the_reasons_of_nodes_are_told_apart() {
        assert_eq!(kind(-26, "non-final"), Some(Refusal::NotFinal));
        assert_eq!(kind(-26, "min relay fee not met, 1 < 110"), Some(Refusal::FeeTooLow));
        assert_eq!(kind(-26, "insufficient fee, rejecting replacement"), Some(Refusal::Conflict));
        assert_eq!(kind(-25, "bad-txns-inputs-missingorspent"), Some(Refusal::MissingInputs));
        assert_eq!(kind(-25, "Missing inputs"), Some(Refusal::MissingInputs));
        assert_eq!(kind(-26, "bad-txns-in-belowout, value in"), Some(Refusal::Invalid));
        assert_eq!(kind(-26, "TRUC-violation, tx has too many"), Some(Refusal::Policy));
        assert_eq!(kind(-27, "Transaction outputs already in utxo set"), None);
    }
}
