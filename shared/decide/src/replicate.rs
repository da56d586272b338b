//! Replicate: copies of the snapshots, under a customer key, where whoever holds the instance's account cannot reach
//! them. What AWS' own key encrypts is first copied beside the original under a customer key, since no other account
//! can use that key; what is shared for the copying is not shared any longer once the copy is whole. Nothing is deleted.

use crate::disks::{self, Tried};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::disks::{Destination, Place, ReplicateFacts, Snapshot, destination_of, is_cross_account, place_of};
use stasis_model::stage::{ActionRecord, Failure, Plan, Stage, StageStatus};
use stasis_model::tags::{self, Tag};

/// How many copies may be going on in a region at the same time
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html>).
const AT_ONCE: usize = 20;
/// How often a copy that AWS gave up is made again.
const TRIES: usize = 2;

/// Whether a run of this case has anything to copy at all, as far as its policy says.
pub fn is_wanted(case: &Case) -> bool {
    destination_of(case).is_some() || !case.policy.disks.key.is_empty()
}

/// What replicate does next, at the time `now`, after what was `tried` in this call.
pub fn plan(case: &Case, facts: &ReplicateFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
    let here = place_of(case);
    let mut work =
        Work { case, facts, tried, plan: Plan::nothing(), waiting: false, make: Vec::new(), shares: Vec::new() };
    if case.is_dry_run() {
        work.plan.notes.push(in_words(case));
        return work.plan;
    }
    // The state machine has given up, or the function died for good: nothing is begun any more.
    let given_up = case.stages.get(&Stage::Replicate).filter(|outcome| outcome.status == StageStatus::Failed);
    if let Some(outcome) = given_up {
        work.plan.obstacles.extend(outcome.failures.iter().cloned());
    }
    match (destination_of(case), &facts.there) {
        (Some(to), Observed::Unknown(why)) => work.plan.obstacles.push(Failure::lasting(
            "DestinationUnreadable",
            format!("nothing is copied to {}: what is there could not be read: {why}", to.place),
        )),
        (None, _) => work.plan.notes.push("no other account or region is set to keep copies in".to_owned()),
        _ => {}
    }
    for original in facts.here.iter().filter(|s| s.copy_of().is_none() && !s.is_failed()) {
        if given_up.is_some() {
            work.unshare(original);
        } else {
            work.keep(original);
        }
    }
    let mut copies = facts.here.iter().filter(|s| s.copy_of().is_some() && !s.is_failed());
    let (mut locks, mut coming) = disks::locks(case, &here, &mut copies, tried, &mut work.plan.obstacles);
    work.plan.evidence = facts.here.iter().map(|s| disks::evidence(&here, s)).collect();
    if let (Some(to), Observed::Known(there)) = (destination_of(case), &facts.there) {
        let mut kept = there.iter().filter(|s| !s.is_failed());
        let (theirs, theirs_coming) = disks::locks(case, &to.place, &mut kept, tried, &mut work.plan.obstacles);
        locks.extend(theirs);
        coming |= theirs_coming;
        work.plan.evidence.extend(there.iter().map(|s| disks::evidence(&to.place, s)));
    }
    let Work { mut plan, waiting, make, shares, .. } = work;
    let waiting = given_up.is_none() && (waiting || coming);
    plan.step(shares);
    plan.step(make);
    plan.step(locks);
    plan.next = disks::next(case, now, !plan.steps.is_empty(), waiting);
    if waiting {
        plan.progress = Some(progress(facts));
    }
    plan
}

/// What would be done, in words.
fn in_words(case: &Case) -> String {
    match destination_of(case) {
        Some(to) => {
            format!("each snapshot would be copied to {}, encrypted with {}, and locked there", to.place, to.key)
        }
        None if case.policy.disks.key.is_empty() => "no copy of the snapshots would be made".to_owned(),
        None => format!(
            "a snapshot that is not encrypted would be copied beside itself, encrypted with {}",
            case.policy.disks.key
        ),
    }
}

