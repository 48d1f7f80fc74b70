//! Keeps the gate standing: interfaces that come and go, the fence behind them, and what would go
//! past both.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::AgentError;
use super::event_loop::watch;
use crate::config::Config;
use crate::control::{Attachment, Bypass, Hooked};
use crate::doctor::{Check, Ground, bypasses, uplinks_in_lan};
use crate::fence::{Fence, FenceError};
use crate::meter::{self, AttachmentView, LanChange, Meters};
use crate::netlink::Watch;

/// Between two looks for the same reason: a storm of changes leaves time for the rest.
const MIN_BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// The same for looks at nftables, which take longer.
const MIN_BETWEEN_LISTINGS: Duration = Duration::from_secs(1);
/// Everything is looked at this often, whatever was heard.
const MAX_UNSEEN: Duration = Duration::from_secs(60);

/// A socket that tells of changes, and when they were last looked at.
pub(super) struct Ear {
    watch: Watch,
    ready: AsyncFd<OwnedFd>,
    /// Changes that were heard of and not looked at.
    heard: bool,
    looked: Instant,
    pause: Duration,
}

impl Ear {
    pub(super) fn new(watched: Watch, pause: Duration) -> Result<Self, AgentError> {
        let ready = watch(watched.descriptor().map_err(AgentError::Runtime)?)?;
        // What happened before is seen by the first look.
        Ok(Self { watch: watched, ready, heard: true, looked: Instant::now(), pause })
    }

    /// Waits until there is something to look at, and a look is due.
    pub(super) async fn stirred(&mut self) -> Result<(), AgentError> {
        if !self.heard {
            self.ready.readable().await.map_err(AgentError::Runtime)?.clear_ready();
            self.heard = true;
        }
        sleep_until(self.looked + self.pause).await;
        Ok(())
    }

    /// Whether a look is due. If so, it is taken now.
    pub(super) fn take(&mut self) -> bool {
        let since = self.looked.elapsed();
        let due = since >= MAX_UNSEEN || since >= self.pause && (self.heard | self.watch.take());
        if due {
            self.watch.take();
            self.heard = false;
            self.looked = Instant::now();
        }
        due
    }
}

/// Watches the ground that the gate stands on.
pub(super) struct Guard {
    interfaces: Ear,
    /// Nothing on a kernel without nftables.
    rules: Option<Ear>,
    fence: Result<Fence, FenceError>,
    ground: Ground,
    /// What went past the gate at the last look.
    bypasses: Vec<Check>,
    /// Why the fence is not as it should be. It may then not let pass what is metered.
    trouble: Option<String>,
}

impl Guard {
    /// Raises the fence around what is metered. If it can't be raised, [`Self::refusal`] says why.
    ///
    /// # Errors
    ///
    /// Fails if the kernel tells nothing of its interfaces.
    pub(super) fn new(interfaces: Vec<String>, meters: &Meters) -> Result<Self, AgentError> {
        // Listening comes first, so that nothing happens unheard.
        let heard = Watch::interfaces().map_err(AgentError::Runtime)?;
        let rules = Watch::rules().ok();
        Ok(Self {
            interfaces: Ear::new(heard, MIN_BETWEEN_LOOKS)?,
            rules: rules.map(|rules| Ear::new(rules, MIN_BETWEEN_LISTINGS)).transpose()?,
            fence: Fence::raise(interfaces, meters.guarded_interfaces()),
            ground: Ground::look(),
            bypasses: Vec::new(),
            trouble: None,
        })
    }

    /// Waits until something has changed.
    pub(super) async fn stirred(&mut self) -> Result<(), AgentError> {
        let Some(rules) = &mut self.rules else { return self.interfaces.stirred().await };
        tokio::select! {
            stirred = self.interfaces.stirred() => stirred,
            stirred = rules.stirred() => stirred,
        }
    }

    /// Looks at everything that is due, and puts it in order.
    pub(super) fn look(&mut self, meters: &mut Meters, config: &Config) {
        self.interfaces.take();
        match meters.follow_lans() {
            Ok(changes) => changes.into_iter().for_each(tell),
            Err(error) => tracing::warn!(%error, "the LAN interfaces can't be followed"),
        }
        if let Err(error) = meters.refresh_addresses() {
            tracing::warn!(%error, "the kernel keeps the addresses that it has");
        }
        let rules = self.rules.as_mut().is_some_and(Ear::take);
        self.look_at_fence(meters.guarded_interfaces(), rules);
        self.open(meters);
        if rules {
            self.ground = Ground::look();
        }
        self.look_for_bypasses(config);
    }

