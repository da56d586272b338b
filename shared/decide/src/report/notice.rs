//! The messages to the people on call: short, plain, and true at the moment they are sent.

use super::{Conclusion, Material, words};
use crate::text::one_line;
use crate::triage;
use serde_json::json;
use stasis_model::case::{Case, Decided, InstanceRef, Language};
use stasis_model::check::Check;
use stasis_model::ids::{CaseId, Region};
use stasis_model::open_cases::Standing;
use stasis_model::outcome::RunStatus;
use stasis_model::ready::{Effect, Readiness, ReadyCheck, Verdict};
use stasis_model::stage::StageOutcome;
use stasis_model::trigger::Source;

/// SNS takes subjects of fewer than 100 ASCII characters without line breaks
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).
const SUBJECT_MOST: usize = 99;

/// The longest foreign text of a message, in characters.
const TEXT_MOST: usize = 300;

/// A message for the notification topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
    /// The case that it is about.
    pub case: Option<CaseId>,
}

/// The longest title and text of a message in a chat, in characters
/// (<https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>).
const TITLE_MOST: usize = 250;
const DESCRIPTION_MOST: usize = 8_000;

impl Notice {
    /// The same for chat channels, as Amazon Q Developer in chat applications (AWS Chatbot) renders it: the messages of one
    /// case in one thread.
    pub fn chat(&self) -> String {
        let mut message = json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": calm(&self.subject, TITLE_MOST),
                "description": calm(&self.body, DESCRIPTION_MOST),
            },
        });
        if let (Some(case), Some(fields)) = (&self.case, message.as_object_mut()) {
            fields.insert("metadata".to_owned(), json!({"threadId": case, "eventType": "Stasis Case"}));
        }
        message.to_string()
    }
}

/// A text that calls nobody and links nowhere by itself in a chat: parts of it an attacker may have chosen.
fn calm(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| match c {
        '<' => '‹',
        '>' => '›',
        '@' => '＠',
        '`' => '\'',
        '[' => '(',
        ']' => ')',
        c => c,
    });
    plain.take(most).collect()
}

/// Where the console shows an execution, and an object of the evidence bucket.
fn links(case: &Case, home: &Region) -> String {
    let domain = match home.partition() {
        "aws-cn" => "console.amazonaws.cn",
        "aws-us-gov" => "console.amazonaws-us-gov.com",
        _ => "console.aws.amazon.com",
    };
    let execution = case.execution.as_ref().filter(|arn| arn.starts_with("arn:")).map_or_else(String::new, |arn| {
        format!("Execution: https://{home}.{domain}/states/home?region={home}#/v2/executions/details/{arn}\n")
    });
    format!(
        "{execution}Case file: https://{home}.{domain}/s3/buckets/{}?region={home}&prefix={}\n",
        case.bucket,
        case.prefix()
    )
}

/// What to tell when a case has been opened, before anything is done.
pub fn notice_of_opening(case: &Case, home: &Region) -> Notice {
    let instance = &case.instance;
    let name =
        case.baseline.instance.name().map_or_else(String::new, |name| format!(" ({})", one_line(name, TEXT_MOST)));
    let over = case.taken_over.as_ref().map_or_else(String::new, |over| {
        format!("Another run takes it over, because {}.\n", one_line(&over.why, TEXT_MOST))
    });
    let word = if case.taken_over.is_some() { "TAKEN OVER" } else { "OPENED" };
    let body = format!(
        "Case {} is open for instance {}{name} in account {}, region {}, under ticket {}.\n{over}{}\n\n{}Follow it: stasis watch {0}\n",
        case.case_id,
        instance.instance_id,
        instance.account,
        instance.region,
        case.ticket,
        one_line(&triage::decision_in_words(&case.decided), TEXT_MOST),
        links(case, home),
    );
    Notice {
        subject: subject(&format!("Stasis {word}: {} ({})", instance.instance_id, case.ticket)),
        body,
        case: Some(case.case_id.clone()),
    }
}

