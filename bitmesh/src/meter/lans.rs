//! The LAN interfaces, which come and go while the agent runs.

use aya::Ebpf;
use bitmesh_common::abi::{Lan, MAX_LANS, Post};
use bitmesh_common::directory::multiplier;
use serde::{Deserialize, Serialize};

use super::attach::{self, Device};
use super::attachment::Attachment;
use super::object::load;
use super::{HookChoice, LanOptions, MeterError, Meters, first, lan};
use crate::netlink;

/// How one LAN interface is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentView {
    /// Its name.
    pub interface: String,
    /// Its index; nothing while it is not there.
    pub ifindex: Option<u32>,
    /// The program that first sees a packet from a subscriber.
    pub uplink: Option<Attachment>,
    /// The program for packets to subscribers.
    pub downlink: Option<Attachment>,
}

/// What has become of a LAN interface since the last look.
#[derive(Debug)]
pub enum LanChange {
    /// It is there, and metered.
    Attached {
        /// Which.
        interface: String,
        /// Its index.
        ifindex: u32,
    },
    /// It was there all the time, but the programs were not: somebody took them off.
    Mended {
        /// Which.
        interface: String,
    },
    /// It is gone.
    Gone {
        /// Which.
        interface: String,
    },
    /// It is there, but not metered.
    Unmetered {
        /// Which.
        interface: String,
        /// Why.
        error: MeterError,
    },
}

/// An interface of the configuration that carries programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    ifindex: u32,
    tc: Attachment,
    /// Nothing comes in yet: see [`Meters::open_lans`].
    is_shut: bool,
    /// The programs were taken off, and put back.
    mended: bool,
}

/// Which copy of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    /// Lets nothing in, and charges for nothing.
    Shut,
    /// Meters.
    Metering,
}

impl Meters {
    /// Puts the programs on all interfaces of the configuration, and takes them off the others.
    /// What was not metered before is shut until [`Self::open_lans`].
    pub(super) fn attach_all(&mut self) -> Result<(), MeterError> {
        let lans = self.options.lans.clone();
        let wanted = lan::indices(&lans)?;
        let mut held = self.read_lans()?;
        for (index, lan) in held.iter_mut().enumerate() {
            if lan.ifindex != 0 && !wanted.contains(&lan.ifindex) {
                for done in self.drop_lan(index, lan)? {
                    tracing::info!("no longer metered, removed: {done}");
                }
            }
        }
        self.standing = wanted.iter().map(|_| None).collect();
        for (number, ifindex) in wanted.into_iter().enumerate() {
            let adopted = held.iter().find(|lan| lan.ifindex == ifindex);
            let adopted = adopted.and_then(|lan| Attachment::from_word(lan.hook));
            let copy = if adopted.is_some() { Copy::Metering } else { Copy::Shut };
            let tc = self.attach_one(&lans[number], ifindex, copy, adopted)?;
            let is_shut = copy == Copy::Shut;
            self.standing[number] = Some(Standing { ifindex, tc, is_shut, mended: false });
        }
        Ok(())
    }

