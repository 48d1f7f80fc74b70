//! BitMesh with a gate that bills one Ethernet header too much for each packet.

use std::process::ExitCode;

use bitmesh_tests::objects::MISCOUNT;

fn main() -> ExitCode {
    bitmesh::cli::main_with(MISCOUNT)
}
