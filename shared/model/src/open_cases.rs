//! What is said of the cases that are open: whether their instances are still held as they were when a run verified it last.

use crate::Timestamp;
use crate::baseline::{Instance, Observed, Protection};
use crate::check::Check;
use crate::facts::QuarantineFacts;
use crate::ids::{AccountId, CaseId, InstanceId, Region};
use serde::{Deserialize, Serialize};

/// How the instance of an open case stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Standing {
    /// As AWS confirmed it when its run verified it last.
    AsVerified,
    /// Something was undone since.
    Undone {
        /// What passed when it was verified last, and does not now.
        changed: Vec<Check>,
        /// When it was verified.
        verified_at: Timestamp,
        /// Whether it is to be cut off the network.
        is_to_be_cut_off: bool,
    },
    /// There is no such instance any more.
    Gone,
    /// No run has verified it yet, or it is being released: nothing to compare with.
    Unverified,
    /// Whether it is held could not be read.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What is read of the instance of an open case.
#[derive(Debug, Clone)]
pub struct HeldFacts {
    /// The instance.
    pub instance: Observed<Instance>,
    /// Its protections.
    pub protection: Observed<Protection>,
    /// Its interfaces, and the groups of Stasis.
    pub network: QuarantineFacts,
}

impl HeldFacts {
    /// Whether EC2 says that there is nothing left to hold.
    pub fn is_gone(&self) -> bool {
        self.instance.known().is_some_and(Instance::is_gone)
    }
}

/// An open case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenCase {
    /// The case.
    pub case_id: CaseId,
    /// Its instance.
    pub instance_id: InstanceId,
    /// The account that it is in.
    pub account: AccountId,
    /// The region that it is in.
    pub region: Region,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// The answer about all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenCases {
    /// Layout of this document.
    pub schema: u32,
    /// When it was read.
    pub checked_at: Timestamp,
    /// Each of them.
    pub cases: Vec<OpenCase>,
    /// How many there are besides, which were not looked at for lack of time.
    #[serde(default)]
    pub unasked: usize,
}
