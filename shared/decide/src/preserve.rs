//! Preserve: the disks, frozen at one point in time and locked. The point is fixed when CreateSnapshots returns; only
//! its completion takes long, and nothing waits for that. A volume that cannot be had never keeps the others from it.

use crate::disks::{self, Tried};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::{Observed, Volume};
use stasis_model::case::Case;
use stasis_model::disks::{PreserveFacts, Snapshot, VolumeFacts, place_of};
use stasis_model::stage::{ActionRecord, Failure, Plan};
use stasis_model::tags::{self, Tag};

/// How often a snapshot that AWS gave up is taken again.
const TRIES: usize = 2;

/// What preserve does next, at the time `now`, after what was `tried` in this call.
pub fn plan(case: &Case, facts: &PreserveFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
    let mut plan = Plan::nothing();
    let instance = &case.instance.instance_id;
    let volumes = &facts.instance.volumes;
    plan.notes.extend(in_words(facts));
    plan.notes.extend(instance_store(facts));
    if case.is_dry_run() {
        plan.notes.push(format!(
            "each snapshot would be locked: {} for {} days",
            case.policy.disks.lock, case.policy.disks.lock_days
        ));
    }
    // What was attached when the case was opened is evidence, also when somebody has detached it since.
    let detached: Vec<&Volume> =
        case.baseline.instance.volumes.iter().filter(|b| !volumes.iter().any(|v| v.volume_id == b.volume_id)).collect();
    plan.notes.extend(
        detached.iter().map(|v| {
            format!("{} ({}) was attached when the case was opened and is not any more", v.volume_id, v.device)
        }),
    );
    plan.notes.extend(facts.older.iter().map(|snapshot| {
        format!(
            "{snapshot} carries the tag of this case and is older than it: it counts for nothing here, and somebody may have wanted it taken for evidence"
        )
    }));
    if volumes.is_empty() && detached.is_empty() && facts.snapshots.is_empty() {
        plan.obstacles.push(Failure::lasting(
            "NoVolumes",
            format!("{instance} has no EBS volume: its disks are instance store, which no snapshot can preserve"),
        ));
        return plan;
    }
    plan.evidence = facts.snapshots.iter().map(|snapshot| disks::evidence(&place_of(case), snapshot)).collect();
    let mut waiting = facts.snapshots.iter().any(|s| !s.is_completed() && !s.is_failed());
    let mut create = Vec::new();
    let set = disks::tried(tried, |action| matches!(action, Action::CreateSnapshots { .. }));
    let untouched = facts.snapshots.is_empty();
    let mut singly = detached;
    if untouched && !volumes.is_empty() && matches!(set, Tried::No | Tried::Again) {
        create.extend(whole(case, facts, &mut plan.obstacles));
    } else if untouched && set == Tried::Soon {
        waiting = true;
    } else {
        singly.extend(volumes);
    }
    for volume in singly {
        match one(case, facts, volume, tried) {
            One::Kept => {}
            One::Take(action) => create.push(action),
            One::Comes => waiting = true,
            One::Lost(failure) => plan.obstacles.push(failure),
        }
    }
    let mut kept = facts.snapshots.iter().filter(|s| !s.is_failed());
    let (locks, coming) = disks::locks(case, &place_of(case), &mut kept, tried, &mut plan.obstacles);
    waiting |= coming;
    if facts.snapshots.iter().any(Snapshot::is_taken_alone) {
        plan.notes.push(not_of_one_instant(&facts.snapshots));
    }
    plan.step(create);
    plan.step(locks);
    plan.next = disks::next(case, now, !plan.steps.is_empty(), waiting);
    if waiting {
        plan.progress = Some(progress(&facts.snapshots));
    }
    plan
}

