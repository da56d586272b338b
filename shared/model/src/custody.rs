//! The chain of custody: who did what to an instance and its evidence, and when, as CloudTrail recorded it. AWS' word, not ours:
//! what a stage says that it did is looked for in it.

use crate::Timestamp;
use crate::baseline::Observed;
use crate::case::Case;
use crate::facts::Command;
use crate::ids::{AccountId, CaseId, Region};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// The folder of a case in which it is kept, with the closing slash.
pub const FOLDER: &str = "custody/";

/// How long CloudTrail may take to show a call, in seconds. AWS: "typically delivers events within an average of about
/// 5 minutes of an API call. This time is not guaranteed."
/// (<https://docs.aws.amazon.com/awscloudtrail/latest/userguide/how-cloudtrail-works.html>)
pub const TRAIL_SECONDS: i64 = 1_800;

/// Whether CloudTrail may still come to show a call of the case that it does not show yet.
pub fn is_waited_for(case: &Case, now: Timestamp) -> bool {
    now - case.worked_on_since() < TimeDelta::seconds(TRAIL_SECONDS)
}

/// Whether the record of the volatile data's command is waited for. Until it is there, the rest is not worth asking for, which
/// takes a lookup for each resource: LookupEvents is limited to two calls a second per account and region.
pub fn is_command_waited_for(
    case: &Case,
    command: Option<&Command>,
    recorded: &Observed<Option<bool>>,
    now: Timestamp,
) -> bool {
    command.is_some_and(Command::is_over) && *recorded == Observed::Known(Some(false)) && is_waited_for(case, now)
}

/// One call that CloudTrail recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who: ARN of the identity, or what CloudTrail says in place of one.
    pub by: String,
    /// What, such as `ec2:ModifyInstanceAttribute`.
    pub what: String,
    /// Of the case's resources, those that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The address that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why AWS refused it, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// AWS' id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// CloudTrail's id of the record.
    pub event_id: String,
    /// The stage that says the same of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Whether the role session bears the name of a function of Stasis, or of the case. Whoever names a session may choose its
    /// name: what no stage says of itself is told with who it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_session: bool,
}

/// Something that a stage says it did, and of which CloudTrail shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unconfirmed {
    /// The stage.
    pub stage: String,
    /// The action, in words.
    pub words: String,
    /// AWS' id of the request.
    pub request_id: String,
}

/// What CloudTrail shows of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Custody {
    /// Layout of this document.
    pub schema: u32,
    /// The case.
    pub case_id: CaseId,
    /// The account that was asked.
    pub account: AccountId,
    /// The region that was asked.
    pub region: Region,
    /// When it was read.
    pub read_at: Timestamp,
    /// Every call since the case was opened that changed something of it, oldest first; by whomever.
    pub acts: Vec<Act>,
    /// What is not shown yet.
    pub unconfirmed: Vec<Unconfirmed>,
    /// Whether there was more than is read.
    pub cut: bool,
}

impl Custody {
    /// How many of what the stages did CloudTrail shows.
    pub fn confirmed(&self) -> usize {
        self.acts.iter().filter(|act| act.stage.is_some()).count()
    }

    /// What was done under the name of a function or of the case, and is no action in a stage's record: tickets, and the first of
    /// two calls for one action.
    pub fn in_sessions(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|act| act.stage.is_none() && act.in_session)
    }

    /// What others did meanwhile.
    pub fn by_others(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|act| act.stage.is_none() && !act.in_session)
    }
}
