//! A small world of disks for the tests: what EC2 does with snapshots, copies, shares and locks, and what it refuses.
//! Preserve and replicate work in it, stopped anywhere and begun again.

use crate::{preserve, replicate, sample};
use chrono::TimeDelta;
use proptest::prelude::*;
use stasis_model::action::Action;
use stasis_model::baseline::{Observed, Volume};
use stasis_model::case::Case;
use stasis_model::disks::{
    Destination, Lock, Place, PreserveFacts, ReplicateFacts, Snapshot, VolumeFacts, destination_of, is_cross_account,
    place_of,
};
use stasis_model::stage::{ActionRecord, Failure, Next, Outcome, Plan};
use stasis_model::tags::{self, Tag};
use std::collections::BTreeSet;

const OWN_KEY: &str = "alias/stasis-snapshots";
const KEY_THERE: &str = "arn:aws:kms:eu-west-1:222233334444:key/0a0a0a0a-0000-4000-8000-000000000003";

/// How a volume is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    None,
    AwsManaged,
    /// A customer key, and whether it lets the account of the copies use it.
    Customer(bool),
}

#[derive(Debug, Clone)]
struct World {
    case: Case,
    volumes: Vec<(Volume, Encryption, bool)>,
    here: Vec<Snapshot>,
    there: Vec<Snapshot>,
    /// How many copies may go on at the same time.
    room: usize,
    /// The set is refused, as where an instance has more volumes than a call takes.
    no_sets: bool,
    /// The next copies or snapshots that fail after they were accepted.
    bad_luck: usize,
    /// Nothing ever fails after it was accepted, keys apart.
    lucky: bool,
    /// Every copy to the destination is refused.
    refused: bool,
    made: usize,
}

impl World {
    fn is_there(&self, place: &Place) -> bool {
        place != &place_of(&self.case)
    }

    fn add(&mut self, place: &Place, template: Snapshot, tags: &[Tag]) {
        self.made += 1;
        let snapshot = Snapshot {
            snapshot_id: format!("snap-{:017x}", self.made).parse().expect("id"),
            state: "pending".to_owned(),
            progress: 0,
            lock: Observed::Known(None),
            shared_with: Observed::Known(BTreeSet::new()),
            tags: tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect(),
            ..template
        };
        if self.is_there(place) { self.there.push(snapshot) } else { self.here.push(snapshot) }
    }

    fn take(&mut self, at: usize, tags: &[Tag]) {
        let (volume, encryption, broken) = self.volumes[at].clone();
        assert!(!broken, "EC2 refuses a volume in error, and with it the set");
        let key = match encryption {
            Encryption::None => None,
            Encryption::AwsManaged => Some(sample::AWS_EBS_KEY.to_owned()),
            Encryption::Customer(_) => Some(sample::CUSTOMER_KEY.to_owned()),
        };
        let place = place_of(&self.case);
        let template = sample::snapshots(&["pending"]).remove(0);
        self.add(&place, Snapshot { volume_id: volume.volume_id, encrypted: key.is_some(), key, ..template }, tags);
    }

