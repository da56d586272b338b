//! The manifest: every file of a case with its hash, so that a copy can be checked against it.

use serde::{Deserialize, Serialize};
use stasis_model::ids::{CaseId, Ticket};
use stasis_model::stage::FileRef;
use stasis_model::{SCHEMA, Timestamp};

/// The manifest's own name in the case's folder; it does not list itself.
pub const NAME: &str = "manifest.json";

/// One file of the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestEntry {
    /// Key in the evidence bucket.
    pub key: String,
    /// Version that was hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// The image of the memory may be too large to be read once more: its SHA-256 is then the one that the collector
    /// took while sending, and S3 compared its CRC-64/NVME.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hashed_by_collector: bool,
}

/// The list of every file of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Layout of this document.
    pub schema: u32,
    /// The case.
    pub case_id: CaseId,
    /// Its ticket.
    pub ticket: Ticket,
    /// When it was written.
    pub written_at: Timestamp,
    /// Whether the evidence was complete then.
    pub complete: bool,
    /// The manifest before this one.
    pub previous: Option<FileRef>,
    /// The files, by key.
    pub files: Vec<ManifestEntry>,
}

/// The manifest of these files.
pub fn manifest(
    case_id: &CaseId,
    ticket: &Ticket,
    mut files: Vec<ManifestEntry>,
    previous: Option<FileRef>,
    complete: bool,
    now: Timestamp,
) -> Manifest {
    files.sort_by(|a, b| a.key.cmp(&b.key));
    Manifest {
        schema: SCHEMA,
        case_id: case_id.clone(),
        ticket: ticket.clone(),
        written_at: now,
        complete,
        previous,
        files,
    }
}
