//! Which host a request means.
//!
//! A page of the internet can have its own name point at the gateway (DNS rebinding); its requests
//! then come with that name. The gateway answers to its own addresses and names only.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// What a gateway is called on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) names: Vec<String>,
    pub(super) port: u16,
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
        let authority = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        authority.is_some_and(|authority| self.is_own(&authority))
    }

    fn is_own(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') || authority.port_u16().unwrap_or(80) != self.port {
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

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    fn has_name(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
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
            names: vec!["gateway.lan".to_owned()],
            port: 2121,
        }
    }

    fn meant(host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        own().is_meant(&Uri::from_static("/api/v1/offer"), &headers)
    }

    #[test]
    fn the_gateway_answers_to_its_own_addresses_and_names() {
        for host in ["10.77.0.1:2121", "[fd77::1]:2121", "[fd77:0::1]:2121", "GATEWAY.lan.:2121"] {
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
            "gateway.lan.x:2121",
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
