//! Report: what a run came to. The status follows from what stages and checks say and from nothing else,
//! so that it cannot claim more than was read back.

mod html;
mod notice;

pub use html::html;
pub(crate) use notice::subject;
pub use notice::{Notice, notice, notice_of_failure, notice_of_finding, notice_of_opening, notice_of_readiness};

use crate::ticket::Progress;
use crate::{approval, policy, replicate, verify};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::approval::{Answer, Verdict};
use stasis_model::case::{Case, Mode};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::evidence::Evidence;
use stasis_model::memory::MemoryChoice;
use stasis_model::outcome::{InstanceResult, RunResult, RunStatus};
use stasis_model::policy::Decision;
use stasis_model::stage::{FileRef, Outcome, Stage, StageReport, StageStatus};
use std::collections::{BTreeMap, BTreeSet};

/// The report's name in the case's folder.
pub const NAME: &str = "report.html";

/// What the run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// How it ended.
    pub status: RunStatus,
    /// Why, in a sentence.
    pub reason: String,
    /// Whether evidence is still to come.
    pub pending: bool,
    /// Whether the instance is off the network; none where that is not known.
    pub cut_off: Option<bool>,
}

/// Everything that a report is made of.
#[derive(Debug, Clone)]
pub struct Material<'a> {
    /// The case, with what each stage answered.
    pub case: &'a Case,
    /// Every report of every stage, oldest first.
    pub reports: &'a [StageReport],
    /// Whether the run is over.
    pub last: bool,
    /// When it is written.
    pub now: Timestamp,
}

impl Material<'_> {
    /// The checklist: that of the release where there was one, or else the one that verify answered last.
    pub fn checklist(&self) -> &[Check] {
        let by = if self.is_release() { Stage::Release } else { Stage::Verify };
        self.case.stages.get(&by).map_or(&[], |outcome| outcome.checklist.as_slice())
    }

    /// Whether the case was released, or somebody tried to.
    pub fn is_release(&self) -> bool {
        self.case.stages.contains_key(&Stage::Release)
    }

    /// What people answered, where they were asked.
    pub fn approval(&self) -> Option<&Answer> {
        self.case.stages.get(&Stage::Approval)?.answer.as_ref()
    }

    /// What was found beside the instance: checks that say nothing of the containment, and what there is to know.
    pub fn beyond(&self) -> Option<(&[Check], &[String])> {
        self.latest(Stage::Scope).map(|report| (report.checks.as_slice(), report.notes.as_slice()))
    }

    /// The newest report of a stage.
    fn latest(&self, stage: Stage) -> Option<&StageReport> {
        self.reports.iter().filter(|r| r.stage == stage).max_by_key(|r| r.attempt)
    }

    /// When the last network interface went into quarantine, as far as a report says so.
    pub fn contained_at(&self) -> Option<Timestamp> {
        self.latest(Stage::Quarantine).filter(|r| r.status == StageStatus::Done)?;
        let quarantines = self.reports.iter().filter(|r| r.stage == Stage::Quarantine);
        let swaps = quarantines.clone().flat_map(|r| &r.actions).filter(|record| {
            matches!(record.action, Action::Quarantine { .. })
                && matches!(record.outcome, Outcome::Applied | Outcome::AlreadySo)
        });
        swaps.map(|record| record.at).max().or_else(|| quarantines.map(|r| r.finished_at).min())
    }

    /// Since when containment was allowed, and what happened then.
    pub(crate) fn allowed_since(&self) -> (Timestamp, &'static str) {
        match self.approval() {
            Some(answer) if answer.contain && answer.verdict == Verdict::Approved => (answer.at, "the approval"),
            Some(answer) if answer.contain => (answer.at, "the time for an answer was over"),
            _ => (self.case.opened_at, "the case was opened"),
        }
    }

    /// Every piece of evidence, the newest word on each.
    fn evidence(&self) -> Vec<&Evidence> {
        let mut by_id: BTreeMap<(u8, &str), &Evidence> = BTreeMap::new();
        for evidence in self.reports.iter().flat_map(|r| &r.evidence) {
            by_id.insert((evidence.kind as u8, evidence.id.as_str()), evidence);
        }
        by_id.into_values().collect()
    }
}

