//! The memory of the instance: how it is to be acquired, what was found on the way, and what came of it.

use crate::Timestamp;
use crate::baseline::{Agent, Observed};
use crate::case::Case;
use crate::facts::Command;
use serde::{Deserialize, Serialize};
pub use stasis_acquisition::manifest::Format;
pub use stasis_acquisition::summary::{Kernel, Summary, Taken};
use std::fmt;
use std::ops::Range;

/// Whether the memory is acquired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryChoice {
    /// Yes.
    Acquire,
    /// No.
    #[default]
    Leave,
}

/// How the memory is acquired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryPolicy {
    /// Whether it is.
    pub choice: MemoryChoice,
    /// The SSM document that runs the collector.
    pub document: String,
    /// ARN of the role that signs the addresses to which the collector sends.
    pub writer_role: String,
    /// SHA-256 of the collector for x86_64, which lies in the evidence bucket under that name; empty for none.
    pub collector_x86_64: String,
    /// The same for aarch64.
    pub collector_arm64: String,
    /// What reads the memory of a Windows host.
    pub windows_tool: WindowsTool,
    /// The layout of the image of a Linux host.
    pub format: Format,
    /// How long it may take, in seconds.
    pub limit_seconds: i64,
    /// At most so many bytes a second leave the instance for it; 0 for no limit.
    pub bytes_per_second: u64,
}

/// What there is to take memory with, where something was deployed since a case was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryTools {
    /// As in [`MemoryPolicy`].
    pub collector_x86_64: String,
    /// As in [`MemoryPolicy`].
    pub collector_arm64: String,
    /// As in [`MemoryPolicy`].
    pub windows_tool: WindowsTool,
}

impl MemoryPolicy {
    /// What there is to take memory with.
    pub fn tools(&self) -> MemoryTools {
        MemoryTools {
            collector_x86_64: self.collector_x86_64.clone(),
            collector_arm64: self.collector_arm64.clone(),
            windows_tool: self.windows_tool.clone(),
        }
    }

    /// Takes what there was none of; what there was stays as it is.
    pub fn complete(&mut self, tools: MemoryTools) {
        if self.collector_x86_64.is_empty() {
            self.collector_x86_64 = tools.collector_x86_64;
        }
        if self.collector_arm64.is_empty() {
            self.collector_arm64 = tools.collector_arm64;
        }
        if self.windows_tool.sha256.is_empty() {
            self.windows_tool = tools.windows_tool;
        }
    }
}

/// The operator's memory tool for Windows, such as winpmem. Stasis brings none: it loads a driver, and which one may run
/// on a host is the operator's to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WindowsTool {
    /// Its SHA-256; it lies in the evidence bucket beside the collectors. Empty for none.
    pub sha256: String,
    /// Its arguments, with `{output}` for where it writes to.
    pub arguments: String,
    /// Where it writes to.
    pub output: ToolOutput,
}

impl Default for WindowsTool {
    fn default() -> Self {
        Self { sha256: String::new(), arguments: "{output}".to_owned(), output: ToolOutput::default() }
    }
}

/// Where a memory tool writes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolOutput {
    /// A file on the host, which is then sent and removed.
    #[default]
    File,
    /// Its standard output.
    Stream,
}

impl fmt::Display for ToolOutput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::File => "file",
            Self::Stream => "stream",
        })
    }
}

/// Whether EC2 says that the instance runs Windows. EC2 is asked, and not the host.
pub fn is_windows(case: &Case) -> bool {
    case.baseline.instance.platform.as_deref().is_some_and(|platform| platform.starts_with("Windows"))
}

/// The layout of the image of this case.
pub fn format_of(case: &Case) -> Format {
    if is_windows(case) { Format::Raw } else { case.policy.memory.format }
}

/// The processor's architecture and the memory, as EC2 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `x86_64`, `arm64` and the like.
    pub architecture: String,
    /// The memory of the instance type, in MiB.
    pub memory_mib: u64,
}

/// What the stage memory reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFacts {
    /// What Systems Manager knows of the instance.
    pub agent: Observed<Option<Agent>>,
    /// What EC2 says of it.
    pub machine: Observed<Machine>,
    /// Our command, where one was sent for this case.
    pub command: Option<Command>,
    /// The upload that is open.
    pub upload: Option<Upload>,
    /// The manifests that were written: number, and when.
    pub manifests: Vec<(u32, Timestamp)>,
    /// What the host says that it sent; an error where that cannot be read.
    pub summary: Option<Result<Summary, String>>,
    /// The image, once its upload is completed.
    pub image: Option<Image>,
    /// What was written down as the outcome.
    pub outcome: Option<Acquisition>,
}

impl MemoryFacts {
    /// Whether the host has sent anything.
    pub fn has_arrived(&self) -> bool {
        let parts = self.upload.as_ref().is_some_and(|upload| !upload.parts.is_empty());
        parts || self.summary.is_some() || self.image.is_some()
    }

    /// Before anything was begun.
    pub fn unbegun(agent: Observed<Option<Agent>>, machine: Observed<Machine>) -> Self {
        Self {
            agent,
            machine,
            command: None,
            upload: None,
            manifests: Vec::new(),
            summary: None,
            image: None,
            outcome: None,
        }
    }
}

/// An upload that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// What has arrived, by number.
    pub parts: Vec<UploadedPart>,
}

/// A part that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPart {
    /// Its number, from 1.
    pub number: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it arrived.
    pub at: Timestamp,
}

