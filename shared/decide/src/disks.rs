//! What preserve and replicate have in common: reading what was tried, locking, and when to look again.

use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::disks::{Lock, LockMode, Place, Snapshot};
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::stage::{ActionRecord, Failure, Next, Outcome};
use stasis_model::tags;

/// The first wait, in seconds.
pub(crate) const FIRST_WAIT: u32 = 15;
/// The longest wait between two looks, in seconds: a day of these stays far below the 25,000 events that an
/// execution may have (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
const LONGEST_WAIT: u32 = 600;

/// EC2's codes for "not now": a limit of what may be going on at once, which ends by itself, or a share or a snapshot
/// that is not seen everywhere yet
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).
const LATER: [&str; 5] = [
    "ConcurrentSnapshotLimitExceeded",
    "PendingSnapshotLimitExceeded",
    "SnapshotCreationPerVolumeRateExceeded",
    "ResourceLimitExceeded",
    "InvalidSnapshot.NotFound",
];

/// Refusals before anything was done.
const THROTTLED: [&str; 4] = ["RequestLimitExceeded", "Throttling", "ThrottlingException", "EC2ThrottledException"];

/// What came of an action in this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It was not tried.
    No,
    /// It was done, or may have been, or EC2 has no room for it yet: it shows later.
    Soon,
    /// It failed for a passing reason.
    Again,
    /// It was refused.
    Refused(Failure),
}

/// What came of the last action of a kind in this call.
pub(crate) fn tried(records: &[ActionRecord], is: impl Fn(&Action) -> bool) -> Tried {
    let Some(record) = records.iter().rev().find(|record| is(&record.action)) else { return Tried::No };
    match (&record.outcome, &record.error) {
        (Outcome::Failed, Some(failure)) if LATER.contains(&failure.code.as_str()) => Tried::Soon,
        (Outcome::Failed, Some(failure)) if THROTTLED.contains(&failure.code.as_str()) => Tried::Again,
        // It may have been done all the same, and these calls know no token that makes it safe to repeat them: look first.
        (Outcome::Failed, Some(failure)) if failure.retryable => Tried::Soon,
        (Outcome::Failed, Some(failure)) => Tried::Refused(failure.clone()),
        _ => Tried::Soon,
    }
}

/// The locks that are lacking, and whether one that was set does not show yet; an obstacle for each that was refused.
pub(crate) fn locks(
    case: &Case,
    place: &Place,
    snapshots: &mut dyn Iterator<Item = &Snapshot>,
    records: &[ActionRecord],
    obstacles: &mut Vec<Failure>,
) -> (Vec<Action>, bool) {
    let policy = &case.policy.disks;
    let (mut actions, mut coming) = (Vec::new(), false);
    if policy.lock == LockMode::None {
        return (actions, coming);
    }
    for snapshot in snapshots {
        if is_locked(case, snapshot) {
            continue;
        }
        let of_it = |action: &Action| matches!(action, Action::LockSnapshot { snapshot: id, place: at, .. } if id == &snapshot.snapshot_id && at == place);
        match tried(records, of_it) {
            // Where locks cannot be read there is nothing to wait for.
            Tried::Soon => coming |= snapshot.lock.known().is_some(),
            Tried::Refused(failure) => obstacles.push(Failure {
                message: format!("{} is not locked and could be deleted: {}", snapshot.snapshot_id, failure.message),
                ..failure
            }),
            Tried::No | Tried::Again => {
                let (mode, days) = at_least(policy.lock, policy.lock_days, &snapshot.lock);
                let snapshot = snapshot.snapshot_id.clone();
                actions.push(Action::LockSnapshot { snapshot, place: place.clone(), mode, days });
            }
        }
    }
    (actions, coming)
}

/// The lock that a policy asks for, and never less than the one that is there: EC2 would let it be weakened
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockSnapshot.html>).
fn at_least(mode: LockMode, days: i32, there: &Observed<Option<Lock>>) -> (LockMode, i32) {
    let Some(lock) = there.known().and_then(Option::as_ref).filter(|lock| lock.state != "expired") else {
        return (mode, days);
    };
    let mode = if lock.state.starts_with("compliance") { LockMode::Compliance } else { mode };
    (mode, lock.days.map_or(days, |locked| locked.max(days)))
}

/// Whether a snapshot is known to be locked as the policy says.
pub(crate) fn is_locked(case: &Case, snapshot: &Snapshot) -> bool {
    let policy = &case.policy.disks;
    matches!(&snapshot.lock, Observed::Known(Some(lock)) if lock.satisfies(policy.lock, policy.lock_days))
}

/// What comes next: a last look at what was done, the wait for what AWS is at, or the end.
pub(crate) fn next(case: &Case, now: Timestamp, acted: bool, waiting: bool) -> Next {
    if acted {
        return Next::ObserveAgain;
    }
    if !waiting {
        return Next::Finish;
    }
    let elapsed = (now - case.worked_on_since()).num_seconds();
    Next::WaitForRest(u32::try_from(elapsed / 4).unwrap_or(LONGEST_WAIT).clamp(FIRST_WAIT, LONGEST_WAIT))
}

/// A snapshot as evidence.
pub(crate) fn evidence(place: &Place, snapshot: &Snapshot) -> Evidence {
    let encrypted = match (&snapshot.key, snapshot.encrypted) {
        (Some(key), _) => format!("encrypted with {key}"),
        (None, true) => "encrypted".to_owned(),
        (None, false) => "not encrypted".to_owned(),
    };
    let what = match snapshot.copy_of() {
        Some(original) => format!("copy of {original}"),
        None => format!("snapshot of {}", snapshot.volume_id),
    };
    let lock = match &snapshot.lock {
        Observed::Known(Some(lock)) => format!(", {}", lock_in_words(lock)),
        _ => String::new(),
    };
    let tags = snapshot.tags.get(tags::VOLUME).map_or_else(String::new, |volume| format!(" ({volume})"));
    Evidence {
        kind: EvidenceKind::Snapshot,
        id: snapshot.snapshot_id.to_string(),
        description: format!(
            "{what}{tags}, {} GiB, {encrypted}, {} {} %{lock}",
            snapshot.size_gib, snapshot.state, snapshot.progress
        ),
        location: Some(place.to_string()),
        sha256: None,
        size: None,
    }
}

/// A lock, in words.
pub(crate) fn lock_in_words(lock: &Lock) -> String {
    match (lock.expires_at, lock.days) {
        (Some(until), _) => format!("locked ({}) until {}", lock.state, until.format("%Y-%m-%d")),
        (None, Some(days)) => format!("locked ({}) for {days} days from its completion", lock.state),
        (None, None) => format!("locked ({})", lock.state),
    }
}
