//! The agent is killed, stopped and upgraded under load: no packet passes unmetered, no counter is
//! lost, and no connection breaks.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitmesh_common::money::UNITS_PER_MSAT;
use bitmesh_tests::agent::{Agent, Program, Settings, Tariff};
use bitmesh_tests::lab::{LAN, Lab, SERVER_V4, SERVER_V6};
use bitmesh_tests::pins::cost;
use bitmesh_tests::scale::of_soak;
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::udp::{Pace, Receiver, Sender};
use bitmesh_tests::verdict::{hold, must_be_caught, same};
use bitmesh_tests::wait::{patiently, until};
use nix::sys::signal::Signal;

const TARIFF: Tariff = Tariff::bytes(1_000_000);
const PLENTY_MSAT: u64 = 1_000_000_000_000;

/// Two thousand packets a second, until stopped. A slow machine is to carry what it can, not to drown.
fn pace() -> Pace {
    Pace { payload: 500, every: patiently(Duration::from_micros(500)), packets: None }
}

/// Some ten megabytes a second.
fn load() -> Load {
    Load { bytes: None, pause: patiently(Duration::from_millis(25)) }
}

/// How long a connection may take in the lab; a closed gate answers nothing at all.
const CONNECT: Duration = Duration::from_millis(500);

/// How often each of the three happens.
fn times() -> u64 {
    of_soak(200, 6)
}

/// Rounds of a soak between two lines that say how far it is.
const PROGRESS: u64 = 20;

/// What happens to an agent.
#[derive(Clone, Copy, Debug)]
enum Event {
    Killed,
    Stopped,
    Upgraded,
}

const EVENTS: [Event; 3] = [Event::Killed, Event::Stopped, Event::Upgraded];

impl Event {
    /// Lets it happen, the agent back at the end. Gives which program runs then.
    fn happen(self, agent: &mut Agent, lab: &Lab, programs: [Program; 2]) -> Result<[Program; 2]> {
        let [running, other] = programs;
        match self {
            Self::Killed => drop(agent.end(Signal::SIGKILL)?),
            Self::Stopped | Self::Upgraded => {
                let status = agent.end(Signal::SIGTERM)?;
                ensure!(status.success(), "SIGTERM: {status}: {}", agent.said());
            }
        }
        let after = if matches!(self, Self::Upgraded) { [other, running] } else { programs };
        agent.install(after[0])?;
        agent.launch(&lab.gateway)?;
        Ok(after)
    }
}

/// What identifies the programs on the LAN interface, whatever they are attached with.
fn tags(lab: &Lab, agent: &Agent, hook: &str) -> Result<String> {
    if hook == "clsact" {
        let shown = lab.gateway.run("tc", &["filter", "show", "dev", LAN, "ingress"])?;
        let tag = shown.split_whitespace().skip_while(|word| *word != "tag").nth(1);
        return Ok(tag.context("no tag")?.to_owned());
    }
    let pins = std::fs::read_dir(&agent.house.bpffs)?.collect::<std::io::Result<Vec<_>>>()?;
    let pin = pins.iter().map(std::fs::DirEntry::path).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-uplink"))
    });
    let pin = pin.context("no pinned link")?;
    let link =
        lab.gateway.run("bpftool", &["-j", "link", "show", "pinned", &pin.to_string_lossy()])?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let id = link["prog_id"].to_string();
    let program = lab.gateway.run("bpftool", &["-j", "prog", "show", "id", &id])?;
    let program: serde_json::Value = serde_json::from_str(&program)?;
    Ok(program["tag"].as_str().context("no tag")?.to_owned())
}

