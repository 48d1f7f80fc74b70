//! The kernel's maps and programs, seen from the agent.
//!
//! Programs, links and maps are pinned, or stay on the interface: the gate outlives the agent. A
//! restarting agent adopts them and swaps in its own copy of the programs.
//!
//! Who writes what is fixed: the agent inserts a meter once and then only reads it, until it takes
//! it away; it alone writes accounts, one aligned word at a time. Where several words of an account must change
//! together, the gate of that account is closed until no packet that saw the old ones is in
//! flight.

mod accounts;
mod attach;
mod attachment;
mod bpf;
mod convert;
mod directory;
mod error;
mod first;
mod home;
mod kernel;
mod lan;
mod lans;
mod layout;
mod mapped;
mod object;
mod others;
mod owners;
mod table;

use std::collections::{BTreeSet, HashMap as StdHashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::{Array, HashMap, MapData, RingBuf};
use bitmesh_common::abi::{
    ACCOUNT_CLOSED, Account, Event, House, Lan, MAX_LANS, MAX_METERS, MAX_STRANGERS, Mac, Meter,
    Post, Stranger,
};
use bitmesh_core::{AccountImage, BootTime, Epoch, Gate, Held, Reading, Sample};
use serde::{Deserialize, Serialize};

use self::accounts::AccountArray;
use self::convert::{account_of, image_of, meter_of, sample_of};
use self::home::Home;
use self::lans::Standing;
use self::object::{Grace, found, load, take};
use self::owners::OwnerMap;

pub use self::attachment::{Attachment, Hook, Mode};
pub use self::error::MeterError;
pub(crate) use self::home::is_bpffs;
pub(crate) use self::kernel::Kernel;
pub use self::kernel::TooOld;
pub use self::lans::{AttachmentView, LanChange};
pub(crate) use self::others::{own_programs, tcx_programs};
pub use self::table::MeterTable;

/// Which hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookChoice {
    /// tcx where the kernel has it (6.6), else clsact.
    #[default]
    Auto,
    /// tcx only.
    Tcx,
    /// clsact only.
    Clsact,
    /// XDP in the driver, and as `Auto` behind it.
    Xdp,
}

/// A LAN interface to be metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanOptions {
    /// Its name.
    pub interface: String,
    /// Protocol and port of the gateway that the unpaid may reach, at most
    /// [`bitmesh_common::abi::MAX_OPEN_PORTS`].
    pub open_ports: Vec<(u8, u16)>,
    /// TCP port to which plain HTTP of who can't pay is led.
    pub portal_port: u16,
}

/// What [`Meters::open`] is to set up.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// Directory on a BPF file system in which everything is pinned.
    pub bpffs: PathBuf,
    /// Which hook to use.
    pub hook: HookChoice,
    /// The LAN interfaces, at most [`MAX_LANS`].
    pub lans: Vec<LanOptions>,
    /// The eBPF object.
    pub object: &'static [u8],
}

