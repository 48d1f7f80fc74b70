//! What a server says about a transaction.

use serde::Deserialize;

use crate::chain::event::Broadcast;
use crate::chain::refusal::refusal;

/// RPC error: the node's rules forbid the transaction.
const REJECTED: i64 = -26;

/// The node's error, as a server passes it on.
#[derive(Deserialize)]
struct NodeError {
    code: i64,
    message: String,
}

/// Puts the server's words on a transaction that it did not take into one of ours. Servers differ:
/// `… RPC error: {"code":-26,"message":"non-final"}`, `… RPC error -26: non-final`, or
/// `… RPC error: non-final`.
pub(super) fn refused(words: &str) -> Broadcast {
    let said = words.split_once(" RPC error").map_or(words, |(_, said)| said);
    let said = said.trim_start_matches(':').trim();
    if let Ok(NodeError { code, message }) = serde_json::from_str(said) {
        return refusal(code, message);
    }
    let numbered = said
        .split_once(':')
        .and_then(|(code, reason)| Some((code.trim().parse().ok()?, reason.trim())));
    let (code, reason) = numbered.unwrap_or((REJECTED, said));
    refusal(code, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::event::{Refusal, Refused};

    #[test]
    fn a_refusal_is_read_in_the_words_of_every_server() {
        for words in [
            r#"sendrawtransaction RPC error: {"code":-26,"message":"non-final"}"#,
            "sendrawtransaction RPC error -26: non-final",
            "sendrawtransaction RPC error: non-final",
            "non-final",
        ] {
            let Broadcast::Refused(Refused { kind, reason }) = refused(words) else {
                panic!("{words}");
            };
            assert_eq!((kind, reason.as_str()), (Refusal::NotFinal, "non-final"), "{words}");
        }
        let known = r#"sendrawtransaction RPC error: {"code":-27,"message":"Transaction outputs already in utxo set"}"#;
        assert_eq!(refused(known), Broadcast::AlreadyConfirmed);
        let other = refused("Invalid hex string");
        assert!(matches!(other, Broadcast::Refused(Refused { kind: Refusal::Policy, .. })));
    }
}
