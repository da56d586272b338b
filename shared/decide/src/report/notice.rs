//! The message to the people on call: short, plain, and true at the moment it is sent.

use super::{Conclusion, Material};
use crate::text::one_line;
use crate::triage;
use stasis_model::case::{Decided, InstanceRef};
use stasis_model::outcome::RunStatus;
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
}

/// What to tell, now.
pub fn notice(material: &Material<'_>, conclusion: &Conclusion) -> Notice {
    let case = material.case;
    let instance = &case.instance;
    let headline = match (conclusion.status, conclusion.pending) {
        (RunStatus::Contained, true) => "CONTAINED, evidence pending",
        (RunStatus::Contained, false) => "CONTAINED",
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
            format!("Cut off {:.1} s after {event}.\n", (at - since).as_seconds_f64())
        })
        .unwrap_or_default();
    let body = format!(
        "{headline}: instance {} in account {}, region {}.\n{took}\n{}\n\nCase {}, ticket {}\nReport: s3://{}/{}{}\n",
        instance.instance_id,
        instance.account,
        instance.region,
        conclusion.reason,
        case.case_id,
        case.ticket,
        case.bucket,
        case.prefix(),
        super::NAME,
    );
    Notice { subject, body }
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
    Notice { subject: subject(&format!("Stasis NOTICE: {id_of} {kind}")), body }
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
    fn the_subject_always_fits_sns() {
        let mut case = worked();
        case.ticket = "事".repeat(128).parse().expect("ticket");
        let material = Material { case: &case, reports: &[], last: true, now: sample::time() };
        let notice = notice(&material, &conclude(&material));
        assert!(notice.subject.len() < 100 && notice.subject.is_ascii(), "{}", notice.subject);
        assert!(notice.body.contains(case.case_id.as_str()));
    }
}
