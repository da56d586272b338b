//! Open cases: whether an instance is still held as it was when its run verified it last. It says what was undone since, and
//! never what a run has said already.

use crate::verify;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::check::{Check, CheckStatus};
use stasis_model::open_cases::{HeldFacts, Standing};
use stasis_model::stage::{Stage, StageReport};

/// The stages whose newest report tells how an instance was left.
pub const TELLING: [Stage; 2] = [Stage::Verify, Stage::Release];

/// The report that the instance is compared with: the newest of verify, unless a release began since.
pub fn verified(newest: &[StageReport]) -> Option<&StageReport> {
    let of = |stage: Stage| newest.iter().find(|report| report.stage == stage);
    let released_at = of(Stage::Release).map(|report| report.finished_at);
    of(Stage::Verify).filter(|verified| released_at.is_none_or(|released| released < verified.finished_at))
}

/// How the instance stands, beside what was verified last.
pub fn standing(case: &Case, verified: &StageReport, facts: &HeldFacts) -> Standing {
    let passed = |check: &Check| verified.checks.iter().any(|then| then.name == check.name && then.passed());
    let now: Vec<Check> =
        verify::held(case, facts).into_iter().filter(|check| !check.passed() && passed(check)).collect();
    let (unread, changed): (Vec<Check>, Vec<Check>) =
        now.into_iter().partition(|check| check.status == CheckStatus::Unknown);
    match (changed.is_empty(), unread.first()) {
        (false, _) => Standing::Undone { changed, verified_at: verified.finished_at },
        (true, Some(check)) => Standing::Unknown { why: format!("{}: {}", check.name, check.observed) },
        (true, None) => Standing::Held,
    }
}

/// Where it is kept that people were told: once a day for the same, until it is mended. None where there is nothing to tell.
pub fn told_key(case: &Case, standing: &Standing, now: Timestamp) -> Option<String> {
    let about = match standing {
        Standing::Undone { changed, .. } => {
            changed.iter().map(|check| check.name.as_str()).collect::<Vec<_>>().join("|")
        }
        Standing::Unknown { .. } => "unknown".to_owned(),
        Standing::Held | Standing::Unverified => return None,
    };
    let mark: String = crate::sha256(about.as_bytes()).chars().take(8).collect();
    Some(format!("readiness/open-cases/{}/{}-{mark}.json", case.case_id, now.format("%Y%m%d")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use chrono::TimeDelta;
    use stasis_model::baseline::Observed;
    use stasis_model::facts::VerifyFacts;
    use stasis_model::stage::StageStatus;

    fn facts(of: VerifyFacts) -> HeldFacts {
        HeldFacts { instance: of.instance, protection: of.protection, network: of.quarantine }
    }

    fn report(stage: Stage, minutes: i64) -> StageReport {
        let case = sample::case();
        let at = case.opened_at + TimeDelta::minutes(minutes);
        let checks = if stage == Stage::Verify { verify::checklist(&case, &sample::contained()) } else { Vec::new() };
        StageReport {
            schema: stasis_model::SCHEMA,
            case_id: case.case_id,
            stage,
            attempt: 1,
            status: StageStatus::Done,
            started_at: at,
            finished_at: at,
            wait_seconds: None,
            summary: String::new(),
            previous: None,
            actions: Vec::new(),
            failures: Vec::new(),
            evidence: Vec::new(),
            checks,
            notes: Vec::new(),
            answer: None,
        }
    }

    fn names(standing: &Standing) -> Vec<&str> {
        match standing {
            Standing::Undone { changed, .. } => changed.iter().map(|check| check.name.as_str()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_as_it_was_left_is_held_and_each_change_is_named() {
        let case = sample::case();
        let verified = report(Stage::Verify, 1);
        assert_eq!(standing(&case, &verified, &facts(sample::contained())), Standing::Held);
        type Change = fn(&mut VerifyFacts);
        let changes: [(&str, Change); 4] = [
            ("every interface in the quarantine group only", |f| {
                let Observed::Known(interfaces) = &mut f.quarantine.interfaces else { panic!() };
                interfaces[0].groups = vec!["sg-0eeeeeeeeeeeeeee1".parse().expect("id")];
            }),
            ("termination protection on", |f| {
                let Observed::Known(protection) = &mut f.protection else { panic!() };
                protection.termination = false;
            }),
            ("instance online", |f| {
                let Observed::Known(instance) = &mut f.instance else { panic!() };
                instance.state = "stopping".to_owned();
            }),
            ("volumes kept on termination", |f| {
                let Observed::Known(instance) = &mut f.instance else { panic!() };
                instance.volumes[0].delete_on_termination = true;
            }),
        ];
        for (name, change) in changes {
            let mut now = sample::contained();
            change(&mut now);
            let said = standing(&case, &verified, &facts(now));
            let known: Vec<&str> = verified.checks.iter().map(|check| check.name.as_str()).collect();
            assert_eq!(names(&said).len(), 1, "{name}: {said:?}, of {known:?}");
        }
    }

    #[test]
    fn what_was_never_so_is_not_told_again_and_what_cannot_be_read_is() {
        let case = sample::case();
        let mut verified = report(Stage::Verify, 1);
        let mut now = sample::contained();
        now.protection = Observed::Unknown("ec2:DescribeInstanceAttribute failed: Denied".to_owned());
        let unread = standing(&case, &verified, &facts(now.clone()));
        assert!(matches!(&unread, Standing::Unknown { why } if why.contains("Denied")), "{unread:?}");
        // The run had said so itself.
        verified
            .checks
            .iter_mut()
            .filter(|check| check.name.contains("protection") || check.name.contains("shutdown"))
            .for_each(|check| check.status = CheckStatus::Fail);
        assert_eq!(standing(&case, &verified, &facts(now)), Standing::Held);
    }

    #[test]
    fn nothing_is_compared_before_a_run_has_verified_it_or_while_it_is_released() {
        assert!(super::verified(&[]).is_none());
        assert!(super::verified(&[report(Stage::Verify, 1)]).is_some());
        assert!(super::verified(&[report(Stage::Verify, 1), report(Stage::Release, 2)]).is_none());
        assert!(super::verified(&[report(Stage::Verify, 3), report(Stage::Release, 2)]).is_some());
    }

    #[test]
    fn people_are_told_once_a_day_for_the_same() {
        let case = sample::case();
        let at = |hours| case.opened_at + TimeDelta::hours(hours);
        let undone =
            |name: &str| Standing::Undone { changed: vec![Check::of(name, "", false, "")], verified_at: at(0) };
        let key = |standing: &Standing, hours| told_key(&case, standing, at(hours));
        assert_eq!(key(&undone("a"), 0), key(&undone("a"), 0));
        assert_ne!(key(&undone("a"), 0), key(&undone("a"), 24));
        assert_ne!(key(&undone("a"), 0), key(&undone("b"), 0));
        assert!(key(&undone("a"), 0).is_some_and(|key| key.starts_with("readiness/open-cases/case-")));
        assert_eq!((key(&Standing::Held, 0), key(&Standing::Unverified, 0)), (None, None));
    }
}
