//! A piece of evidence: where it is and how to know that it is whole.

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of evidence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EvidenceKind {
    /// A Run Command invocation, kept by Systems Manager and CloudTrail.
    Command,
    /// An object in the evidence bucket.
    Object,
    /// An EBS snapshot.
    Snapshot,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Its kind.
    pub kind: EvidenceKind,
    /// Its id: command id, snapshot id or object key.
    pub id: String,
    /// What it holds, in a few words.
    pub description: String,
    /// `s3://bucket/key` for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// SHA-256 in hexadecimal, for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size in bytes, for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// Who wrote an object of the case file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// The Lambda function.
    pub function: String,
    /// ARN of the role session that it ran as, as CloudTrail names it.
    pub session: String,
}

/// How S3 Object Lock keeps a version of an object
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    /// Until then.
    pub until: Timestamp,
}