/// How far the copies are, in words.
fn progress(facts: &ReplicateFacts) -> String {
    let there = facts.there.known().map_or(&[][..], Vec::as_slice);
    let copies = facts.here.iter().chain(there).filter_map(|copy| {
        Some(format!("{} of {} {} {} %", copy.snapshot_id, copy.copy_of()?, copy.state, copy.progress))
    });
    let copies: Vec<String> = copies.collect();
    if copies.is_empty() { "no copy has begun yet".to_owned() } else { copies.join(", ") }
}

/// How far a copy has come.
enum Copied<'a> {
    /// It is whole.
    Whole(&'a Snapshot),
    /// It comes.
    Coming,
    /// It cannot be had.
    Lost(Failure),
}

struct Work<'a> {
    case: &'a Case,
    facts: &'a ReplicateFacts,
    tried: &'a [ActionRecord],
    plan: Plan,
    waiting: bool,
    make: Vec<Action>,
    shares: Vec<Action>,
}

impl<'a> Work<'a> {
    /// Everything about one snapshot of a volume.
    fn keep(&mut self, original: &'a Snapshot) {
        let copied = match (destination_of(self.case), &self.facts.there) {
            (Some(to), Observed::Known(_)) => self.copy_in_destination(original, to),
            // Where the destination cannot be read, nothing is known to be needed.
            (Some(_), Observed::Unknown(_)) => return,
            (None, _) if original.encrypted || self.case.policy.disks.key.is_empty() => return,
            (None, _) => self.in_place(original),
        };
        match copied {
            Copied::Whole(_) => self.unshare(original),
            Copied::Coming => self.waiting = true,
            Copied::Lost(failure) => {
                self.plan.obstacles.push(failure);
                self.unshare(original);
            }
        }
    }

