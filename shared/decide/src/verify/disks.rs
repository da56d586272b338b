//! The checks of the disks: snapshots, their locks, and their copies.

use super::of_fact;
use crate::checks::verify::{COMPLETE, COPIES, LOCKED, SHARED, SNAPSHOTS};
use crate::disks::{is_locked, lock_in_words};
use crate::{preserve, replicate};
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::check::{Check, CheckStatus};
use stasis_model::disks::{Destination, LockMode, Snapshot, destination_of, is_cross_account, place_of};
use stasis_model::facts::VerifyFacts;
use stasis_model::stage::{Stage, StageStatus};
use stasis_model::tags;
use std::collections::BTreeSet;

/// The checks of the disks.
pub(super) fn checks(case: &Case, facts: &VerifyFacts) -> Vec<Check> {
    let mut checks = vec![encrypted(case, facts), complete(facts)];
    checks.extend(locked(case, facts));
    checks.extend(destination_of(case).map(|to| copied(case, to, facts)));
    checks.extend(is_cross_account(case).then(|| shared(case, facts)));
    checks
}

/// Whether copies may still come.
fn is_copying(case: &Case) -> bool {
    replicate::is_wanted(case)
        && match case.stages.get(&Stage::Replicate) {
            None => case.stages.get(&Stage::Preserve).is_some_and(|preserve| preserve.status == StageStatus::Waiting),
            Some(replicate) => replicate.status == StageStatus::Waiting,
        }
}

fn originals(snapshots: &[Snapshot]) -> impl Iterator<Item = &Snapshot> {
    snapshots.iter().filter(|s| s.copy_of().is_none())
}

/// The copies of a snapshot, wherever they are.
fn copies_of<'a>(original: &Snapshot, facts: &'a VerifyFacts) -> Vec<&'a Snapshot> {
    let both = [&facts.snapshots, &facts.copies];
    let all = both.into_iter().filter_map(|known| known.known()).flatten();
    all.filter(|s| s.copy_of() == Some(original.snapshot_id.as_str())).collect()
}

/// One snapshot per volume that is not given up, encrypted itself or by way of a copy, with the case's tags.
fn encrypted(case: &Case, facts: &VerifyFacts) -> Check {
    let expected = format!("one per volume, encrypted, tagged {}={}", tags::CASE, case.case_id);
    let (snapshots, volumes) = match (&facts.snapshots, &facts.instance) {
        (Observed::Known(snapshots), Observed::Known(instance)) => (snapshots, &instance.volumes),
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => {
            return Check::unknown(SNAPSHOTS, expected, format!("could not be read: {why}"));
        }
    };
    if snapshots.is_empty() {
        return Check::missing(SNAPSHOTS, expected, "there is no snapshot of this case");
    }
    let (mut problems, mut coming) = (Vec::new(), Vec::new());
    // Also of what somebody has detached since the case was opened.
    let before = case.baseline.instance.volumes.iter().filter(|b| !volumes.iter().any(|v| v.volume_id == b.volume_id));
    for volume in volumes.iter().chain(before) {
        if !originals(snapshots).any(|s| s.volume_id == volume.volume_id && !s.is_failed()) {
            problems.push(format!("none of {}", volume.volume_id));
        }
    }
    for snapshot in originals(snapshots).filter(|s| !s.is_failed() && !s.encrypted) {
        let copies = copies_of(snapshot, facts);
        if copies.iter().any(|copy| copy.encrypted && copy.is_completed()) {
            continue;
        }
        let id = &snapshot.snapshot_id;
        if is_copying(case) {
            coming.push(format!("{id} is not encrypted, its encrypted copy is not whole yet"));
        } else {
            problems.push(format!("{id} is not encrypted and has no encrypted copy"));
        }
    }
    let copies = facts.copies.known().into_iter().flatten();
    for snapshot in snapshots.iter().chain(copies) {
        if !tags::evidence_tags(case).iter().all(|t| snapshot.tags.get(&t.key) == Some(&t.value)) {
            problems.push(format!("{} lacks tags", snapshot.snapshot_id));
        }
    }
    let names: Vec<&str> = originals(snapshots).map(|s| s.snapshot_id.as_str()).collect();
    match (problems.is_empty(), coming.is_empty()) {
        (true, true) => Check::of(SNAPSHOTS, expected, true, names.join(", ")),
        (true, false) => Check::unknown(SNAPSHOTS, expected, coming.join("; ")),
        (false, _) => Check::of(SNAPSHOTS, expected, false, problems.join("; ")),
    }
}

