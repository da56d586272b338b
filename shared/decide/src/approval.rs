//! Approval: the question that is put to people before an instance is contained, and what their answer means.

use crate::report::{Notice, subject};
use crate::text::one_line;
use crate::triage;
use serde::Deserialize;
use serde_json::Value;
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::approval::{Answer, Verdict, token_key};
use stasis_model::case::{Case, Credentials};
use stasis_model::memory::MemoryChoice;
use stasis_model::policy::{ApprovalTerms, OnExpiry};
use stasis_model::stage::{ActionRecord, Stage, StageReport, StageStatus};
use stasis_model::trigger::Source;

/// How often the question is put where the answers cannot be read.
pub const ASKED_MOST: u32 = 3;
/// The longest name and reason of an answer that are kept, in characters.
const TEXT_MOST: usize = 300;
/// The error by which somebody who fails the task says no. Every other one may be that of a function that broke, whose names
/// nobody knows all.
const REJECTED: &str = "Rejected";
/// The error of a task that waited in vain
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>).
const TIMEOUT: [&str; 2] = ["States.Timeout", "States.HeartbeatTimeout"];

/// How the task that asks ended, as the state machine passes it on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heard {
    /// With the output that somebody sent (`SendTaskSuccess`).
    Answer(Value),
    /// With an error: of its own, for want of time, or sent by somebody (`SendTaskFailure`).
    Error {
        /// Its name.
        #[serde(rename = "Error", default)]
        error: String,
        /// What it says.
        #[serde(rename = "Cause", default)]
        cause: String,
    },
}

/// What people send: `{"decision": "approve" | "reject", "by": "…", "reason": "…"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    decision: Word,
    by: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Approve,
    Reject,
}

/// What was heard means this; or, where it cannot be read, why not, so that the question is put once more.
///
/// # Errors
/// The reason why an answer cannot be read.
pub fn understand(heard: &Heard, terms: ApprovalTerms, asked: u32, now: Timestamp) -> Result<Answer, String> {
    let in_time = |verdict, contain, by: Option<String>, reason: Option<String>| Answer {
        verdict,
        contain,
        by: by.map(|text| cut(&text)),
        reason: reason.map(|text| cut(&text)),
        at: now,
    };
    let by_terms = terms.on_expiry == OnExpiry::Contain;
    match heard {
        Heard::Answer(value) => match Sent::deserialize(value) {
            Ok(Sent { decision: Word::Approve, by, reason }) => Ok(in_time(Verdict::Approved, true, by, reason)),
            Ok(Sent { decision: Word::Reject, by, reason }) => Ok(in_time(Verdict::Rejected, false, by, reason)),
            Err(error) if asked < ASKED_MOST => {
                Err(format!("an answer cannot be read ({error}); the question is put again"))
            }
            Err(error) => {
                let why = format!("{asked} answers could not be read, the last because {error}");
                Ok(in_time(Verdict::Unasked, by_terms, None, Some(why)))
            }
        },
        Heard::Error { error, .. } if TIMEOUT.contains(&error.as_str()) => {
            Ok(in_time(Verdict::Expired, by_terms, None, None))
        }
        Heard::Error { error, cause } if error.eq_ignore_ascii_case(REJECTED) => {
            Ok(in_time(Verdict::Rejected, false, None, Some(format!("the task was failed: {error} {cause}"))))
        }
        Heard::Error { error, cause } => {
            Ok(in_time(Verdict::Unasked, by_terms, None, Some(format!("{error}: {cause}"))))
        }
    }
}

fn cut(text: &str) -> String {
    one_line(text, TEXT_MOST)
}

/// The answer in a sentence.
pub fn in_words(answer: &Answer, terms: Option<ApprovalTerms>) -> String {
    let by = answer.by.as_deref().unwrap_or("somebody who gave no name");
    let reason = answer.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let then = if answer.contain { "it is contained" } else { "it stays on the network" };
    match answer.verdict {
        Verdict::Approved => format!("approved by {by}{reason}"),
        Verdict::Rejected => format!("rejected by {by}{reason}"),
        Verdict::Expired => {
            let minutes = terms.unwrap_or_default().minutes;
            format!("nobody answered within {minutes} minutes, and the policy says what follows: {then}")
        }
        Verdict::Unasked => format!("no approval could be had{reason}, and the policy says what follows: {then}"),
    }
}

