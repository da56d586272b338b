//! Readiness: whether an instance could be contained and captured now, found out before there is an incident. What is
//! read for it, and what is said of it; nothing of it changes anything.

use crate::Timestamp;
use crate::baseline::Observed;
use crate::check::{Check, CheckStatus};
use crate::disks::PreserveFacts;
use crate::error::InputError;
use crate::facts::{Allows, RevokeFacts, VpcFacts};
use crate::ids::{AccountId, CaseId, GroupId, InstanceId, Region, VpcId};
use crate::memory::MemoryFacts;
use crate::open_cases::OpenCases;
use crate::stage::Stage;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the function `stasis-ready` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadyRequest {
    /// The instances that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<InstanceId>,
    /// Every running instance instead.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all: bool,
    /// Every running instance, and the answer is kept in the evidence bucket and told to the topic, as the schedule asks.
    #[serde(default, skip_serializing_if = "is_false")]
    pub publish: bool,
    /// The instances of open cases, of every account, or those of them that are named: whether each is still held. What is not
    /// is told, as the schedule asks.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open_cases: bool,
    /// The account that they are in; that of Stasis where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The region that they are in; that of Stasis where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// What the last answer gave as `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// So many instances are looked at in one call by name: more would take longer than a caller waits.
pub const MOST_INSTANCES: usize = 25;

impl ReadyRequest {
    /// The request, once it is whole and no more than can be answered.
    ///
    /// # Errors
    /// Where it asks for nothing, for two things at once, or for too much.
    pub fn checked(self) -> Result<Self, InputError> {
        let kinds = [!self.instance_ids.is_empty() && !self.open_cases, self.all, self.publish, self.open_cases];
        let asks = kinds.into_iter().filter(|asked| *asked).count();
        if asks != 1 {
            return Err(InputError::invalid(
                "instanceIds",
                "is one of four: instanceIds names instances, all is every running one, publish and openCases are the schedules'",
            ));
        }
        if self.instance_ids.len() > MOST_INSTANCES {
            return Err(InputError::invalid(
                "instanceIds",
                format!("names {} instances, and one call takes {MOST_INSTANCES}", self.instance_ids.len()),
            ));
        }
        if self.open_cases && (self.account.is_some() || self.region.is_some()) {
            return Err(InputError::invalid("openCases", "is about every account and region"));
        }
        if self.next.is_some() && !self.all {
            return Err(InputError::invalid("next", "goes with all"));
        }
        Ok(self)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a check that does not pass would mean in an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It would not be contained, or not safely.
    Containment,
    /// It would be contained, and some protection or evidence be missing.
    Evidence,
    /// It would be contained and captured; this is good to know before.
    Advice,
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyCheck {
    /// What was found.
    #[serde(flatten)]
    pub check: Check,
    /// What it would mean.
    pub effect: Effect,
    /// What to do about it; none where nothing is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What all checks come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// It could be contained and captured in full.
    Ready,
    /// It could be contained; some protection or evidence would be missing, and the run be PARTIAL.
    Limited,
    /// What decides whether it could be contained could not be read.
    Unknown,
    /// It could not be contained, or not safely.
    NotReady,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ready => "READY",
            Self::Limited => "LIMITED",
            Self::Unknown => "UNKNOWN",
            Self::NotReady => "NOT READY",
        })
    }
}

impl Verdict {
    /// What these checks come to. What could not be read never counts as so.
    pub fn of(checks: &[ReadyCheck]) -> Self {
        let verdict = |check: &ReadyCheck| match (check.check.status, check.effect) {
            (CheckStatus::Pass, _) | (_, Effect::Advice) => Self::Ready,
            (CheckStatus::Unknown, Effect::Containment) => Self::Unknown,
            (_, Effect::Containment) => Self::NotReady,
            (_, Effect::Evidence) => Self::Limited,
        };
        checks.iter().map(verdict).max().unwrap_or(Self::Unknown)
    }
}

/// What is said of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReadiness {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its name. Foreign text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the checks come to.
    pub verdict: Verdict,
    /// Them.
    pub checks: Vec<ReadyCheck>,
}

/// What the function answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Layout of this document.
    pub schema: u32,
    /// When it was read.
    pub checked_at: Timestamp,
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// What the checks of the place and of all its instances come to, whichever is worst.
    pub verdict: Verdict,
    /// What holds for every instance there: documents, bucket, permissions.
    pub place: Vec<ReadyCheck>,
    /// Each instance.
    pub instances: Vec<InstanceReadiness>,
    /// Where to go on, where there are more; given back as `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many running instances there are besides, which were not looked at for lack of time.
    #[serde(default)]
    pub unasked: usize,
}