impl Upload {
    /// How many bytes have arrived, and how many of them in parts without a hole before them.
    pub fn received(&self) -> (u64, u64) {
        let all = self.parts.iter().map(|part| part.bytes).sum();
        (all, self.in_order().iter().map(|part| part.bytes).sum())
    }

    /// The parts before the first that is missing: only those make an object in which everything is at its place.
    pub fn in_order(&self) -> &[UploadedPart] {
        let whole = self.parts.iter().zip(1_u32..).take_while(|(part, number)| part.number == *number).count();
        self.parts.get(..whole).unwrap_or_default()
    }

    /// When anything arrived last.
    pub fn last_at(&self) -> Timestamp {
        self.parts.iter().map(|part| part.at).max().unwrap_or(self.begun_at)
    }
}

/// An image in the evidence bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its version.
    pub version_id: Option<String>,
    /// The ranges of memory in it, by its LiME headers; what is wrong with them. None for another layout.
    pub ranges: Option<Result<Vec<Range<u64>>, String>>,
    /// The checksum by which S3 knows it, where S3 tells it: CRC-64/NVME in base64.
    pub crc64nvme: Option<String>,
}

/// How an acquisition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcquisitionStatus {
    /// The whole memory, less the gaps that are listed.
    Captured,
    /// Less than that.
    Partial,
    /// The memory of the processes, because the kernel refuses the physical memory.
    Procmem,
    /// Nothing, because this cannot be done on such a host, or nothing was deployed for it.
    Unsupported,
    /// Nothing.
    Failed,
}

impl fmt::Display for AcquisitionStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Captured => "captured",
            Self::Partial => "partial",
            Self::Procmem => "procmem",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        })
    }
}

/// What came of an acquisition. Kept as `memory/acquisition.json` in the case, create-only; of a run that took the case over,
/// under that run's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acquisition {
    /// Layout of this document.
    pub schema: u32,
    /// The number of the takeover whose run it is of; 0 for the run that opened the case.
    #[serde(default)]
    pub takeover: u32,
    /// How it ended.
    pub status: AcquisitionStatus,
    /// Why it is not the whole memory, where it is not.
    pub reason: Option<String>,
    /// How much memory the instance has, as EC2 says, in bytes.
    pub machine_bytes: Option<u64>,
    /// How much the host says, in bytes.
    pub host_bytes: Option<u64>,
    /// How many bytes the image has to have, by the host's summary.
    pub expected_bytes: Option<u64>,
    /// How many arrived.
    pub received_bytes: u64,
    /// How much memory could not be read, in bytes.
    pub gap_bytes: u64,
    /// How many gaps are listed in the summary.
    pub gaps: usize,
    /// The layout of the image.
    pub format: Format,
    /// SHA-256 of what arrived, in hexadecimal, as the host took it while sending.
    pub sha256: Option<String>,
    /// CRC-64/NVME of what arrived, in base64. S3 compares it with what it received.
    pub crc64nvme: Option<String>,
    /// Version of the image in the bucket.
    pub version_id: Option<String>,
    /// The kernel.
    pub kernel: Option<Kernel>,
    /// The Run Command invocation.
    pub command_id: Option<String>,
    /// Whether nothing says that an agent ever began with its command, and nothing arrived.
    #[serde(default)]
    pub undelivered: bool,
    /// What the reader of the image must know.
    pub notes: Vec<String>,
}

impl Acquisition {
    /// Whether there is an image to look at.
    pub fn has_image(&self) -> bool {
        self.received_bytes > 0
    }

    /// Whether it still counts. Where no agent began with a command, nothing was begun at the host, and a later run of the case
    /// tries again: what was in the way may be mended by then.
    pub fn stands(&self, case: &Case) -> bool {
        let is_begun = self.command_id.is_some() && !self.undelivered;
        is_begun || self.takeover >= case.takeover()
    }
}

/// The folder of the memory in a case, below its prefix.
pub const FOLDER: &str = "memory/";
/// The folder in it of what the host sent beside the image.
pub const HOST_FOLDER: &str = "host/";

/// The name of an outcome in it, by the number of the takeover whose run it is of.
pub fn outcome_name(takeover: u32) -> String {
    match takeover {
        0 => "acquisition.json".to_owned(),
        number => format!("acquisition-{number}.json"),
    }
}

/// Whether a file of the folder is an outcome.
pub fn is_outcome(name: &str) -> bool {
    name.starts_with("acquisition") && name.ends_with(".json")
}

/// The name of the image in the folder.
pub fn image_name(format: Format) -> &'static str {
    match format {
        Format::Lime => "image.lime",
        Format::Avml => "image.avml",
        Format::Raw => "image.raw",
    }
}

/// Where the collector of this SHA-256 lies in the evidence bucket.
pub fn collector_key(sha256: &str) -> String {
    format!("tools/collector/{sha256}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(numbers: &[u32]) -> Upload {
        let at = crate::now();
        let parts = numbers.iter().map(|number| UploadedPart { number: *number, bytes: 10, at }).collect();
        Upload { upload_id: "u".to_owned(), begun_at: at, parts }
    }

    #[test]
    fn parts_after_a_hole_do_not_count() {
        for (numbers, all, in_order) in [(&[][..], 0, 0), (&[1, 2, 3], 30, 30), (&[1, 2, 4], 30, 20), (&[2, 3], 20, 0)]
        {
            assert_eq!(upload(numbers).received(), (all, in_order), "{numbers:?}");
        }
    }
}
