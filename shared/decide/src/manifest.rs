//! The manifest: every file of a case with its hash, so that a copy can be checked against it. It is signed, and each one
//! names the hash of the one before. What a case is worth when it is checked is in [`crate::proof`].

use serde::{Deserialize, Serialize};
use stasis_model::case::{Case, prefix};
use stasis_model::disks::LockMode;
use stasis_model::evidence::{ObjectLock, Writer};
use stasis_model::ids::{CaseId, Ticket};
use stasis_model::stage::FileRef;
use stasis_model::{SCHEMA, Timestamp};

/// The newest manifest, in the case's folder.
pub const NAME: &str = "manifest.json";
/// Its signature: ECDSA over SHA-256, in DER, as `openssl dgst -sha256 -verify` takes it.
pub const SIGNATURE: &str = "manifest.sig";
/// The public key that it is signed with, in PEM.
pub const PUBLIC_KEY: &str = "signing-key.pem";
/// Every manifest in its turn, with its signature.
pub const FOLDER: &str = "manifests/";
/// The algorithm, as KMS names it.
pub const ALGORITHM: &str = "ECDSA_SHA_256";

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
    /// What is too large to be read once more was not hashed for the manifest: its SHA-256 is then the one that the collector
    /// took on the host while sending, or `not known`, and what counts is S3's own checksum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hashed_by_collector: bool,
    /// CRC-64/NVME of the whole object in base64, as S3 itself took it; of what was not hashed for the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc64nvme: Option<String>,
    /// When S3 took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// The function and role session that wrote it; none for what the instance sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
    /// How Object Lock keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ObjectLock>,
}

/// The key that a manifest is signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Its ARN in KMS.
    pub key: String,
    /// The algorithm of the signature.
    pub algorithm: String,
    /// The file of the case that holds its public half.
    pub public_key: String,
    /// SHA-256 of the public half's DER, in hexadecimal.
    pub fingerprint: String,
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
    /// Which of the case's manifests this is, from 1.
    pub sequence: u32,
    /// When it was written.
    pub written_at: Timestamp,
    /// The function and role session that wrote it.
    pub writer: Writer,
    /// Whether the evidence was complete then.
    pub complete: bool,
    /// The key that it is signed with; none where none could be asked.
    pub signed_with: Option<SigningKey>,
    /// The manifest before this one.
    pub previous: Option<FileRef>,
    /// The files, by key.
    pub files: Vec<ManifestEntry>,
}

/// What a manifest is made of.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The manifest before it, with its number.
    pub previous: Option<(u32, FileRef)>,
    /// Who writes it.
    pub writer: Writer,
    /// Whether the evidence is complete.
    pub complete: bool,
    /// The key that signs it.
    pub signed_with: Option<SigningKey>,
    /// The files, in any order.
    pub files: Vec<ManifestEntry>,
}

/// The manifest that follows.
pub fn manifest(case: &Case, contents: Contents, now: Timestamp) -> Manifest {
    let Contents { previous, writer, complete, signed_with, mut files } = contents;
    files.sort_by(|a, b| a.key.cmp(&b.key));
    Manifest {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        ticket: case.ticket.clone(),
        sequence: previous.as_ref().map_or(1, |(number, _)| number + 1),
        written_at: now,
        writer,
        complete,
        signed_with,
        previous: previous.map(|(_, file)| file),
        files,
    }
}

/// The key of a manifest in its turn.
pub fn numbered(case: &CaseId, sequence: u32) -> String {
    format!("{}{FOLDER}{sequence}.json", prefix(case))
}

/// The key of its signature.
pub fn numbered_signature(case: &CaseId, sequence: u32) -> String {
    format!("{}{FOLDER}{sequence}.sig", prefix(case))
}

/// The number of a manifest by its name in the case's folder.
pub fn number(name: &str) -> Option<u32> {
    name.strip_prefix(FOLDER)?.strip_suffix(".json")?.parse().ok().filter(|number| *number > 0)
}

/// Whether a manifest lists this file of the case's folder: all but the newest manifest under its two names.
pub fn lists(name: &str) -> bool {
    name != NAME && name != SIGNATURE
}

/// The lock that a file should have by the policy of the case, where it has a weaker one.
pub fn longer_lock(case: &Case, lock: Option<&ObjectLock>, written_at: Timestamp) -> Option<ObjectLock> {
    let until = written_at + chrono::Duration::days(i64::from(case.policy.disks.lock_days));
    // The bucket's own default begins at another second.
    let enough = until - chrono::Duration::days(1);
    match lock {
        Some(lock) if lock.until >= enough => None,
        Some(lock) => Some(ObjectLock { mode: lock.mode.clone(), until }),
        None => {
            let mode = if case.policy.disks.case_file == LockMode::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
            Some(ObjectLock { mode: mode.to_owned(), until })
        }
    }
}