/// Every volume in one call, but those that EC2 would refuse it for.
fn whole(case: &Case, facts: &PreserveFacts, obstacles: &mut Vec<Failure>) -> Option<Action> {
    let root = facts.instance.root_device.as_deref();
    let (mut without, mut without_root, mut sound) = (Vec::new(), false, 0);
    for volume in &facts.instance.volumes {
        match broken(facts, volume) {
            None => sound += 1,
            Some(failure) => {
                obstacles.push(failure);
                if root == Some(volume.device.as_str()) {
                    without_root = true;
                } else {
                    without.push(volume.volume_id.clone());
                }
            }
        }
    }
    (sound > 0).then(|| Action::CreateSnapshots {
        instance: case.instance.instance_id.clone(),
        without,
        without_root,
        description: description(case),
        tags: tags::evidence_tags(case),
    })
}

/// What is to become of one volume.
enum One {
    /// It has its snapshot.
    Kept,
    /// One is to be taken.
    Take(Action),
    /// One comes.
    Comes,
    /// None can be had.
    Lost(Failure),
}

/// A volume where there is a set already, or where EC2 refused to make one: by itself.
fn one(case: &Case, facts: &PreserveFacts, volume: &Volume, tried: &[ActionRecord]) -> One {
    let (id, device) = (&volume.volume_id, &volume.device);
    let taken: Vec<&Snapshot> = facts.snapshots.iter().filter(|s| &s.volume_id == id).collect();
    if taken.iter().any(|s| !s.is_failed()) {
        return One::Kept;
    }
    if let Some(failure) = broken(facts, volume) {
        return One::Lost(failure);
    }
    if let Some(failed) = taken.last().filter(|_| taken.len() >= TRIES) {
        let why = failed.message.as_deref().unwrap_or("without a reason");
        return One::Lost(Failure::lasting(
            "SnapshotFailed",
            format!("{} of {id} ({device}) failed, {} times in all: {why}", failed.snapshot_id, taken.len()),
        ));
    }
    let alone = |action: &Action| matches!(action, Action::CreateSnapshot { volume, .. } if volume == id);
    match disks::tried(tried, alone) {
        Tried::Soon => return One::Comes,
        Tried::Refused(failure) => {
            return One::Lost(Failure {
                message: format!("{id} ({device}) is not preserved: {}", failure.message),
                ..failure
            });
        }
        Tried::No | Tried::Again => {}
    }
    let is_attached = facts.instance.volumes.iter().any(|v| &v.volume_id == id);
    let set = disks::tried(tried, |action| matches!(action, Action::CreateSnapshots { .. }));
    if is_attached && set == Tried::Soon {
        return One::Comes;
    }
    if !is_attached && facts.volumes.known().is_some_and(|known| !known.contains_key(id)) {
        let gone = format!("{id} ({device}) was attached when the case was opened and does not exist any more");
        return One::Lost(Failure::lasting("VolumeGone", gone));
    }
    let mut tags = tags::evidence_tags(case);
    tags.push(Tag::new(tags::TAKEN_ALONE, "Yes"));
    One::Take(Action::CreateSnapshot { volume: id.clone(), description: description(case), tags })
}

/// Why a volume has nothing that a snapshot could hold.
fn broken(facts: &PreserveFacts, volume: &Volume) -> Option<Failure> {
    let known = facts.volumes.known()?.get(&volume.volume_id)?;
    (known.state == "error").then(|| {
        Failure::lasting(
            "VolumeInError",
            format!(
                "{} ({}) is in state error: its hardware failed and its data cannot be read, so it has no snapshot",
                volume.volume_id, volume.device
            ),
        )
    })
}

fn description(case: &Case) -> String {
    format!("Stasis {} ticket {} {}", case.case_id, case.ticket, case.instance.instance_id)
}