/// The kernel's maps, held by one agent.
pub struct Meters {
    home: Home,
    house: House,
    is_new: bool,
    meters: MeterTable,
    accounts: AccountArray,
    lans: Array<MapData, Lan>,
    events: RingBuf<MapData>,
    grace: Grace,
    owners: OwnerMap,
    strangers: HashMap<MapData, Mac, Stranger>,
    slots: StdHashMap<Mac, u32>,
    free: BTreeSet<u32>,
    options: MeterOptions,
    /// For each interface of the configuration, how it stands.
    standing: Vec<Option<Standing>>,
    #[cfg(feature = "ebpf-log")]
    loggers: Vec<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Meters {
    /// Adopts the gate that a former agent left, or makes a new one.
    ///
    /// # Errors
    ///
    /// Fails without a BPF file system, the rights, an interface or a hook, and while another
    /// agent holds the gate. A gate that was being made is then removed again; one that was
    /// adopted stays as it was.
    pub fn open(options: &MeterOptions) -> Result<Self, MeterError> {
        if options.lans.len() > MAX_LANS {
            return Err(MeterError::TooManyLans);
        }
        for lan in &options.lans {
            lan::index_of(&lan.interface)?;
        }
        let home = Home::open(&options.bpffs)?;
        let adopted = home.adopt(options.object)?;
        if adopted.is_none() {
            // Whatever is pinned was never finished, so no program uses it.
            home.clear()?;
        }
        match Self::start(home, adopted, options) {
            Ok(meters) => Ok(meters),
            Err(error) => {
                if adopted.is_none()
                    && let Err(left) = Self::teardown(options)
                {
                    tracing::warn!(%left, "the unfinished gate could not be removed");
                }
                Err(error)
            }
        }
    }

    fn start(
        home: Home,
        adopted: Option<House>,
        options: &MeterOptions,
    ) -> Result<Self, MeterError> {
        // One copy of the programs makes the maps; each interface then gets a copy of its own.
        let mut maps = load(&home, options.object, &Post::default())?;
        let house = match adopted {
            Some(house) => house,
            None => found(&mut maps)?,
        };
        let directory = take(&mut maps, "directory")?;
        let meters = MeterTable::new(&directory, take(&mut maps, "meters")?, house.epoch)?;
        let accounts = AccountArray::new(&take(&mut maps, "accounts")?)?;
        let mut this = Self {
            house,
            is_new: adopted.is_none(),
            meters,
            accounts,
            lans: home.array("lans")?,
            events: RingBuf::try_from(take(&mut maps, "events")?)
                .map_err(MeterError::map("events"))?,
            grace: Grace::new(&mut maps)?,
            owners: OwnerMap::new(take(&mut maps, "owners")?)?,
            strangers: HashMap::try_from(take(&mut maps, "strangers")?)
                .map_err(MeterError::map("strangers"))?,
            slots: StdHashMap::new(),
            free: BTreeSet::new(),
            options: options.clone(),
            standing: Vec::new(),
            #[cfg(feature = "ebpf-log")]
            loggers: Vec::new(),
            home,
        };
        this.find_slots()?;
        this.attach_all()?;
        Ok(this)
    }

    /// Which slots are taken: those that the directory leads to.
    fn find_slots(&mut self) -> Result<(), MeterError> {
        self.free = (0..MAX_METERS as u32).collect();
        for (mac, slot) in self.meters.slots() {
            self.free.remove(&slot);
            self.slots.insert(mac, slot);
        }
        // A former agent may have ended before it waited for those who lost their slots.
        self.grace.wait()
    }

    /// The name of this life of the maps: the same across restarts of the agent, another after a
    /// reboot or a teardown.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch(self.house.epoch)
    }

    /// Whether the maps were made now, rather than adopted.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Makes the kernel hold this account, open. If only the balance differs it is one store, under
    /// traffic; else the gate of this account is closed meanwhile. A new meter begins with `reading`.
    ///
    /// # Errors
    ///
    /// [`MeterError::NoRoom`] if all slots are taken.
    pub fn set_account(
        &mut self,
        image: &AccountImage,
        reading: Reading,
    ) -> Result<(), MeterError> {
        let wanted = account_of(image);
        let Some(&slot) = self.slots.get(&image.mac) else {
            return self.insert(image.mac, &wanted, reading);
        };
        let slot = slot as usize;
        let held = self.accounts.read(slot);
        let same_but_balance =
            Account { prepaid: held.prepaid, low_mark: held.low_mark, ..wanted } == held;
        if same_but_balance {
            self.accounts.set_prepaid(slot, wanted.prepaid, wanted.low_mark);
            return Ok(());
        }
        if held.state != ACCOUNT_CLOSED {
            self.accounts.close(slot);
            self.grace.wait()?;
        }
        self.accounts.write(slot, &wanted);
        // A packet that reads the new state must not have read an old price before it.
        self.grace.wait()?;
        self.accounts.open(slot, wanted.state);
        Ok(())
    }

    /// The meter becomes visible to packets last, when its account is complete.
    fn insert(&mut self, mac: Mac, account: &Account, reading: Reading) -> Result<(), MeterError> {
        let slot = *self.free.first().ok_or(MeterError::NoRoom)?;
        self.accounts.close(slot as usize);
        self.accounts.write(slot as usize, account);
        self.accounts.open(slot as usize, account.state);
        self.meters.insert(slot, &meter_of(mac, reading))?;
        self.free.remove(&slot);
        self.slots.insert(mac, slot);
        Ok(())
    }

    /// Closes the gate of this account, waits until none of its packets is in flight, and reads
    /// its meter for the last time.
    ///
    /// # Errors
    ///
    /// [`MeterError::NoMeter`] if the kernel does not hold it.
    pub fn close_account(&mut self, mac: Mac) -> Result<Sample, MeterError> {
        let slot = *self.slots.get(&mac).ok_or(MeterError::NoMeter)?;
        self.accounts.close(slot as usize);
        self.grace.wait()?;
        let meter = self.meters.get(mac).ok_or(MeterError::NoMeter)?;
        Ok(sample_of(&meter))
    }

