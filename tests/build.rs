//! Finds the eBPF objects that the tests load: the gate, its miscounting twin and its successor.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=BITMESH_BPF_DIR");
    // Set in .cargo/config.toml.
    let directory = std::env::var("BITMESH_BPF_DIR").unwrap_or_default();
    for (file, variable) in [
        ("bitmesh.o", "BITMESH_EBPF_OBJECT"),
        ("miscount.o", "BITMESH_EBPF_MISCOUNT"),
        ("successor.o", "BITMESH_EBPF_SUCCESSOR"),
    ] {
        let object = Path::new(&directory).join(file);
        println!("cargo::rerun-if-changed={}", object.display());
        if object.exists() {
            println!("cargo::rustc-env={variable}={}", object.display());
        } else {
            println!("cargo::error={file} is missing: run `cargo xtask build-ebpf` first");
        }
    }
}
