//! The disks as evidence: how snapshots are locked and copied, and what is known of volumes and snapshots.

use crate::Timestamp;
use crate::baseline::Observed;
use crate::case::Case;
use crate::ids::{AccountId, InstanceId, Region, SnapshotId, VolumeId};
use crate::tags;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How snapshots are kept from being deleted
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshot-lock.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Whoever has `ec2:UnlockSnapshot` may unlock them.
    #[default]
    Governance,
    /// Nobody may, before the time is over.
    Compliance,
    /// They are not locked.
    None,
}

impl fmt::Display for LockMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
            Self::None => "none",
        })
    }
}

/// An account and a region in which snapshots are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "account {}, {}", self.account, self.region)
    }
}

/// Where copies of the snapshots are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Account and region.
    #[serde(flatten)]
    pub place: Place,
    /// ARN of the role in that account that makes the copies; empty where it is Stasis' own account.
    #[serde(default)]
    pub role: String,
    /// The customer key there that the copies are encrypted with: ARN, or alias.
    pub key: String,
}

/// How the disks are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskPolicy {
    /// How snapshots are locked.
    pub lock: LockMode,
    /// For how many days.
    pub lock_days: i32,
    /// Stasis' own customer key beside the instance, as key id, ARN or alias; empty where there is none.
    #[serde(default)]
    pub key: String,
    /// Where copies are kept; none where no such place is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// How S3 Object Lock keeps the case file, for the same days: `governance` or `compliance`.
    #[serde(default)]
    pub case_file: LockMode,
}

impl Default for DiskPolicy {
    fn default() -> Self {
        let lock = LockMode::default();
        Self { lock, lock_days: 365, key: String::new(), destination: None, case_file: lock }
    }
}

/// Where the instance and so its snapshots are.
pub fn place_of(case: &Case) -> Place {
    Place { account: case.instance.account.clone(), region: case.instance.region.clone() }
}

/// Where the case's copies go; none where that is no other place than the instance's own.
pub fn destination_of(case: &Case) -> Option<&Destination> {
    case.policy.disks.destination.as_ref().filter(|destination| destination.place != place_of(case))
}

/// Whether the copies go to another account, so that snapshots must be shared with it.
pub fn is_cross_account(case: &Case) -> bool {
    destination_of(case).is_some_and(|destination| destination.place.account != case.instance.account)
}

/// A volume, as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts {
    /// The volume.
    pub volume_id: VolumeId,
    /// `creating`, `available`, `in-use`, `deleting`, `deleted` or `error`.
    pub state: String,
    /// Its type, such as `gp3`.
    pub kind: String,
    /// Its size in GiB.
    pub size_gib: i32,
    /// ARN of the key that encrypts it; none where it is not encrypted.
    pub key: Option<String>,
    /// The other instances that it is attached to (multi-attach).
    pub others: Vec<InstanceId>,
}

/// What preserve reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreserveFacts {
    /// The instance with its volumes.
    pub instance: crate::baseline::Instance,
    /// Its volumes in detail.
    pub volumes: Observed<BTreeMap<VolumeId, VolumeFacts>>,
    /// ARN of the key `aws/ebs`, which AWS manages and no other account can use; none where the region has none.
    pub aws_ebs_key: Observed<Option<String>>,
    /// The snapshots of the case, without copies.
    pub snapshots: Vec<Snapshot>,
    /// Snapshots that carry the case's tag and are older than it.
    pub older: Vec<SnapshotId>,
    /// The size of the disks that its type has on the host itself, in GB; none where it has none.
    pub instance_store_gb: Observed<Option<i64>>,
}

/// What replicate reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicateFacts {
    /// The snapshots of the case beside the instance, copies included.
    pub here: Vec<Snapshot>,
    /// The copies of the case in the destination; none where there is no destination.
    pub there: Observed<Vec<Snapshot>>,
    /// ARN of the key `aws/ebs` beside the instance.
    pub aws_ebs_key: Observed<Option<String>>,
}

/// An EBS snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The volume it is of; of a copy AWS gives an arbitrary one
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html>).
    pub volume_id: VolumeId,
    /// `pending`, `completed` or `error`.
    pub state: String,
    /// AWS' word on a failure.
    pub message: Option<String>,
    /// Progress in percent.
    pub progress: u8,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// ARN of the key that encrypts it.
    pub key: Option<String>,
    /// Size of the volume in GiB.
    pub size_gib: i32,
    /// When AWS fixed its point in time.
    pub started_at: Option<Timestamp>,
    /// Its lock; read by the stages that lock and verify, and none known to the others.
    pub lock: Observed<Option<Lock>>,
    /// The accounts that it is shared with; `all` for everybody. Read where snapshots are shared at all.
    pub shared_with: Observed<BTreeSet<String>>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// How far the clock of EC2 may be behind that of the function that opened the case.
const CLOCKS: TimeDelta = TimeDelta::seconds(60);

impl Snapshot {
    /// Whether its point in time is of before the case was opened: then somebody else put the case's tag on it, who may want
    /// it taken for what the disk held when it was found.
    pub fn is_older_than(&self, case: &Case) -> bool {
        self.started_at.is_some_and(|at| at + CLOCKS < case.opened_at)
    }

    /// The snapshot of the volume that this one is a copy of, whether at once or by way of another copy.
    pub fn copy_of(&self) -> Option<&str> {
        self.tags.get(tags::COPY_OF).map(String::as_str)
    }

    /// The snapshot that this one was copied from.
    pub fn copied_from(&self) -> Option<&str> {
        self.tags.get(tags::COPIED_FROM).map(String::as_str)
    }

    /// Whether it was taken by itself, at another moment than those of the other volumes.
    pub fn is_taken_alone(&self) -> bool {
        self.tags.contains_key(tags::TAKEN_ALONE)
    }

    /// Whether AWS gave it up.
    pub fn is_failed(&self) -> bool {
        matches!(self.state.as_str(), "error" | "recoverable")
    }

    /// Whether it is whole.
    pub fn is_completed(&self) -> bool {
        self.state == "completed"
    }
}

/// The lock of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// `governance`, `compliance`, `compliance-cooloff` or `expired`.
    pub state: String,
    /// For how many days; they begin when the snapshot completes.
    pub days: Option<i32>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl Lock {
    /// Whether it is at least what a policy asks for.
    pub fn satisfies(&self, mode: LockMode, days: i32) -> bool {
        let strong = match mode {
            LockMode::None => return true,
            LockMode::Governance => matches!(self.state.as_str(), "governance" | "compliance" | "compliance-cooloff"),
            LockMode::Compliance => matches!(self.state.as_str(), "compliance" | "compliance-cooloff"),
        };
        strong && self.days.is_none_or(|locked| locked >= days)
    }
}