    /// Takes away the meter of this account, whose gate is closed. Its slot is free when no program
    /// that found it can still run. There may be none.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn drop_meter(&mut self, mac: Mac) -> Result<(), MeterError> {
        let Some(&slot) = self.slots.get(&mac) else { return Ok(()) };
        self.accounts.close(slot as usize);
        self.meters.remove(mac);
        self.grace.wait()?;
        self.meters.clear(slot);
        self.slots.remove(&mac);
        self.free.insert(slot);
        Ok(())
    }

    /// Stations without a meter that were heard since, at most [`MAX_STRANGERS`].
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn strangers_since(&self, since: BootTime) -> Result<Vec<Mac>, MeterError> {
        let mut macs = Vec::new();
        for entry in self.strangers.iter().take(MAX_STRANGERS) {
            let (mac, stranger) = entry.map_err(MeterError::map("strangers"))?;
            if stranger.last_seen_ns >= since.0 && !self.slots.contains_key(&mac) {
                macs.push(mac);
            }
        }
        Ok(macs)
    }

    /// Reads all meters.
    #[must_use]
    pub fn sample(&self) -> Vec<Sample> {
        self.read().iter().map(sample_of).collect()
    }

    /// All that the meters say, also what is not billed.
    #[must_use]
    pub fn read(&self) -> Vec<Meter> {
        self.meters.read_all()
    }

    /// Reads the meters of these addresses. Who has none is left out.
    #[must_use]
    pub fn sample_some(&self, macs: &BTreeSet<Mac>) -> Vec<Sample> {
        macs.iter().filter_map(|mac| self.meters.get(*mac)).map(|meter| sample_of(&meter)).collect()
    }

    /// Reads all meters and the accounts beside them.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let held = |sample: Sample| {
            let slot = self.slots.get(&sample.mac).map(|slot| self.accounts.read(*slot as usize));
            let open = slot.filter(|account| {
                account.state != ACCOUNT_CLOSED && account.mac == sample.mac.word()
            });
            let gate =
                open.map_or(Gate::Closed, |account| Gate::Open(image_of(sample.mac, &account)));
            Held { sample, gate }
        };
        self.sample().into_iter().map(held).collect()
    }

    /// The next hint of the kernel, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        let item = self.events.next()?;
        let word = |at: usize| Some(u32::from_ne_bytes(item.get(at..at + 4)?.try_into().ok()?));
        let octets = item.get(..6)?.try_into().ok()?;
        Some(Event { mac: Mac::new(octets), kind: word(8)?, ifindex: word(12)? })
    }

    /// Passes on what the programs have logged since.
    pub fn flush_log(&mut self) {
        #[cfg(feature = "ebpf-log")]
        for logger in &mut self.loggers {
            logger.flush();
        }
    }

    /// Becomes readable when there is a hint.
    #[must_use]
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the ring buffer owns the descriptor and outlives the borrow.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(self.events.as_raw_fd())
        }
    }

    /// Takes the programs off all interfaces and removes all pins. Says what it removed.
    ///
    /// # Errors
    ///
    /// Fails while an agent holds the gate, and if the kernel refuses.
    pub fn teardown(options: &MeterOptions) -> Result<Vec<String>, MeterError> {
        if !options.bpffs.exists() {
            return Ok(Vec::new());
        }
        let home = Home::open(&options.bpffs)?;
        let mut removed = Vec::new();
        for lan in Self::lans_to_leave(&home, options)? {
            removed.extend(attach::detach(&home, &lan)?);
        }
        removed.extend(home.remove()?.iter().map(|pin| pin.display().to_string()));
        Ok(removed)
    }
}

impl Meters {
    /// The interfaces that programs may be on. A gate of another version does not say: then those
    /// of the configuration are looked at, and a qdisc that was added stays.
    fn lans_to_leave(home: &Home, options: &MeterOptions) -> Result<Vec<Lan>, MeterError> {
        let own = home.pin("lans").exists() && home.adopt(options.object).is_ok();
        if own {
            let lans: Array<_, Lan> = home.array("lans")?;
            let lans =
                lans.iter().collect::<Result<Vec<_>, _>>().map_err(MeterError::map("lans"))?;
            return Ok(lans.into_iter().filter(|lan| lan.ifindex != 0).collect());
        }
        let named = options.lans.iter().filter_map(|lan| crate::netlink::ifindex(&lan.interface));
        Ok(named.map(|ifindex| Lan { ifindex, ..Lan::default() }).collect())
    }
}

impl AsFd for Meters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events_fd()
    }
}
