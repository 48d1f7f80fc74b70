//! Which kernels can hold the gate.

use thiserror::Error;

/// A version of Linux, its first two numbers.
type Version = (u32, u32);

/// The first kernels with BPF_ATOMIC compare-and-exchange in their JIT.
const MIN_AMD64: Version = (5, 12);
const MIN_ARM64: Version = (5, 18);
/// The first kernel with tcx.
const MIN_TCX: Version = (6, 6);

/// A kernel that can't hold the gate: it has no BPF atomics.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "this kernel, {release} on {machine}, is too old: install one of {}.{} or later, as BPF atomics need it",
    minimum.0, minimum.1
)]
pub struct TooOld {
    release: String,
    machine: String,
    minimum: Version,
}

impl TooOld {
    /// The first version that would do.
    pub(crate) const fn minimum(&self) -> Version {
        self.minimum
    }
}

/// A kernel by what it says of itself, `uname -rm`.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// `6.1.0-50-amd64`, say.
    pub(crate) release: String,
    /// `x86_64` or `aarch64`; others were never tried.
    pub(crate) machine: String,
}

impl Kernel {
    /// The one that runs.
    pub(crate) fn running() -> Self {
        let uname = rustix::system::uname();
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
        }
    }

    /// Its version, if it can be read.
    pub(crate) fn version(&self) -> Option<Version> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Whether BitMesh was ever tried on this kind of machine.
    pub(crate) fn is_known(&self) -> bool {
        self.minimum().is_some()
    }

    /// Whether it is new enough for tcx.
    pub(crate) fn has_tcx(&self) -> bool {
        self.version().is_some_and(|version| version >= MIN_TCX)
    }

    /// What is not known to be too old may try.
    ///
    /// # Errors
    ///
    /// Fails if it is too old.
    pub(crate) fn check(&self) -> Result<(), TooOld> {
        match (self.version(), self.minimum()) {
            (Some(version), Some(minimum)) if version < minimum => {
                let Self { release, machine } = self.clone();
                Err(TooOld { release, machine, minimum })
            }
            _ => Ok(()),
        }
    }

    fn minimum(&self) -> Option<Version> {
        match self.machine.as_str() {
            "x86_64" => Some(MIN_AMD64),
            "aarch64" => Some(MIN_ARM64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(release: &str, machine: &str) -> Kernel {
        Kernel { release: release.to_owned(), machine: machine.to_owned() }
    }

    #[test]
    fn a_kernel_without_atomics_is_refused_by_its_version() {
        let refused = kernel("5.10.0-35-amd64", "x86_64").check().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this kernel, 5.10.0-35-amd64 on x86_64, is too old: install one of 5.12 or later, as \
             BPF atomics need it"
        );
        assert!(kernel("5.17.9", "aarch64").check().is_err());
        for (release, machine) in [("5.12", "x86_64"), ("5.18", "aarch64"), ("5.4", "riscv64")] {
            assert_eq!(kernel(release, machine).check(), Ok(()), "{release} {machine}");
        }
        assert_eq!(kernel("unknown", "x86_64").check(), Ok(()));
    }
}
