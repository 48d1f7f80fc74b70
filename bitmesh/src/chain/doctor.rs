//! What the doctor says about a chain source.

use bitcoin::Network;

use super::ChainSource;
use super::event::{Features, Peers, Truc};
use crate::doctor::{Check, Verdict};

/// Looks at a chain source and says what is wrong with it and how to mend it. Changes nothing on
/// the chain.
pub fn examine(source: &mut impl ChainSource, network: Network) -> Vec<Check> {
    const CHECK: &str = "bitcoin node";
    let looked = source.check(network).and_then(|()| Ok((source.tip()?, source.features()?)));
    match looked {
        Ok((tip, features)) => {
            let detail = format!("{} on {network}, block {}", features.name, tip.block.height);
            let mut checks = vec![check(CHECK, Verdict::Ok, &detail, None)];
            checks.extend(judge(&features));
            checks
        }
        Err(error) => {
            let (detail, cure) = split(&error.to_string());
            vec![check(CHECK, Verdict::Problem, &detail, Some(&cure))]
        }
    }
}

/// What a source's features mean for channels.
#[must_use]
pub fn judge(features: &Features) -> Vec<Check> {
    match features.peers {
        None => vec![truc(features.truc), mempool(features)],
        Some(peers) => vec![self::peers(peers), unseen()],
    }
}

fn peers(peers: Peers) -> Check {
    const CHECK: &str = "bitcoin peers";
    let Peers { connected, required } = peers;
    if required == 1 {
        let detail = "a single peer is believed: it can hide a close that cheats you";
        let cure = "name two or more in `peers`, and leave `trust_one_peer` out";
        return check(CHECK, Verdict::Warning, detail, Some(cure));
    }
    let detail = format!("{connected} connected, and {required} must agree on what is in a block");
    check(CHECK, Verdict::Ok, &detail, None)
}

/// What no light client can do. There is nothing to mend: it is said, so that nobody counts on it.
fn unseen() -> Check {
    const CHECK: &str = "bitcoin mempool";
    let detail = "not seen by a light client: nothing counts before it is in a block, fees are \
                  those of the newest blocks, and 90 minutes without a block stop new credit";
    check(CHECK, Verdict::Ok, detail, None)
}

fn truc(truc: Truc) -> Check {
    const CHECK: &str = "bitcoin node TRUC";
    const CURE: &str = "start it with -corepolicy=1 or -mempooltruc=enforce (Bitcoin Knots)";
    match truc {
        Truc::Enforced => check(CHECK, Verdict::Ok, "enforced: closes can't be pinned", None),
        Truc::NotEnforced => check(
            CHECK,
            Verdict::Warning,
            "not enforced (BIP 431): this node does not see closes as the rest of the network does",
            Some(CURE),
        ),
        Truc::Refused => {
            let cure = format!("{CURE}, or use Bitcoin Core 28 or newer");
            let detail = "version-3 transactions are refused: no channel can be closed";
            check(CHECK, Verdict::Problem, detail, Some(&cure))
        }
        Truc::Unknown => {
            let detail = "the node does not say whether it enforces TRUC (BIP 431)";
            check(CHECK, Verdict::Warning, detail, Some("use Bitcoin Core 28 or newer"))
        }
    }
}

fn mempool(features: &Features) -> Check {
    const CHECK: &str = "bitcoin node mempool";
    if features.sees_mempool && features.knows_fees {
        return check(CHECK, Verdict::Ok, "seen, and fees are known", None);
    }
    let detail = "not seen: fees are guessed, and credit before confirmation is not possible";
    check(CHECK, Verdict::Warning, detail, Some("start the node without -blocksonly"))
}

fn check(name: &str, verdict: Verdict, detail: &str, cure: Option<&str>) -> Check {
    let cure = cure.map(str::to_owned);
    Check { check: name.to_owned(), verdict, detail: detail.to_owned(), cure }
}

/// An error's complaint and its cure.
fn split(error: &str) -> (String, String) {
    let (detail, cure) = error.rsplit_once(": ").unwrap_or((error, "see the node's log"));
    (detail.to_owned(), cure.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::light;

    #[test]
    fn a_light_client_says_what_it_cannot_do_and_that_one_peer_is_not_enough() {
        let features = |required| light::features(Peers { connected: 3, required });
        let checks = judge(&features(2));
        assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
        assert!(checks[0].detail.starts_with("3 connected, and 2 must agree"), "{checks:?}");
        assert!(checks[1].detail.contains("90 minutes"), "{checks:?}");
        let checks = judge(&features(1));
        assert_eq!(checks[0].verdict, Verdict::Warning);
        assert!(checks[0].cure.as_ref().unwrap().contains("`trust_one_peer`"), "{checks:?}");
    }

    #[test]
    fn a_node_that_does_not_enforce_truc_is_complained_of_with_a_cure() {
        for (seen, verdict) in [
            (Truc::Enforced, Verdict::Ok),
            (Truc::NotEnforced, Verdict::Warning),
            (Truc::Refused, Verdict::Problem),
            (Truc::Unknown, Verdict::Warning),
        ] {
            let found = truc(seen);
            assert_eq!(found.verdict, verdict);
            assert_eq!(found.cure.is_none(), verdict == Verdict::Ok, "{found:?}");
        }
        assert!(truc(Truc::NotEnforced).cure.unwrap().contains("-corepolicy=1"));
    }
}
