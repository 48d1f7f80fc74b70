//! The kernels, as Debian ships them: fetched, unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::Suite;
use crate::machine::{Need, need_programs};
use crate::process::run_aside;
use crate::workspace::Workspace;

/// What lists a kernel's modules.
const MODULES: &[Need] = &[Need::new("depmod", "kmod")];

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// A PC.
    Amd64,
    /// With the core of a Raspberry Pi 4.
    Arm64,
}

impl Arch {
    /// Debian's name of it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A stock kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The machine that it is for.
    pub(crate) arch: Arch,
    /// The suite of Debian that ships it.
    suite: &'static str,
    /// Whether it is known to have tcx.
    pub(crate) tcx: bool,
    /// Whether it is known to lack what the programs need.
    pub(crate) is_too_old: bool,
}

impl Kernel {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[
        Self { is_too_old: true, ..Self::amd64("amd64-5.10", "bullseye") },
        Self::amd64("amd64-6.1", "bookworm"),
        Self { tcx: true, ..Self::amd64("amd64-6.12", "trixie") },
        Self { tcx: true, ..Self::amd64("amd64-newest", "sid") },
        Self::arm64("arm64-6.1", "bookworm"),
        Self { tcx: true, ..Self::arm64("arm64-6.12", "trixie") },
    ];

    const fn amd64(name: &'static str, suite: &'static str) -> Self {
        Self { name, arch: Arch::Amd64, suite, tcx: false, is_too_old: false }
    }

    const fn arm64(name: &'static str, suite: &'static str) -> Self {
        Self { arch: Arch::Arm64, ..Self::amd64(name, suite) }
    }

    /// The kernel with this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|kernel| kernel.name == name);
        found.copied().with_context(|| format!("no kernel {name}: see `cargo xtask vm --list`"))
    }

    /// Where it comes from.
    pub(crate) fn about(&self) -> String {
        format!("linux-image-{} of Debian {}", self.arch.debian(), self.suite)
    }

    /// Unpacks it, unless that was done before.
    pub(crate) fn fetch(&self, workspace: &Workspace) -> Result<Unpacked> {
        need_programs(MODULES)?;
        let folder = workspace.target.join("tools/vm/kernels").join(self.name);
        if let Ok(found) = Unpacked::find(&folder) {
            return Ok(found);
        }
        eprintln!("unpacking {} under {}", self.about(), workspace.shown(&folder));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let unfinished = folder.with_extension("new");
        let suite = Suite::read(self.suite, self.arch.debian(), unfinished.join("apt"))?;
        let image = self.image(&suite)?;
        let mut packages = vec![image];
        // Newer kernels come in parts, which the first names.
        let parts = suite.dependencies(&packages[0])?;
        packages.extend(parts.into_iter().filter(|name| is_part(name)));
        suite.unpack(&packages, &unfinished)?;
        fs::remove_dir_all(unfinished.join("apt"))?;
        let unpacked = Unpacked::find(&unfinished)?;
        let mut depmod = Command::new("depmod");
        run_aside(depmod.arg("-b").arg(unpacked.modules_root()).arg(&unpacked.release))?;
        fs::rename(&unfinished, &folder)?;
        Unpacked::find(&folder)
    }

    /// The package behind the one that always means the newest.
    fn image(&self, suite: &Suite) -> Result<String> {
        let newest = format!("linux-image-{}", self.arch.debian());
        let found = suite.dependencies(&newest)?.into_iter().find(|name| is_image(name));
        found.with_context(|| format!("{newest} of {} names no kernel", self.suite))
    }
}

fn is_image(package: &str) -> bool {
    package.strip_prefix("linux-image-").is_some_and(begins_with_digit)
        || package.strip_prefix("linux-base-").is_some_and(begins_with_digit)
}

fn is_part(package: &str) -> bool {
    ["linux-image-", "linux-modules-", "linux-binary-", "linux-base-"]
        .iter()
        .any(|prefix| package.strip_prefix(prefix).is_some_and(begins_with_digit))
}

fn begins_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// A kernel on the disk.
pub(crate) struct Unpacked {
    /// What `uname -r` says.
    pub(crate) release: String,
    /// What a machine boots.
    pub(crate) image: PathBuf,
    /// The folder named after the release, with its modules.
    pub(crate) modules: PathBuf,
}

impl Unpacked {
    fn find(folder: &Path) -> Result<Self> {
        for modules in [folder.join("usr/lib/modules"), folder.join("lib/modules")] {
            let Some(entry) = fs::read_dir(&modules).ok().and_then(|mut all| all.next()) else {
                continue;
            };
            let modules = entry?.path();
            let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let images = [folder.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
            if let Some(image) = images.into_iter().find(|image| image.is_file()) {
                return Ok(Self { release, image, modules });
            }
        }
        bail!("no kernel in {}", folder.display())
    }

    /// The folder in which `lib/modules` is.
    fn modules_root(&self) -> PathBuf {
        self.modules.ancestors().nth(3).unwrap_or(&self.modules).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_found_by_its_name() {
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::named(kernel.name).unwrap(), *kernel);
        }
        assert!(Kernel::named("amd64-2.6").is_err());
    }

    #[test]
    fn the_parts_of_a_kernel_are_told_from_its_helpers() {
        assert!(is_part("linux-modules-7.2.1-amd64"));
        assert!(!is_part("linux-base"));
        assert!(!is_part("initramfs-tools"));
        assert!(is_image("linux-image-6.1.0-40-amd64"));
        assert!(!is_image("linux-image-amd64"));
    }
}