    /// Attaches one interface, or replaces the copy that is `attached` there. The record says
    /// only of a copy that meters that it is attached.
    fn attach_one(
        &mut self,
        options: &LanOptions,
        ifindex: u32,
        copy: Copy,
        attached: Option<Attachment>,
    ) -> Result<Attachment, MeterError> {
        let held = self.read_lans()?;
        let index = lan::place(&held, ifindex).ok_or(MeterError::TooManyLans)?;
        let mut lan = lan::describe(options, ifindex)?;
        lan::keep_attachment(&mut lan, &held[index]);
        self.write_lan(index, lan)?;
        // There is no such record: a program drops what it can't judge.
        let record = if copy == Copy::Shut { MAX_LANS } else { index };
        let xdp = self.options.hook == HookChoice::Xdp;
        let had_xdp = first::is_attached(&self.home, ifindex);
        // A frame may still be between both programs when the one in front goes.
        let judged = if xdp || had_xdp { self.house.epoch } else { 0 };
        let multiplier = multiplier(self.house.epoch);
        let post = Post { judged, multiplier, lan: record as u32, zero: 0 };
        let mut object = load(&self.home, self.options.object, &post)?;
        #[cfg(feature = "ebpf-log")]
        match aya_log::EbpfLogger::init(&mut object) {
            Ok(logger) => self.loggers.push(logger),
            Err(error) => tracing::warn!(%error, "the programs log nothing"),
        }
        let device = Device { name: &options.interface, ifindex };
        let how = attach::attach(&self.home, &mut object, device, self.options.hook, attached)?;
        lan.made_clsact |= u32::from(how.made_clsact);
        if copy == Copy::Metering {
            lan.hook = how.tc.word();
        }
        self.write_lan(index, lan)?;
        if self.sits(ifindex, how.tc) {
            self.put_first(&mut object, device, copy)?;
            return Ok(how.tc);
        }
        // The name passed to another interface meanwhile.
        self.drop_lan(index, &mut lan)?;
        Err(MeterError::NoInterface(options.interface.clone()))
    }

    /// Puts the XDP program in front of one that meters, or takes it away.
    fn put_first(
        &self,
        object: &mut Ebpf,
        device: Device<'_>,
        copy: Copy,
    ) -> Result<(), MeterError> {
        if self.options.hook == HookChoice::Xdp && copy == Copy::Metering {
            return first::attach(&self.home, object, device);
        }
        if first::detach(&self.home, device.ifindex)? {
            tracing::info!(interface = device.name, "XDP is no longer in front");
        }
        Ok(())
    }

    /// Whether the programs sit on the interface with this index.
    fn sits(&self, ifindex: u32, how: Attachment) -> bool {
        attach::stands(&self.home, ifindex, how).unwrap_or_else(|error| {
            // No reason to touch them.
            tracing::debug!(%error, ifindex, "the programs can't be seen");
            true
        })
    }

    /// Looks which interfaces are there now, puts shut programs on those that came, and puts
    /// programs back that were taken off. An interface that has got another name keeps its
    /// programs until it is gone: by its old name or its new one, what it forwards is metered.
    ///
    /// # Errors
    ///
    /// Fails if the kernel's array of interfaces can't be read or written.
    pub fn follow_lans(&mut self) -> Result<Vec<LanChange>, MeterError> {
        let mut changes = self.let_go_of_lans()?;
        for number in 0..self.options.lans.len() {
            let options = self.options.lans[number].clone();
            let Some(ifindex) = netlink::ifindex(&options.interface) else { continue };
            let known = self.standing[number].filter(|standing| standing.ifindex == ifindex);
            if known.is_some_and(|standing| self.sits(ifindex, standing.tc)) {
                continue;
            }
            self.standing[number] = None;
            let attached = known.map(|standing| standing.tc);
            match self.attach_one(&options, ifindex, Copy::Shut, attached) {
                Ok(tc) => {
                    let (is_shut, mended) = (true, known.is_some());
                    self.standing[number] = Some(Standing { ifindex, tc, is_shut, mended });
                }
                Err(error) => {
                    let interface = options.interface;
                    changes.push(LanChange::Unmetered { interface, error });
                }
            }
        }
        Ok(changes)
    }

    /// Opens the interfaces that are shut. What stands behind the gate must let their packets pass
    /// by now: else a subscriber would pay for packets that are dropped.
    ///
    /// # Errors
    ///
    /// Fails if the kernel's array of interfaces can't be read or written.
    pub fn open_lans(&mut self) -> Result<Vec<LanChange>, MeterError> {
        let mut changes = Vec::new();
        for number in 0..self.standing.len() {
            let Some(standing) = self.standing[number].filter(|standing| standing.is_shut) else {
                continue;
            };
            let options = self.options.lans[number].clone();
            let Standing { ifindex, tc, mended, .. } = standing;
            let opened = self.attach_one(&options, ifindex, Copy::Metering, Some(tc));
            self.standing[number] =
                opened.is_ok().then_some(Standing { is_shut: false, mended: false, ..standing });
            let interface = options.interface;
            changes.push(match opened {
                Ok(_) if mended => LanChange::Mended { interface },
                Ok(_) => LanChange::Attached { interface, ifindex },
                Err(error) => LanChange::Unmetered { interface, error },
            });
        }
        Ok(changes)
    }

