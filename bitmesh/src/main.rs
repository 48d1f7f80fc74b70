//! The program `bitmesh`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bitmesh::cli::main_with(aya::include_bytes_aligned!(env!("BITMESH_EBPF_OBJECT")))
}
