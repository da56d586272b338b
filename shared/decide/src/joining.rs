//! Joining: what becomes of a finding or request about an instance whose case is open already. Where somebody works on that
//! case, and it goes as far as is asked for now, there is nothing more to do. Else the run of the finding takes the case over:
//! an open case must never be what keeps a compromised instance on the network.
//!
//! Two runs at once on one case harm nothing: each stage looks before it writes, all writes of a containment go the same way,
//! baseline and records are written create-only. What they may cost is a second set of snapshots. Only a release goes the other
//! way, so that nothing is taken over while one goes on.

use chrono::TimeDelta;
use stasis_model::Timestamp;
use stasis_model::approval::{Answer, Verdict};
use stasis_model::case::{Case, Decided, Mode};
use stasis_model::policy::Decision;
use stasis_model::stage::{Stage, StageReport, StageStatus};

/// For so long a run whose state cannot be read counts as one that goes on: so that of a hundred findings at the same moment
/// not each takes the case from the one before.
const UNREADABLE_FOR: TimeDelta = TimeDelta::minutes(10);
/// A release that has not reported for so long does not go on: it never waits longer between two looks than 15 minutes.
const RELEASES_FOR: TimeDelta = TimeDelta::minutes(20);

/// What the run that works on a case does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// It goes on.
    Going,
    /// It came to its end, and reported.
    Ended,
    /// It ended without a report; how, in Step Functions' word.
    Dead(String),
    /// There never was one: the case was opened by a call of the function by hand.
    Never,
    /// Why it is not known.
    Unknown(String),
}

/// How far a case has come, by what its stages reported last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The answer to its question.
    pub answer: Option<Answer>,
    /// Whether the instance was cut off, and no release began since.
    pub is_cut_off: bool,
    /// Whether the disks are preserved.
    pub is_preserved: bool,
    /// When a release reported last.
    pub released_at: Option<Timestamp>,
    /// Where somebody asks for the case to go on: the stages that did not come to their end.
    pub to_go_on_with: Option<Vec<Stage>>,
    /// Where somebody asks: what was undone since AWS confirmed it.
    pub undone: Option<String>,
}

/// The stages whose newest report tells how far a case has come.
pub const TELLING: [Stage; 4] = [Stage::Approval, Stage::Quarantine, Stage::Preserve, Stage::Release];

/// The stages that do something at the instance or for its evidence, and did not come to their end.
fn unfinished(newest: &[StageReport]) -> Vec<Stage> {
    let is_open = |report: &&StageReport| {
        let works = !matches!(report.stage, Stage::Triage | Stage::Approval | Stage::Report | Stage::Release);
        works && matches!(report.status, StageStatus::Incomplete | StageStatus::Failed | StageStatus::Waiting)
    };
    newest.iter().filter(is_open).map(|report| report.stage).collect()
}

/// How far a case has come, by the newest reports of the stages that tell it; of all stages, where somebody asks for it to go on.
pub fn progress(case: &Case, newest: &[StageReport], is_asked: bool) -> Progress {
    let since = case.taken_over.as_ref().map(|over| over.at);
    let of = |stage: Stage| newest.iter().find(|report| report.stage == stage);
    let is_done = |stage| of(stage).filter(|report| report.status == StageStatus::Done);
    // What was answered, or released, before the case was taken over counts no more.
    let counts = |report: &&StageReport| since.is_none_or(|since| report.finished_at >= since);
    let released_at = of(Stage::Release).map(|report| report.finished_at);
    Progress {
        answer: of(Stage::Approval).filter(counts).and_then(|report| report.answer.clone()),
        is_cut_off: is_done(Stage::Quarantine)
            .is_some_and(|cut| released_at.is_none_or(|released| released < cut.finished_at)),
        is_preserved: is_done(Stage::Preserve).is_some(),
        released_at,
        to_go_on_with: is_asked.then(|| unfinished(newest)),
        undone: None,
    }
}

/// Whether it takes a look at what the stages reported to decide. The common case, a finding while a run goes on, needs none.
pub fn needs_progress(case: &Case, run: &Run, wanted: Decision, is_asked: bool) -> bool {
    let asks = case.mode == Mode::Contain && case.decided.decision == Decision::Ask;
    let may_be_undone = is_asked && case.mode == Mode::Contain;
    *run != Run::Going || ((asks || may_be_undone) && contains(wanted))
}