/// Takes the newest report of each stage into the case that the case itself says nothing of, because the call was made by hand.
/// What the state machine brought is of the run that reports: another run, which was outdone, may have written newer ones.
pub fn take_in<'a>(case: &mut Case, reports: impl IntoIterator<Item = (FileRef, &'a StageReport)>) {
    // What people answered, or a release did, before another run took the case over says nothing of that run.
    let since = case.taken_over.as_ref().map(|over| over.at);
    let is_past = |report: &StageReport| {
        matches!(report.stage, Stage::Approval | Stage::Release)
            && since.is_some_and(|since| report.finished_at < since)
    };
    let brought: BTreeSet<Stage> = case.stages.keys().copied().collect();
    for (file, report) in reports.into_iter().filter(|(_, r)| !is_past(r) && !brought.contains(&r.stage)) {
        let newer = case.stages.get(&report.stage).is_none_or(|known| known.attempt < report.attempt);
        if newer {
            case.stages.insert(report.stage, report.outcome(Some(file)));
        }
    }
}

/// The stages whose work a run of this case needs.
pub fn expected_stages(case: &Case) -> Vec<Stage> {
    let contained = [Stage::Detach, Stage::Quarantine];
    let mut stages = vec![Stage::Protect];
    stages.extend(contained.into_iter().filter(|_| case.contains()));
    stages.push(Stage::Capture);
    stages.extend((case.policy.memory.choice == MemoryChoice::Acquire).then_some(Stage::Memory));
    stages.push(Stage::Preserve);
    stages.extend(replicate::is_wanted(case).then_some(Stage::Replicate));
    stages.extend((!case.decided.playbooks.is_empty()).then_some(Stage::Scope));
    stages.push(Stage::Verify);
    stages
}

/// How many problems a reason names; all of them are in the report.
const PROBLEMS_NAMED: usize = 6;

/// What the run came to.
pub fn conclude(material: &Material<'_>) -> Conclusion {
    let case = material.case;
    let stages = &case.stages;
    let to_come = |stage: Stage| !material.last && stage == Stage::Replicate;
    let copies_to_come = replicate::is_wanted(case) && !stages.contains_key(&Stage::Replicate);
    let pending = !material.last && (copies_to_come || stages.values().any(|o| o.status == StageStatus::Waiting));
    if material.is_release() {
        return release(material);
    }
    if case.is_dry_run() {
        return dry_run(material);
    }
    let mut problems = Vec::new();
    let triage = stages.get(&Stage::Triage).map_or(&[][..], |outcome| outcome.failures.as_slice());
    problems.extend(triage.iter().filter(|f| f.code == policy::UNUSABLE).map(|f| format!("triage: {}", f.message)));
    problems.extend(
        stages
            .get(&Stage::Approval)
            .and_then(|outcome| outcome.failures.first())
            .map(|f| format!("approval: {}", f.message)),
    );
    for stage in &expected_stages(case) {
        match stages.get(stage) {
            // Copies begin once the snapshots are whole.
            None if to_come(*stage) => {}
            None => problems.push(format!("{stage} did not run")),
            Some(outcome) if matches!(outcome.status, StageStatus::Incomplete | StageStatus::Failed) => {
                let why = outcome.failures.first().map_or(outcome.summary.as_str(), |f| f.message.as_str());
                problems.push(format!("{stage}: {why}"));
            }
            // A wait that nobody waits for any more is not success.
            Some(outcome) if outcome.status == StageStatus::Waiting && material.last && *stage != Stage::Verify => {
                problems.push(format!("{stage} was still waiting"));
            }
            // It waits for the rest; what failed has failed.
            Some(outcome) if outcome.status == StageStatus::Waiting => {
                problems.extend(outcome.failures.first().map(|f| format!("{stage}: {}", f.message)));
            }
            Some(_) => {}
        }
    }
    let checklist = material.checklist();
    if checklist.is_empty() {
        problems.push("nothing was verified".to_owned());
    }
    let may_still_come = |check: &Check| pending && check.status == CheckStatus::Unknown;
    for check in checklist.iter().filter(|c| !c.passed()).filter(|c| !may_still_come(c)) {
        problems.push(format!("{} {}: {}", check.status, check.name, check.observed));
    }
    let cut_off = if case.mode == Mode::Preserve { Some(false) } else { verify::is_cut_off(checklist) };
    if case.mode == Mode::Preserve {
        let why = match material.approval() {
            Some(answer) => approval::in_words(answer, case.decided.approval),
            None if case.decided.decision == Decision::Ask => {
                "nobody could be asked for approval, so it was not contained".to_owned()
            }
            None => "mode preserve asked for no containment".to_owned(),
        };
        problems.insert(0, why);
    }
    let status = if problems.is_empty() { RunStatus::Contained } else { RunStatus::Partial };
    let passed = checklist.iter().filter(|c| c.passed()).count();
    let reason = if problems.is_empty() && pending {
        format!(
            "{} is protected and cut off; AWS confirms {passed} of {} checks so far, the others wait for evidence",
            case.instance.instance_id,
            checklist.len()
        )
    } else if problems.is_empty() {
        format!(
            "{} is protected, cut off and preserved, and AWS confirms all {} checks",
            case.instance.instance_id,
            checklist.len()
        )
    } else {
        // The first thing that anyone needs to know.
        let network = match cut_off {
            Some(true) => "the instance is cut off from the network, but",
            Some(false) => "the instance is NOT cut off from the network",
            None => "it is NOT KNOWN whether the instance is cut off from the network",
        };
        let more = problems.len().saturating_sub(PROBLEMS_NAMED);
        let mut named: Vec<String> = problems.into_iter().take(PROBLEMS_NAMED).collect();
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        format!("{network}: {}", named.join("; "))
    };
    Conclusion { status, reason, pending, cut_off }
}