/// What to tell of an open case whose instance is not as AWS confirmed it any more, or that cannot be looked at. None where
/// there is nothing to tell.
pub fn notice_of_open_case(case: &Case, standing: &Standing, home: &Region) -> Option<Notice> {
    let instance = &case.instance;
    let (id, case_id) = (&instance.instance_id, &case.case_id);
    let place = format!("--account {} --instance-region {}", instance.account, instance.region);
    let (word, what) = match standing {
        Standing::AsVerified | Standing::Unverified => return None,
        Standing::Undone { changed, verified_at, is_to_be_cut_off } => {
            let line = |check: &Check| {
                let observed = one_line(&check.observed, TEXT_MOST);
                format!("- {}: expected {}; it is: {observed}\n", check.name, check.expected)
            };
            let lines: String = changed.iter().map(line).collect();
            let again = if *is_to_be_cut_off {
                format!("To hold it again, in the same case: stasis contain {id} {place}")
            } else {
                "The case leaves it on the network: mend it by hand (stasis contain would cut it off)".to_owned()
            };
            let since = verified_at.format("%Y-%m-%d %H:%M UTC");
            let what = format!(
                "is not as AWS confirmed it on {since}. What is different:\n{lines}\nStasis has changed nothing now. Who did it is in CloudTrail.\n{again}\n\
                 If it was meant: stasis release {case_id} --reason \"...\"\nThis is told once a day until it is mended."
            );
            ("UNDONE", what)
        }
        Standing::Gone => {
            let what = "does not exist any more, or is being terminated. There is nothing left to hold; what was kept of it stays, and is in the report.\nWho ended it is in CloudTrail. This is told once.".to_owned();
            ("GONE", what)
        }
        Standing::Unknown { why } => {
            let why = one_line(why, TEXT_MOST);
            let what = format!(
                "cannot be looked at, so that nobody knows whether it is still held:\n- {why}\n\nThis is told once a day until it is mended."
            );
            ("NOT SEEN", what)
        }
    };
    let body = format!(
        "Instance {id} in account {}, region {}, of open case {case_id} {what}\nTicket {}.\n{}",
        instance.account,
        instance.region,
        case.ticket,
        links(case, home),
    );
    let title = format!("Stasis {word}: {id} ({})", case.ticket);
    Some(Notice { subject: subject(&title), body, case: Some(case_id.clone()) })
}

/// How many instances a message on readiness names; the others are in what was written down.
const INSTANCES_NAMED: usize = 20;

/// What to tell of readiness, which was written down at `location`.
pub fn notice_of_readiness(said: &Readiness, location: &str) -> Notice {
    let lacking: Vec<_> = said.instances.iter().filter(|one| one.verdict != Verdict::Ready).collect();
    let gap = |check: &ReadyCheck| {
        let remedy = check.remedy.as_ref().map_or_else(String::new, |remedy| format!(" -> {remedy}"));
        format!("{}: {}{}", check.check.name, one_line(&check.check.observed, TEXT_MOST), one_line(&remedy, TEXT_MOST))
    };
    let gaps = |checks: &[ReadyCheck]| -> Vec<String> {
        checks.iter().filter(|c| !c.check.passed() && c.effect != Effect::Advice).map(gap).collect()
    };
    let mut body = format!(
        "{} of {} running instances in account {}, region {}, could be contained and captured in full now.\n",
        said.instances.len() - lacking.len(),
        said.instances.len() + said.unasked,
        said.account,
        said.region
    );
    if said.unasked > 0 {
        body.push_str(&format!("{} were not looked at for lack of time.\n", said.unasked));
    }
    body.extend(gaps(&said.place).iter().map(|gap| format!("- for all of them: {gap}\n")));
    for one in lacking.iter().take(INSTANCES_NAMED) {
        let name = one.name.as_ref().map_or_else(String::new, |name| format!(" ({})", one_line(name, TEXT_MOST)));
        body.push_str(&format!("\n{}{name}: {}\n", one.instance_id, one.verdict));
        body.extend(gaps(&one.checks).iter().map(|gap| format!("- {gap}\n")));
    }
    if lacking.len() > INSTANCES_NAMED {
        body.push_str(&format!("\nand {} more\n", lacking.len() - INSTANCES_NAMED));
    }
    body.push_str(&format!("\nAll of it: {location}\nLook again: stasis ready --all\n"));
    let title = format!("Stasis READINESS: {}, {} of {} instances", said.verdict, lacking.len(), said.instances.len());
    let title =
        if lacking.is_empty() { format!("Stasis READINESS: {}", said.verdict) } else { title + " lack something" };
    Notice { subject: subject(&title), body, case: None }
}

