//! What is written out: text for people, or JSON for programs, never both. What goes on meanwhile goes to standard error.

use crate::error::CliError;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use std::io::Write as _;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Whether answers are JSON.
    pub json: bool,
}

impl Screen {
    /// A line for people.
    pub(crate) fn say(self, line: impl AsRef<str>) -> Result<(), CliError> {
        if self.json { Ok(()) } else { out(line.as_ref()) }
    }

    /// A line on how it goes, on standard error.
    pub(crate) fn note(self, line: impl AsRef<str>) {
        // Where nobody can be told anything, the work goes on.
        let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
    }

    /// The answer for programs.
    pub(crate) fn json(self, answer: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(answer).map_err(|error| CliError::Failed(error.to_string()))?;
        out(&text)
    }

    /// A table for people.
    pub(crate) fn table(self, heads: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
        if self.json {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(heads.to_vec());
        for row in rows {
            table.add_row(row);
        }
        for line in table.lines() {
            out(line.trim_end())?;
        }
        Ok(())
    }
}

fn out(line: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        // Whoever reads has read enough (`stasis list | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::Failed(format!("standard output cannot be written to: {error}"))),
        Ok(()) => Ok(()),
    }
}
