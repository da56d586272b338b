//! The command line of the collector. What it prints goes to Run Command's output, of which AWS keeps 24,000
//! characters: a line that it has begun, and a summary without its long lists.

#![allow(clippy::print_stdout, reason = "what is printed is the answer to Run Command")]

use stasis_acquisition::summary::{Summary, Taken};
use stasis_collector::error::CollectorError;
use stasis_collector::host::Host;
use stasis_collector::sender::Network;
use std::process::ExitCode;

const HELP: &str = "stasis-collector: streams what is volatile on this host to presigned addresses

  stasis-collector acquire MANIFEST    state, memory and small files, as the manifest at this address says
  stasis-collector state               the state alone, as JSON lines on standard output

  STASIS_ROOT    where the host's files are, if not at / (as /host in a container)
  STASIS_ROOTS   PEM file of the certificate authorities to trust instead of the built-in ones

It ends with 0 when everything was taken, 3 when only part of it was, and 2 when nothing could be sent.";

/// How many gaps and errors are printed; the summary object has all.
const PRINTED: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let host = Host::new(std::env::var_os("STASIS_ROOT").unwrap_or_else(|| "/".into()));
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["acquire", address] => match acquire(&host, address) {
            Ok(summary) => finished(summary),
            Err(error) => {
                println!("{}", serde_json::json!({"event": "failed", "error": error.to_string()}));
                ExitCode::from(2)
            }
        },
        ["state"] => {
            let (lines, _) = stasis_collector::state::lines(&host);
            print!("{}", String::from_utf8_lossy(&lines));
            ExitCode::SUCCESS
        }
        ["--version"] => {
            println!("stasis-collector {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            println!("{HELP}");
            ExitCode::from(64)
        }
    }
}

fn acquire(host: &Host, address: &str) -> Result<Summary, CollectorError> {
    println!("{}", serde_json::json!({"event": "started", "collector": env!("CARGO_PKG_VERSION")}));
    let roots = std::env::var_os("STASIS_ROOTS")
        .map(|path| std::fs::read(&path).map_err(|error| CollectorError::Manifest(format!("STASIS_ROOTS: {error}"))))
        .transpose()?;
    let network = Network::new(roots.as_deref())?;
    stasis_collector::run::acquire(host, &network, address)
}

fn finished(mut summary: Summary) -> ExitCode {
    let whole = summary.taken == Taken::Memory && summary.stream.complete;
    summary.gaps.truncate(PRINTED);
    summary.ranges.truncate(PRINTED);
    summary.errors.truncate(PRINTED);
    summary.stream.parts.clear();
    println!("{}", serde_json::json!({"event": "finished", "summary": summary}));
    if whole { ExitCode::SUCCESS } else { ExitCode::from(3) }
}