    /// What EC2 makes of an action: a refusal's code where it refuses.
    fn apply(&mut self, action: &Action) -> Result<(), &'static str> {
        match action {
            Action::CreateSnapshots { without, without_root, tags, .. } => {
                assert!(self.here.is_empty(), "a second set");
                if self.no_sets {
                    return Err("InvalidParameterValue");
                }
                for at in 0..self.volumes.len() {
                    let left_out = without.contains(&self.volumes[at].0.volume_id) || (at == 0 && *without_root);
                    if !left_out {
                        self.take(at, tags);
                    }
                }
            }
            Action::CreateSnapshot { volume, tags, .. } => {
                let at = self.volumes.iter().position(|(v, ..)| &v.volume_id == volume).expect("a volume");
                self.take(at, tags);
            }
            Action::LockSnapshot { snapshot, place, mode, days } => {
                let list = if self.is_there(place) { &mut self.there } else { &mut self.here };
                let found = list.iter_mut().find(|s| &s.snapshot_id == snapshot).expect("a snapshot");
                assert!(!found.is_failed());
                found.lock =
                    Observed::Known(Some(Lock { state: mode.to_string(), days: Some(*days), expires_at: None }));
            }
            Action::ShareSnapshot { snapshot, account } => {
                let found = self.here.iter_mut().find(|s| &s.snapshot_id == snapshot).expect("a snapshot");
                assert_ne!(found.key.as_deref(), Some(sample::AWS_EBS_KEY), "EC2 shares nothing under aws/ebs");
                if let Observed::Known(with) = &mut found.shared_with {
                    assert!(with.insert(account.to_string()), "shared twice");
                }
            }
            Action::UnshareSnapshot { snapshot, account } => {
                let found = self.here.iter_mut().find(|s| &s.snapshot_id == snapshot).expect("a snapshot");
                if let Observed::Known(with) = &mut found.shared_with {
                    assert!(with.remove(account.as_str()), "it was not shared");
                }
            }
            Action::CopySnapshot { snapshot, encrypted, place, key, tags, .. } => {
                let there = self.is_there(place);
                let source = self.here.iter().find(|s| &s.snapshot_id == snapshot).cloned().expect("a snapshot");
                assert!(source.is_completed(), "EC2 copies no snapshot that is not whole");
                assert_eq!(source.encrypted, *encrypted);
                if there && self.refused {
                    return Err("UnauthorizedOperation");
                }
                let shared = source.shared_with.known().is_some_and(|with| with.contains(place.account.as_str()));
                if there && is_cross_account(&self.case) && !shared {
                    return Err("InvalidSnapshot.NotFound");
                }
                let list = if there { &self.there } else { &self.here };
                if list.iter().filter(|s| s.copy_of().is_some() && s.state == "pending").count() >= self.room {
                    return Err("ResourceLimitExceeded");
                }
                self.add(place, Snapshot { encrypted: true, key: Some(key.clone()), ..source }, tags);
            }
            other => panic!("{other:?} is no action on disks"),
        }
        Ok(())
    }

    /// Time passes: what is pending comes to its end.
    fn pass(&mut self) {
        let forbidden: BTreeSet<String> = self
            .here
            .iter()
            .filter(|s| {
                let of = self.volumes.iter().find(|(v, ..)| v.volume_id == s.volume_id);
                s.copy_of().is_none() && matches!(of, Some((_, Encryption::Customer(false), _)))
            })
            .map(|s| s.snapshot_id.to_string())
            .collect();
        let cross = is_cross_account(&self.case);
        let sources = self.here.clone();
        let mut bad_luck = self.bad_luck;
        for (there, snapshot) in
            self.here.iter_mut().map(|s| (false, s)).chain(self.there.iter_mut().map(|s| (true, s)))
        {
            if snapshot.state != "pending" {
                continue;
            }
            let source = sources.iter().find(|s| snapshot.copied_from() == Some(s.snapshot_id.as_str()));
            let unshared = source.is_some_and(|s| s.shared_with.known().is_none_or(BTreeSet::is_empty));
            assert!(!(there && cross && unshared), "a share was taken back while it was needed");
            let no_key = there && cross && snapshot.copied_from().is_some_and(|from| forbidden.contains(from));
            if no_key || bad_luck > 0 {
                bad_luck = bad_luck.saturating_sub(usize::from(!no_key));
                snapshot.state = "error".to_owned();
                snapshot.message = Some("given key ID is not accessible".to_owned());
            } else {
                snapshot.state = "completed".to_owned();
                snapshot.progress = 100;
            }
        }
        self.bad_luck = bad_luck;
    }

    fn preserve(&self, tried: &[ActionRecord]) -> Plan {
        let mut instance = self.case.baseline.instance.clone();
        instance.volumes = self.volumes.iter().map(|(volume, ..)| volume.clone()).collect();
        let volumes = self.volumes.iter().map(|(volume, encryption, broken)| {
            let facts = VolumeFacts {
                volume_id: volume.volume_id.clone(),
                state: if *broken { "error" } else { "in-use" }.to_owned(),
                kind: "gp3".to_owned(),
                size_gib: 8,
                key: (*encryption != Encryption::None).then(|| sample::CUSTOMER_KEY.to_owned()),
                others: Vec::new(),
            };
            (volume.volume_id.clone(), facts)
        });
        let facts = PreserveFacts {
            volumes: Observed::Known(volumes.collect()),
            aws_ebs_key: Observed::Known(Some(sample::AWS_EBS_KEY.to_owned())),
            snapshots: self.here.iter().filter(|s| s.copy_of().is_none()).cloned().collect(),
            older: Vec::new(),
            instance_store_gb: Observed::Known(None),
            instance,
        };
        preserve::plan(&self.case, &facts, self.case.opened_at, tried)
    }

    fn replicate(&self, tried: &[ActionRecord]) -> Plan {
        let facts = ReplicateFacts {
            here: self.here.clone(),
            there: Observed::Known(self.there.clone()),
            aws_ebs_key: Observed::Known(Some(sample::AWS_EBS_KEY.to_owned())),
        };
        replicate::plan(&self.case, &facts, self.case.opened_at + TimeDelta::hours(1), tried)
    }

    /// One call of a stage, which may do `budget` actions before it dies: its last plan, where it came to its end.
    fn call(&mut self, plan: fn(&Self, &[ActionRecord]) -> Plan, budget: &mut usize) -> Option<Plan> {
        let mut tried = Vec::new();
        for _ in 0..8 {
            let planned = plan(self, &tried);
            for action in planned.actions() {
                *budget = budget.checked_sub(1)?;
                let refused = self.apply(action).err();
                tried.push(ActionRecord {
                    outcome: if refused.is_some() { Outcome::Failed } else { Outcome::Applied },
                    error: refused.map(|code| Failure::lasting(code, "EC2 said no")),
                    ..sample::record(action.clone(), None)
                });
            }
            if planned.next != Next::ObserveAgain {
                return Some(planned);
            }
        }
        panic!("a call takes more than 8 rounds: {tried:#?}");
    }

    /// A stage called until it has nothing to wait for; none where it died of its budget.
    fn stage(&mut self, plan: fn(&Self, &[ActionRecord]) -> Plan, budget: &mut usize) -> Option<Plan> {
        for _ in 0..200 {
            let planned = self.call(plan, budget)?;
            if planned.next == Next::Finish {
                return Some(planned);
            }
            self.pass();
        }
        panic!("it waits for ever: {self:#?}");
    }

    fn run(&mut self, mut budget: usize) -> Option<(Plan, Plan)> {
        Some((self.stage(Self::preserve, &mut budget)?, self.stage(Self::replicate, &mut budget)?))
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let encryption = prop_oneof![
        Just(Encryption::None),
        Just(Encryption::AwsManaged),
        Just(Encryption::Customer(true)),
        Just(Encryption::Customer(false)),
    ];
    let volumes = proptest::collection::vec((encryption, proptest::bool::weighted(0.1)), 1..5);
    let destination = prop_oneof![
        Just(None),
        Just(Some(("222233334444", "eu-west-1"))),
        Just(Some(("222233334444", "eu-central-1"))),
        Just(Some(("111122223333", "eu-west-1"))),
        Just(Some(("111122223333", "eu-central-1"))),
    ];
    (volumes, destination, 1..4_usize, any::<bool>(), 0..3_usize, proptest::bool::weighted(0.2), any::<bool>())
        .prop_map(|(volumes, destination, room, no_sets, bad_luck, refused, own_key)| {
            let mut case = sample::case();
            case.policy.disks.key = if own_key { OWN_KEY } else { "" }.to_owned();
            case.policy.disks.destination = destination.map(|(account, region)| Destination {
                place: Place { account: account.parse().expect("id"), region: region.parse().expect("region") },
                role: "arn:aws:iam::222233334444:role/stasis-copies".to_owned(),
                key: KEY_THERE.to_owned(),
            });
            let volumes: Vec<(Volume, Encryption, bool)> = volumes
                .into_iter()
                .enumerate()
                .map(|(n, (encryption, broken))| {
                    let volume = Volume {
                        volume_id: format!("vol-0aaaaaaaaaaaaaaa{n}").parse().expect("id"),
                        device: if n == 0 { "/dev/xvda".to_owned() } else { format!("/dev/sd{n}") },
                        delete_on_termination: false,
                    };
                    (volume, encryption, broken)
                })
                .collect();
            case.baseline.instance.volumes = volumes.iter().map(|(volume, ..)| volume.clone()).collect();
            let (here, there) = (Vec::new(), Vec::new());
            World { case, volumes, here, there, room, no_sets, bad_luck, lucky: bad_luck == 0, refused, made: 0 }
        })
}

