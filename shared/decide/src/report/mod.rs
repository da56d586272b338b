//! Report: what a run came to. The status follows from what stages and checks say and from nothing else,
//! so that it cannot claim more than was read back.

mod html;
mod notice;
mod timeline;
mod why;
mod words;

#[cfg(test)]
mod pages;

pub use html::html;
pub(crate) use notice::subject;
pub use notice::{
    Notice, notice, notice_of_failure, notice_of_finding, notice_of_open_case, notice_of_opening, notice_of_readiness,
};

use crate::ticket::Progress;
use crate::{policy, replicate, verify};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::approval::{Answer, Verdict};
use stasis_model::case::{Case, Language, Mode};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::custody::Custody;
use stasis_model::evidence::Evidence;
use stasis_model::memory::MemoryChoice;
use stasis_model::outcome::{InstanceResult, RunResult, RunStatus};
use stasis_model::policy::Decision;
use stasis_model::stage::{FileRef, Outcome, Stage, StageReport, StageStatus};
use std::collections::{BTreeMap, BTreeSet};
use why::{Problem, Why};

/// The report's name in the case's folder.
pub const NAME: &str = "report.html";

/// What the run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// How it ended.
    pub status: RunStatus,
    /// Why, in a sentence.
    pub reason: String,
    /// The same, of which the report makes a sentence in its own language.
    why: Why,
    /// Whether evidence is still to come.
    pub pending: bool,
    /// Whether the instance is off the network; none where that is not known.
    pub cut_off: Option<bool>,
}

impl Conclusion {
    fn of(status: RunStatus, why: Why, pending: bool, cut_off: Option<bool>) -> Self {
        Self { status, reason: why.words(Language::English), why, pending, cut_off }
    }
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

