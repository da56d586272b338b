//! The tags that mark what belongs to a case, and nothing else about tags.

use crate::case::Case;
use serde::{Deserialize, Serialize};

/// Key of the ticket.
pub const TICKET: &str = "IncidentTicket";
/// Key of the team that owns the resource while the case is open.
pub const OWNER: &str = "Owner";
/// Key that marks evidence; its value is `Yes`.
pub const EVIDENCE: &str = "Evidence";
/// Key of the case; what we create is found again by it.
pub const CASE: &str = "stasis:case";
/// Key of the state that Stasis left the instance in; on the instance only.
pub const STATUS: &str = "stasis:status";
/// Key that marks the quarantine group of a VPC; its value is [`QUARANTINE_VALUE`].
pub const QUARANTINE: &str = "stasis:role";
/// Value of [`QUARANTINE`].
pub const QUARANTINE_VALUE: &str = "quarantine";
/// Value of [`QUARANTINE`] on the pass-through group of a VPC.
pub const PASS_THROUGH_VALUE: &str = "pass-through";
/// Value of [`STATUS`] once a case is released.
pub const RELEASED: &str = "released";

/// Key that names, on a copy, the snapshot of the volume that it is a copy of.
pub const COPY_OF: &str = "stasis:copy-of";
/// Key that names, on a copy, the snapshot that it was copied from.
pub const COPIED_FROM: &str = "stasis:copied-from";
/// Key that names, on a copy, the volume: EC2 forgets it.
pub const VOLUME: &str = "stasis:volume";
/// Key that marks a snapshot that was taken by itself, at another moment than those of the other volumes.
pub const TAKEN_ALONE: &str = "stasis:taken-alone";

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Tag {
    /// A tag of `key` and `value`.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// The tags that every resource of a case carries.
pub fn evidence_tags(case: &Case) -> Vec<Tag> {
    vec![
        Tag::new(TICKET, case.ticket.as_str()),
        Tag::new(OWNER, case.policy.owner.clone()),
        Tag::new(EVIDENCE, "Yes"),
        Tag::new(CASE, case.case_id.as_str()),
    ]
}
