//! MAC addresses and identities, as people write them.

use std::fmt;
use std::str::FromStr;

use bitmesh_core::{CreditId, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A MAC address in text: six octets in hexadecimal, between colons or hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacText(pub Mac);

/// The text is no MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: write six octets, like 02:00:00:00:00:0a")]
pub struct NotMac;

impl FromStr for MacText {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, NotMac> {
        let separator = if text.contains(':') { ':' } else { '-' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            *octet = parts.next().and_then(octet_of).ok_or(NotMac)?;
        }
        if parts.next().is_some() { Err(NotMac) } else { Ok(Self(Mac::new(octets))) }
    }
}

fn octet_of(text: &str) -> Option<u8> {
    let hex = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| hex)
}

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.octets;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The identity of a credit in text: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditIdText(pub CreditId);

/// The text is no identity of a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the identity of a credit: write 32 hexadecimal digits")]
pub struct NotCreditId;

impl FromStr for CreditIdText {
    type Err = NotCreditId;

    fn from_str(text: &str) -> Result<Self, NotCreditId> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| hex)
            .map(|id| Self(CreditId(id)))
            .ok_or(NotCreditId)
    }
}

impl fmt::Display for CreditIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0.0)
    }
}

macro_rules! as_text {
    ($($text:ty),*) => { $(
        impl Serialize for $text {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $text {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )* };
}

as_text!(MacText, CreditIdText);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_comes_back_as_it_was_written() {
        let text = "02:0a:ff:00:10:9c";
        let mac: MacText = text.parse().expect("valid");
        assert_eq!(mac.0.octets, [0x02, 0x0a, 0xff, 0, 0x10, 0x9c]);
        assert_eq!(mac.to_string(), text);
        assert_eq!("02-0A-FF-00-10-9C".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_mac_address_is_refused() {
        for text in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:0g",
            "2:0:0:0:0:0",
            "02:00:00:00:00:+1",
            "02-00:00-00:00-00",
            "020000000000",
        ] {
            assert_eq!(text.parse::<MacText>(), Err(NotMac), "{text}");
        }
    }

    #[test]
    fn a_credit_identity_comes_back_as_it_was_written() {
        for id in [0, 1, u128::MAX] {
            let text = CreditIdText(CreditId(id));
            assert_eq!(text.to_string().parse(), Ok(text));
        }
        for text in ["", "0", "+0000000000000000000000000000001", &"0".repeat(33)] {
            assert_eq!(text.parse::<CreditIdText>(), Err(NotCreditId), "{text}");
        }
    }
}