/// The volumes, one line each: what an analyst must know to make use of the snapshots.
fn in_words(facts: &PreserveFacts) -> Vec<String> {
    let known = match &facts.volumes {
        Observed::Known(known) => known,
        Observed::Unknown(why) => return vec![format!("the volumes could not be described: {why}")],
    };
    let mut notes = Vec::new();
    for volume in &facts.instance.volumes {
        let Some(found) = known.get(&volume.volume_id) else {
            notes.push(format!("{} ({}) is not described by EC2", volume.volume_id, volume.device));
            continue;
        };
        notes.push(format!(
            "{} ({}): {}, {} GiB, {}, {}",
            volume.volume_id,
            volume.device,
            found.kind,
            found.size_gib,
            found.state,
            encryption(found, &facts.aws_ebs_key)
        ));
        if !found.others.is_empty() {
            let others: Vec<&str> = found.others.iter().map(|id| id.as_str()).collect();
            notes.push(format!(
                "{} is attached to {} too (multi-attach): what they wrote is in its snapshot, and they still write to it",
                volume.volume_id,
                others.join(", ")
            ));
        }
    }
    notes
}

fn encryption(volume: &VolumeFacts, aws_ebs_key: &Observed<Option<String>>) -> String {
    match (&volume.key, aws_ebs_key) {
        (None, _) => "not encrypted".to_owned(),
        (Some(key), Observed::Known(Some(managed))) if key == managed => {
            "encrypted with AWS' own key aws/ebs, which no other account can use".to_owned()
        }
        (Some(key), _) => format!("encrypted with {key}"),
    }
}

/// What no snapshot preserves: disks of the host itself, which are lost when the instance stops
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/InstanceStorage.html>).
fn instance_store(facts: &PreserveFacts) -> Option<String> {
    let kind = &facts.instance.instance_type;
    match &facts.instance_store_gb {
        Observed::Known(None) => None,
        Observed::Known(Some(size)) => Some(format!(
            "type {kind} has {size} GB of instance store, which no snapshot preserves and which is lost when the instance stops: read it while it runs"
        )),
        Observed::Unknown(why) => Some(format!("whether type {kind} has instance store could not be read: {why}")),
    }
}

fn not_of_one_instant(snapshots: &[Snapshot]) -> String {
    let alone: Vec<&str> = snapshots.iter().filter(|s| s.is_taken_alone()).map(|s| s.snapshot_id.as_str()).collect();
    format!(
        "the snapshots are not all of one instant: {} taken alone, at a moment of {} own",
        alone.join(", ") + if alone.len() == 1 { " was" } else { " were" },
        if alone.len() == 1 { "its" } else { "their" }
    )
}