/// Every volume has a snapshot that is whole. One that AWS gave up does no harm where another took its place.
fn complete(facts: &VerifyFacts) -> Check {
    let expected = "completed";
    of_fact(COMPLETE, expected, &facts.snapshots, |snapshots| {
        let originals: Vec<Snapshot> = originals(snapshots).cloned().collect();
        if originals.is_empty() {
            return Check::missing(COMPLETE, expected, "there is no snapshot of this case");
        }
        let volumes: BTreeSet<_> = originals.iter().map(|s| &s.volume_id).collect();
        let best = |volume| {
            let of_it = || originals.iter().filter(|s| &s.volume_id == volume);
            if of_it().any(Snapshot::is_completed) {
                CheckStatus::Pass
            } else if of_it().all(Snapshot::is_failed) {
                CheckStatus::Fail
            } else {
                CheckStatus::Unknown
            }
        };
        let status = volumes.into_iter().map(best).fold(CheckStatus::Pass, |all, one| match (all, one) {
            (CheckStatus::Fail, _) | (_, CheckStatus::Fail) => CheckStatus::Fail,
            (CheckStatus::Unknown, _) | (_, CheckStatus::Unknown) => CheckStatus::Unknown,
            _ => CheckStatus::Pass,
        });
        let observed = preserve::progress(&originals);
        Check { name: COMPLETE.to_owned(), status, expected: expected.to_owned(), observed }
    })
}

/// Every snapshot and every copy that is not given up is locked as the policy says.
fn locked(case: &Case, facts: &VerifyFacts) -> Option<Check> {
    let policy = &case.policy.disks;
    if policy.lock == LockMode::None {
        return None;
    }
    let expected = format!("locked ({}) for {} days", policy.lock, policy.lock_days);
    let (snapshots, copies) = match (&facts.snapshots, &facts.copies) {
        (Observed::Known(snapshots), Observed::Known(copies)) => (snapshots, copies),
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => {
            return Some(Check::unknown(LOCKED, expected, format!("could not be read: {why}")));
        }
    };
    let kept: Vec<&Snapshot> = snapshots.iter().chain(copies).filter(|s| !s.is_failed()).collect();
    if kept.is_empty() {
        return Some(Check::missing(LOCKED, expected, "there is no snapshot of this case"));
    }
    if let Some(why) = kept.iter().find_map(|s| match &s.lock {
        Observed::Unknown(why) => Some(why),
        Observed::Known(_) => None,
    }) {
        return Some(Check::unknown(LOCKED, expected, format!("could not be read: {why}")));
    }
    let open: Vec<&str> = kept.iter().filter(|s| !is_locked(case, s)).map(|s| s.snapshot_id.as_str()).collect();
    let observed = if open.is_empty() {
        let locks: BTreeSet<String> =
            kept.iter().filter_map(|s| Some(lock_in_words(s.lock.known()?.as_ref()?))).collect();
        format!("all {}: {}", kept.len(), locks.into_iter().collect::<Vec<_>>().join(", "))
    } else {
        format!("not locked so: {}", open.join(", "))
    };
    Some(Check::of(LOCKED, expected, open.is_empty(), observed))
}

/// Every snapshot has a whole, encrypted copy in the destination.
fn copied(case: &Case, to: &Destination, facts: &VerifyFacts) -> Check {
    let expected = format!("a copy of each in {}", to.place);
    let (snapshots, copies) = match (&facts.snapshots, &facts.copies) {
        (Observed::Known(snapshots), Observed::Known(copies)) => (snapshots, copies),
        (Observed::Unknown(why), _) | (_, Observed::Unknown(why)) => {
            return Check::unknown(COPIES, expected, format!("could not be read: {why}"));
        }
    };
    let (mut whole, mut problems, mut coming) = (Vec::new(), Vec::new(), Vec::new());
    for original in originals(snapshots).filter(|s| !s.is_failed()) {
        let of_it = || copies.iter().filter(|s| s.copy_of() == Some(original.snapshot_id.as_str()));
        match of_it().find(|copy| copy.is_completed()) {
            Some(copy) if copy.encrypted => whole.push(copy.snapshot_id.to_string()),
            Some(copy) => problems.push(format!("{} is not encrypted", copy.snapshot_id)),
            None if is_copying(case) => {
                let progress = of_it().find(|copy| !copy.is_failed()).map_or(0, |copy| copy.progress);
                coming.push(format!("that of {} has come to {progress} %", original.snapshot_id));
            }
            None => problems.push(format!("none of {}", original.snapshot_id)),
        }
    }
    match (problems.is_empty(), coming.is_empty(), whole.is_empty()) {
        (true, true, true) => Check::missing(COPIES, expected, "there is no snapshot to copy"),
        (true, true, false) => Check::of(COPIES, expected, true, whole.join(", ")),
        (true, false, _) => Check::unknown(COPIES, expected, coming.join("; ")),
        (false, _, _) => Check::of(COPIES, expected, false, problems.join("; ")),
    }
}

