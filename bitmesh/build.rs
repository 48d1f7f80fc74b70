//! Finds the eBPF object that the agent embeds.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=BITMESH_BPF_DIR");
    // Set in .cargo/config.toml.
    let directory = std::env::var("BITMESH_BPF_DIR").unwrap_or_default();
    let object = Path::new(&directory).join("bitmesh.o");
    println!("cargo::rerun-if-changed={}", object.display());
    if object.exists() {
        println!("cargo::rustc-env=BITMESH_EBPF_OBJECT={}", object.display());
    } else {
        println!("cargo::error=the eBPF object is missing: run `cargo xtask build-ebpf` first");
    }
}