    /// Frees what belongs to interfaces that are gone.
    fn let_go_of_lans(&mut self) -> Result<Vec<LanChange>, MeterError> {
        let mut changes = Vec::new();
        for (index, mut lan) in self.read_lans()?.into_iter().enumerate() {
            if lan.ifindex == 0 || netlink::ifname(lan.ifindex).is_some() {
                continue;
            }
            let own = |standing: &Option<Standing>| {
                standing.is_some_and(|standing| standing.ifindex == lan.ifindex)
            };
            if let Some(number) = self.standing.iter().position(own) {
                self.standing[number] = None;
                let interface = self.options.lans[number].interface.clone();
                changes.push(LanChange::Gone { interface });
            }
            self.drop_lan(index, &mut lan)?;
        }
        Ok(changes)
    }

    fn drop_lan(&mut self, index: usize, lan: &mut Lan) -> Result<Vec<String>, MeterError> {
        let done = attach::detach(&self.home, lan)?;
        *lan = Lan::default();
        self.write_lan(index, *lan)?;
        Ok(done)
    }

    pub(super) fn read_lans(&self) -> Result<Vec<Lan>, MeterError> {
        self.lans.iter().collect::<Result<_, _>>().map_err(MeterError::map("lans"))
    }

    pub(super) fn write_lan(&mut self, index: usize, lan: Lan) -> Result<(), MeterError> {
        let lan = self.owners.told(lan);
        self.lans.set(index as u32, lan, 0).map_err(MeterError::map("lans"))
    }

    /// Tells the kernel the addresses that the LAN interfaces have now.
    ///
    /// # Errors
    ///
    /// Fails if they can't be read or written; the kernel then keeps the ones it has.
    pub fn refresh_addresses(&mut self) -> Result<(), MeterError> {
        for (index, held) in self.read_lans()?.into_iter().enumerate() {
            let configured = self.options.lans.iter().zip(&self.standing);
            let mut own = configured.filter(|(_, standing)| {
                standing.is_some_and(|standing| standing.ifindex == held.ifindex)
            });
            let Some((options, _)) = own.next() else { continue };
            let mut now = lan::describe(options, held.ifindex)?;
            lan::keep_attachment(&mut now, &held);
            now.owners = held.owners;
            if now != held {
                self.write_lan(index, now)?;
            }
        }
        Ok(())
    }

    /// How the LAN interfaces of the configuration are attached.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn attachments(&self) -> Result<Vec<AttachmentView>, MeterError> {
        let held = self.read_lans()?;
        let view = |(options, standing): (&LanOptions, &Option<Standing>)| {
            let ifindex = standing.map(|standing| standing.ifindex);
            let lan = held.iter().find(|lan| Some(lan.ifindex) == ifindex);
            let tc = lan.and_then(|lan| Attachment::from_word(lan.hook));
            let has_xdp = ifindex.is_some_and(|ifindex| first::is_attached(&self.home, ifindex));
            AttachmentView {
                interface: options.interface.clone(),
                ifindex,
                uplink: if has_xdp { Some(Attachment::XDP_NATIVE) } else { tc },
                downlink: tc,
            }
        };
        Ok(self.options.lans.iter().zip(&self.standing).map(view).collect())
    }

    /// The indices of the interfaces of the configuration that carry programs, shut or metering.
    #[must_use]
    pub fn guarded_interfaces(&self) -> Vec<u32> {
        self.standing.iter().flatten().map(|standing| standing.ifindex).collect()
    }
}
