//! The case: one incident on one instance, as it travels between the states. Facts from before anything
//! was touched are in its baseline; what each stage did is in the stage's own report, never here.

use crate::Timestamp;
use crate::baseline::Baseline;
use crate::disks::DiskPolicy;
use crate::ids::{AccountId, CaseId, InstanceId, Region, Ticket};
use crate::memory::{MemoryPolicy, MemoryTools};
use crate::policy::{ApprovalTerms, Decision, Playbook, TicketBy};
use crate::stage::{Stage, StageOutcome};
use crate::trigger::Source;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Where an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRef {
    /// The instance.
    pub instance_id: InstanceId,
    /// The account that owns it, as EC2 says.
    pub account: AccountId,
    /// The region it runs in.
    pub region: Region,
}

/// How far Stasis may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Protect, cut off and preserve.
    #[default]
    Contain,
    /// Protect and preserve, but leave it on the network.
    Preserve,
    /// Say what would be done and write nothing outside the case file.
    DryRun,
}

/// Where the quarantine group lets the instance go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// 443 to the VPC's own endpoints of Systems Manager and to the S3 gateway; nothing where there are none.
    #[default]
    Endpoints,
    /// 443 to anywhere: Systems Manager is reached without endpoints, and so is any C2 that speaks on 443.
    Https,
    /// Nothing at all.
    None,
}

impl fmt::Display for Egress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Endpoints => "endpoints",
            Self::Https => "https",
            Self::None => "none",
        })
    }
}

/// What is done about connections that are open when the groups are swapped: a security group lets tracked
/// ones go on until they time out
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackedConnections {
    /// Each interface passes through a group open to everything, in which connections are not tracked.
    #[default]
    Cut,
    /// They are left to time out.
    Leave,
}

/// What is done about the remote addresses that a finding names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteAddresses {
    /// Nothing of their own: the quarantine is for every address.
    #[default]
    Leave,
    /// The network ACLs of the instance's subnets deny them, for every instance there.
    Deny,
}

/// How a scaling group lets go of an instance that it needs for its minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MinimumSize {
    /// The minimum is lowered by what is missing.
    #[default]
    LowerMin,
    /// The group starts a replacement.
    Replace,
}

/// What becomes of the power of the instance's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// It stays.
    #[default]
    Keep,
    /// The instance gets a profile for Systems Manager alone, and sessions issued before are denied.
    Revoke,
}

/// The language of the report's own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Japanese.
    #[serde(rename = "ja")]
    Japanese,
}

impl Language {
    /// Its tag (BCP 47), as the case file and HTML write it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }
}

/// What was decided about an instance, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// What follows.
    pub decision: Decision,
    /// The rule, exemption or request that decided, in words.
    pub by: String,
    /// The policy that was asked, in words: where it lies, or that it is the built-in one and why.
    pub policy: String,
    /// How approval is asked for, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// What is looked at beside the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub playbooks: Vec<Playbook>,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The settings that a case is worked under; fixed when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Value of the `Owner` tag.
    pub owner: String,
    /// What the quarantine group lets out.
    pub egress: Egress,
    /// What is done about connections that are open.
    #[serde(default)]
    pub tracked_connections: TrackedConnections,
    /// What is done about the addresses that the finding names.
    #[serde(default)]
    pub remote_addresses: RemoteAddresses,
    /// How a scaling group at its minimum lets go.
    #[serde(default)]
    pub minimum_size: MinimumSize,
    /// What becomes of the power of the instance's role.
    #[serde(default)]
    pub credentials: Credentials,
    /// Name of the instance profile that can only talk to Systems Manager.
    #[serde(default)]
    pub quarantine_profile: String,
    /// The SSM document that reads volatile data.
    pub capture_document: String,
    /// How long the agent may take, in seconds.
    pub capture_limit_seconds: i64,
    /// How the memory is acquired.
    #[serde(default)]
    pub memory: MemoryPolicy,
    /// How the disks are kept.
    #[serde(default)]
    pub disks: DiskPolicy,
    /// The language of the report.
    #[serde(default)]
    pub report_language: Language,
}