/// What becomes of what came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Joining {
    /// It joins the case; what there is to say of that.
    Joins(Option<String>),
    /// Its run takes the case over.
    TakesOver {
        /// How far to go now.
        mode: Mode,
        /// What is decided about the case now.
        decided: Decided,
        /// Why.
        why: String,
    },
    /// The case is being released at this moment: to be asked again, once it is closed.
    Waits(String),
}

/// Whether a decision is to cut the instance off, at once or once somebody approves.
fn contains(decision: Decision) -> bool {
    matches!(decision, Decision::Ask | Decision::Contain)
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Ignore => 0,
        Decision::Notify => 1,
        Decision::Preserve => 2,
        Decision::Ask => 3,
        Decision::Contain => 4,
    }
}

/// What a case comes to, with the answer to its question.
fn standing(case: &Case, answer: Option<&Answer>) -> Decision {
    match (case.mode, case.decided.decision, answer) {
        (Mode::Preserve | Mode::DryRun, ..) => Decision::Preserve,
        (Mode::Contain, Decision::Ask, None) => Decision::Ask,
        (Mode::Contain, Decision::Ask, Some(answer)) if !answer.contain => Decision::Preserve,
        (Mode::Contain, ..) => Decision::Contain,
    }
}

/// What becomes of what came in for the instance of an open case, where it was decided so about it.
pub fn joining(case: &Case, run: &Run, progress: &Progress, wanted: &Decided, now: Timestamp) -> Joining {
    let stands = standing(case, progress.answer.as_ref());
    let is_weaker = contains(wanted.decision) && !contains(stands);
    let is_rejected = progress.answer.as_ref().is_some_and(|answer| answer.verdict == Verdict::Rejected);
    let is_released = progress.released_at.is_some_and(|at| now - at < RELEASES_FOR);
    if is_released || (is_rejected && *run == Run::Going) {
        let why = format!("case {} is being released", case.case_id);
        return if contains(wanted.decision) { Joining::Waits(why) } else { Joining::Joins(Some(why)) };
    }
    let is_reached = match stands {
        Decision::Contain => progress.is_cut_off,
        Decision::Ask => false,
        _ => progress.is_preserved,
    };
    let weaker = || match &progress.answer {
        Some(_) => "it asked before it contained, got no yes and left the instance on the network".to_owned(),
        None => "it leaves the instance on the network".to_owned(),
    };
    let take = |why: String| take_over(case, progress, stands, wanted, why);
    // A finding comes again by itself; somebody who asks once more has mended what was in the way.
    let to_go_on_with = progress.to_go_on_with.as_ref().filter(|_| contains(wanted.decision) && contains(stands));
    let unfinished = to_go_on_with.filter(|stages| !stages.is_empty());
    // A run that goes on is beyond that already: it waits for evidence, and holds nothing again.
    if let Some(what) = progress.undone.as_ref().filter(|_| contains(wanted.decision) && contains(stands)) {
        return take(format!("somebody asks for it to be held again, of which was undone: {what}"));
    }
    match run {
        Run::Going if is_weaker => take(weaker()),
        Run::Going => Joining::Joins(None),
        // Somebody has decided that the instance is to be left alone: what that leaves undone is told.
        _ if wanted.decision == Decision::Ignore => {
            Joining::Joins((!is_reached && *run != Run::Ended).then(|| "nobody works on that case any more".to_owned()))
        }
        _ if is_weaker => take(weaker()),
        Run::Dead(how) if !is_reached => take(format!("its run ended {how} before it was through")),
        Run::Dead(how) if to_go_on_with.is_some() => {
            take(format!("its run ended {how} without a last report, and somebody asks for it to go on"))
        }
        Run::Dead(how) => Joining::Joins(Some(format!(
            "its run ended {how} without a last report; what it was to do at the instance is done"
        ))),
        Run::Never if !is_reached => take("it was opened by hand, and no run works on it".to_owned()),
        Run::Ended if !is_reached && contains(wanted.decision) => {
            take("its run ended and the instance is not cut off".to_owned())
        }
        Run::Ended if unfinished.is_some() => {
            let names: Vec<&str> = unfinished.into_iter().flatten().map(|stage| stage.name()).collect();
            take(format!("its run ended without the whole of {}, and somebody asks for it to go on", names.join(", ")))
        }
        Run::Unknown(why) if !is_reached && now - case.worked_on_since() >= UNREADABLE_FOR => {
            take(format!("whether its run goes on cannot be read ({why}), and it is not through"))
        }
        Run::Unknown(why) => Joining::Joins(Some(format!("whether its run goes on cannot be read: {why}"))),
        Run::Never | Run::Ended => Joining::Joins(None),
    }
}

