//! Counts that BitMesh has no part in: nftables, at the device.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::wait::patiently;

/// Counts the tables of this process, so that no two have the same name.
static TABLES: AtomicU32 = AtomicU32::new(0);

const ETHERNET_BYTES: u64 = 14;

/// How long [`Counter::settled`] waits for silence, at most.
const MAX_UNSETTLED: Duration = Duration::from_secs(20);

/// How long a counter must stay the same to be settled.
const SETTLED: Duration = Duration::from_millis(200);

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    /// At the IP layer, header included.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// An nftables counter at one device, lossless: it is a part of the stack, not a capture.
#[derive(Debug)]
pub struct Counter {
    namespace: String,
    table: String,
    /// What nftables counts beside the IP packet, for each packet.
    extra_bytes: u64,
}

impl Counter {
    /// Counts what comes in from these networks.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn arriving(namespace: &Namespace, device: &str, from: &[&str]) -> Result<Self> {
        Self::make(namespace, device, "ingress", "saddr", from, 0)
    }

    /// Counts what goes out to these networks.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does, and on kernels before 5.16 (no egress hook).
    pub fn leaving(namespace: &Namespace, device: &str, to: &[&str]) -> Result<Self> {
        // A packet on its way out has its Ethernet header already.
        Self::make(namespace, device, "egress", "daddr", to, ETHERNET_BYTES)
    }

    /// Counts what comes in from these networks to these addresses.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn arriving_at(
        namespace: &Namespace,
        device: &str,
        from: &[&str],
        to: &[&str],
    ) -> Result<Self> {
        let family = |address: &str| if address.contains(':') { "ip6" } else { "ip" };
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let rules: String = pairs
            .filter(|(from, to)| family(from) == family(to))
            .map(|(from, to)| {
                let family = family(from);
                format!("{family} saddr {from} {family} daddr {to} counter name seen\n")
            })
            .collect();
        Self::with_rules(namespace, device, "ingress", &rules, 0)
    }

    /// Counts super-packets that come in with more bytes than this.
    ///
    /// # Errors
    ///
    /// Fails if `nft` does.
    pub fn arriving_larger_than(
        namespace: &Namespace,
        device: &str,
        protocol: &str,
        bytes: u32,
    ) -> Result<Self> {
        let rule = format!("meta protocol {protocol} meta length > {bytes} counter name seen\n");
        Self::with_rules(namespace, device, "ingress", &rule, 0)
    }

    fn make(
        namespace: &Namespace,
        device: &str,
        hook: &str,
        field: &str,
        networks: &[&str],
        extra_bytes: u64,
    ) -> Result<Self> {
        let rules: String = networks
            .iter()
            .map(|network| {
                let family = if network.contains(':') { "ip6" } else { "ip" };
                format!("{family} {field} {network} counter name seen\n")
            })
            .collect();
        Self::with_rules(namespace, device, hook, &rules, extra_bytes)
    }

    fn with_rules(
        namespace: &Namespace,
        device: &str,
        hook: &str,
        rules: &str,
        extra_bytes: u64,
    ) -> Result<Self> {
        let table = format!("count{}", TABLES.fetch_add(1, Ordering::Relaxed));
        let rules = format!(
            "table netdev {table} {{\ncounter seen {{ }}\nchain at_{hook} {{\n\
             type filter hook {hook} device \"{device}\" priority 0; policy accept;\n{rules}}}\n}}\n"
        );
        namespace.enter(|| nft(&rules))?;
        Ok(Self { namespace: namespace.name().to_owned(), table, extra_bytes })
    }

    /// What was counted so far.
    ///
    /// # Errors
    ///
    /// Fails if the namespace is gone.
    pub fn read(&self) -> Result<Counts> {
        let namespace = format!("--net=/run/netns/{}", self.namespace);
        let list = ["nft", "-j", "list", "counter", "netdev", &self.table, "seen"];
        let said = crate::namespace::run(Command::new("nsenter").arg(namespace).args(list))?;
        let said: Value = serde_json::from_str(&said).context("nft gave no JSON")?;
        let counter = said["nftables"]
            .as_array()
            .and_then(|items| items.iter().find_map(|item| item.get("counter")))
            .context("nft lists no counter")?;
        let number = |key: &str| counter[key].as_u64().with_context(|| format!("nft: no {key}"));
        let packets = number("packets")?;
        Ok(Counts { bytes: number("bytes")? - packets * self.extra_bytes, packets })
    }

    /// Waits until nothing arrives any more, then gives what was counted.
    ///
    /// # Errors
    ///
    /// Fails if it never gets quiet.
    pub fn settled(&self) -> Result<Counts> {
        let deadline = Instant::now() + patiently(MAX_UNSETTLED);
        let mut before = self.read()?;
        while Instant::now() < deadline {
            std::thread::sleep(SETTLED);
            let now = self.read()?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
        bail!("packets still arrive after {} s", MAX_UNSETTLED.as_secs())
    }
}

/// Loads a rule set.
fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft")?;
    child.stdin.take().context("nft takes no input")?.write_all(rules.as_bytes())?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        bail!("nft refused {rules}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
