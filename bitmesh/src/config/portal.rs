//! What visitors are shown.

use serde::Deserialize;
use toml::Spanned;

use super::error::Wrong;

/// Bytes of an address of a page, at most.
const MAX_URL_BYTES: usize = 512;

/// The portal's pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalPages {
    /// A page about the place, for RFC 8908's `venue-info-url`.
    pub venue: Option<String>,
}

/// `[portal]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPortal {
    venue_info_url: Option<Spanned<String>>,
}

/// Checks the table.
pub(super) fn check(raw: RawPortal) -> Result<PortalPages, Wrong> {
    let venue = raw.venue_info_url.map(url).transpose()?;
    Ok(PortalPages { venue })
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