/// The case goes as far as it was to go, or as far as is asked for now, whichever is further.
fn take_over(case: &Case, progress: &Progress, stands: Decision, wanted: &Decided, why: String) -> Joining {
    let decided = if rank(wanted.decision) > rank(stands) {
        wanted.clone()
    } else {
        let mut own = case.decided.clone();
        // A yes stays a yes, whoever goes on with it.
        if let (Decision::Ask, Decision::Contain, Some(answer)) = (own.decision, stands, &progress.answer) {
            own.decision = Decision::Contain;
            own.notes.push(format!("people were asked: {}", crate::approval::in_words(answer, own.approval)));
            own.approval = None;
        }
        own
    };
    let mode = if contains(stands) || contains(wanted.decision) { Mode::Contain } else { Mode::Preserve };
    Joining::TakesOver { mode, decided, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::case::TakenOver;
    use stasis_model::memory::MemoryTools;
    use stasis_model::stage::StageOutcome;

    const DEAD: [&str; 3] = ["FAILED", "TIMED_OUT", "ABORTED"];
    const ALL: [Decision; 5] =
        [Decision::Ignore, Decision::Notify, Decision::Preserve, Decision::Ask, Decision::Contain];

    fn decided(decision: Decision) -> Decided {
        Decided { decision, by: "the new finding".to_owned(), ..sample::decided() }
    }

    fn case(decision: Decision) -> Case {
        let mode = if contains(decision) { Mode::Contain } else { Mode::Preserve };
        Case { mode, decided: Decided { decision, ..sample::decided() }, ..sample::case() }
    }

    fn answer(verdict: Verdict, contain: bool) -> Option<Answer> {
        Some(Answer { verdict, contain, by: None, reason: None, at: sample::time() })
    }

    fn later(minutes: i64) -> Timestamp {
        sample::time() + TimeDelta::minutes(minutes)
    }

    fn becomes(case: &Case, run: &Run, progress: &Progress, wanted: Decision) -> Joining {
        joining(case, run, progress, &decided(wanted), later(60))
    }

    fn far(joining: &Joining) -> Option<(Mode, Decision)> {
        match joining {
            Joining::TakesOver { mode, decided, .. } => Some((*mode, decided.decision)),
            Joining::Joins(_) | Joining::Waits(_) => None,
        }
    }

    #[test]
    fn a_case_that_is_worked_on_and_goes_far_enough_is_joined() {
        for (stands, wanted) in [
            (Decision::Contain, Decision::Contain),
            (Decision::Contain, Decision::Ask),
            (Decision::Contain, Decision::Notify),
            (Decision::Ask, Decision::Ask),
            (Decision::Ask, Decision::Contain),
            (Decision::Preserve, Decision::Preserve),
            (Decision::Preserve, Decision::Ignore),
        ] {
            let found = becomes(&case(stands), &Run::Going, &Progress::default(), wanted);
            assert_eq!(found, Joining::Joins(None), "{stands:?}, {wanted:?}");
        }
    }

    #[test]
    fn a_run_that_died_before_the_instance_was_cut_off_is_followed_by_the_next() {
        let runs = DEAD.map(|how| Run::Dead(how.to_owned())).into_iter().chain([Run::Never]);
        for run in runs {
            for wanted in [Decision::Notify, Decision::Preserve, Decision::Ask, Decision::Contain] {
                let found = becomes(&case(Decision::Contain), &run, &Progress::default(), wanted);
                assert_eq!(far(&found), Some((Mode::Contain, Decision::Contain)), "{run:?}, {wanted:?}");
            }
            let cut_off = Progress { is_cut_off: true, ..Progress::default() };
            for wanted in ALL {
                assert_eq!(far(&becomes(&case(Decision::Contain), &run, &cut_off, wanted)), None, "{run:?}");
            }
            // It asks again, unless the new finding need not ask.
            for (wanted, decision) in [(Decision::Notify, Decision::Ask), (Decision::Contain, Decision::Contain)] {
                let found = becomes(&case(Decision::Ask), &run, &Progress::default(), wanted);
                assert_eq!(far(&found), Some((Mode::Contain, decision)), "{run:?}");
            }
            let found = becomes(&case(Decision::Preserve), &run, &Progress::default(), Decision::Preserve);
            assert_eq!(far(&found), Some((Mode::Preserve, Decision::Preserve)), "{run:?}");
        }
    }

    #[test]
    fn who_is_to_be_left_alone_is_left_alone_and_it_is_said_that_nobody_works_on_the_case() {
        let run = Run::Dead("ABORTED".to_owned());
        let found = becomes(&case(Decision::Contain), &run, &Progress::default(), Decision::Ignore);
        assert!(matches!(&found, Joining::Joins(Some(said)) if said.contains("nobody works")), "{found:?}");
    }

    #[test]
    fn a_yes_stays_a_yes_for_the_run_that_goes_on() {
        let progress = Progress { answer: answer(Verdict::Approved, true), ..Progress::default() };
        let found = becomes(&case(Decision::Ask), &Run::Dead("FAILED".to_owned()), &progress, Decision::Ask);
        let Joining::TakesOver { mode, decided, .. } = found else { panic!("{found:?}") };
        assert_eq!((mode, decided.decision, decided.approval), (Mode::Contain, Decision::Contain, None));
        assert!(decided.notes.iter().any(|note| note.contains("approved by")), "{decided:?}");
    }

    #[test]
    fn a_case_that_leaves_the_instance_on_the_network_swallows_nothing_that_is_to_cut_it_off() {
        let runs =
            [Run::Going, Run::Ended, Run::Dead("FAILED".to_owned()), Run::Never, Run::Unknown("denied".to_owned())];
        let preserved = Progress { is_preserved: true, ..Progress::default() };
        let expired = Progress { answer: answer(Verdict::Expired, false), ..preserved.clone() };
        for run in &runs {
            for wanted in [Decision::Ask, Decision::Contain] {
                let found = becomes(&case(Decision::Preserve), run, &preserved, wanted);
                assert_eq!(far(&found), Some((Mode::Contain, wanted)), "{run:?}");
                let found = becomes(&case(Decision::Ask), run, &expired, wanted);
                assert_eq!(far(&found), Some((Mode::Contain, wanted)), "{run:?}");
            }
            for wanted in [Decision::Ignore, Decision::Notify, Decision::Preserve] {
                assert_eq!(far(&becomes(&case(Decision::Ask), run, &expired, wanted)), None, "{run:?}");
            }
        }
        // A no whose release is through only in part.
        let rejected = Progress { answer: answer(Verdict::Rejected, false), ..preserved };
        let found = becomes(&case(Decision::Ask), &Run::Ended, &rejected, Decision::Contain);
        assert_eq!(far(&found), Some((Mode::Contain, Decision::Contain)));
    }

    #[test]
    fn nothing_is_taken_over_while_it_is_released() {
        let rejected = Progress { answer: answer(Verdict::Rejected, false), ..Progress::default() };
        let releasing = Progress { released_at: Some(later(59)), ..Progress::default() };
        let over = Progress { released_at: Some(later(30)), ..Progress::default() };
        for (run, progress) in [(Run::Going, &rejected), (Run::Ended, &releasing), (Run::Never, &releasing)] {
            let found = becomes(&case(Decision::Ask), &run, progress, Decision::Contain);
            assert!(matches!(found, Joining::Waits(_)), "{found:?}");
            let found = becomes(&case(Decision::Ask), &run, progress, Decision::Notify);
            assert!(matches!(found, Joining::Joins(Some(_))), "{found:?}");
        }
        let found = becomes(&case(Decision::Contain), &Run::Ended, &over, Decision::Contain);
        assert_eq!(far(&found), Some((Mode::Contain, Decision::Contain)));
    }

    #[test]
    fn a_run_that_ended_without_cutting_the_instance_off_is_followed_by_the_next() {
        let cut_off = Progress { is_cut_off: true, ..Progress::default() };
        for (progress, wanted, expected) in [
            (Progress::default(), Decision::Contain, Some((Mode::Contain, Decision::Contain))),
            (Progress::default(), Decision::Notify, None),
            (cut_off, Decision::Contain, None),
        ] {
            assert_eq!(far(&becomes(&case(Decision::Contain), &Run::Ended, &progress, wanted)), expected, "{wanted:?}");
        }
    }

    #[test]
    fn who_asks_once_more_has_a_case_go_on_with_what_its_run_left_undone() {
        let of = |stages: Option<&[Stage]>| Progress {
            is_cut_off: true,
            is_preserved: true,
            to_go_on_with: stages.map(<[Stage]>::to_vec),
            ..Progress::default()
        };
        let dead = Run::Dead("TIMED_OUT".to_owned());
        let undone: Option<&[Stage]> = Some(&[Stage::Preserve, Stage::Verify]);
        for (run, stages, wanted, goes_on) in [
            (Run::Ended, undone, Decision::Contain, true),
            (Run::Ended, undone, Decision::Ask, true),
            (Run::Ended, Some(&[]), Decision::Contain, false),
            (Run::Ended, None, Decision::Contain, false),
            (Run::Ended, undone, Decision::Notify, false),
            (Run::Going, undone, Decision::Contain, false),
            (Run::Never, undone, Decision::Contain, false),
            (dead.clone(), Some(&[]), Decision::Contain, true),
            (dead, None, Decision::Contain, false),
        ] {
            let found = becomes(&case(Decision::Contain), &run, &of(stages), wanted);
            let expected = goes_on.then_some((Mode::Contain, Decision::Contain));
            assert_eq!(far(&found), expected, "{run:?} {stages:?} {wanted:?}");
            if let (Joining::TakesOver { why, .. }, Run::Ended) = (&found, &run) {
                assert!(why.contains("the whole of preserve, verify"), "{why}");
            }
        }
        // What is only preserved is not contained by going on, and what is released is left alone.
        let found = becomes(&case(Decision::Preserve), &Run::Ended, &of(undone), Decision::Preserve);
        assert_eq!(far(&found), None);
        let over = Progress { released_at: Some(later(59)), ..of(undone) };
        assert!(matches!(becomes(&case(Decision::Contain), &Run::Ended, &over, Decision::Contain), Joining::Waits(_)));
    }

    #[test]
    fn a_run_of_which_nothing_can_be_read_is_followed_once_it_is_old() {
        let run = Run::Unknown("denied".to_owned());
        let wanted = decided(Decision::Contain);
        let mut case = case(Decision::Contain);
        let at = |case: &Case, minutes| joining(case, &run, &Progress::default(), &wanted, later(minutes));
        assert!(matches!(at(&case, 9), Joining::Joins(Some(said)) if said.contains("denied")));
        assert!(matches!(at(&case, 10), Joining::TakesOver { why, .. } if why.contains("denied")));
        case.taken_over = Some(TakenOver { number: 1, from: None, why: "x".to_owned(), at: later(5) });
        assert!(matches!(at(&case, 14), Joining::Joins(_)));
        assert!(matches!(at(&case, 15), Joining::TakesOver { .. }));
    }

    #[test]
    fn only_what_is_asked_of_a_question_needs_a_look_at_the_stages_of_a_run_that_goes_on() {
        for (stands, run, wanted, expected) in [
            (Decision::Contain, Run::Going, Decision::Contain, false),
            (Decision::Preserve, Run::Going, Decision::Contain, false),
            (Decision::Ask, Run::Going, Decision::Notify, false),
            (Decision::Ask, Run::Going, Decision::Contain, true),
            (Decision::Contain, Run::Ended, Decision::Contain, true),
            (Decision::Contain, Run::Dead("FAILED".to_owned()), Decision::Notify, true),
        ] {
            assert_eq!(needs_progress(&case(stands), &run, wanted, false), expected, "{stands:?} {run:?} {wanted:?}");
            let of_mode = case(stands).mode == Mode::Contain && contains(wanted);
            assert_eq!(needs_progress(&case(stands), &run, wanted, true), expected || of_mode, "{stands:?} {run:?}");
        }
    }

    #[test]
    fn what_was_undone_is_held_again_by_who_asks_even_while_a_run_waits_for_evidence() {
        let undone = Progress {
            is_cut_off: true,
            is_preserved: true,
            undone: Some("stop protection on".to_owned()),
            ..Progress::default()
        };
        for run in [Run::Going, Run::Ended, Run::Never] {
            match joining(&case(Decision::Contain), &run, &undone, &decided(Decision::Contain), later(60)) {
                Joining::TakesOver { mode, why, .. } => {
                    assert!(mode == Mode::Contain && why.contains("stop protection on"), "{why}");
                }
                other => panic!("{run:?}: {other:?}"),
            }
        }
        // It holds nothing more than the case was to hold, and nothing that is being put back.
        let asked = joining(&case(Decision::Preserve), &Run::Going, &undone, &decided(Decision::Preserve), later(60));
        assert!(matches!(asked, Joining::Joins(_)), "{asked:?}");
        let released = Progress { released_at: Some(later(59)), ..undone };
        let waits = joining(&case(Decision::Contain), &Run::Ended, &released, &decided(Decision::Contain), later(60));
        assert!(matches!(waits, Joining::Waits(_)), "{waits:?}");
    }

    #[test]
    fn how_far_a_case_has_come_is_told_by_the_newest_reports() {
        let report = |stage, status, minutes, answer| StageReport {
            answer,
            ..sample::stage_report(stage, status, later(minutes))
        };
        let mut case = case(Decision::Ask);
        let cut = report(Stage::Quarantine, StageStatus::Done, 5, None);
        let planned = report(Stage::Quarantine, StageStatus::Planned, 5, None);
        let asked = report(Stage::Approval, StageStatus::Done, 3, answer(Verdict::Expired, false));
        let released = report(Stage::Release, StageStatus::Incomplete, 7, None);
        assert_eq!(progress(&case, &[], false), Progress::default());
        assert!(progress(&case, std::slice::from_ref(&cut), false).is_cut_off);
        assert!(!progress(&case, &[planned], false).is_cut_off);
        let preserved = report(Stage::Preserve, StageStatus::Incomplete, 6, None);
        let all = [cut.clone(), preserved, released.clone()];
        assert_eq!(progress(&case, &all, true).to_go_on_with, Some(vec![Stage::Preserve]), "a release is no work left");
        assert!(!progress(&case, &[cut, released], false).is_cut_off, "what is put back is not cut off");
        assert!(progress(&case, std::slice::from_ref(&asked), false).answer.is_some());
        case.taken_over = Some(TakenOver { number: 1, from: None, why: "x".to_owned(), at: later(4) });
        assert!(progress(&case, &[asked], false).answer.is_none(), "it is asked again");
    }

    #[test]
    fn a_case_that_was_taken_over_is_the_same_case_under_another_decision() {
        let stages = std::collections::BTreeMap::<Stage, StageOutcome>::new();
        let before = Case { stages, ..case(Decision::Preserve) };
        let over = TakenOver { number: 1, from: before.execution.clone(), why: "w".to_owned(), at: later(1) };
        let takeover = stasis_model::case::Takeover {
            schema: stasis_model::SCHEMA,
            case_id: before.case_id.clone(),
            execution: "execution-2".to_owned(),
            mode: Mode::Contain,
            decided: decided(Decision::Contain),
            taken_over: over.clone(),
            memory_tools: MemoryTools {
                collector_x86_64: "bb".repeat(32),
                collector_arm64: "cc".repeat(32),
                ..MemoryTools::default()
            },
        };
        let mut before = before;
        before.policy.memory.collector_x86_64 = "aa".repeat(32);
        before.policy.memory.collector_arm64 = String::new();
        let after = before.clone().taken_on(takeover);
        // What there was to take memory with stays; what there was none of is there now.
        assert_eq!(after.policy.memory.collector_x86_64, "aa".repeat(32));
        assert_eq!(after.policy.memory.collector_arm64, "cc".repeat(32));
        assert_eq!((after.mode, after.execution.as_deref()), (Mode::Contain, Some("execution-2")));
        assert_eq!((after.taken_over, after.baseline), (Some(over), before.baseline));
    }
}