/// Load both ways, UDP and TCP, and somebody who has not paid, through all that happens.
fn nothing_is_lost(programs: [Program; 2], hook: &'static str) -> Result<()> {
    let lab = Lab::with_subscribers(2)?;
    lab.real_segments()?;
    let settings = Settings::new(TARIFF).run_by(programs[0]).on_hook(hook);
    let mut agent = Agent::start(&lab, &settings)?;
    let [bob, carol] = [&lab.subscribers[0], &lab.subscribers[1]];
    let (down, up) = (bob.count_downlink()?, lab.count_arrived(bob)?);
    let unpaid = [carol.count_downlink()?, lab.count_arrived(carol)?];
    agent.grant(bob, PLENTY_MSAT)?;
    let epoch = agent.ask(&["status"])?["epoch"].clone();
    let here = Receiver::start(&bob.namespace, bob.v4())?;
    let there = Receiver::start(&lab.internet, SERVER_V6)?;
    let senders = [
        Sender::start(&lab.internet, here.address, pace())?,
        Sender::start(&bob.namespace, there.address, pace())?,
        Sender::start(&carol.namespace, there.address, pace())?,
        Sender::start(&lab.internet, (carol.v4(), here.address.port()).into(), pace())?,
    ];
    let ends = Ends { client: &bob.namespace, server: &lab.internet, address: SERVER_V4 };
    let streams = [Stream::download(ends, load())?, Stream::upload(ends, load())?];
    let mut now = programs;
    for number in 0..times() {
        for event in EVENTS {
            // Another moment of the agent's second each time.
            std::thread::sleep(Duration::from_millis(number * 137 % 1_100));
            let before = tags(&lab, &agent, hook)?;
            let carried = streams.each_ref().map(Stream::received);
            now = event.happen(&mut agent, &lab, now)?;
            let status = agent.ask(&["status"])?;
            ensure!(status["adopted"] == true && status["epoch"] == epoch, "{event:?}: {status}");
            let replaced = tags(&lab, &agent, hook)? != before;
            let upgraded = matches!(event, Event::Upgraded) && programs[0] != programs[1];
            ensure!(replaced == upgraded, "{event:?}: other programs: {replaced}");
            until("both connections go on", || {
                Ok(streams.iter().zip(carried).all(|(stream, before)| stream.received() > before))
            })?;
        }
        if (number + 1).is_multiple_of(PROGRESS) {
            println!("{hook}: {} of {} rounds", number + 1, times());
        }
    }
    for stream in streams {
        stream.abort();
    }
    for sender in senders {
        sender.stop()?;
    }
    let (down, up) = (down.settled()?, up.settled()?);
    drop((here.stop()?, there.stop()?));
    for counter in unpaid {
        let passed = counter.settled()?;
        ensure!(passed.packets == 0, "{passed:?} passed of who did not pay");
    }
    let pins = agent.pins()?;
    let (meter, account) = (pins.meter(bob)?, pins.account(bob)?);
    ensure!(down.bytes > 1 << 20 && up.bytes > 1 << 20, "no load: {down:?}, {up:?}");
    same("downlink", down, meter.downlink_bytes, meter.downlink_packets)?;
    same("uplink", up, meter.uplink_bytes, meter.uplink_packets)?;
    let due = cost(up.bytes, down.bytes, &account);
    hold(meter.spent == due, || format!("{due} is due: {meter:?}"))?;
    until("the books agree", || {
        Ok(agent.account(bob)?["charged_msat"] == due.div_ceil(UNITS_PER_MSAT))
    })?;
    println!(
        "{hook}: {} times killed, stopped and upgraded: {} bytes down, {} up, 0 unmetered, 0 lost",
        times(),
        down.bytes,
        up.bytes
    );
    Ok(())
}

#[test]
fn killed_stopped_and_upgraded_under_load_with_tcx_nothing_is_unmetered_lost_or_broken()
-> Result<()> {
    nothing_is_lost([Program::True, Program::Successor], "tcx")
}

#[test]
fn killed_stopped_and_upgraded_under_load_with_clsact_nothing_is_unmetered_lost_or_broken()
-> Result<()> {
    nothing_is_lost([Program::True, Program::Successor], "clsact")
}