/// What to tell when a stage has failed after the first report.
pub fn notice_of_failure(case: &Case, outcome: &StageOutcome, home: &Region) -> Notice {
    let id = &case.instance.instance_id;
    let failures: String = outcome
        .failures
        .iter()
        .filter(|failure| failure.message != outcome.summary)
        .map(|failure| format!("- {}\n", one_line(&failure.message, TEXT_MOST)))
        .collect();
    let body = format!(
        "Stage {} of case {} for instance {id} ended {}: {}\n{}\nThe other stages go on. Ticket {}.\n{}See: stasis show {1}\n",
        outcome.stage,
        case.case_id,
        outcome.status,
        one_line(&outcome.summary, TEXT_MOST),
        failures,
        case.ticket,
        links(case, home),
    );
    Notice {
        subject: subject(&format!("Stasis STAGE FAILED: {} of {id} ({})", outcome.stage, case.ticket)),
        body,
        case: Some(case.case_id.clone()),
    }
}

/// What to tell, now.
pub fn notice(material: &Material<'_>, conclusion: &Conclusion, home: &Region) -> Notice {
    let case = material.case;
    let instance = &case.instance;
    let headline = match (conclusion.status, conclusion.pending) {
        (RunStatus::Contained, true) => "CONTAINED, evidence pending",
        (RunStatus::Contained, false) => "CONTAINED, evidence complete",
        (RunStatus::DryRun, _) => "DRY RUN",
        (RunStatus::Released, _) => "RELEASED",
        (RunStatus::Rejected, _) => "REJECTED, put back",
        _ if material.is_release() => "RELEASE PARTIAL",
        _ => match conclusion.cut_off {
            Some(true) => "PARTIAL, cut off",
            Some(false) => "PARTIAL, NOT CUT OFF",
            None => "PARTIAL, NOT KNOWN WHETHER CUT OFF",
        },
    };
    let subject = subject(&format!("Stasis {headline}: {} ({})", instance.instance_id, case.ticket));
    let took = material
        .contained_at()
        .filter(|_| !material.is_release())
        .map(|at| {
            let (since, event) = material.allowed_since();
            let event = words::since(event, Language::English);
            format!("Cut off {:.1} s after {event}.\n", (at - since).as_seconds_f64())
        })
        .unwrap_or_default();
    let body = format!(
        "{headline}: instance {} in account {}, region {}.\n{took}\n{}\n\nCase {}, ticket {}\nReport: s3://{}/{}{}\n{}",
        instance.instance_id,
        instance.account,
        instance.region,
        conclusion.reason,
        case.case_id,
        case.ticket,
        case.bucket,
        case.prefix(),
        super::NAME,
        links(case, home),
    );
    Notice { subject, body, case: Some(case.case_id.clone()) }
}

/// What to tell of a finding that leads to no case.
pub fn notice_of_finding(source: &Source, instance: &InstanceRef, name: Option<&str>, decided: &Decided) -> Notice {
    let (kind, severity, title, id) = match source {
        Source::Finding { finding_type, severity, title, id } => {
            (finding_type.as_deref(), *severity, title.as_deref(), id.as_deref())
        }
        Source::Request => (None, None, None, None),
    };
    let id_of = &instance.instance_id;
    let plain = |text: Option<&str>| text.map_or_else(|| "not given".to_owned(), |text| one_line(text, TEXT_MOST));
    let body = format!(
        "A finding names instance {id_of} ({}) in account {}, region {}. Nothing was done to the instance.\n\n\
         Type: {}\nSeverity: {}\nTitle: {}\nFinding: {}\n\n{}\n\n\
         To contain the instance, start stasis-contain with {{\"instanceId\": \"{id_of}\"}}.\n",
        plain(name),
        instance.account,
        instance.region,
        plain(kind),
        severity.map_or_else(|| "not given".to_owned(), |severity| severity.to_string()),
        plain(title),
        plain(id),
        triage::no_case(decided, id_of),
    );
    let kind = kind.unwrap_or("a finding");
    Notice { subject: subject(&format!("Stasis NOTICE: {id_of} {kind}")), body, case: None }
}

