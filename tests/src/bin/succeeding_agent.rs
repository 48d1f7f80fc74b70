//! BitMesh of a later release: other programs, same maps.

use std::process::ExitCode;

use bitmesh_tests::objects::SUCCESSOR;

fn main() -> ExitCode {
    bitmesh::cli::main_with(SUCCESSOR)
}