/// How far the snapshots are, in words.
pub fn progress(snapshots: &[Snapshot]) -> String {
    let parts: Vec<String> =
        snapshots.iter().map(|s| format!("{} {} {} %", s.snapshot_id, s.state, s.progress)).collect();
    if parts.is_empty() {
        return "no snapshot shows yet: EC2 has no room for one, or takes its time".to_owned();
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::FIRST_WAIT;
    use crate::sample;
    use chrono::TimeDelta;
    use stasis_model::stage::Next;

    fn facts(states: &[&str]) -> PreserveFacts {
        sample::preserve_facts(states)
    }

    fn planned(facts: &PreserveFacts, tried: &[ActionRecord]) -> Plan {
        let case = sample::case();
        plan(&case, facts, case.opened_at, tried)
    }

    fn codes(plan: &Plan) -> Vec<&str> {
        plan.obstacles.iter().map(|o| o.code.as_str()).collect()
    }

    /// The volumes that are snapshotted by themselves.
    fn alone(plan: &Plan) -> Vec<&str> {
        plan.actions()
            .filter_map(|a| match a {
                Action::CreateSnapshot { volume, .. } => Some(volume.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The set that is taken first, as a record.
    fn set(code: Option<&str>) -> ActionRecord {
        let action = planned(&facts(&[]), &[]).actions().next().cloned().expect("a set");
        sample::record(action, code)
    }

    const FIRST: &str = "vol-0aaaaaaaaaaaaaaa1";
    const SECOND: &str = "vol-0aaaaaaaaaaaaaaa2";

    #[test]
    fn a_snapshot_older_than_the_case_is_nothing_of_it_and_is_said() {
        let mut of_before = sample::snapshots(&["completed"]).remove(0);
        for (seconds, older) in [(-3600, true), (-61, true), (-60, false), (0, false), (3600, false)] {
            of_before.started_at = Some(sample::case().opened_at + TimeDelta::seconds(seconds));
            assert_eq!(of_before.is_older_than(&sample::case()), older, "{seconds}");
        }
        of_before.started_at = None;
        assert!(!of_before.is_older_than(&sample::case()), "what has no time is not thrown away");
        let mut facts = facts(&[]);
        facts.older = vec![of_before.snapshot_id];
        let plan = planned(&facts, &[]);
        assert_eq!(plan.actions().count(), planned(&self::facts(&[]), &[]).actions().count());
        assert!(
            plan.notes.iter().any(|note| note.contains("snap-0aaaaaaaaaaaaaaa1 carries the tag")),
            "{:?}",
            plan.notes
        );
        assert!(plan.evidence.is_empty());
    }

    #[test]
    fn one_call_for_the_whole_instance_tagged_in_the_call() {
        let case = sample::case();
        let plan = planned(&facts(&[]), &[]);
        let actions: Vec<&Action> = plan.actions().collect();
        let [Action::CreateSnapshots { tags, description, without, without_root, .. }] = actions.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(*tags, tags::evidence_tags(&case));
        assert!(description.contains(case.case_id.as_str()) && description.contains(case.ticket.as_str()));
        assert!(without.is_empty() && !without_root);
        assert_eq!(plan.next, Next::ObserveAgain);
    }

    #[test]
    fn what_was_asked_for_and_does_not_show_yet_is_waited_for_and_not_asked_for_twice() {
        let plan = planned(&facts(&[]), &[set(None)]);
        assert_eq!((plan.actions().count(), plan.next), (0, Next::WaitForRest(FIRST_WAIT)));
    }

    #[test]
    fn no_room_for_another_snapshot_is_waited_for_and_no_failure() {
        for code in
            ["ConcurrentSnapshotLimitExceeded", "SnapshotCreationPerVolumeRateExceeded", "ResourceLimitExceeded"]
        {
            let plan = planned(&facts(&[]), &[set(Some(code))]);
            assert_eq!((plan.actions().count(), plan.next), (0, Next::WaitForRest(FIRST_WAIT)), "{code}");
            assert!(plan.obstacles.is_empty());
        }
    }

    #[test]
    fn where_the_set_is_refused_each_volume_is_taken_alone_and_the_report_says_so() {
        let refused = set(Some("InvalidParameterValue"));
        let plan = planned(&facts(&[]), std::slice::from_ref(&refused));
        assert_eq!((alone(&plan), plan.next), (vec![FIRST, SECOND], Next::ObserveAgain));
        let mut shown = facts(&["pending", "pending"]);
        shown.snapshots.iter_mut().for_each(|s| {
            s.tags.insert(tags::TAKEN_ALONE.to_owned(), "Yes".to_owned());
        });
        let plan = planned(&shown, &[refused]);
        assert!(plan.notes.iter().any(|note| note.contains("not all of one instant")), "{:?}", plan.notes);
        assert_eq!((plan.actions().count(), plan.obstacles.len()), (0, 0));
    }

    #[test]
    fn a_volume_that_is_refused_for_good_is_named_and_the_others_are_preserved() {
        let case = sample::case();
        let refused =
            Action::CreateSnapshot { volume: FIRST.parse().expect("id"), description: String::new(), tags: Vec::new() };
        let mut shown = facts(&["pending", "pending"]);
        shown.snapshots.remove(0);
        let tried = [set(Some("Refused")), sample::record(refused, Some("IncorrectState"))];
        let plan = plan(&case, &shown, case.opened_at, &tried);
        assert_eq!(codes(&plan), ["IncorrectState"]);
        assert!(plan.obstacles[0].message.contains(FIRST));
        assert_eq!(plan.next, Next::WaitForRest(FIRST_WAIT), "the other one is still waited for");
    }

    #[test]
    fn a_volume_in_error_is_left_out_so_that_the_others_stay_of_one_instant() {
        for (broken, root) in [(SECOND, false), (FIRST, true)] {
            let mut facts = facts(&[]);
            if let Observed::Known(volumes) = &mut facts.volumes {
                volumes.get_mut(&broken.parse().expect("id")).expect("a volume").state = "error".to_owned();
            }
            let plan = planned(&facts, &[]);
            assert_eq!(codes(&plan), ["VolumeInError"]);
            let Some(Action::CreateSnapshots { without, without_root, .. }) = plan.actions().next() else { panic!() };
            assert_eq!((without.len(), *without_root), (usize::from(!root), root));
        }
        let mut none = facts(&[]);
        if let Observed::Known(volumes) = &mut none.volumes {
            volumes.values_mut().for_each(|v| v.state = "error".to_owned());
        }
        let plan = planned(&none, &[]);
        assert_eq!((plan.actions().count(), codes(&plan).len(), plan.next), (0, 2, Next::Finish));
    }

    #[test]
    fn instance_store_multi_attach_and_keys_are_named() {
        let mut facts = facts(&["completed", "completed"]);
        facts.instance_store_gb = Observed::Known(Some(1900));
        if let Observed::Known(volumes) = &mut facts.volumes {
            let mut volumes = volumes.values_mut();
            let first = volumes.next().expect("a volume");
            first.others = vec!["i-0bbbbbbbbbbbbbbbb".parse().expect("id")];
            first.key = None;
            volumes.next().expect("a volume").key = Some(sample::AWS_EBS_KEY.to_owned());
        }
        let notes = planned(&facts, &[]).notes.join("\n");
        for part in ["1900 GB of instance store", "i-0bbbbbbbbbbbbbbbb too (multi-attach)", "not encrypted", "aws/ebs"]
        {
            assert!(notes.contains(part), "{part}: {notes}");
        }
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        for states in [["pending", "pending"], ["completed", "pending"], ["completed", "completed"]] {
            assert_eq!(planned(&facts(&states), &[]).actions().count(), 0, "{states:?}");
        }
    }

    #[test]
    fn it_waits_while_pending_with_growing_waits_and_is_done_when_complete() {
        let case = sample::case();
        let at = |seconds| case.opened_at + TimeDelta::seconds(seconds);
        let pending = facts(&["completed", "pending"]);
        let waits: Vec<Next> = [0, 200, 86_400].iter().map(|s| plan(&case, &pending, at(*s), &[]).next).collect();
        assert_eq!(waits, [Next::WaitForRest(15), Next::WaitForRest(50), Next::WaitForRest(600)]);
        let done = plan(&case, &facts(&["completed", "completed"]), at(5), &[]);
        assert_eq!((done.next, done.obstacles.len(), done.evidence.len()), (Next::Finish, 0, 2));
    }

    #[test]
    fn what_aws_gave_up_is_taken_once_more_and_then_said_to_have_failed() {
        let mut facts = facts(&["completed", "error"]);
        let plan = planned(&facts, &[]);
        assert_eq!((alone(&plan), codes(&plan).len()), (vec![SECOND], 0));
        let mut again = facts.snapshots[1].clone();
        again.snapshot_id = "snap-0bbbbbbbbbbbbbbbb".parse().expect("id");
        facts.snapshots.push(again.clone());
        assert_eq!(codes(&planned(&facts, &[])), ["SnapshotFailed"]);
        again.state = "completed".to_owned();
        facts.snapshots.push(again);
        assert!(planned(&facts, &[]).obstacles.is_empty());
    }

    #[test]
    fn a_volume_that_came_later_gets_its_own_and_no_volume_is_said() {
        assert_eq!(alone(&planned(&facts(&["completed"]), &[])), [SECOND]);
        let mut none = facts(&[]);
        none.instance.volumes.clear();
        let mut case = sample::case();
        case.baseline.instance.volumes.clear();
        assert_eq!(codes(&plan(&case, &none, case.opened_at, &[])), ["NoVolumes"]);
    }

    #[test]
    fn what_was_detached_since_is_preserved_by_itself_and_what_is_gone_is_said() {
        let mut facts = facts(&[]);
        facts.instance.volumes.pop();
        let plan = planned(&facts, &[]);
        assert_eq!((alone(&plan), plan.actions().count()), (vec![SECOND], 2), "the set, and that one");
        assert!(plan.notes.iter().any(|note| note.contains(SECOND) && note.contains("is not any more")));
        facts.instance.volumes.clear();
        assert_eq!(alone(&planned(&facts, &[])), [FIRST, SECOND], "nothing is attached any more");
        if let Observed::Known(volumes) = &mut facts.volumes {
            volumes.clear();
        }
        assert_eq!(codes(&planned(&facts, &[])), ["VolumeGone", "VolumeGone"]);
    }

    #[test]
    fn what_may_have_been_done_is_looked_for_and_not_done_twice() {
        let mut lost = set(Some("TimedOut"));
        lost.error.iter_mut().for_each(|error| error.retryable = true);
        let plan = planned(&facts(&[]), &[lost]);
        assert_eq!((plan.actions().count(), plan.next), (0, Next::WaitForRest(FIRST_WAIT)));
    }

    #[test]
    fn a_lock_is_never_made_weaker() {
        let mut facts = facts(&["completed"]);
        facts.instance.volumes.truncate(1);
        let mut case = sample::case();
        case.baseline.instance.volumes.truncate(1);
        for (state, days, mode, wanted) in [
            ("governance", 3650, stasis_model::disks::LockMode::Compliance, 3650),
            ("compliance-cooloff", 30, stasis_model::disks::LockMode::Governance, 365),
        ] {
            case.policy.disks.lock = mode;
            facts.snapshots[0].lock = Observed::Known(Some(stasis_model::disks::Lock {
                state: state.to_owned(),
                days: Some(days),
                expires_at: None,
            }));
            let plan = super::plan(&case, &facts, case.opened_at, &[]);
            let Some(Action::LockSnapshot { mode, days, .. }) = plan.actions().next() else { panic!("{state}") };
            assert_eq!((*mode, *days), (stasis_model::disks::LockMode::Compliance, wanted), "{state}");
        }
    }

    #[test]
    fn each_snapshot_is_locked_and_a_lock_that_is_refused_is_said() {
        let mut facts = facts(&["pending", "completed"]);
        facts.snapshots[0].lock = Observed::Known(None);
        facts.snapshots[1].lock =
            Observed::Known(Some(stasis_model::disks::Lock { days: Some(1), ..sample::governance() }));
        let plan = planned(&facts, &[]);
        let locks: Vec<Action> = plan.actions().cloned().collect();
        assert_eq!(locks.len(), 2, "one has none, one ends too soon");
        assert!(matches!(&locks[0], Action::LockSnapshot { days: 365, .. }));
        let tried: Vec<ActionRecord> =
            locks.into_iter().map(|lock| sample::record(lock, Some("UnauthorizedOperation"))).collect();
        let plan = planned(&facts, &tried);
        assert_eq!((codes(&plan).len(), plan.next), (2, Next::WaitForRest(FIRST_WAIT)));
        let mut case = sample::case();
        case.policy.disks.lock = stasis_model::disks::LockMode::None;
        assert_eq!(super::plan(&case, &facts, case.opened_at, &[]).actions().count(), 0);
    }
}