    /// Tells of what is new, and of what is over.
    fn look_for_bypasses(&mut self, config: &Config) {
        let mut found = uplinks_in_lan(config, &self.ground);
        found.extend(bypasses(config, &self.ground));
        for new in found.iter().filter(|new| !self.bypasses.contains(new)) {
            warn_of(new);
        }
        for over in self.bypasses.iter().filter(|old| !found.contains(old)) {
            tracing::info!("no longer goes past the gate: {}", over.detail);
        }
        self.bypasses = found;
    }

    fn look_at_fence(&mut self, guarded: Vec<u32>, due: bool) {
        let Ok(fence) = &mut self.fence else { return };
        let mended = match fence.admit(guarded) {
            Ok(()) if due => fence.mend(),
            admitted => admitted.map(|()| false),
        };
        match &mended {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                "the nftables table `inet bitmesh` was removed or changed, and is back: it closes \
                 a LAN interface that comes back while no agent runs"
            ),
            Err(error) => {
                tracing::warn!(%error, "the nftables table `inet bitmesh` is not as it should be");
            }
        }
        self.trouble = mended.err().map(|error| error.to_string());
    }

    /// Opens the interfaces whose packets pass the fence by now.
    pub(super) fn open(&self, meters: &mut Meters) {
        if self.trouble.is_some() {
            return;
        }
        match meters.open_lans() {
            Ok(changes) => changes.into_iter().for_each(tell),
            Err(error) => tracing::warn!(%error, "the LAN interfaces stay shut"),
        }
    }

    /// Why there is no fence.
    pub(super) fn refusal(&self) -> Option<&FenceError> {
        self.fence.as_ref().err()
    }

    /// What goes past the gate now.
    pub(super) fn bypasses(&self) -> Vec<Bypass> {
        let missing = self.fence.as_ref().err().map(ToString::to_string);
        let fence = missing.or_else(|| self.trouble.clone()).map(|trouble| Bypass {
            what: format!("the nftables table `inet bitmesh` is not as it should be: {trouble}"),
            cure: "mend nftables, and start the gateway again".to_owned(),
        });
        let seen = self.bypasses.iter().map(|check| Bypass {
            what: check.detail.clone(),
            cure: check.cure.clone().unwrap_or_default(),
        });
        seen.chain(fence).collect()
    }
}

/// Refuses to sell through what goes past the gate, unless the configuration allows it.
///
/// # Errors
///
/// Names the first that is found, and how to mend it.
pub(super) fn check_ground(config: &Config) -> Result<(), AgentError> {
    let ground = Ground::look();
    if let Some(Check { detail, cure, .. }) = uplinks_in_lan(config, &ground).into_iter().next() {
        return Err(AgentError::UplinkInLan { what: detail, cure: cure.unwrap_or_default() });
    }
    if config.allow_bypass {
        // The first look warns of them.
        return Ok(());
    }
    match bypasses(config, &ground).into_iter().next() {
        Some(Check { detail, cure, .. }) => {
            Err(AgentError::Bypass { what: detail, cure: cure.unwrap_or_default() })
        }
        None => Ok(()),
    }
}

fn warn_of(found: &Check) {
    let cure = found.cure.as_deref().unwrap_or_default();
    tracing::warn!("goes past the gate: {}: {cure}", found.detail);
}

fn tell(change: LanChange) {
    match change {
        LanChange::Attached { interface, ifindex } => {
            tracing::info!(%interface, ifindex, "metered");
        }
        LanChange::Mended { interface } => {
            tracing::warn!(%interface, "somebody took the programs off; they are back");
        }
        LanChange::Gone { interface } => {
            tracing::warn!(%interface, "is gone; it is closed until it is back and metered");
        }
        LanChange::Unmetered { interface, error } => {
            tracing::error!(%interface, %error, "can't be metered; it stays closed");
        }
    }
}

/// An attachment as operators see it.
pub(super) fn shown(view: AttachmentView) -> Attachment {
    let AttachmentView { interface, ifindex, uplink, downlink } = view;
    let [uplink, downlink] = [uplink, downlink].map(|end| end.map(hooked));
    Attachment { interface, ifindex, uplink, downlink }
}

fn hooked(attachment: meter::Attachment) -> Hooked {
    let (hook, mode) = attachment.words();
    Hooked { hook: hook.to_owned(), mode: mode.to_owned() }
}