/// A subject as SNS takes it.
pub(crate) fn subject(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(SUBJECT_MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::conclude;
    use crate::report::tests::worked;
    use crate::sample;

    #[test]
    fn an_open_case_that_is_held_is_no_news_and_what_was_undone_is_named_with_what_to_do() {
        let (case, home) = (sample::case(), sample::case().instance.region);
        let about = |standing: &Standing| notice_of_open_case(&case, standing, &home);
        assert!(about(&Standing::AsVerified).is_none() && about(&Standing::Unverified).is_none());
        let observed = format!("eni-1 in sg-production\nStasis RELEASED: {}", "x".repeat(5000));
        let undone = Standing::Undone {
            changed: vec![Check::of(
                "every interface in the quarantine group only",
                "the quarantine group",
                false,
                observed,
            )],
            verified_at: case.opened_at,
            is_to_be_cut_off: true,
        };
        let said = about(&undone).expect("a notice");
        let id = case.instance.instance_id.as_str();
        assert!(said.subject.starts_with(&format!("Stasis UNDONE: {id}")), "{}", said.subject);
        for part in [
            "sg-production",
            "Stasis has changed nothing",
            &format!("stasis contain {id}"),
            &format!("stasis release {}", case.case_id),
        ] {
            assert!(said.body.contains(part), "{part}: {}", said.body);
        }
        assert!(!said.body.contains("\nStasis RELEASED") && said.body.len() < 2500, "{}", said.body);
        assert_eq!(said.case, Some(case.case_id.clone()));
        let Standing::Undone { changed, verified_at, .. } = undone else { panic!("undone") };
        let said = about(&Standing::Undone { changed, verified_at, is_to_be_cut_off: false }).expect("a notice");
        assert!(said.body.contains("stasis contain would cut it off"), "{}", said.body);
        let gone = about(&Standing::Gone).expect("a notice");
        assert!(gone.subject.contains("GONE") && !gone.body.contains("stasis contain"), "{gone:?}");
        let unseen =
            about(&Standing::Unknown { why: "sts:AssumeRole failed: AccessDenied".to_owned() }).expect("a notice");
        assert!(unseen.subject.contains("NOT SEEN") && unseen.body.contains("AccessDenied"), "{unseen:?}");
    }

    #[test]
    fn the_subject_always_fits_sns() {
        let mut case = worked();
        case.ticket = "事".repeat(128).parse().expect("ticket");
        let material = Material { case: &case, reports: &[], last: true, now: sample::time() };
        let notice = notice(&material, &conclude(&material), &case.instance.region);
        assert!(notice.subject.len() < 100 && notice.subject.is_ascii(), "{}", notice.subject);
        assert!(notice.body.contains(case.case_id.as_str()));
    }

    #[test]
    fn a_chat_gets_one_thread_for_a_case_and_nobody_is_called_by_foreign_text() {
        let mut case = worked();
        case.baseline.instance.tags.insert("Name".to_owned(), "<!channel> <https://evil|login> @here `x`".to_owned());
        let home = case.instance.region.clone();
        let chat = notice_of_opening(&case, &home).chat();
        let message: serde_json::Value = serde_json::from_str(&chat).expect("JSON");
        assert_eq!((&message["version"], &message["source"]), (&json!("1.0"), &json!("custom")));
        assert_eq!(message["metadata"]["threadId"], json!(case.case_id));
        let text = message["content"]["description"].as_str().expect("a text");
        assert!(!text.contains(['<', '>', '@', '`']), "{text}");
        assert!(text.contains("https://") && text.contains(&format!("stasis watch {}", case.case_id)), "{text}");
    }

    #[test]
    fn a_stage_that_failed_is_told_with_why_and_what_goes_on() {
        let case = worked();
        let mut outcome =
            crate::report::tests::outcome(stasis_model::stage::Stage::Memory, stasis_model::stage::StageStatus::Failed);
        outcome.failures = vec![stasis_model::stage::Failure::lasting("GivenUp", "it never came\u{1b}[2J to an end")];
        let notice = notice_of_failure(&case, &outcome, &case.instance.region);
        assert!(notice.subject.starts_with("Stasis STAGE FAILED: memory of i-"), "{}", notice.subject);
        assert!(notice.body.contains("it never came [2J to an end") && notice.body.contains("The other stages go on"));
    }
}
