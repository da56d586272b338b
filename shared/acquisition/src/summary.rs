//! The summary: what the collector says it took. It comes from a host that an attacker may rule, so every number in
//! it is compared with what S3 received and what EC2 says of the instance, and every text is cut and escaped before
//! anybody reads it.

use crate::manifest::{Format, Object};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// The largest summary that is read, in bytes: 10,000 parts take less than 2 MB.
pub const MOST_BYTES: u64 = 16 << 20;
/// How many gaps are listed one by one; the rest is in the total.
pub const MOST_GAPS: usize = 4096;

/// What was taken, what was not, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The layout.
    pub schema: u32,
    /// The version of the collector.
    pub collector: String,
    /// When it began, in milliseconds since 1970, by the host's clock.
    pub began_unix_ms: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// The kernel.
    pub kernel: Kernel,
    /// What the stream holds.
    pub taken: Taken,
    /// Why it is not the whole memory, where it is not.
    pub reason: Option<String>,
    /// How much memory the host says that it has: the sum of its ranges, in bytes.
    pub memory_bytes: u64,
    /// The ranges of memory.
    pub ranges: Vec<Range<u64>>,
    /// How much of it could not be read, in bytes. In the image it is zeros, or left out where the kernel maps nothing.
    pub gap_bytes: u64,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// The stream.
    pub stream: Stream,
    /// The processes whose memory was taken, where it is process memory.
    pub processes: u32,
    /// The small objects.
    pub objects: BTreeMap<Object, Sent>,
    /// What went wrong, each with the step.
    pub errors: Vec<String>,
    /// The most memory that the collector itself had, in KiB.
    pub peak_kib: Option<u64>,
}

/// What the stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Taken {
    /// The physical memory.
    Memory,
    /// The memory of every process, because the kernel refuses the physical memory.
    ProcessMemory,
    /// Nothing.
    Nothing,
}

/// What the image depends on: without it nobody reads it right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// The release, as `uname -r`.
    pub release: String,
    /// `x86_64` or `aarch64`.
    pub machine: String,
    /// The lockdown mode in force.
    pub lockdown: Option<String>,
    /// Whether it uses five levels of page tables, which Volatility 2.28 does not walk: an empty list is then not a
    /// clean host.
    pub five_level_paging: bool,
    /// Whether it tells its types (BTF), from which the symbols are made.
    pub has_btf: bool,
    /// The address of `_text`, which tells by how much the kernel was shifted.
    pub text_address: Option<u64>,
    /// The kernel's taint flags.
    pub tainted: Option<u64>,
}

/// A range that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// Why.
    pub why: GapKind,
}

/// Why a range could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GapKind {
    /// The kernel does not map it; the image leaves it out.
    NotMapped,
    /// Reading it failed; in the image it is zeros.
    Unreadable,
}

/// The stream as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    /// The layout.
    pub format: Format,
    /// How many bytes it has.
    pub bytes: u64,
    /// SHA-256 of all of it, in hexadecimal.
    pub sha256: String,
    /// The size of each part but the last.
    pub part_bytes: u64,
    /// Its parts, in order: those that were cut, whether or not each arrived.
    pub parts: Vec<Part>,
    /// How often a part was sent again.
    pub retries: u32,
    /// Whether everything that belongs to it was read and sent.
    pub complete: bool,
}

/// A part of the stream, with the hashes of everything up to its end: so that a stream that broke off has hashes too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the stream up to its end, in hexadecimal.
    pub sha256: String,
    /// CRC-64/NVME of the stream up to its end, in base64 as S3 writes it.
    pub crc64nvme: String,
}

/// A small object as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Why it was not sent, or not read.
    pub error: Option<String>,
}
