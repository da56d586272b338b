//! Preserve: the disks, frozen at one point in time. The point is fixed when CreateSnapshots returns; only
//! its completion takes long, and nothing waits for that.

use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::{PreserveFacts, Snapshot};
use stasis_model::stage::{Failure, Next, Plan};
use stasis_model::tags;

/// The first wait, in seconds.
const FIRST_WAIT: u32 = 15;
/// The longest wait between two looks, in seconds: a day of these stays far below the 25,000 events that an
/// execution may have (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
const LONGEST_WAIT: u32 = 300;

/// What preserve does next, at the time `now`.
pub fn plan(case: &Case, facts: &PreserveFacts, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let instance = &case.instance.instance_id;
    plan.notes.extend(instance_store(facts));
    if facts.snapshots.is_empty() {
        if facts.instance.volumes.is_empty() {
            plan.obstacles.push(Failure::lasting(
                "NoVolumes",
                format!("{instance} has no EBS volume: its disks are instance store, which no snapshot can preserve"),
            ));
            return plan;
        }
        plan.step(vec![Action::CreateSnapshots {
            instance: instance.clone(),
            description: format!("Stasis {} ticket {} {instance}", case.case_id, case.ticket),
            tags: tags::evidence_tags(case),
        }]);
        plan.next = Next::Wait(FIRST_WAIT);
        return plan;
    }
    plan.evidence = facts.snapshots.iter().map(evidence).collect();
    for failed in facts.snapshots.iter().filter(|s| s.state == "error") {
        let why = failed.message.as_deref().unwrap_or("without a reason");
        plan.obstacles.push(Failure::lasting(
            "SnapshotFailed",
            format!("{} of {} failed: {why}", failed.snapshot_id, failed.volume_id),
        ));
    }
    for volume in &facts.instance.volumes {
        if !facts.snapshots.iter().any(|s| s.volume_id == volume.volume_id) {
            plan.obstacles.push(Failure::lasting(
                "VolumeWithoutSnapshot",
                format!(
                    "{} ({}) has no snapshot in this case: it was attached later, or AWS left it out",
                    volume.volume_id, volume.device
                ),
            ));
        }
    }
    if facts.snapshots.iter().any(|s| s.state == "pending") {
        plan.notes.push(progress(&facts.snapshots));
        let elapsed = (now - case.opened_at).num_seconds();
        plan.next = Next::Wait(u32::try_from(elapsed / 4).unwrap_or(LONGEST_WAIT).clamp(FIRST_WAIT, LONGEST_WAIT));
    }
    plan
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

/// How far the snapshots are, in words.
pub fn progress(snapshots: &[Snapshot]) -> String {
    let parts: Vec<String> =
        snapshots.iter().map(|s| format!("{} {} {} %", s.snapshot_id, s.state, s.progress)).collect();
    parts.join(", ")
}

fn evidence(snapshot: &Snapshot) -> Evidence {
    let encrypted = if snapshot.encrypted { "encrypted" } else { "not encrypted" };
    Evidence {
        kind: EvidenceKind::Snapshot,
        id: snapshot.snapshot_id.to_string(),
        description: format!(
            "snapshot of {}, {} GiB, {encrypted}, {} {} %",
            snapshot.volume_id, snapshot.size_gib, snapshot.state, snapshot.progress
        ),
        location: None,
        sha256: None,
        size: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use chrono::TimeDelta;

    fn facts(states: &[&str]) -> PreserveFacts {
        PreserveFacts {
            instance: sample::case().baseline.instance,
            snapshots: sample::snapshots(states),
            instance_store_gb: Observed::Known(None),
        }
    }

    #[test]
    fn one_call_for_the_whole_instance_tagged_in_the_call() {
        let case = sample::case();
        let plan = plan(&case, &facts(&[]), case.opened_at);
        let actions: Vec<&Action> = plan.actions().collect();
        let [Action::CreateSnapshots { tags, description, .. }] = actions.as_slice() else { panic!("{plan:?}") };
        assert_eq!(*tags, tags::evidence_tags(&case));
        assert!(description.contains(case.case_id.as_str()) && description.contains(case.ticket.as_str()));
        assert_eq!(plan.next, Next::Wait(FIRST_WAIT));
    }

    #[test]
    fn instance_store_is_named_as_what_is_not_preserved() {
        let case = sample::case();
        let mut facts = facts(&["completed", "completed"]);
        assert!(plan(&case, &facts, case.opened_at).notes.is_empty());
        facts.instance_store_gb = Observed::Known(Some(1900));
        assert!(plan(&case, &facts, case.opened_at).notes[0].contains("1900 GB of instance store"));
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let case = sample::case();
        for states in
            [["pending", "pending"], ["completed", "pending"], ["completed", "error"], ["completed", "completed"]]
        {
            assert_eq!(plan(&case, &facts(&states), case.opened_at).actions().count(), 0, "{states:?}");
        }
    }

    #[test]
    fn it_waits_while_pending_with_growing_waits_and_is_done_when_complete() {
        let case = sample::case();
        let at = |seconds| case.opened_at + TimeDelta::seconds(seconds);
        let pending = facts(&["completed", "pending"]);
        let waits: Vec<Next> = [0, 200, 86_400].iter().map(|s| plan(&case, &pending, at(*s)).next).collect();
        assert_eq!(waits, [Next::Wait(15), Next::Wait(50), Next::Wait(300)]);
        let done = plan(&case, &facts(&["completed", "completed"]), at(5));
        assert_eq!((done.next, done.obstacles.len(), done.evidence.len()), (Next::Finish, 0, 2));
    }

    #[test]
    fn a_failed_snapshot_a_left_out_volume_and_no_volume_are_each_said() {
        let case = sample::case();
        let codes = |facts: &PreserveFacts| {
            plan(&case, facts, case.opened_at).obstacles.into_iter().map(|o| o.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&facts(&["completed", "error"])), ["SnapshotFailed"]);
        assert_eq!(codes(&facts(&["completed"])), ["VolumeWithoutSnapshot"]);
        let mut none = facts(&[]);
        none.instance.volumes.clear();
        assert_eq!(codes(&none), ["NoVolumes"]);
    }
}