/// What containment would do, of the plans that were made for the question.
pub fn planned(reports: &[StageReport]) -> Vec<&ActionRecord> {
    let of = |stage: Stage| {
        let plans = reports.iter().filter(move |r| r.stage == stage && r.status == StageStatus::Planned);
        plans.max_by_key(|r| r.attempt).into_iter().flat_map(|r| &r.actions)
    };
    of(Stage::Detach).chain(of(Stage::Quarantine)).collect()
}

/// What follows the plan: which interfaces go into a group that is yet to be made, and what is read from the host.
fn afterwards(case: &Case, planned: &[&ActionRecord]) -> Vec<String> {
    let mut words = Vec::new();
    if !planned.iter().any(|record| matches!(record.action, Action::Quarantine { .. })) {
        words.extend(case.baseline.instance.interfaces.iter().map(|interface| {
            let groups: Vec<&str> = interface.groups.iter().map(|group| group.as_str()).collect();
            format!(
                "swap the security groups of {} ({}) for the quarantine group alone",
                interface.interface_id,
                groups.join(", ")
            )
        }));
    }
    words.push("read volatile data on the host through Systems Manager".to_owned());
    if case.policy.memory.choice == MemoryChoice::Acquire {
        words.push("acquire its memory through Systems Manager".to_owned());
    }
    if case.policy.credentials == Credentials::Revoke {
        words.push("take its role away, and deny the sessions that the role gave before".to_owned());
    }
    words
}

