//! How a device finds the portal: by what a real DHCP server says with the settings that
//! `bitmesh setup` writes, before anything was paid.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitmesh_tests::agent::{Agent, Settings, Tariff};
use bitmesh_tests::lab::{GATEWAY_V4, LAN, Lab, Subscriber};
use bitmesh_tests::payments::raw_at;
use bitmesh_tests::tls::{NAME, Operator, TLS_PORT, over_tls};
use bitmesh_tests::wait::until;
use serde_json::Value;

/// RFC 8910.
const CAPTIVE_PORTAL: u8 = 114;
const CAPTIVE_PORTAL_V6: u16 = 103;

/// dnsmasq in the gateway's namespace; ended on drop.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start(lab: &Lab, settings: &Path) -> Result<Self> {
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--user=root", "--pid-file="]);
        command.args(["--leasefile-ro", "--no-hosts", "--no-resolv", "--bind-interfaces"]);
        command
            .arg(format!("--interface={LAN}"))
            .arg(format!("--conf-file={}", settings.display()));
        command.args(["--dhcp-range=10.77.0.100,10.77.0.150", "--dhcp-range=fd77::,static,64"]);
        command.stderr(Stdio::null());
        let child = lab.gateway.enter(|| command.spawn().context("cannot start dnsmasq"))?;
        Ok(Self(child))
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may have ended on its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer: the server may be starting.
fn exchange(bob: &Subscriber, from: &str, to: SocketAddr, message: &[u8]) -> Result<Vec<u8>> {
    let socket = bob.namespace.enter(|| Ok(UdpSocket::bind(from)?))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut answer = vec![0; 1_500];
    let mut length = 0;
    until("the DHCP server answers", || {
        socket.send_to(message, to)?;
        length = socket.recv(&mut answer).unwrap_or(0);
        Ok(length > 0)
    })?;
    answer.truncate(length);
    Ok(answer)
}

/// A DHCPINFORM (RFC 2131 §4.4.3) that asks for one option, and its value.
fn option_of_dhcp(bob: &Subscriber, wanted: u8) -> Result<String> {
    let mut ask = vec![1, 1, 6, 0, 7, 7, 7, 7, 0, 0, 0, 0];
    let std::net::IpAddr::V4(own) = bob.v4() else { unreachable!("it is IPv4") };
    ask.extend(own.octets());
    ask.resize(28, 0);
    ask.extend(bob.mac());
    ask.resize(236, 0);
    ask.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 8, 55, 1, wanted, 255]);
    let answer = exchange(bob, &format!("{own}:68"), SocketAddr::new(GATEWAY_V4, 67), &ask)?;
    let mut options = answer.get(240..).context("no options")?;
    while let [code, rest @ ..] = options {
        let (length, rest) = match (code, rest) {
            (0, rest) => (0, rest),
            (_, [length, rest @ ..]) => (usize::from(*length), rest),
            _ => break,
        };
        let value = rest.get(..length).context("a cut option")?;
        if *code == wanted {
            return Ok(String::from_utf8(value.to_vec())?);
        }
        options = &rest[length..];
    }
    anyhow::bail!("the server says nothing of option {wanted}")
}

/// An INFORMATION-REQUEST (RFC 8415 §18.2.6) for one option, and its value.
fn option_of_dhcpv6(bob: &Subscriber, wanted: u16) -> Result<String> {
    let mut ask = vec![11, 7, 7, 7, 0, 1, 0, 10, 0, 3, 0, 1];
    ask.extend(bob.mac());
    ask.extend([0, 6, 0, 2]);
    ask.extend(wanted.to_be_bytes());
    ask.extend([0, 8, 0, 2, 0, 0]);
    let index = bob.namespace.ip("-json link show eth0")?;
    let index: Value = serde_json::from_str(&index)?;
    let index = u32::try_from(index[0]["ifindex"].as_u64().context("no index")?)?;
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let to = SocketAddrV6::new(servers, 547, 0, index);
    let answer = exchange(bob, "[::]:546", to.into(), &ask)?;
    let mut options = answer.get(4..).context("no options")?;
    while let [a, b, c, d, rest @ ..] = options {
        let (code, length) =
            (u16::from_be_bytes([*a, *b]), usize::from(u16::from_be_bytes([*c, *d])));
        let value = rest.get(..length).context("a cut option")?;
        if code == wanted {
            return Ok(String::from_utf8(value.to_vec())?);
        }
        options = &rest[length..];
    }
    anyhow::bail!("the server says nothing of option {wanted}")
}

