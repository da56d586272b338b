//! The command line: `stasis-symbols FOLDER` reads `vmlinux.btf`, `kallsyms.txt` and `version.txt` from the folder
//! `memory/host` of a case and writes `symbols.json` beside them.

#![allow(clippy::print_stdout, reason = "a tool for a terminal")]

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "stasis-symbols FOLDER

Makes symbols for Volatility 3 from vmlinux.btf, kallsyms.txt and version.txt in FOLDER, memory/host of a case,
and writes them to FOLDER/symbols.json. Then:

  mkdir -p symbols/linux && cp FOLDER/symbols.json symbols/linux/
  vol -s $PWD/symbols -f FOLDER/../image.lime linux.pslist";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), None) = (arguments.next().filter(|a| !a.starts_with('-')), arguments.next()) else {
        println!("{HELP}");
        return ExitCode::from(64);
    };
    match write(Path::new(&folder)) {
        Ok((types, symbols)) => {
            println!("{folder}/symbols.json: {types} types, {symbols} symbols");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("no symbols were made: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the symbols, and gives how many types and symbols there are.
fn write(folder: &Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let read = |name: &str| {
        std::fs::read(folder.join(name))
            .map_err(|error| format!("{name}: {error} (a kernel without BTF tells no types)"))
    };
    let types = stasis_symbols::btf::types(&read("vmlinux.btf")?)?;
    let kallsyms = read("kallsyms.txt")?;
    let text = String::from_utf8_lossy(&kallsyms);
    let symbols = stasis_symbols::kallsyms::symbols(&text)?;
    let document = stasis_symbols::isf::document(&types, &symbols, &read("version.txt")?);
    std::fs::write(folder.join("symbols.json"), serde_json::to_vec(&document)?)?;
    Ok((types.len(), symbols.len()))
}
