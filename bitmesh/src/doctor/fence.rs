//! Whether the fence behind the gate stands.

use super::Check;
use super::system::may_meter;
use crate::config::Config;
use crate::fence::gaps;

const CHECK: &str = "nftables chain";
const WHY: &str = "a LAN interface that comes back while no agent runs would be open";

/// Looks at the nftables table of a gate; nothing before there is a gate.
pub(super) fn examine(config: &Config) -> Option<Check> {
    if !may_meter() || !config.bpffs.join("house").exists() {
        return None;
    }
    let interfaces: Vec<&str> = config.lans.iter().map(|lan| lan.interface.as_str()).collect();
    let cure = "start `bitmesh gateway`, or start it again: it puts the table back";
    Some(match gaps(&interfaces) {
        Ok(Some(open)) if open.is_empty() => {
            Check::ok(CHECK, "stands: interfaces that are not metered are closed")
        }
        Ok(Some(open)) => {
            let detail = format!("`inet bitmesh` does not name {}: {WHY}", open.join(", "));
            Check::problem(CHECK, detail, cure)
        }
        Ok(None) => Check::problem(CHECK, format!("`inet bitmesh` is lost: {WHY}"), cure),
        Err(error) => Check::problem(CHECK, error.to_string(), "see `nft list ruleset`"),
    })
}
