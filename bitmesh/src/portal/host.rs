//! Which host a request means.
//!
//! A page of the internet can have its own name point at the gateway (DNS rebinding); its requests
//! then come with that name. The gateway answers to its own addresses and names only.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// The ports that an address need not name.
pub(super) const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// What a gateway is called on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) names: Vec<String>,
    /// The port of plain HTTP.
    pub(super) plain_port: u16,
    /// The port of TLS, if there is one: then pages are there.
    pub(super) tls_port: Option<u16>,
    /// Whether this is the door with TLS.
    pub(super) secure: bool,
}

impl Own {
    /// Whether a request with this target and these headers means this gateway: one `Host` header
    /// (RFC 9112 §3.2), and the same host in an absolute target.
    pub(super) fn is_meant(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let target = uri.authority().is_none_or(|authority| self.is_own(authority));
        target && read(host).is_some_and(|authority| self.is_own(&authority))
    }

    /// Whether the page that asks, if one does, is the gateway's own (RFC 6455 §10.2).
    pub(super) fn is_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(scheme, authority)| {
            scheme == self.scheme() && authority.parse().is_ok_and(|own| self.is_own(&own))
        })
    }

    const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    const fn default_port(&self) -> u16 {
        if self.secure { HTTPS_PORT } else { HTTP_PORT }
    }

    fn port(&self) -> u16 {
        self.tls_port.filter(|_| self.secure).unwrap_or(self.plain_port)
    }

    fn is_own(&self, authority: &Authority) -> bool {
        let port = port_of(authority, self.default_port());
        if authority.as_str().contains('@') || port != self.port() {
            return false;
        }
        let host = authority.host();
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6_address(v6).is_some_and(|own| self.has(IpAddr::V6(own))),
            None => match host.parse() {
                Ok(address) => self.has(address),
                Err(_) => self.has_name(host),
            },
        }
    }

    /// The address of a page here, for who came to this address of ours. Over TLS, if there is that,
    /// with the name that the certificate is for.
    pub(super) fn url(&self, local: IpAddr, path: &str) -> String {
        match (self.tls_port, self.names.first()) {
            (Some(HTTPS_PORT), Some(name)) => format!("https://{name}{path}"),
            (Some(port), Some(name)) => format!("https://{name}:{port}{path}"),
            _ => self.plain_url(local, path),
        }
    }

    /// The same by plain HTTP. A link-local address is of no use in it (RFC 6874): another of the
    /// same interface stands for it.
    pub(super) fn plain_url(&self, local: IpAddr, path: &str) -> String {
        let host = bracketed(self.universal(local));
        match self.plain_port {
            HTTP_PORT => format!("http://{host}{path}"),
            port => format!("http://{host}:{port}{path}"),
        }
    }

    fn universal(&self, local: IpAddr) -> IpAddr {
        if !is_link_local(&local) {
            return local;
        }
        self.addresses.iter().find(|address| !is_link_local(address)).copied().unwrap_or(local)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    fn has_name(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// The one host that a request names, if it names one.
pub(super) fn authority_of(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => read(host),
        _ => None,
    }
}

/// The port that is named, or else this one.
pub(super) fn port_of(authority: &Authority, default: u16) -> u16 {
    authority.port_u16().unwrap_or(default)
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn read(host: &HeaderValue) -> Option<Authority> {
    host.to_str().ok()?.parse().ok()
}

/// The zone of a link-local address means something to the sender alone (RFC 6874).
fn v6_address(text: &str) -> Option<Ipv6Addr> {
    text.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            addresses: ["10.77.0.1", "fd77::1", "fe80::1"].map(|a| a.parse().unwrap()).to_vec(),
            names: vec!["gateway.test".to_owned()],
            plain_port: 2121,
            tls_port: None,
            secure: false,
        }
    }

    fn meant(host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        own().is_meant(&Uri::from_static("/api/v1/offer"), &headers)
    }

    #[test]
    fn the_gateway_answers_to_its_own_addresses_and_names() {
        for host in ["10.77.0.1:2121", "[fd77::1]:2121", "[fd77:0::1]:2121", "GATEWAY.test.:2121"] {
            assert!(meant(host), "{host}");
        }
    }

    #[test]
    fn a_name_that_points_here_but_is_not_ours_is_refused() {
        let others = [
            "evil.example:2121",
            "10.77.0.2:2121",
            "10.77.0.1",
            "10.77.0.1:80",
            "gateway.test.x:2121",
            "[fd77::2]:2121",
            "me@10.77.0.1:2121",
            "",
            "10.77.0.1:2121:1",
        ];
        for host in others {
            assert!(!meant(host), "{host}");
        }
        assert!(!own().is_meant(&Uri::from_static("/"), &HeaderMap::new()));
    }

    #[test]
    fn the_address_of_a_page_is_one_that_the_visitor_can_open() {
        let plain = own();
        let url = |own: &Own, local: &str| own.url(local.parse().unwrap(), "/x");
        assert_eq!(url(&plain, "10.77.0.1"), "http://10.77.0.1:2121/x");
        assert_eq!(url(&plain, "fd77::1"), "http://[fd77::1]:2121/x");
        assert_eq!(url(&plain, "fe80::1"), "http://10.77.0.1:2121/x");
        assert_eq!(url(&Own { plain_port: 80, ..own() }, "10.77.0.1"), "http://10.77.0.1/x");
        for secure in [true, false] {
            let tls = |port| Own { tls_port: Some(port), secure, ..own() };
            assert_eq!(url(&tls(443), "10.77.0.1"), "https://gateway.test/x");
            assert_eq!(url(&tls(2122), "fd77::1"), "https://gateway.test:2122/x");
            let plain = tls(443).plain_url("fe80::1".parse().unwrap(), "");
            assert_eq!(plain, "http://10.77.0.1:2121");
        }
    }

    #[test]
    fn each_door_has_its_port_and_its_scheme() {
        let of = |secure, origin: &'static str| {
            let own = Own { tls_port: Some(443), secure, ..own() };
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            own.is_origin(&headers)
        };
        assert!(of(true, "https://gateway.test") && of(true, "https://gateway.test:443"));
        assert!(!of(true, "http://gateway.test") && !of(true, "http://gateway.test:443"));
        assert!(!of(true, "https://gateway.test:2121") && !of(true, "http://gateway.test:2121"));
        assert!(of(false, "http://gateway.test:2121") && !of(false, "https://gateway.test:2121"));
    }

    #[test]
    fn two_hosts_in_one_request_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("10.77.0.1:2121"));
        let absolute = Uri::from_static("http://evil.example:2121/");
        assert!(!own().is_meant(&absolute, &headers));
        headers.append(header::HOST, HeaderValue::from_static("10.77.0.1:2121"));
        assert!(!own().is_meant(&Uri::from_static("/"), &headers));
    }

    #[test]
    fn a_page_of_another_site_is_not_ours() {
        let of = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            own().is_origin(&headers)
        };
        assert!(own().is_origin(&HeaderMap::new()));
        assert!(of("http://10.77.0.1:2121"));
        assert!(!of("http://evil.example") && !of("null") && !of("http://10.77.0.1"));
    }
}