/// What was shared for the copying is not shared any longer, nor with anybody else.
fn shared(case: &Case, facts: &VerifyFacts) -> Check {
    let expected = "no snapshot shared";
    of_fact(SHARED, expected, &facts.snapshots, |snapshots| {
        let mut with = Vec::new();
        for snapshot in snapshots {
            match &snapshot.shared_with {
                Observed::Unknown(why) => {
                    return Check::unknown(SHARED, expected, format!("could not be read: {why}"));
                }
                Observed::Known(accounts) => {
                    with.extend(accounts.iter().map(|account| format!("{} with {account}", snapshot.snapshot_id)));
                }
            }
        }
        if with.is_empty() {
            return Check::of(SHARED, expected, true, format!("none in {}", place_of(case)));
        }
        if is_copying(case) {
            return Check::unknown(SHARED, expected, format!("until the copies are whole: {}", with.join(", ")));
        }
        Check::of(SHARED, expected, false, with.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::outcome;
    use crate::sample;
    use stasis_model::disks::{Lock, Place};

    /// A case whose copies go to another account, with one copy of each snapshot there.
    fn copied() -> (Case, VerifyFacts) {
        let mut case = sample::case();
        case.policy.disks.destination = Some(Destination {
            place: Place { account: "222233334444".parse().expect("id"), region: "eu-west-1".parse().expect("region") },
            role: String::new(),
            key: "alias/evidence".to_owned(),
        });
        case.stages.insert(Stage::Replicate, outcome(Stage::Replicate, StageStatus::Done));
        let mut facts = sample::contained();
        let mut copies = sample::snapshots(&["completed", "completed"]);
        for copy in &mut copies {
            copy.tags.insert(tags::COPY_OF.to_owned(), copy.snapshot_id.to_string());
        }
        facts.copies = Observed::Known(copies);
        (case, facts)
    }

    fn of(known: &mut Observed<Vec<Snapshot>>) -> &mut Vec<Snapshot> {
        match known {
            Observed::Known(snapshots) => snapshots,
            Observed::Unknown(why) => panic!("{why}"),
        }
    }

    fn status(case: &Case, facts: &VerifyFacts, name: &str) -> CheckStatus {
        checks(case, facts).into_iter().find(|c| c.name == name).expect("a check").status
    }

    #[test]
    fn everything_copied_locked_and_shared_with_nobody_passes() {
        let (case, facts) = copied();
        let checks = checks(&case, &facts);
        assert_eq!(checks.len(), 5);
        assert!(checks.iter().all(Check::passed), "{checks:#?}");
    }

    #[test]
    fn each_check_fails_when_what_it_is_about_is_otherwise() {
        type Spoil = fn(&mut VerifyFacts);
        let table: [(&str, Spoil); 9] = [
            (SNAPSHOTS, |f| of(&mut f.copies)[0].tags.clear()),
            (SNAPSHOTS, |f| {
                of(&mut f.snapshots)[0].encrypted = false;
                of(&mut f.copies)[0].encrypted = false;
            }),
            (COMPLETE, |f| of(&mut f.snapshots)[0].state = "error".to_owned()),
            (LOCKED, |f| of(&mut f.snapshots)[1].lock = Observed::Known(None)),
            (LOCKED, |f| {
                of(&mut f.copies)[1].lock = Observed::Known(Some(Lock { days: Some(7), ..sample::governance() }));
            }),
            (COPIES, |f| {
                of(&mut f.copies).pop();
            }),
            (COPIES, |f| of(&mut f.copies)[0].state = "error".to_owned()),
            (COPIES, |f| of(&mut f.copies)[0].encrypted = false),
            (SHARED, |f| of(&mut f.snapshots)[0].shared_with = Observed::Known(BTreeSet::from(["all".to_owned()]))),
        ];
        for (name, spoil) in table {
            let (case, mut facts) = copied();
            spoil(&mut facts);
            assert_eq!(status(&case, &facts, name), CheckStatus::Fail, "{name}");
        }
    }

    #[test]
    fn what_still_comes_is_unknown_and_no_failure() {
        let (mut case, mut facts) = copied();
        case.stages.insert(Stage::Replicate, outcome(Stage::Replicate, StageStatus::Waiting));
        of(&mut facts.copies)[0].state = "pending".to_owned();
        of(&mut facts.snapshots)[0].encrypted = false;
        of(&mut facts.snapshots)[0].shared_with = Observed::Known(BTreeSet::from(["222233334444".to_owned()]));
        for name in [SNAPSHOTS, COPIES, SHARED] {
            assert_eq!(status(&case, &facts, name), CheckStatus::Unknown, "{name}");
        }
    }

    #[test]
    fn an_encrypted_copy_makes_up_for_a_volume_that_is_not_encrypted() {
        let (case, mut facts) = copied();
        of(&mut facts.snapshots)[0].encrypted = false;
        assert_eq!(status(&case, &facts, SNAPSHOTS), CheckStatus::Pass);
    }

    #[test]
    fn a_snapshot_that_was_taken_again_is_not_missed() {
        let (case, mut facts) = copied();
        let again = of(&mut facts.snapshots)[0].clone();
        of(&mut facts.snapshots)[0].state = "error".to_owned();
        of(&mut facts.snapshots).push(again);
        assert!(checks(&case, &facts).iter().all(Check::passed));
    }

    #[test]
    fn a_lock_that_cannot_be_read_is_unknown() {
        let (case, mut facts) = copied();
        of(&mut facts.copies)[0].lock = Observed::Unknown("AccessDenied".to_owned());
        assert_eq!(status(&case, &facts, LOCKED), CheckStatus::Unknown);
    }
}
