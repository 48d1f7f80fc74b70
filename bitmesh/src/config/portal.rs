//! What visitors are shown.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::Lan;
use super::check::absolute;
use super::error::Wrong;

/// Bytes of an address of a page, at most.
const MAX_URL_BYTES: usize = 512;

/// The portal's pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalPages {
    /// A page about the place, for RFC 8908's `venue-info-url`.
    pub venue: Option<String>,
    /// The operator's certificate. Without it, plain HTTP.
    pub tls: Option<PortalTls>,
}

/// A certificate, and where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalTls {
    /// It and its chain, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// TCP port of the portal's pages over TLS, open to the unpaid.
    pub port: u16,
}

/// `[portal]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPortal {
    venue_info_url: Option<Spanned<String>>,
    tls: Option<Spanned<RawTls>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    #[serde(default = "default_port")]
    port: Spanned<u16>,
}

fn default_port() -> Spanned<u16> {
    Spanned::new(0..0, 2122)
}

/// Checks the table.
pub(super) fn check(raw: RawPortal, lans: &[Lan]) -> Result<PortalPages, Wrong> {
    let venue = raw.venue_info_url.map(url).transpose()?;
    let tls = raw.tls.map(|raw| tls(raw, lans)).transpose()?;
    Ok(PortalPages { venue, tls })
}

fn tls(raw: Spanned<RawTls>, lans: &[Lan]) -> Result<PortalTls, Wrong> {
    let span = raw.span();
    let RawTls { certificate, key, port } = raw.into_inner();
    if let Some(lan) = lans.iter().find(|lan| lan.names.is_empty()) {
        let what = format!(
            "a certificate is for a name, and [[lan]] `{}` has none: add `names = [\"…\"]` there",
            lan.interface
        );
        return Err(Wrong::new(span, what));
    }
    let (at, port) = (port.span(), port.into_inner());
    if port == 0 || lans.iter().any(|lan| lan.portal_port == port) {
        let what =
            "`port` can't be 0, nor a `portal_port`, where plain HTTP is led to: give another";
        return Err(Wrong::new(at, what.to_owned()));
    }
    let certificate = absolute("certificate", certificate)?.1;
    let key = absolute("key", key)?.1;
    Ok(PortalTls { certificate, key, port })
}

fn url(url: Spanned<String>) -> Result<String, Wrong> {
    let span = url.span();
    let url = url.into_inner();
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    // Of the characters that a URI may have (RFC 3986 §2), no quotes are among them.
    let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    let whole = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
    if whole && url.chars().all(plain) && url.len() <= MAX_URL_BYTES {
        return Ok(url);
    }
    let what = format!(
        "`venue_info_url` is no address of a page: give one that starts with https:// and has at \
         most {MAX_URL_BYTES} bytes"
    );
    Err(Wrong::new(span, what))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    const SMALLEST: &str = "[[lan]]\ninterface = \"wlan0\"\n[tariffs.default]\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("gateway.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_needs_a_name_a_port_of_its_own_and_whole_paths() {
        let lan =
            "[[lan]]\ninterface = \"wlan0\"\nnames = [\"portal.example\"]\n[tariffs.default]\n";
        let tls = |head: &str, more: &str| {
            let files = "certificate = \"/etc/ssl/portal.pem\"\nkey = \"/etc/ssl/portal.key\"\n";
            parse(&format!("{head}[portal.tls]\n{files}{more}"))
        };
        let expected = PortalTls {
            certificate: "/etc/ssl/portal.pem".into(),
            key: "/etc/ssl/portal.key".into(),
            port: 2122,
        };
        assert_eq!(tls(lan, "").expect("valid").portal.tls, Some(expected));
        assert_eq!(
            tls(lan, "port = 443\n").expect("valid").portal.tls.map(|tls| tls.port),
            Some(443)
        );
        let said = tls(SMALLEST, "").expect_err("no name");
        assert!(
            said.contains("a certificate is for a name, and [[lan]] `wlan0` has none"),
            "{said}"
        );
        for port in ["0", "2121"] {
            let said = tls(lan, &format!("port = {port}\n")).expect_err(port);
            assert!(said.contains("`port` can't be 0, nor a `portal_port`"), "{said}");
        }
        let relative = format!("{lan}[portal.tls]\ncertificate = \"portal.pem\"\nkey = \"/k\"\n");
        let said = parse(&relative).expect_err("relative");
        assert!(
            said.contains("`certificate` is `portal.pem`: give a path that starts with /"),
            "{said}"
        );
        let said =
            parse(&format!("{lan}[portal.tls]\nkey = \"/k\"\n")).expect_err("no certificate");
        assert!(said.contains("`certificate` is missing"), "{said}");
    }
}