/// What the ticket is told of a run that ended like this; nothing of one that held no instance.
pub fn progress(status: RunStatus) -> Option<Progress> {
    match status {
        RunStatus::Contained => Some(Progress::Contained),
        RunStatus::Partial => Some(Progress::Partial),
        RunStatus::Rejected => Some(Progress::Rejected),
        RunStatus::Released => Some(Progress::Released),
        RunStatus::DryRun | RunStatus::Ignored | RunStatus::Duplicate => None,
    }
}

/// What a release came to: RELEASED only when nothing is left to put back and AWS confirms it.
fn release(material: &Material<'_>) -> Conclusion {
    let id = &material.case.instance.instance_id;
    let outcome = material.case.stages.get(&Stage::Release);
    let mut problems: Vec<String> =
        outcome.map(|o| o.failures.iter().map(|f| f.message.clone()).collect()).unwrap_or_default();
    match outcome.map(|o| o.status) {
        Some(StageStatus::Done | StageStatus::Skipped) => {}
        Some(StageStatus::Waiting) => problems.push("it was still waiting".to_owned()),
        Some(_) if problems.is_empty() => problems.push("it did not come to its end".to_owned()),
        _ => {}
    }
    let checks = material.checklist();
    if checks.is_empty() {
        problems.push("nothing was verified".to_owned());
    }
    for check in checks.iter().filter(|c| !c.passed()) {
        problems.push(format!("{} {}: {}", check.status, check.name, check.observed));
    }
    let cut_off = None;
    if problems.is_empty() {
        let reason = format!(
            "{id} is as it was before, and AWS confirms all {} checks; the evidence is kept, and a new finding opens a new case",
            checks.len()
        );
        return match material.approval().filter(|answer| answer.verdict == Verdict::Rejected) {
            Some(answer) => {
                let words = approval::in_words(answer, material.case.decided.approval);
                let reason = format!("{words}; {reason}");
                Conclusion { status: RunStatus::Rejected, reason, pending: false, cut_off }
            }
            None => Conclusion { status: RunStatus::Released, reason, pending: false, cut_off },
        };
    }
    let more = problems.len().saturating_sub(PROBLEMS_NAMED);
    let mut named: Vec<String> = problems.into_iter().take(PROBLEMS_NAMED).collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let reason =
        format!("{id} is not wholly released; once this is mended, run the release again: {}", named.join("; "));
    Conclusion { status: RunStatus::Partial, reason, pending: false, cut_off }
}

fn dry_run(material: &Material<'_>) -> Conclusion {
    let planned: usize = material.reports.iter().map(|r| r.actions.len()).sum();
    let failed: Vec<String> = material
        .case
        .stages
        .values()
        .filter(|o| matches!(o.status, StageStatus::Failed | StageStatus::Incomplete))
        .map(|o| format!("{} could not be planned: {}", o.stage, o.summary))
        .collect();
    let refused: Vec<&str> = material
        .reports
        .iter()
        .flat_map(|report| &report.actions)
        .filter_map(|record| record.error.as_ref().map(|error| error.message.as_str()))
        .collect();
    let mut reason = format!("dry run: {planned} actions planned, nothing outside the case file was changed");
    if let Some(first) = refused.first() {
        reason = format!("{reason}; {} of them {first}", refused.len());
    }
    if !failed.is_empty() {
        reason = format!("{reason}; {}", failed.join("; "));
    }
    Conclusion { status: RunStatus::DryRun, reason, pending: false, cut_off: Some(false) }
}