proptest! {
    /// Stopped after any number of actions and begun again, every volume that can be had has one whole snapshot, each
    /// has one whole copy under a customer key wherever the keys allow it, everything is locked, nothing is shared any
    /// longer, whatever is lacking is said, and then there is nothing left to do.
    #[test]
    fn stopped_anywhere_and_begun_again_the_evidence_is_whole(world in any_world(), stop in 0..20_usize) {
        let mut world = world;
        world.run(stop);
        world.pass();
        let (preserved, replicated) = world.run(usize::MAX).expect("to its end");
        let before = world.clone();
        world.run(usize::MAX);
        prop_assert_eq!(before.made, world.made, "a second run makes nothing");

        let whole = |list: &[Snapshot], is: &dyn Fn(&Snapshot) -> bool| list.iter().filter(|s| s.is_completed() && is(s)).count();
        for (volume, encryption, broken) in &world.volumes {
            let of_volume = |s: &Snapshot| s.copy_of().is_none() && s.volume_id == volume.volume_id;
            let Some(original) = world.here.iter().find(|s| of_volume(s) && s.is_completed()) else {
                prop_assert!(preserved.obstacles.iter().any(|o| o.message.contains(volume.volume_id.as_str())));
                continue;
            };
            prop_assert!(!broken);
            prop_assert_eq!(whole(&world.here, &of_volume), 1);
            let id = original.snapshot_id.as_str();
            let is_copy = |s: &Snapshot| s.copy_of() == Some(id);
            let copies = whole(&world.there, &is_copy);
            prop_assert!(copies <= 1, "{} copies", copies);
            let said = replicated.obstacles.iter().any(|o| o.message.contains(id));
            match destination_of(&world.case) {
                Some(_) => prop_assert!(copies == 1 || said, "{} has no copy and nothing is said: {:#?}", id, world),
                None if *encryption == Encryption::None && !world.case.policy.disks.key.is_empty() => {
                    prop_assert!(whole(&world.here, &is_copy) == 1 || said);
                }
                None => prop_assert_eq!(whole(&world.here, &is_copy), 0),
            }
            // What stands in nobody's way is copied.
            let way = match (encryption, is_cross_account(&world.case)) {
                (Encryption::None | Encryption::Customer(true), _) | (_, false) => true,
                _ => !world.case.policy.disks.key.is_empty(),
            };
            if destination_of(&world.case).is_some() && way && world.lucky && !world.refused {
                prop_assert_eq!(copies, 1, "{:?} {:#?}", replicated.obstacles, world);
            }
        }
        for snapshot in world.here.iter().chain(&world.there).filter(|s| !s.is_failed()) {
            prop_assert!(matches!(&snapshot.lock, Observed::Known(Some(_))), "not locked: {:?}", snapshot);
            prop_assert!(snapshot.shared_with == Observed::Known(BTreeSet::new()), "still shared: {:?}", snapshot);
            for tag in tags::evidence_tags(&world.case) {
                prop_assert_eq!(snapshot.tags.get(&tag.key), Some(&tag.value));
            }
            prop_assert!(snapshot.copy_of().is_none() || snapshot.encrypted);
        }
        prop_assert!(world.there.iter().all(|s| s.key.as_deref() == Some(KEY_THERE)));
    }
}