/// The question.
pub fn question(case: &Case, planned: &[&ActionRecord], region: &str, now: Timestamp) -> Notice {
    let instance = &case.instance;
    let terms = case.decided.approval.unwrap_or_default();
    let why = match &case.source {
        Source::Finding { finding_type, severity, title, .. } => format!(
            "Finding: {}, severity {}\n{}",
            finding_type.as_deref().map_or_else(|| "of no type".to_owned(), cut),
            severity.map_or_else(|| "not given".to_owned(), |severity| severity.to_string()),
            title.as_deref().map_or_else(String::new, cut),
        ),
        Source::Request => {
            format!("Requested: {}", case.reason.as_deref().map_or_else(|| "no reason given".to_owned(), cut))
        }
    };
    let plan: String = planned
        .iter()
        .map(|record| match &record.error {
            Some(error) => cut(&format!("{} - {}", record.words, error.message)),
            None => cut(&record.words),
        })
        .chain(afterwards(case, planned))
        .map(|words| format!("  - {words}\n"))
        .collect();
    let until = now + chrono::TimeDelta::minutes(i64::from(terms.minutes));
    let without = match terms.on_expiry {
        OnExpiry::Contain => "the instance is contained",
        OnExpiry::Preserve => "the instance stays on the network, protected and preserved",
    };
    let send = |answer: &str| {
        format!(
            "aws stepfunctions send-task-success --region {region} --task-token \"$(aws s3 cp s3://{}/{} -)\" --task-output '{answer}'",
            case.bucket,
            token_key(case)
        )
    };
    let id = &case.case_id;
    let body = format!(
        "Shall instance {} ({}) in account {}, region {} be contained?\n\n{why}\n{}\n\n\
         It is being protected from termination and its disks are preserved; it is still on the network.\n\n\
         If you approve:\n{plan}\n\
         An answer is waited for until {} UTC. Without one {without}.\n\n\
         To approve:\n  stasis approve {id}\n\
         To reject, which puts the instance back as it was:\n  stasis reject {id} --reason \"WHY\"\n\n\
         Without the command line:\n{}\n{}\n\n\
         Case {id}, ticket {}\n",
        instance.instance_id,
        case.baseline.instance.name().map_or_else(|| "without a name".to_owned(), cut),
        instance.account,
        instance.region,
        triage::decision_in_words(&case.decided),
        until.format("%Y-%m-%d %H:%M"),
        send("{\"decision\":\"approve\",\"by\":\"YOUR NAME\"}"),
        send("{\"decision\":\"reject\",\"by\":\"YOUR NAME\",\"reason\":\"WHY\"}"),
        case.ticket,
    );
    Notice {
        subject: subject(&format!("Stasis ASKS: contain {}? ({})", instance.instance_id, case.ticket)),
        body,
        case: Some(case.case_id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use serde_json::json;

    const PRESERVE: ApprovalTerms = ApprovalTerms { minutes: 60, on_expiry: OnExpiry::Preserve };
    const CONTAIN: ApprovalTerms = ApprovalTerms { minutes: 60, on_expiry: OnExpiry::Contain };

    fn error(name: &str) -> Heard {
        serde_json::from_value(json!({"error": {"Error": name, "Cause": "c"}})).expect("an error")
    }

    #[test]
    fn only_an_approval_or_the_policy_contains() {
        let said = |value: Value| Heard::Answer(value);
        for (heard, terms, verdict, contain) in [
            (said(json!({"decision": "approve", "by": "ada"})), PRESERVE, Verdict::Approved, true),
            (said(json!({"decision": "reject", "by": "ada", "reason": "a test"})), CONTAIN, Verdict::Rejected, false),
            (error("States.Timeout"), PRESERVE, Verdict::Expired, false),
            (error("States.Timeout"), CONTAIN, Verdict::Expired, true),
            (error("Denied"), PRESERVE, Verdict::Unasked, false),
            (error("Lambda.Unknown"), CONTAIN, Verdict::Unasked, true),
            (error("Rejected"), CONTAIN, Verdict::Rejected, false),
            (error("rejected"), CONTAIN, Verdict::Rejected, false),
            // So a function ends that broke.
            (error("Sandbox.Timedout"), CONTAIN, Verdict::Unasked, true),
            (error("Runtime.ExitError"), CONTAIN, Verdict::Unasked, true),
            (error("Runtime.InitError"), PRESERVE, Verdict::Unasked, false),
            (error("&'static str"), PRESERVE, Verdict::Unasked, false),
            (error("NotOnMyWatch"), CONTAIN, Verdict::Unasked, true),
            (error(""), CONTAIN, Verdict::Unasked, true),
        ] {
            let answer = understand(&heard, terms, 1, sample::time()).expect("understood");
            assert_eq!((answer.verdict, answer.contain), (verdict, contain), "{heard:?}");
            assert!(!in_words(&answer, Some(terms)).is_empty());
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_asked_for_again_but_not_for_ever() {
        for value in [
            json!({}),
            json!("approve"),
            json!({"decision": "Approve"}),
            json!({"decision": "yes"}),
            json!({"decision": "approve", "unless": "x"}),
            json!(null),
        ] {
            let heard = Heard::Answer(value);
            assert!(understand(&heard, CONTAIN, 1, sample::time()).is_err(), "{heard:?}");
            let last = understand(&heard, PRESERVE, ASKED_MOST, sample::time()).expect("an end");
            assert_eq!((last.verdict, last.contain), (Verdict::Unasked, false));
        }
    }

    proptest! {
        /// Whatever is sent: contained only by the word approve, and texts stay short and on one line.
        #[test]
        fn no_other_answer_approves(word in "[a-zA-Z]{0,8}", by in ".{0,400}", asked in 1_u32..5) {
            let heard = Heard::Answer(json!({"decision": word, "by": by}));
            if let Ok(answer) = understand(&heard, PRESERVE, asked, sample::time()) {
                prop_assert_eq!(answer.contain, word == "approve");
                prop_assert!(answer.by.is_none_or(|by| by.chars().count() <= TEXT_MOST && !by.chars().any(char::is_control)));
            }
        }

        /// Whatever ends the task: nothing is put back unless somebody said no.
        #[test]
        fn no_other_error_rejects(name in "[A-Za-z.]{0,20}|Rejected.|.Rejected|Denied") {
            let answer = understand(&error(&name), PRESERVE, 1, sample::time()).expect("understood");
            prop_assert_eq!(answer.verdict == Verdict::Rejected, name.eq_ignore_ascii_case("rejected"));
            prop_assert!(!answer.contain);
        }
    }

    #[test]
    fn the_question_says_what_would_be_done_and_how_to_answer() {
        let mut case = sample::case();
        case.decided.approval = Some(PRESERVE);
        let asked = question(&case, &[], "eu-central-1", sample::time());
        for part in [
            case.instance.instance_id.as_str(),
            "2026-11-23 07:11 UTC",
            "send-task-success --region eu-central-1",
            "s3://evidence/cases/case-20261123T061126Z-1f2e3d4c/approval/token",
            "\"decision\":\"approve\"",
            "swap the security groups of eni-",
            "\"decision\":\"reject\"",
            "stays on the network, protected and preserved",
        ] {
            assert!(asked.body.contains(part), "{part}: {}", asked.body);
        }
    }
}