/// One incident on one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// Layout of this document.
    pub schema: u32,
    /// Its id.
    pub case_id: CaseId,
    /// The ticket it is worked on under.
    pub ticket: Ticket,
    /// Where that ticket is told how far the case has come; none where it was given and nobody listens, or could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_by: Option<TicketBy>,
    /// How far Stasis may go.
    pub mode: Mode,
    /// Why, in the words of whoever started it by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The execution of the state machine that works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// How the run that works on it now came to it, where that is not the one that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<TakenOver>,
    /// What started it.
    pub source: Source,
    /// What was decided about it.
    pub decided: Decided,
    /// The remote addresses that the finding names as the other side of a connection. Foreign: checked before use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_addresses: Vec<IpAddr>,
    /// The instance.
    pub instance: InstanceRef,
    /// The evidence bucket.
    pub bucket: String,
    /// The settings it is worked under.
    pub policy: Policy,
    /// The facts from before anything was touched.
    pub baseline: Baseline,
    /// What each stage answered so far; filled in by the state machine.
    #[serde(default)]
    pub stages: BTreeMap<Stage, StageOutcome>,
}

impl Case {
    /// Whether nothing may be written outside the case file.
    pub fn is_dry_run(&self) -> bool {
        self.mode == Mode::DryRun
    }

    /// Whether the instance is to be cut off (or would be, in a dry run).
    pub fn contains(&self) -> bool {
        matches!(self.mode, Mode::Contain | Mode::DryRun)
    }

    /// Since when the run works on it that works on it now.
    pub fn worked_on_since(&self) -> Timestamp {
        self.taken_over.as_ref().map_or(self.opened_at, |over| over.at)
    }

    /// The number of the takeover whose run works on it; 0 for the run that opened it.
    pub fn takeover(&self) -> u32 {
        self.taken_over.as_ref().map_or(0, |over| over.number)
    }

    /// The case as the run works on it that took it over. Baseline and settings stay those that it was opened with, but for
    /// tools that were not there then.
    #[must_use]
    pub fn taken_on(mut self, takeover: Takeover) -> Self {
        self.mode = takeover.mode;
        self.decided = takeover.decided;
        self.execution = Some(takeover.execution);
        self.taken_over = Some(takeover.taken_over);
        self.policy.memory.complete(takeover.memory_tools);
        self
    }

    /// The folder of the case in the evidence bucket, with the closing slash.
    pub fn prefix(&self) -> String {
        prefix(&self.case_id)
    }
}

/// The folder of a case in the evidence bucket, with the closing slash.
pub fn prefix(case: &CaseId) -> String {
    format!("cases/{case}/")
}

/// The folder in which the takeovers of a case are kept, with the closing slash.
pub fn takeovers(case: &CaseId) -> String {
    format!("{}takeovers/", prefix(case))
}

/// That a later run took a case over. Kept beside `case.json`, create-only and numbered, so that one of several takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    /// Layout of this document.
    pub schema: u32,
    /// The case.
    pub case_id: CaseId,
    /// The execution that works on it from now on.
    pub execution: String,
    /// How far Stasis may go now.
    pub mode: Mode,
    /// What is decided about it now.
    pub decided: Decided,
    /// From which run, when and why.
    pub taken_over: TakenOver,
    /// What there is by now to take memory with.
    #[serde(default)]
    pub memory_tools: MemoryTools,
}

/// How a run came to a case that another had opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenOver {
    /// The number of the takeover, from 1.
    pub number: u32,
    /// The execution that worked on the case before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// The key of the claim: which case is open for an instance.
pub fn claim_key(instance: &InstanceRef) -> String {
    format!("open/{}/{}/{}.json", instance.account, instance.region, instance.instance_id)
}

/// The claim: created once while no case is open for an instance, so that two findings open one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Layout of this document.
    pub schema: u32,
    /// The case that is open.
    pub case_id: CaseId,
    /// The instance it is open for.
    pub instance: InstanceRef,
    /// The execution that claimed the instance.
    pub execution: String,
    /// When.
    pub claimed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_case_from_before_the_report_had_languages_is_reported_in_english() {
        let older = json!({"owner": "SecurityTeam", "egress": "endpoints", "captureDocument": "Stasis-CaptureVolatile",
            "captureLimitSeconds": 600});
        let policy: Policy = serde_json::from_value(older.clone()).expect("a policy");
        assert_eq!(policy.report_language, Language::English);
        for (tag, language) in [("en", Language::English), ("ja", Language::Japanese)] {
            let mut newer = older.clone();
            newer["reportLanguage"] = json!(tag);
            let policy: Policy = serde_json::from_value(newer).expect("a policy");
            assert_eq!((policy.report_language, language.tag()), (language, tag));
        }
        let mut unknown = older;
        unknown["reportLanguage"] = json!("fr");
        assert!(serde_json::from_value::<Policy>(unknown).is_err());
    }
}