    /// Who did what, as CloudTrail had it when verify wrote it down last.
    pub fn custody(&self) -> Option<&Custody> {
        let kept = self.reports.iter().rev().flat_map(|report| report.actions.iter().rev());
        kept.filter(|record| record.outcome == Outcome::Applied).find_map(|record| match &record.action {
            Action::KeepCustody { custody, .. } => Some(&**custody),
            _ => None,
        })
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
    pub fn allowed_since(&self) -> (Timestamp, Since) {
        match self.approval() {
            Some(answer) if answer.contain && answer.verdict == Verdict::Approved => (answer.at, Since::Approval),
            Some(answer) if answer.contain => (answer.at, Since::Expiry),
            _ => (self.case.opened_at, Since::Opening),
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

/// What allowed the containment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The case was opened.
    Opening,
    /// Somebody approved.
    Approval,
    /// Nobody answered in time.
    Expiry,
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
    problems.extend(
        triage.iter().filter(|f| f.code == policy::UNUSABLE).map(|f| Problem::Failed(Stage::Triage, f.message.clone())),
    );
    problems.extend(
        stages
            .get(&Stage::Approval)
            .and_then(|outcome| outcome.failures.first())
            .map(|f| Problem::Failed(Stage::Approval, f.message.clone())),
    );
    for stage in &expected_stages(case) {
        match stages.get(stage) {
            // Copies begin once the snapshots are whole.
            None if to_come(*stage) => {}
            None => problems.push(Problem::NotRun(*stage)),
            Some(outcome) if matches!(outcome.status, StageStatus::Incomplete | StageStatus::Failed) => {
                let why = outcome.failures.first().map_or(outcome.summary.as_str(), |f| f.message.as_str());
                problems.push(Problem::Failed(*stage, why.to_owned()));
            }
            // A wait that nobody waits for any more is not success.
            Some(outcome) if outcome.status == StageStatus::Waiting && material.last && *stage != Stage::Verify => {
                problems.push(Problem::StillWaiting(*stage));
            }
            // It waits for the rest; what failed has failed.
            Some(outcome) if outcome.status == StageStatus::Waiting => {
                problems.extend(outcome.failures.first().map(|f| Problem::Failed(*stage, f.message.clone())));
            }
            Some(_) => {}
        }
    }
    let checklist = material.checklist();
    if checklist.is_empty() {
        problems.push(Problem::NothingVerified);
    }
    let may_still_come = |check: &Check| pending && check.status == CheckStatus::Unknown;
    problems.extend(checklist.iter().filter(|c| !c.passed()).filter(|c| !may_still_come(c)).map(problem));
    let cut_off = if case.mode == Mode::Preserve { Some(false) } else { verify::is_cut_off(checklist) };
    if case.mode == Mode::Preserve {
        let why = match material.approval() {
            Some(answer) => Problem::Answered(answer.clone(), case.decided.approval),
            None if case.decided.decision == Decision::Ask => Problem::NotAsked,
            None => Problem::PreserveOnly,
        };
        problems.insert(0, why);
    }
    if problems.is_empty() {
        let why = Why::Contained {
            instance: case.instance.instance_id.clone(),
            passed: checklist.iter().filter(|c| c.passed()).count(),
            of: checklist.len(),
            pending,
        };
        return Conclusion::of(RunStatus::Contained, why, pending, cut_off);
    }
    Conclusion::of(RunStatus::Partial, Why::Partial { cut_off, problems }, pending, cut_off)
}

/// A check that did not pass, as a problem.
fn problem(check: &Check) -> Problem {
    Problem::Check { status: check.status, name: check.name.clone(), observed: check.observed.clone() }
}

/// What the ticket is told of a run that ended like this; nothing of one that held no instance.
pub fn progress(status: RunStatus) -> Option<Progress> {
    match status {
        RunStatus::Contained => Some(Progress::Contained),
        RunStatus::Partial => Some(Progress::Partial),
        RunStatus::Rejected => Some(Progress::Rejected),
        RunStatus::Released => Some(Progress::Released),
        RunStatus::DryRun | RunStatus::Ignored | RunStatus::Duplicate | RunStatus::Divided => None,
    }
}

/// What a release came to: RELEASED only when nothing is left to put back and AWS confirms it.
fn release(material: &Material<'_>) -> Conclusion {
    let instance = material.case.instance.instance_id.clone();
    let outcome = material.case.stages.get(&Stage::Release);
    let mut problems: Vec<Problem> =
        outcome.map(|o| o.failures.iter().map(|f| Problem::Said(f.message.clone())).collect()).unwrap_or_default();
    match outcome.map(|o| o.status) {
        Some(StageStatus::Done | StageStatus::Skipped) => {}
        Some(StageStatus::Waiting) => problems.push(Problem::ReleaseWaiting),
        Some(_) if problems.is_empty() => problems.push(Problem::ReleaseEnded),
        _ => {}
    }
    let checks = material.checklist();
    if checks.is_empty() {
        problems.push(Problem::NothingVerified);
    }
    problems.extend(checks.iter().filter(|c| !c.passed()).map(problem));
    if !problems.is_empty() {
        return Conclusion::of(RunStatus::Partial, Why::NotReleased { instance, problems }, false, None);
    }
    let rejected = material
        .approval()
        .filter(|answer| answer.verdict == Verdict::Rejected)
        .map(|answer| (answer.clone(), material.case.decided.approval));
    let status = if rejected.is_some() { RunStatus::Rejected } else { RunStatus::Released };
    Conclusion::of(status, Why::Released { instance, checks: checks.len(), rejected }, false, None)
}

fn dry_run(material: &Material<'_>) -> Conclusion {
    let unplanned = material
        .case
        .stages
        .values()
        .filter(|o| matches!(o.status, StageStatus::Failed | StageStatus::Incomplete))
        .map(|o| (o.stage, o.summary.clone()))
        .collect();
    let actions = || material.reports.iter().flat_map(|report| &report.actions);
    let refused: Vec<&str> =
        actions().filter_map(|record| record.error.as_ref().map(|error| error.message.as_str())).collect();
    let why = Why::DryRun {
        planned: actions().count(),
        refused: refused.first().map(|first| (refused.len(), (*first).to_owned())),
        unplanned,
    };
    Conclusion::of(RunStatus::DryRun, why, false, Some(false))
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