    fn copy_in_destination(&mut self, original: &'a Snapshot, to: &'a Destination) -> Copied<'a> {
        let there = self.facts.there.known().map_or(&[][..], Vec::as_slice);
        let copies = || there.iter().filter(|s| s.copy_of() == Some(original.snapshot_id.as_str()));
        if let Some(whole) = copies().find(|s| s.is_completed()) {
            return Copied::Whole(whole);
        }
        if copies().any(|s| !s.is_failed()) {
            return Copied::Coming;
        }
        let mut why = None;
        if self.may_go_directly(original) {
            match self.copy_from(original, original, to) {
                Copied::Lost(failure) if self.has_another_way(original) => why = Some(failure),
                copied => return copied,
            }
        }
        if self.case.policy.disks.key.is_empty() {
            return Copied::Lost(Failure::lasting(
                "NoSnapshotKey",
                format!(
                    "{} of {} is encrypted with a key that {} cannot use, and no customer key is set to copy it under first: set the parameter SnapshotKey",
                    original.snapshot_id, original.volume_id, to.place
                ),
            ));
        }
        if let Some(failure) = why {
            self.plan.notes.push(format!(
                "{} goes by way of a copy under {}, because it could not be copied at once: {}",
                original.snapshot_id, self.case.policy.disks.key, failure.message
            ));
        }
        match self.in_place(original) {
            Copied::Whole(ours) => self.copy_from(ours, original, to),
            copied => copied,
        }
    }

    /// Whether the destination can read the snapshot itself, as far as is known before trying. No other account can use
    /// the key `aws/ebs`; a customer key may let it.
    fn may_go_directly(&self, original: &Snapshot) -> bool {
        if !is_cross_account(self.case) || !original.encrypted {
            return true;
        }
        let begun = self.copies_here(original).next().is_some();
        match (&self.facts.aws_ebs_key, &original.key) {
            (Observed::Known(managed), Some(key)) => managed.as_ref() != Some(key) && !begun,
            _ => false,
        }
    }

    /// Whether a copy under our own key may go where the snapshot itself did not.
    fn has_another_way(&self, original: &Snapshot) -> bool {
        is_cross_account(self.case) && original.encrypted && !self.case.policy.disks.key.is_empty()
    }

    /// The copies of a snapshot beside it.
    fn copies_here(&self, original: &'a Snapshot) -> impl Iterator<Item = &'a Snapshot> {
        let facts = self.facts;
        facts.here.iter().filter(|s| s.copy_of() == Some(original.snapshot_id.as_str()))
    }

    /// A copy beside the snapshot, under our own key.
    fn in_place(&mut self, original: &'a Snapshot) -> Copied<'a> {
        let place = place_of(self.case);
        let key = self.case.policy.disks.key.clone();
        self.copy(original, original, &self.facts.here, &place, &key)
    }

    /// A copy in the destination.
    fn copy_from(&mut self, source: &'a Snapshot, original: &'a Snapshot, to: &'a Destination) -> Copied<'a> {
        let there = self.facts.there.known().map_or(&[][..], Vec::as_slice);
        self.copy(source, original, there, &to.place, &to.key)
    }

    /// A copy in a place, of which `existing` are known.
    fn copy(
        &mut self,
        source: &'a Snapshot,
        original: &Snapshot,
        existing: &'a [Snapshot],
        place: &Place,
        key: &str,
    ) -> Copied<'a> {
        let made: Vec<&Snapshot> =
            existing.iter().filter(|s| s.copied_from() == Some(source.snapshot_id.as_str())).collect();
        if let Some(whole) = made.iter().find(|s| s.is_completed()) {
            return Copied::Whole(whole);
        }
        // EC2 copies no snapshot that is not whole yet.
        if !source.is_completed() || made.iter().any(|s| !s.is_failed()) {
            return Copied::Coming;
        }
        if let Some(failed) = made.last().filter(|_| made.len() >= TRIES) {
            let why = failed.message.as_deref().unwrap_or("AWS gave no reason");
            return Copied::Lost(Failure::lasting(
                "CopyFailed",
                format!("the copy of {} to {place} failed, {} times in all: {why}", source.snapshot_id, made.len()),
            ));
        }
        let of_it = |action: &Action| matches!(action, Action::CopySnapshot { snapshot, place: to, .. } if snapshot == &source.snapshot_id && to == place);
        match disks::tried(self.tried, of_it) {
            Tried::Soon => return Copied::Coming,
            Tried::Refused(failure) => {
                return Copied::Lost(Failure {
                    message: format!("no copy of {} in {place}: {}", original.snapshot_id, failure.message),
                    ..failure
                });
            }
            Tried::No | Tried::Again => {}
        }
        // Refused at an earlier look: to share it again for the same answer would open it for nothing.
        let before = self.case.stages.get(&Stage::Replicate).filter(|o| o.status == StageStatus::Waiting);
        let refused = format!("no copy of {} in {place}: ", original.snapshot_id);
        if let Some(failure) = before.and_then(|o| o.failures.iter().find(|f| f.message.starts_with(&refused))) {
            return Copied::Lost(failure.clone());
        }
        let going = existing.iter().filter(|s| s.copy_of().is_some() && s.state == "pending").count();
        let of_place = |action: &&Action| matches!(action, Action::CopySnapshot { place: to, .. } if to == place);
        if going + self.make.iter().filter(of_place).count() >= AT_ONCE {
            return Copied::Coming;
        }
        match self.shared(source, place) {
            Ok(true) => self.make.push(self.copying(source, original, place, key)),
            Ok(false) => {}
            Err(failure) => return Copied::Lost(failure),
        }
        Copied::Coming
    }

    /// Whether the account of a place may copy a snapshot; where it may not yet, it is let.
    fn shared(&mut self, source: &Snapshot, place: &Place) -> Result<bool, Failure> {
        let account = &place.account;
        let with = source.shared_with.known();
        if account == &self.case.instance.account || with.is_some_and(|with| with.contains(account.as_str())) {
            return Ok(true);
        }
        let share = |action: &Action| matches!(action, Action::ShareSnapshot { snapshot, .. } if snapshot == &source.snapshot_id);
        match disks::tried(self.tried, share) {
            Tried::Soon => Ok(true),
            Tried::Refused(failure) => Err(failure),
            Tried::No | Tried::Again => {
                let snapshot = source.snapshot_id.clone();
                self.shares.push(Action::ShareSnapshot { snapshot, account: account.clone() });
                Ok(false)
            }
        }
    }

    fn copying(&self, source: &Snapshot, original: &Snapshot, place: &Place, key: &str) -> Action {
        let case = self.case;
        let volume = original.tags.get(tags::VOLUME).map_or_else(|| original.volume_id.to_string(), Clone::clone);
        let mut tags = tags::evidence_tags(case);
        tags.push(Tag::new(tags::COPY_OF, original.snapshot_id.as_str()));
        tags.push(Tag::new(tags::COPIED_FROM, source.snapshot_id.as_str()));
        tags.push(Tag::new(tags::VOLUME, volume.clone()));
        Action::CopySnapshot {
            snapshot: source.snapshot_id.clone(),
            encrypted: source.encrypted,
            from: case.instance.region.clone(),
            place: place.clone(),
            key: key.to_owned(),
            description: format!(
                "Stasis {} ticket {} {}: copy of {} of {volume} in {}",
                case.case_id,
                case.ticket,
                case.instance.instance_id,
                original.snapshot_id,
                place_of(case)
            ),
            tags,
        }
    }

    /// Takes back what the snapshot and its copies beside it were shared for. What others share is left, and verified.
    fn unshare(&mut self, original: &'a Snapshot) {
        let Some(to) = destination_of(self.case).filter(|_| is_cross_account(self.case)) else { return };
        let account = &to.place.account;
        let copies: Vec<&Snapshot> = self.copies_here(original).collect();
        for snapshot in std::iter::once(original).chain(copies) {
            match &snapshot.shared_with {
                Observed::Known(with) if !with.contains(account.as_str()) => continue,
                Observed::Known(_) => {}
                Observed::Unknown(why) => {
                    self.plan.obstacles.push(Failure::lasting(
                        "SharesUnknown",
                        format!(
                            "whether {} is still shared with account {account} could not be read: {why}",
                            snapshot.snapshot_id
                        ),
                    ));
                    continue;
                }
            }
            let back = |action: &Action| matches!(action, Action::UnshareSnapshot { snapshot: id, .. } if id == &snapshot.snapshot_id);
            match disks::tried(self.tried, back) {
                Tried::No | Tried::Again => self
                    .shares
                    .push(Action::UnshareSnapshot { snapshot: snapshot.snapshot_id.clone(), account: account.clone() }),
                Tried::Refused(failure) => self.plan.obstacles.push(failure),
                Tried::Soon => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::FIRST_WAIT;
    use crate::sample;
    use stasis_model::stage::Next;
    use std::collections::BTreeSet;

    const OTHER_ACCOUNT: &str = "222233334444";

    fn case(account: &str, key: &str) -> Case {
        let mut case = sample::case();
        case.policy.disks.key = key.to_owned();
        case.policy.disks.destination = Some(Destination {
            place: Place { account: account.parse().expect("id"), region: "eu-west-1".parse().expect("region") },
            role: String::new(),
            key: "alias/evidence".to_owned(),
        });
        case
    }

    /// One whole snapshot under a key.
    fn facts(key: Option<&str>) -> ReplicateFacts {
        let mut here = sample::snapshots(&["completed"]);
        here[0].encrypted = key.is_some();
        here[0].key = key.map(str::to_owned);
        ReplicateFacts {
            here,
            there: Observed::Known(Vec::new()),
            aws_ebs_key: Observed::Known(Some(sample::AWS_EBS_KEY.to_owned())),
        }
    }

    /// What is done, call after call of one look each, every action being accepted and seen at the next look.
    fn words(case: &Case, facts: &ReplicateFacts, tried: &[ActionRecord]) -> Vec<String> {
        plan(case, facts, case.opened_at, tried).actions().map(|a| format!("{}: {a}", a.target())).collect()
    }

    fn copy_of(original: &Snapshot, from: &Snapshot, id: &str, state: &str) -> Snapshot {
        let mut copy = original.clone();
        copy.snapshot_id = id.parse().expect("id");
        copy.state = state.to_owned();
        copy.encrypted = true;
        copy.tags.insert(tags::COPY_OF.to_owned(), original.snapshot_id.to_string());
        copy.tags.insert(tags::COPIED_FROM.to_owned(), from.snapshot_id.to_string());
        copy
    }

    #[test]
    fn the_first_step_depends_on_the_key_and_on_whose_account_it_is() {
        let (share, there) = ("let account 222233334444 copy it", "copy to account 222233334444, eu-west-1");
        let table = [
            ("111122223333", None, "copy to account 111122223333, eu-west-1, encrypted with alias/evidence"),
            ("111122223333", Some(sample::AWS_EBS_KEY), "copy to account 111122223333, eu-west-1"),
            (OTHER_ACCOUNT, None, share),
            (OTHER_ACCOUNT, Some(sample::CUSTOMER_KEY), share),
            (
                OTHER_ACCOUNT,
                Some(sample::AWS_EBS_KEY),
                "copy to account 111122223333, eu-central-1, encrypted with alias/ours",
            ),
        ];
        for (account, key, first) in table {
            let found = words(&case(account, "alias/ours"), &facts(key), &[]);
            assert!(found.len() == 1 && found[0].contains(first), "{account} {key:?}: {found:?}");
        }
        let mut shared = facts(None);
        shared.here[0].shared_with = Observed::Known(BTreeSet::from([OTHER_ACCOUNT.to_owned()]));
        assert!(words(&case(OTHER_ACCOUNT, ""), &shared, &[])[0].contains(there));
    }

    #[test]
    fn what_no_other_account_can_read_needs_a_key_of_ours() {
        let case = case(OTHER_ACCOUNT, "");
        let plan = plan(&case, &facts(Some(sample::AWS_EBS_KEY)), case.opened_at, &[]);
        assert_eq!((plan.actions().count(), plan.obstacles[0].code.as_str()), (0, "NoSnapshotKey"));
        assert!(plan.obstacles[0].message.contains("SnapshotKey"), "it says what to do");
    }

    #[test]
    fn a_customer_key_that_the_other_account_may_not_use_leads_by_way_of_our_own() {
        let case = case(OTHER_ACCOUNT, "alias/ours");
        let mut facts = facts(Some(sample::CUSTOMER_KEY));
        let original = facts.here[0].clone();
        let failed = |id| copy_of(&original, &original, id, "error");
        facts.there = Observed::Known(vec![failed("snap-0b"), failed("snap-0c")]);
        let done = plan(&case, &facts, case.opened_at, &[]);
        let found: Vec<String> = done.actions().map(ToString::to_string).collect();
        assert_eq!(found, ["copy to account 111122223333, eu-central-1, encrypted with alias/ours"]);
        assert!(done.obstacles.is_empty() && done.notes.iter().any(|note| note.contains("by way of a copy")));
    }

    #[test]
    fn no_room_is_waited_for_and_a_refusal_is_said_with_what_is_lacking() {
        let case = case("111122223333", "");
        let facts = facts(None);
        let copy = plan(&case, &facts, case.opened_at, &[]).actions().next().cloned().expect("a copy");
        for (code, next, failures) in
            [("ResourceLimitExceeded", Next::WaitForRest(FIRST_WAIT), 0), ("UnauthorizedOperation", Next::Finish, 1)]
        {
            let tried = [sample::record(copy.clone(), Some(code))];
            let plan = plan(&case, &facts, case.opened_at, &tried);
            assert_eq!((plan.actions().count(), plan.next, plan.obstacles.len()), (0, next, failures), "{code}");
            assert!(plan.obstacles.iter().all(|o| o.message.contains("no copy of snap-0aaaaaaaaaaaaaaa1")));
        }
    }

    #[test]
    fn what_was_shared_for_a_copy_that_failed_for_good_is_taken_back_and_not_shared_again() {
        let case = case(OTHER_ACCOUNT, "");
        let mut facts = facts(Some(sample::CUSTOMER_KEY));
        let original = facts.here[0].clone();
        let failed = |id| copy_of(&original, &original, id, "error");
        facts.there = Observed::Known(vec![failed("snap-0b"), failed("snap-0c")]);
        facts.here[0].shared_with = Observed::Known(BTreeSet::from([OTHER_ACCOUNT.to_owned()]));
        assert_eq!(words(&case, &facts, &[]), ["snap-0aaaaaaaaaaaaaaa1: stop sharing it with account 222233334444"]);
        facts.here[0].shared_with = Observed::Known(BTreeSet::new());
        assert!(words(&case, &facts, &[]).is_empty());
    }

    #[test]
    fn what_is_given_up_is_closed_and_says_what_failed_before() {
        let mut case = case(OTHER_ACCOUNT, "alias/ours");
        let mut facts = facts(None);
        facts.here[0].shared_with = Observed::Known(BTreeSet::from([OTHER_ACCOUNT.to_owned()]));
        let mut outcome = crate::report::tests::outcome(Stage::Replicate, StageStatus::Failed);
        outcome.failures = vec![Failure::lasting("CopyFailed", "one"), Failure::lasting("GivenUp", "two")];
        case.stages.insert(Stage::Replicate, outcome);
        for there in [Observed::Known(Vec::new()), Observed::Unknown("denied".to_owned())] {
            facts.there = there;
            let plan = plan(&case, &facts, case.opened_at, &[]);
            let words: Vec<String> = plan.actions().map(|action| format!("{}: {action}", action.target())).collect();
            assert_eq!(words, ["snap-0aaaaaaaaaaaaaaa1: stop sharing it with account 222233334444"]);
            let codes: Vec<&str> = plan.obstacles.iter().map(|failure| failure.code.as_str()).collect();
            assert_eq!(codes[..2], ["CopyFailed", "GivenUp"]);
            assert!(!matches!(
                plan.next,
                stasis_model::stage::Next::Wait(_) | stasis_model::stage::Next::WaitForRest(_)
            ));
        }
    }

    #[test]
    fn a_share_stays_until_the_copy_is_whole_and_the_copy_is_locked_where_it_is() {
        let case = case(OTHER_ACCOUNT, "");
        let mut facts = facts(None);
        facts.here[0].shared_with = Observed::Known(BTreeSet::from([OTHER_ACCOUNT.to_owned()]));
        let original = facts.here[0].clone();
        let mut copy = copy_of(&original, &original, "snap-0b", "pending");
        copy.lock = Observed::Known(None);
        facts.there = Observed::Known(vec![copy.clone()]);
        let lock = "snap-0b: lock in governance mode for 365 days (account 222233334444, eu-west-1)";
        assert_eq!(words(&case, &facts, &[]), [lock]);
        copy.state = "completed".to_owned();
        facts.there = Observed::Known(vec![copy]);
        assert_eq!(words(&case, &facts, &[])[0], "snap-0aaaaaaaaaaaaaaa1: stop sharing it with account 222233334444");
    }

    #[test]
    fn a_destination_that_cannot_be_read_is_said_and_nothing_is_copied_twice() {
        let case = case(OTHER_ACCOUNT, "alias/ours");
        let mut facts = facts(None);
        facts.there = Observed::Unknown("sts:AssumeRole … AccessDenied".to_owned());
        let plan = plan(&case, &facts, case.opened_at, &[]);
        assert_eq!((plan.actions().count(), plan.obstacles[0].code.as_str()), (0, "DestinationUnreadable"));
    }

    #[test]
    fn only_so_many_copies_go_on_at_once() {
        let case = case("111122223333", "");
        let mut facts = facts(None);
        let original = facts.here[0].clone();
        facts.here = (0..30)
            .map(|n| Snapshot { snapshot_id: format!("snap-{n:017x}").parse().expect("id"), ..original.clone() })
            .collect();
        let begun = plan(&case, &facts, case.opened_at, &[]).actions().count();
        assert_eq!(begun, AT_ONCE);
    }

    #[test]
    fn a_dry_run_says_what_would_be_copied() {
        let mut case = case(OTHER_ACCOUNT, "");
        case.mode = stasis_model::case::Mode::DryRun;
        let plan = plan(&case, &facts(None), case.opened_at, &[]);
        assert_eq!((plan.actions().count(), plan.next), (0, Next::Finish));
        assert!(plan.notes[0].contains("account 222233334444, eu-west-1"), "{:?}", plan.notes);
    }
}
