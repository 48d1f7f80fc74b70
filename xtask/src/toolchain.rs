//! What a build for BPF takes: the sources of `core`, and `bpf-linker`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::machine;
use crate::process::{find_program, output, run_aside};
use crate::workspace::Workspace;

/// The last bpf-linker that uses the LLVM inside the Rust toolchain.
const BPF_LINKER: &str = "0.10.3";

/// The compiler of Debian, whose sources are a package too.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler with its sources, and a linker.
pub(crate) struct Toolchain {
    rustc: Option<PathBuf>,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds what is there and installs what is not.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        Ok(Self { rustc: compiler_with_sources()?, linker: linker(workspace)? })
    }

    /// Lets a cargo command build for BPF.
    pub(crate) fn equip(&self, cargo: &mut Command) {
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        // `-Z build-std` and `core_intrinsics` on a stable compiler.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo.env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3");
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        cargo.args(["--release", "--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
        cargo.args(["--package", "bitmesh-ebpf"]);
    }
}

/// The compiler to use instead of cargo's own, if that one's sources can't be had.
fn compiler_with_sources() -> Result<Option<PathBuf>> {
    let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if has_sources(&own)? {
        return Ok(None);
    }
    if find_program("rustup").is_some() {
        eprintln!("installing rust-src (the sources of core) with rustup");
        if run_aside(Command::new("rustup").args(["component", "add", "rust-src"])).is_ok()
            && has_sources(&own)?
        {
            return Ok(None);
        }
    }
    if !has_debian_sources() {
        eprintln!("rustup can't give the sources of core: taking Debian's compiler and sources");
        machine::install(&["rustc-web", "rust-web-src"])?;
    }
    if !has_debian_sources() {
        bail!("no Rust compiler with the sources of core: run `rustup component add rust-src`");
    }
    Ok(Some(DEBIAN_RUSTC.into()))
}

fn has_debian_sources() -> bool {
    Path::new(DEBIAN_RUSTC).is_file() && has_sources(&DEBIAN_RUSTC.into()).unwrap_or(false)
}

fn has_sources(rustc: &OsString) -> Result<bool> {
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
}

fn linker(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target.join("tools");
    let own = tools.join("bin/bpf-linker");
    let candidates = [Some(own.clone()), find_program("bpf-linker")];
    if let Some(found) = candidates.into_iter().flatten().find(|path| is_wanted(path)) {
        return Ok(found);
    }
    eprintln!("installing bpf-linker {BPF_LINKER} under {} (about 2 min)", workspace.shown(&tools));
    machine::need_programs(machine::COMPILER)?;
    let mut install = workspace.cargo();
    install.args([
        "install",
        "--quiet",
        "--locked",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--root",
    ]);
    run_aside(install.arg(&tools).env_remove("CARGO_TARGET_DIR"))?;
    Ok(own)
}

fn is_wanted(linker: &Path) -> bool {
    let version = Command::new(linker).arg("--version").output();
    version.is_ok_and(|said| {
        String::from_utf8_lossy(&said.stdout).split_whitespace().any(|word| word == BPF_LINKER)
    })
}