/// The first IPv4 address that the gateway's resolver has for a name (RFC 1035 §4).
fn address_of(bob: &Subscriber, name: &str) -> Result<Ipv4Addr> {
    let mut ask = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        ask.push(u8::try_from(label.len())?);
        ask.extend(label.as_bytes());
    }
    ask.extend([0, 0, 1, 0, 1]);
    let answer = exchange(bob, "0.0.0.0:0", SocketAddr::new(GATEWAY_V4, 53), &ask)?;
    // A pointer to the name, type, class, time to live, length.
    let record = answer.get(ask.len()..ask.len() + 16).context("no record")?;
    ensure!(record[2..4] == [0, 1] && record[10..12] == [0, 4], "{record:?}");
    Ok(Ipv4Addr::new(record[12], record[13], record[14], record[15]))
}

/// The folder with what `bitmesh setup` writes for this agent.
fn set_up(lab: &Lab, agent: &Agent) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let (config, to) = (agent.house.config(), folder.path());
    let words = ["setup", "--config", &config.to_string_lossy(), "--write", &to.to_string_lossy()];
    let setup = lab.gateway.enter(|| {
        let program = bitmesh_tests::agent::Program::True.path()?;
        Ok(Command::new(program).args(words).output()?)
    })?;
    ensure!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    Ok(folder)
}

/// What the captive portal API says at this address.
fn ask(bob: &Subscriber, url: &str) -> Result<Value> {
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no URL")?;
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = raw_at(bob, host, head.as_bytes())?;
    ensure!(answer.contains("content-type: application/captive+json"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}

#[test]
fn a_device_is_told_by_dhcp_and_dhcpv6_where_it_learns_that_it_is_captive() -> Result<()> {
    let lab = Lab::new()?;
    let agent = Agent::start(&lab, &Settings::new(Tariff::bytes(1_000)))?;
    let folder = set_up(&lab, &agent)?;
    let _server = Dnsmasq::start(&lab, &folder.path().join("bitmesh-dnsmasq.conf"))?;
    let bob = lab.subscriber();
    for url in [option_of_dhcp(bob, CAPTIVE_PORTAL)?, option_of_dhcpv6(bob, CAPTIVE_PORTAL_V6)?] {
        let said = ask(bob, &url).context(url)?;
        ensure!(said["captive"] == true, "{said}");
    }
    Ok(())
}

#[test]
fn with_a_certificate_a_device_is_told_a_name_that_resolves_to_the_api_over_tls() -> Result<()> {
    let lab = Lab::new()?;
    let files = Operator::new()?;
    let root = files.renew()?;
    let agent = Agent::start(&lab, &files.settings())?;
    let folder = set_up(&lab, &agent)?;
    let _server = Dnsmasq::start(&lab, &folder.path().join("bitmesh-dnsmasq.conf"))?;
    let bob = lab.subscriber();
    for url in [option_of_dhcp(bob, CAPTIVE_PORTAL)?, option_of_dhcpv6(bob, CAPTIVE_PORTAL_V6)?] {
        ensure!(url == format!("https://{NAME}:{TLS_PORT}/captive"), "{url}");
    }
    let at = SocketAddr::new(address_of(bob, NAME)?.into(), TLS_PORT);
    let said = over_tls(bob, at, &root, "/captive")?;
    ensure!(said.contains("content-type: application/captive+json"), "{said}");
    ensure!(said.contains("\"captive\":true"), "{said}");
    ensure!(
        said.contains(&format!("\"user-portal-url\":\"https://{NAME}:{TLS_PORT}/\"")),
        "{said}"
    );
    Ok(())
}