/// What is answered: each form as itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReadyAnswer {
    /// About instances.
    Readiness(Readiness),
    /// About open cases.
    OpenCases(OpenCases),
}

/// What is read of one instance, beside its baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFacts {
    /// By VPC: the groups of Stasis, and where Systems Manager is reached.
    pub vpcs: BTreeMap<VpcId, VpcFacts>,
    /// Of the endpoints' security groups: what each lets in.
    pub endpoint_groups: Observed<BTreeMap<GroupId, Vec<Allows>>>,
    /// The disks.
    pub preserve: Observed<PreserveFacts>,
    /// Agent and machine; nothing was begun.
    pub memory: MemoryFacts,
    /// The role.
    pub revoke: RevokeFacts,
    /// The case that is open for it.
    pub claim: Observed<Option<CaseId>>,
    /// The region of the evidence bucket.
    pub bucket_region: Region,
}

/// What is read of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFacts {
    /// Of the Command documents of Stasis, those that are there.
    pub documents: Observed<BTreeSet<String>>,
    /// What IAM says that the functions may do; empty where no instance was there to ask about.
    pub permissions: Vec<(Needed, Observed<Allowed>)>,
}

/// Something that a stage must be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// The stage.
    pub stage: Stage,
    /// The action, such as `ec2:ModifyInstanceAttribute`.
    pub action: &'static str,
    /// ARN of what it is done to.
    pub resource: String,
}

/// What IAM's simulation says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// It is.
    Yes,
    /// It is not: by whose policy, as far as IAM tells.
    No(String),
    /// It depends on conditions that the simulation was told nothing of.
    Depends(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Check;

    fn check(status: CheckStatus, effect: Effect) -> ReadyCheck {
        let check = Check { name: String::new(), status, expected: String::new(), observed: String::new() };
        ReadyCheck { check, effect, remedy: None }
    }

    #[test]
    fn the_worst_counts_and_what_is_not_known_is_never_ready() {
        use CheckStatus::{Fail, Missing, Pass, Unknown};
        use Effect::{Advice, Containment, Evidence};
        for (checks, verdict) in [
            (vec![], Verdict::Unknown),
            (vec![(Pass, Containment), (Pass, Evidence), (Fail, Advice), (Unknown, Advice)], Verdict::Ready),
            (vec![(Pass, Containment), (Missing, Evidence)], Verdict::Limited),
            (vec![(Pass, Containment), (Unknown, Evidence)], Verdict::Limited),
            (vec![(Unknown, Containment), (Fail, Evidence)], Verdict::Unknown),
            (vec![(Unknown, Containment), (Fail, Containment)], Verdict::NotReady),
        ] {
            let checks: Vec<_> = checks.into_iter().map(|(status, effect)| check(status, effect)).collect();
            assert_eq!(Verdict::of(&checks), verdict, "{checks:?}");
        }
    }

    #[test]
    fn a_request_asks_for_one_thing_and_names_what_is_wrong() {
        let request = |text: &str| {
            serde_json::from_str::<ReadyRequest>(text).map_err(|e| e.to_string())?.checked().map_err(|e| e.to_string())
        };
        assert!(request(r#"{"instanceIds": ["i-0a1b2c3d"]}"#).is_ok());
        assert!(request(r#"{"all": true, "next": "t", "account": "111122223333"}"#).is_ok());
        assert!(request(r#"{"publish": true}"#).is_ok() && request(r#"{"openCases": true}"#).is_ok());
        assert!(request(r#"{"openCases": true, "instanceIds": ["i-0a1b2c3d"]}"#).is_ok());
        let many = format!(r#"{{"instanceIds": [{}]}}"#, vec![r#""i-0a1b2c3d""#; 26].join(","));
        for (text, named) in [
            ("{}", "instanceIds"),
            (r#"{"all": true, "publish": true}"#, "instanceIds"),
            (r#"{"instanceIds": ["web"]}"#, "instanceId"),
            (r#"{"instances": []}"#, "instances"),
            (r#"{"publish": true, "next": "t"}"#, "next"),
            (r#"{"openCases": true, "all": true}"#, "instanceIds"),
            (r#"{"openCases": true, "region": "eu-central-1"}"#, "openCases"),
            (many.as_str(), "26"),
        ] {
            let error = request(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
