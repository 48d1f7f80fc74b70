//! How large the programs in an eBPF object are.

use anyhow::{Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind, elf};

/// Bytes of one eBPF instruction (RFC 9669 §3); a 64-bit load takes two.
const INSTRUCTION_BYTES: u64 = 8;

/// One program, or a function that programs call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Name of the function.
    pub(crate) name: String,
    /// Section, which says what kind of program it is.
    pub(crate) section: String,
    /// Its size.
    pub(crate) instructions: u64,
}

/// The functions in the object's code sections, largest first.
pub(crate) fn of_programs(bytes: &[u8]) -> Result<Vec<Program>> {
    let file = object::File::parse(bytes)?;
    let mut programs = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else { continue };
        let section = file.section_by_index(index)?;
        let executable = matches!(section.flags(), SectionFlags::Elf { sh_flags }
            if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0);
        if executable && symbol.size() > 0 {
            programs.push(Program {
                name: readable(symbol.name()?),
                section: section.name()?.to_owned(),
                instructions: symbol.size() / INSTRUCTION_BYTES,
            });
        }
    }
    if programs.is_empty() {
        bail!("it has no programs");
    }
    programs.sort_by_key(|program| std::cmp::Reverse(program.instructions));
    Ok(programs)
}

/// The path of a Rust function without what it is generic over.
fn readable(symbol: &str) -> String {
    let path = format!("{:#}", rustc_demangle::demangle(symbol));
    path.split("::<").next().unwrap_or(symbol).to_owned()
}

/// Prints them as a table.
pub(crate) fn print(programs: &[Program]) {
    println!("{:<44} {:<12} {:>12}", "program", "section", "instructions");
    for Program { name, section, instructions } in programs {
        println!("{name:<44} {section:<12} {instructions:>12}");
    }
}
