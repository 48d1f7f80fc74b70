//! Wi-Fi between a subscriber and the gateway: radios that the kernel simulates (mac80211_hwsim), a
//! real hostapd and a real wpa_supplicant.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab::{ETH, LAN};
use crate::namespace::Namespace;
use crate::process;
use crate::wait::{patiently, until};

/// The radios that nobody has taken.
const RADIOS: &str = "/sys/class/ieee80211";

/// How long a daemon may take to its end.
const MAX_END: Duration = Duration::from_secs(10);

/// A network with a password, so that the key exchange (EAPOL) has to get through the gate, too.
const KEY: &str = "b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b17b";

/// Two radios: the access point of the gateway, and a station.
#[derive(Debug)]
pub struct Air {
    point: Mutex<Option<Child>>,
    station: Mutex<Option<Child>>,
    /// The radio of the access point, as `iw` takes it: by its number, since a name is looked up where
    /// only the radios of the first namespace are.
    radio: String,
    folder: TempDir,
}

impl Air {
    /// Takes two radios, and makes `lan0` of one, `eth0` of the other. Nobody transmits yet.
    ///
    /// # Errors
    ///
    /// Fails if there are no two radios, and as `iw` does.
    pub(crate) fn new(gateway: &Namespace, subscriber: &Namespace) -> Result<Self> {
        let mut free = Vec::new();
        until("two radios are free (mac80211_hwsim)", || {
            free = radios()?;
            Ok(free.len() >= 2)
        })?;
        for (radio, namespace, device, kind) in
            [(&free[0], gateway, LAN, "__ap"), (&free[1], subscriber, ETH, "managed")]
        {
            let name = namespace.name();
            crate::namespace::run(Command::new("iw").args([radio, "set", "netns", "name", name]))?;
            let listed = namespace.run("iw", &["dev"])?;
            for old in listed.lines().filter_map(|line| line.trim().strip_prefix("Interface ")) {
                namespace.run("iw", &["dev", old, "del"])?;
            }
            add(namespace, radio, device, kind)?;
        }
        let folder = TempDir::with_prefix("bitmesh-air-")?;
        let radio = free.swap_remove(0);
        Ok(Self { point: Mutex::default(), station: Mutex::default(), radio, folder })
    }

    /// Starts hostapd.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started, or if one runs already.
    pub fn start_point(&self, gateway: &Namespace) -> Result<()> {
        let text = format!(
            "interface={LAN}\ndriver=nl80211\nssid=bitmesh\nhw_mode=g\nchannel=1\nap_isolate=1\n\
             wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_psk={KEY}\n"
        );
        self.daemon(&self.point, gateway, "hostapd", &text, &[])
    }

    /// Starts wpa_supplicant, which joins as soon as it can, and again whenever it is thrown out.
    ///
    /// # Errors
    ///
    /// Fails if it can't be started, or if one runs already.
    pub fn start_station(&self, subscriber: &Namespace) -> Result<()> {
        let text = format!(
            "network={{\nssid=\"bitmesh\"\nkey_mgmt=WPA-PSK\npsk={KEY}\nscan_freq=2412\n}}\n"
        );
        let arguments = ["-D", "nl80211", "-i", ETH, "-c"];
        self.daemon(&self.station, subscriber, "wpa_supplicant", &text, &arguments)
    }

    /// Starts a daemon with this configuration, whose file is its last argument.
    fn daemon(
        &self,
        place: &Mutex<Option<Child>>,
        namespace: &Namespace,
        program: &str,
        configuration: &str,
        arguments: &[&str],
    ) -> Result<()> {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(place.is_none(), "{program} runs");
        let at = |end: &str| self.folder.path().join(format!("{program}.{end}"));
        fs::write(at("conf"), configuration)?;
        let log = File::options().create(true).append(true).open(at("log"))?;
        let mut command = Command::new(program);
        command.args(arguments).arg(at("conf")).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let start = || command.spawn().with_context(|| format!("cannot start {program}"));
        *place = Some(namespace.enter(start)?);
        Ok(())
    }

    /// Ends hostapd, as a restart of its service does.
    ///
    /// # Errors
    ///
    /// Fails if it does not run, or does not end.
    pub fn stop_point(&self) -> Result<()> {
        end(&self.point).context("hostapd")
    }

    /// Ends wpa_supplicant.
    ///
    /// # Errors
    ///
    /// Fails if it does not run, or does not end.
    pub fn stop_station(&self) -> Result<()> {
        end(&self.station).context("wpa_supplicant")
    }

    /// Takes `lan0` away, as a driver that is unloaded does.
    ///
    /// # Errors
    ///
    /// Fails if `iw` does.
    pub(crate) fn unplug(&self, gateway: &Namespace) -> Result<()> {
        self.stop_point()?;
        gateway.run("iw", &["dev", LAN, "del"]).map(drop)
    }

    /// Makes `lan0` anew: another device, with another index. Nobody transmits yet.
    ///
    /// # Errors
    ///
    /// Fails if `iw` does.
    pub(crate) fn plug(&self, gateway: &Namespace) -> Result<()> {
        add(gateway, &self.radio, LAN, "__ap")
    }

    /// Waits until the station has joined, its keys exchanged.
    ///
    /// # Errors
    ///
    /// Fails if it does not join, with what both daemons said.
    pub fn wait_until_joined(&self, subscriber: &Namespace) -> Result<()> {
        // `ip` says so of a link that carries; before the keys are there it is dormant.
        let joined = || Ok(subscriber.ip(&format!("link show dev {ETH}"))?.contains("state UP"));
        until("the station joins", joined).with_context(|| self.said())
    }

    /// What both daemons said.
    #[must_use]
    pub fn said(&self) -> String {
        let read = |name: &str| {
            let said = fs::read_to_string(self.folder.path().join(name));
            format!("{name}: {}", said.unwrap_or_default())
        };
        ["hostapd.log", "wpa_supplicant.log"].map(read).concat()
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        for place in [&self.point, &self.station] {
            let child = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut child) = child {
                // It may have ended on its own.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn radios() -> Result<Vec<String>> {
    let Ok(listed) = fs::read_dir(RADIOS) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in listed {
        let index = fs::read_to_string(entry?.path().join("index"))?;
        names.push(format!("phy#{}", index.trim()));
    }
    names.sort();
    Ok(names)
}

fn add(namespace: &Namespace, radio: &str, device: &str, kind: &str) -> Result<()> {
    let words = [radio, "interface", "add", device, "type", kind];
    namespace.run("iw", &words).map(drop)
}

fn end(place: &Mutex<Option<Child>>) -> Result<()> {
    let child = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut child = child.context("it does not run")?;
    process::signal(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let deadline = Instant::now() + patiently(MAX_END);
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    bail!("it did not end within {} s", patiently(MAX_END).as_secs())
}
