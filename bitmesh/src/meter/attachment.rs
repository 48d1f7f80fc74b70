//! Where a program sits on an interface, as a value.

use std::fmt;

use bitmesh_common::abi::{HOOK_CLSACT, HOOK_TCX};
use serde::{Deserialize, Serialize};

/// Where in the kernel's path of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Traffic control, on a packet of the network stack.
    Tc,
    /// The driver, before there is a packet of the network stack. Uplink only.
    Xdp,
}

/// How it is held there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A link of TC, pinned: it goes with its pin or its interface.
    Tcx,
    /// A filter on a clsact qdisc: it stays until it is removed or its interface goes.
    Clsact,
    /// A link of XDP that the driver itself runs, pinned.
    Native,
}

/// How one program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Where.
    pub hook: Hook,
    /// How.
    pub mode: Mode,
}

impl Attachment {
    /// A link of TC (kernel 6.6 and later).
    pub const TCX: Self = Self { hook: Hook::Tc, mode: Mode::Tcx };
    /// A filter of TC.
    pub const CLSACT: Self = Self { hook: Hook::Tc, mode: Mode::Clsact };
    /// XDP in the driver.
    pub const XDP_NATIVE: Self = Self { hook: Hook::Xdp, mode: Mode::Native };

    /// How the record of an interface names a program of TC.
    pub(super) const fn word(self) -> u32 {
        match self.mode {
            Mode::Tcx => HOOK_TCX,
            Mode::Clsact => HOOK_CLSACT,
            Mode::Native => 0,
        }
    }

    /// What the record of an interface says of its programs of TC; nothing before they are
    /// attached.
    pub(super) const fn from_word(word: u32) -> Option<Self> {
        match word {
            HOOK_TCX => Some(Self::TCX),
            HOOK_CLSACT => Some(Self::CLSACT),
            _ => None,
        }
    }

    /// Hook and mode, as `status` shows them.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self.mode {
            Mode::Tcx => ("tc", "tcx"),
            Mode::Clsact => ("tc", "clsact"),
            Mode::Native => ("xdp", "native"),
        }
    }

    /// The name that the configuration has for it.
    pub(super) const fn name(self) -> &'static str {
        match self.mode {
            Mode::Tcx => "tcx",
            Mode::Clsact => "clsact",
            Mode::Native => "xdp",
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hook, mode) = self.words();
        write!(f, "{hook} {mode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_was_written_into_it() {
        for attachment in [Attachment::TCX, Attachment::CLSACT] {
            assert_eq!(Attachment::from_word(attachment.word()), Some(attachment));
        }
        assert_eq!(Attachment::from_word(0), None);
        assert_eq!(Attachment::XDP_NATIVE.to_string(), "xdp native");
    }
}