/// The answer of the state machine for this case.
pub fn result(material: &Material<'_>, conclusion: &Conclusion) -> RunResult {
    let case = material.case;
    RunResult {
        case_id: Some(case.case_id.clone()),
        ticket: Some(case.ticket.clone()),
        status: conclusion.status,
        reason: conclusion.reason.clone(),
        instances: vec![InstanceResult {
            instance_id: case.instance.instance_id.clone(),
            status: conclusion.status,
            stages: case.stages.clone(),
            checklist: material.checklist().to_vec(),
        }],
        evidence: Some(format!("s3://{}/{}", case.bucket, case.prefix())),
        report: Some(format!("s3://{}/{}{NAME}", case.bucket, case.prefix())),
        manifest: None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::SCHEMA;
    use stasis_model::baseline::Observed;
    use stasis_model::memory::AcquisitionStatus;
    use stasis_model::stage::{Failure, StageOutcome};

    pub(crate) fn outcome(stage: Stage, status: StageStatus) -> StageOutcome {
        StageOutcome {
            stage,
            status,
            attempt: 1,
            wait_seconds: None,
            started_at: Some(sample::time()),
            finished_at: Some(sample::time()),
            summary: "summary".to_owned(),
            failures: Vec::new(),
            report: None,
            checklist: Vec::new(),
            answer: None,
        }
    }

    fn reported(stage: Stage, attempt: u32, summary: &str) -> StageReport {
        let text = serde_json::json!({"schema": SCHEMA, "caseId": sample::case().case_id, "stage": stage, "attempt": attempt,
            "status": "DONE", "startedAt": sample::time(), "finishedAt": sample::time(), "summary": summary, "actions": [],
            "failures": [], "evidence": [], "checks": [], "notes": []});
        serde_json::from_value(text).expect("a report")
    }

    #[test]
    fn what_the_run_brought_counts_and_the_rest_is_of_the_newest_report() {
        let reports = [
            reported(Stage::Verify, 1, "ours"),
            reported(Stage::Verify, 2, "of a run that was outdone"),
            reported(Stage::Preserve, 1, "first"),
            reported(Stage::Preserve, 2, "second"),
        ];
        let mut case = sample::case();
        case.stages.insert(Stage::Verify, reports[0].outcome(None));
        take_in(&mut case, reports.iter().map(|r| (FileRef { key: String::new(), sha256: String::new() }, r)));
        let said = |stage| case.stages.get(&stage).map(|outcome| outcome.summary.as_str());
        assert_eq!((said(Stage::Verify), said(Stage::Preserve)), (Some("ours"), Some("second")));
    }

    pub(crate) fn worked() -> Case {
        let mut case = sample::case();
        case.policy.memory.choice = MemoryChoice::Acquire;
        let mut facts = sample::contained();
        facts.memory = Observed::Known(Some(sample::acquisition(AcquisitionStatus::Captured)));
        let checklist = crate::verify::checklist(&case, &facts);
        for stage in expected_stages(&case) {
            case.stages.insert(stage, outcome(stage, StageStatus::Done));
        }
        if let Some(verify) = case.stages.get_mut(&Stage::Verify) {
            verify.checklist = checklist;
        }
        case
    }

    fn concluded(case: &Case, last: bool) -> Conclusion {
        conclude(&Material { case, reports: &[], last, now: sample::time() })
    }

    #[test]
    fn released_only_when_the_release_and_every_check_of_it_say_so() {
        let mut case = worked();
        let mut release = outcome(Stage::Release, StageStatus::Done);
        release.checklist = vec![Check::of("groups as before", "x", true, "x")];
        case.stages.insert(Stage::Release, release.clone());
        assert_eq!(concluded(&case, true).status, RunStatus::Released);
        release.checklist[0].status = CheckStatus::Unknown;
        case.stages.insert(Stage::Release, release.clone());
        assert_eq!(concluded(&case, true).status, RunStatus::Partial);
        release.checklist.clear();
        case.stages.insert(Stage::Release, release);
        assert_eq!(concluded(&case, true).status, RunStatus::Partial);
        for status in [StageStatus::Incomplete, StageStatus::Failed, StageStatus::Waiting] {
            case.stages.insert(Stage::Release, outcome(Stage::Release, status));
            assert_eq!(concluded(&case, true).status, RunStatus::Partial, "{status}");
        }
    }

    #[test]
    fn contained_only_when_every_stage_and_every_check_says_so() {
        assert_eq!(concluded(&worked(), true).status, RunStatus::Contained);
    }

    #[test]
    fn one_stage_that_failed_in_any_way_makes_it_partial_and_is_named() {
        for stage in expected_stages(&worked()) {
            for status in [StageStatus::Incomplete, StageStatus::Failed] {
                let mut case = worked();
                let checklist = case.stages.get(&stage).map(|o| o.checklist.clone()).unwrap_or_default();
                let failed = StageOutcome {
                    failures: vec![Failure::lasting("Denied", "no permission")],
                    checklist,
                    ..outcome(stage, status)
                };
                case.stages.insert(stage, failed);
                let conclusion = concluded(&case, true);
                assert_eq!(conclusion.status, RunStatus::Partial, "{stage} {status}");
                assert!(conclusion.reason.contains(&format!("{stage}: no permission")), "{}", conclusion.reason);
            }
            let mut case = worked();
            case.stages.remove(&stage);
            assert_eq!(concluded(&case, true).status, RunStatus::Partial, "{stage} missing");
        }
    }

    #[test]
    fn one_check_that_is_not_a_pass_makes_it_partial() {
        let count = worked().stages.get(&Stage::Verify).map_or(0, |v| v.checklist.len());
        assert!(count > 10);
        for at in 0..count {
            for status in [CheckStatus::Fail, CheckStatus::Missing, CheckStatus::Unknown] {
                let mut case = worked();
                let check = case.stages.get_mut(&Stage::Verify).and_then(|v| v.checklist.get_mut(at)).expect("check");
                check.status = status;
                let name = check.name.clone();
                let conclusion = concluded(&case, true);
                assert_eq!(conclusion.status, RunStatus::Partial, "{name} {status}");
                assert!(conclusion.reason.contains(&name), "{}", conclusion.reason);
            }
        }
    }

    #[test]
    fn while_evidence_is_still_coming_an_unknown_is_no_failure_and_it_is_said_to_be_pending() {
        let mut case = worked();
        case.stages.insert(Stage::Preserve, outcome(Stage::Preserve, StageStatus::Waiting));
        if let Some(check) = case.stages.get_mut(&Stage::Verify).and_then(|v| v.checklist.last_mut()) {
            check.status = CheckStatus::Unknown;
        }
        let first = concluded(&case, false);
        assert_eq!((first.status, first.pending), (RunStatus::Contained, true));
        assert_eq!(concluded(&case, true).status, RunStatus::Partial);
    }

    #[test]
    fn a_partial_run_says_first_whether_the_instance_is_off_the_network() {
        let spoiled = |name: &str, status: CheckStatus| {
            let mut case = worked();
            let checklist = case.stages.get_mut(&Stage::Verify).map(|v| &mut v.checklist).expect("verified");
            checklist.iter_mut().find(|c| c.name == name).expect("a check").status = status;
            concluded(&case, true)
        };
        let inbound = "quarantine group has no inbound";
        let table = [
            ("snapshots complete", CheckStatus::Fail, Some(true), "the instance is cut off"),
            (inbound, CheckStatus::Fail, Some(false), "the instance is NOT cut off"),
            (inbound, CheckStatus::Unknown, None, "it is NOT KNOWN"),
        ];
        for (name, status, cut_off, begins) in table {
            let conclusion = spoiled(name, status);
            assert_eq!(conclusion.cut_off, cut_off, "{name} {status}");
            assert!(conclusion.reason.starts_with(begins), "{}", conclusion.reason);
        }
        let mut unverified = worked();
        unverified.stages.remove(&Stage::Verify);
        assert_eq!(concluded(&unverified, true).cut_off, None);
    }

    #[test]
    fn preserving_alone_is_never_called_contained() {
        let mut case = worked();
        case.mode = Mode::Preserve;
        assert_eq!(concluded(&case, true).status, RunStatus::Partial);
    }

    #[test]
    fn a_dry_run_is_a_dry_run_whatever_the_checks_say() {
        let mut case = worked();
        case.mode = Mode::DryRun;
        assert_eq!(concluded(&case, true).status, RunStatus::DryRun);
        assert_eq!(case.schema, SCHEMA);
    }
}