#[test]
fn an_agent_that_miscounts_by_one_header_through_all_of_it_is_caught() -> Result<()> {
    must_be_caught(nothing_is_lost([Program::Miscounting; 2], "tcx"))
}

/// Puts another map in the place of a pinned one, and gives what a new agent says to it.
fn refusal_of(name: &str, definition: &str) -> Result<String> {
    let lab = Lab::new()?;
    let mut agent = Agent::start(&lab, &Settings::new(TARIFF))?;
    agent.end(Signal::SIGTERM)?;
    let pin = agent.house.bpffs.join(name);
    std::fs::remove_file(&pin)?;
    let pin = pin.to_string_lossy().into_owned();
    let mut words = vec!["map", "create", &pin];
    words.extend(definition.split(' '));
    words.extend(["name", name]);
    lab.gateway.run("bpftool", &words)?;
    refused_until_torn_down(&lab, &mut agent)
}

/// Whether one who has not paid reaches the internet.
fn carries(lab: &Lab) -> Result<bool> {
    let listener = lab.internet.enter(|| Ok(TcpListener::bind((SERVER_V4, 0))?))?;
    let address = listener.local_addr()?;
    let bob = &lab.subscriber().namespace;
    bob.enter(|| Ok(TcpStream::connect_timeout(&address, CONNECT).is_ok()))
}

/// The new agent refuses, a teardown works, and then it starts.
fn refused_until_torn_down(lab: &Lab, agent: &mut Agent) -> Result<String> {
    let refusal = agent.launch(&lab.gateway).err().context("it was adopted")?.to_string();
    ensure!(refusal.contains("bitmesh teardown"), "it does not say what to do: {refusal}");
    ensure!(!carries(lab)?, "the refusal opened the gate");
    let config = agent.house.config();
    agent.ask(&["teardown", "--config", &config.to_string_lossy()])?;
    ensure!(carries(lab)?, "something of the gate is left");
    agent.launch(&lab.gateway)?;
    Ok(refusal)
}

#[test]
fn a_pinned_map_of_another_layout_is_refused_until_it_is_torn_down() -> Result<()> {
    for (name, definition, difference) in [
        ("directory", "type array key 4 value 128 entries 2048", "elements 2048"),
        ("meters", "type hash key 8 value 200 entries 16384", "bytes of a value 200"),
        ("accounts", "type array key 4 value 64 entries 16384", "flags 0"),
        ("strangers", "type hash key 8 value 32 entries 4096", "kind 1"),
        ("lans", "type array key 4 value 16 entries 8", "bytes of a value 16"),
        ("events", "type ringbuf key 0 value 0 entries 4096", "elements 4096"),
        ("grace", "type array key 4 value 8 entries 1", "kind 2"),
        ("house", "type array key 4 value 8 entries 1", "8 bytes"),
    ] {
        let refusal = refusal_of(name, definition)?;
        ensure!(refusal.contains(&format!("`{name}`")), "it does not name the map: {refusal}");
        ensure!(refusal.contains(difference), "it does not name the difference: {refusal}");
    }
    Ok(())
}

#[test]
fn a_gate_whose_records_mean_something_else_is_refused_until_it_is_torn_down() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        let lab = Lab::new()?;
        let mut agent = Agent::start(&lab, &Settings::new(TARIFF).on_hook(hook))?;
        agent.end(Signal::SIGTERM)?;
        let house = agent.house.bpffs.join("house").to_string_lossy().into_owned();
        let (key, value) = ("key 0 0 0 0", "value 99 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0");
        let words = format!("map update pinned {house} {key} {value}");
        lab.gateway.run("bpftool", &words.split(' ').collect::<Vec<_>>())?;
        let refusal = refused_until_torn_down(&lab, &mut agent)?;
        ensure!(refusal.contains("layout 99 instead of"), "{refusal}");
    }
    Ok(())
}
