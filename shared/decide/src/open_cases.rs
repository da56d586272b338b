//! Open cases: whether an instance is still held as it was when its run verified it last. It says what was undone since, and
//! never what a run has said already.

use crate::checks::verify::{INSTANCE_ONLINE, INTERFACES};
use crate::verify;
use chrono::TimeDelta;
use stasis_model::Timestamp;
use stasis_model::case::{Case, Mode};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::open_cases::{HeldFacts, Standing};
use stasis_model::policy::Decision;
use stasis_model::stage::{Stage, StageReport};
use std::collections::BTreeMap;

/// The stages whose newest report tells how an instance was left.
pub const TELLING: [Stage; 2] = [Stage::Verify, Stage::Release];

/// So long a run that took a case over has to verify it, before what others confirmed counts again: it may have died.
const VERIFIES_WITHIN: TimeDelta = TimeDelta::minutes(30);

/// Since when what AWS confirmed counts for the clock.
pub fn counts_since(case: &Case, now: Timestamp) -> Timestamp {
    let since = case.worked_on_since();
    if now - since > VERIFIES_WITHIN { case.opened_at } else { since }
}

/// The newest report of verify since then, unless a release began since; and since when those before it count.
pub fn verified(newest: &[StageReport], since: Timestamp) -> Option<(&StageReport, Timestamp)> {
    let of = |stage: Stage| newest.iter().find(|report| report.stage == stage);
    let since = of(Stage::Release).map_or(since, |release| release.finished_at.max(since));
    of(Stage::Verify).filter(|verified| verified.finished_at > since).map(|verified| (verified, since))
}

/// What AWS has confirmed of an instance, each check at its newest pass: verify looks again for half an hour and more, and what
/// it has seen undone by then is no less undone.
#[derive(Debug, Clone, Default)]
pub struct Confirmed {
    passed: BTreeMap<String, (Check, Timestamp)>,
}

impl Confirmed {
    /// By the newest report.
    pub fn by(newest: &StageReport) -> Self {
        let mut confirmed = Self::default();
        confirmed.and_before(newest);
        confirmed
    }

    /// And by one before it.
    pub fn and_before(&mut self, report: &StageReport) {
        for check in report.checks.iter().filter(|check| check.passed()) {
            self.passed.entry(check.name.clone()).or_insert_with(|| (check.clone(), report.finished_at));
        }
    }

    /// Whether each of these has passed by one of them.
    pub fn covers(&self, failing: &[Check]) -> bool {
        failing.iter().all(|check| self.passed.contains_key(&check.name))
    }
}

/// What does not pass now of whether the instance is held.
pub fn failing(case: &Case, facts: &HeldFacts) -> Vec<Check> {
    verify::held(case, facts).into_iter().filter(|check| !check.passed()).collect()
}

/// How the instance stands, of which this does not pass now, beside what was confirmed.
pub fn standing(case: &Case, confirmed: &Confirmed, failing: Vec<Check>) -> Standing {
    let decided = case.mode == Mode::Contain && case.decided.decision == Decision::Contain;
    let is_cut_off = case.contains() && !failing.iter().any(|check| check.name == INTERFACES);
    let is_to_be_cut_off = decided || is_cut_off || confirmed.passed.contains_key(INTERFACES);
    let mut verified_at = None;
    let (mut changed, mut unread) = (Vec::new(), None);
    for check in failing {
        let Some((then, at)) = confirmed.passed.get(&check.name) else { continue };
        if !verify::is_other_than(&check, then) {
            continue;
        }
        if check.status == CheckStatus::Unknown {
            unread = unread.or(Some(check));
        } else {
            verified_at = verified_at.max(Some(*at));
            changed.push(check);
        }
    }
    match (verified_at, unread) {
        (Some(verified_at), _) => Standing::Undone { changed, verified_at, is_to_be_cut_off },
        (None, Some(check)) => Standing::Unknown { why: format!("{}: {}", check.name, check.observed) },
        (None, None) => Standing::AsVerified,
    }
}

/// What of it a run would set right, in a few words: nothing starts an instance again that somebody stopped.
pub fn to_hold_again(standing: &Standing) -> Option<String> {
    let Standing::Undone { changed, .. } = standing else { return None };
    let names: Vec<&str> =
        changed.iter().map(|check| check.name.as_str()).filter(|name| *name != INSTANCE_ONLINE).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Where it is kept what was seen of a case, and that people were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// That it was seen on this day.
    pub seen: String,
    /// That it was seen on the day before. People are told where a look has seen it before, so that neither an error that passes
    /// nor a release that has just begun wakes anybody.
    pub seen_before: String,
    /// That people were told: of the same once a day, until it is mended; of an instance that is gone, once.
    pub told: String,
}

/// Where that is kept; none where there is nothing to tell.
pub fn kept(case: &Case, standing: &Standing, now: Timestamp) -> Option<Kept> {
    // Days of the case, which begin when it was opened and at no midnight.
    let day = format!("day-{}", (now - case.opened_at).num_days());
    // What is seen is that something is different: who changes it with each look would else never be told of.
    let (kind, about, when) = match standing {
        Standing::Undone { changed, verified_at, .. } => {
            let lines = changed.iter().map(|check| format!("{}: {}", check.name, check.observed));
            ("undone", format!("{verified_at} {}", lines.collect::<Vec<_>>().join("|")), day)
        }
        Standing::Unknown { .. } => ("unknown", String::new(), day),
        Standing::Gone => ("gone", String::new(), "once".to_owned()),
        Standing::AsVerified | Standing::Unverified => return None,
    };
    let mark: String = crate::sha256(about.as_bytes()).chars().take(8).collect();
    let folder = format!("readiness/open-cases/{}/{kind}", case.case_id);
    let seen = |at: Timestamp| format!("{folder}-seen-{}.json", at.format("%Y%m%d"));
    Some(Kept {
        seen: seen(now),
        seen_before: seen(now - TimeDelta::days(1)),
        told: format!("{folder}-{mark}-{when}.json"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::verify::{NO_INBOUND, OUTBOUND, STOP_PROTECTION, TERMINATION_PROTECTION, VOLUMES_KEPT};
    use crate::sample;
    use stasis_model::baseline::{Instance, Interface, Observed, Protection};
    use stasis_model::case::TakenOver;
    use stasis_model::facts::{Allows, Peer, Rule, VerifyFacts};
    use stasis_model::stage::StageStatus;

    fn facts(of: VerifyFacts) -> HeldFacts {
        HeldFacts { instance: of.instance, protection: of.protection, network: of.quarantine }
    }

    fn report(stage: Stage, minutes: i64) -> StageReport {
        let case = sample::case();
        let at = case.opened_at + TimeDelta::minutes(minutes);
        let checks = if stage == Stage::Verify { verify::checklist(&case, &sample::contained()) } else { Vec::new() };
        StageReport { checks, ..sample::stage_report(stage, StageStatus::Done, at) }
    }

    fn names(standing: &Standing) -> Vec<&str> {
        match standing {
            Standing::Undone { changed, .. } => changed.iter().map(|check| check.name.as_str()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn said(facts: &HeldFacts) -> Standing {
        standing(&sample::case(), &Confirmed::by(&report(Stage::Verify, 1)), failing(&sample::case(), facts))
    }

    type Change = fn(&mut HeldFacts);

    fn protection(facts: &mut HeldFacts) -> &mut Protection {
        let Observed::Known(protection) = &mut facts.protection else { panic!("a sample") };
        protection
    }

    fn instance(facts: &mut HeldFacts) -> &mut Instance {
        let Observed::Known(instance) = &mut facts.instance else { panic!("a sample") };
        instance
    }

    fn interfaces(facts: &mut HeldFacts) -> &mut Vec<Interface> {
        let Observed::Known(interfaces) = &mut facts.network.interfaces else { panic!("a sample") };
        interfaces
    }

    fn add_rule(facts: &mut HeldFacts, egress: bool) {
        let allows =
            Allows { protocol: "-1".to_owned(), from_port: -1, to_port: -1, peer: Peer::Cidr4("0.0.0.0/0".to_owned()) };
        for vpc in facts.network.vpcs.values_mut() {
            if let Observed::Known(Some(group)) = &mut vpc.group {
                group.rules.push(Rule { egress, allows: allows.clone() });
            }
        }
    }

    #[test]
    fn what_is_as_it_was_left_is_no_news_and_each_change_is_named() {
        assert_eq!(said(&facts(sample::contained())), Standing::AsVerified);
        let changes: [(&str, Change); 8] = [
            (INTERFACES, |f| interfaces(f)[0].groups = vec!["sg-0eeeeeeeeeeeeeee1".parse().expect("id")]),
            (INTERFACES, |f| {
                let mut other = interfaces(f)[0].clone();
                other.groups = vec!["sg-0eeeeeeeeeeeeeee1".parse().expect("id")];
                interfaces(f).push(other);
            }),
            (NO_INBOUND, |f| add_rule(f, false)),
            (OUTBOUND, |f| add_rule(f, true)),
            (TERMINATION_PROTECTION, |f| protection(f).termination = false),
            (STOP_PROTECTION, |f| protection(f).stop = false),
            (INSTANCE_ONLINE, |f| instance(f).state = "stopped".to_owned()),
            (VOLUMES_KEPT, |f| instance(f).volumes[0].delete_on_termination = true),
        ];
        for (name, change) in changes {
            let mut now = facts(sample::contained());
            change(&mut now);
            let said = said(&now);
            assert_eq!(names(&said), [name]);
            let again = to_hold_again(&said);
            assert_eq!(again.as_deref(), Some(name).filter(|name| *name != INSTANCE_ONLINE));
        }
    }

    #[test]
    fn an_instance_that_is_gone_is_said_to_be_gone_and_nothing_else() {
        for state in ["terminated", "shutting-down"] {
            let mut now = facts(sample::contained());
            instance(&mut now).state = state.to_owned();
            interfaces(&mut now).clear();
            assert!(now.is_gone());
        }
        assert!(!facts(sample::contained()).is_gone());
    }

    #[test]
    fn an_endpoint_that_is_gone_or_cannot_be_read_is_no_rule_that_somebody_added() {
        let mut gone = facts(sample::contained());
        let mut unread = gone.clone();
        for vpc in gone.network.vpcs.values_mut() {
            if let Observed::Known(endpoints) = &mut vpc.endpoints {
                endpoints.services.clear();
            }
        }
        assert_eq!(said(&gone), Standing::AsVerified, "its rules are those of then");
        add_rule(&mut gone, true);
        assert_eq!(names(&said(&gone)), [OUTBOUND]);
        unread.network.vpcs.values_mut().for_each(|vpc| vpc.endpoints = Observed::Unknown("throttled".to_owned()));
        assert!(matches!(said(&unread), Standing::Unknown { why } if why.contains("throttled")));
    }

    #[test]
    fn what_was_never_so_is_not_told_again_and_what_cannot_be_read_is() {
        let case = sample::case();
        let mut verified = report(Stage::Verify, 1);
        let mut now = sample::contained();
        now.protection = Observed::Unknown("ec2:DescribeInstanceAttribute failed: Denied".to_owned());
        let unread = standing(&case, &Confirmed::by(&verified), failing(&case, &facts(now.clone())));
        assert!(matches!(&unread, Standing::Unknown { why } if why.contains("Denied")), "{unread:?}");
        // The run had said so itself.
        verified
            .checks
            .iter_mut()
            .filter(|check| check.name.contains("protection") || check.name.contains("shutdown"))
            .for_each(|check| check.status = CheckStatus::Fail);
        assert_eq!(standing(&case, &Confirmed::by(&verified), failing(&case, &facts(now))), Standing::AsVerified);
    }

    #[test]
    fn what_a_later_look_of_the_run_itself_saw_undone_is_no_less_undone() {
        let (first, mut last) = (report(Stage::Verify, 1), report(Stage::Verify, 9));
        let it = last.checks.iter_mut().find(|check| check.name == TERMINATION_PROTECTION).expect("it");
        it.status = CheckStatus::Fail;
        let mut now = facts(sample::contained());
        protection(&mut now).termination = false;
        let failing = failing(&sample::case(), &now);
        let mut confirmed = Confirmed::by(&last);
        assert!(!confirmed.covers(&failing));
        let nobody_confirmed_it = standing(&sample::case(), &confirmed, failing.clone());
        assert_eq!(nobody_confirmed_it, Standing::AsVerified);
        confirmed.and_before(&first);
        assert!(confirmed.covers(&failing));
        match standing(&sample::case(), &confirmed, failing) {
            Standing::Undone { changed, verified_at, is_to_be_cut_off } => {
                assert_eq!((changed.len(), verified_at, is_to_be_cut_off), (1, first.finished_at, true));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_compared_before_a_run_has_verified_it_or_while_it_is_released() {
        let case = sample::case();
        let is_verified = |reports: &[StageReport], since| verified(reports, since).is_some();
        assert!(!is_verified(&[], case.opened_at));
        assert!(is_verified(&[report(Stage::Verify, 1)], case.opened_at));
        assert!(!is_verified(&[report(Stage::Verify, 1), report(Stage::Release, 2)], case.opened_at));
        let both = [report(Stage::Verify, 3), report(Stage::Release, 2)];
        assert_eq!(verified(&both, case.opened_at).map(|(_, since)| since), Some(both[1].finished_at));
        // What another run verified counts again where the one that took the case over has not for half an hour.
        let over = TakenOver { number: 1, from: None, why: "w".to_owned(), at: case.opened_at + TimeDelta::minutes(2) };
        let over = Case { taken_over: Some(over), ..case.clone() };
        for (minutes, counts) in [(2, false), (32, false), (33, true)] {
            let since = counts_since(&over, case.opened_at + TimeDelta::minutes(minutes));
            assert_eq!(is_verified(&[report(Stage::Verify, 1)], since), counts, "{minutes}");
            assert!(is_verified(&[report(Stage::Verify, 3)], since));
        }
    }

    #[test]
    fn people_are_told_once_a_day_for_the_same_and_anew_for_anything_else() {
        let case = sample::case();
        let at = |hours| case.opened_at + TimeDelta::hours(hours);
        let undone = |observed: &str, verified: i64| Standing::Undone {
            changed: vec![Check::of("a", "", false, observed)],
            verified_at: at(verified),
            is_to_be_cut_off: true,
        };
        let kept = |standing: &Standing, hours| kept(&case, standing, at(hours)).expect("something to tell");
        let first = kept(&undone("x", 0), 0);
        assert_eq!(first.told, kept(&undone("x", 0), 1).told);
        let tomorrow = kept(&undone("x", 0), 24);
        assert!(first.told != tomorrow.told && first.seen != tomorrow.seen);
        assert_eq!(tomorrow.seen_before, first.seen);
        // Undone in another way, or once more after it was verified anew: told anew, and seen before all the same.
        for other in [undone("y", 0), undone("x", 1)] {
            let other = kept(&other, 0);
            assert!(other.told != first.told && other.seen == first.seen, "{other:?}");
        }
        for other in [Standing::Gone, Standing::Unknown { why: "w".to_owned() }] {
            assert_ne!(kept(&other, 0).seen, first.seen);
        }
        assert_eq!(kept(&Standing::Gone, 0).told, kept(&Standing::Gone, 240).told, "once");
        assert!(first.told.starts_with("readiness/open-cases/case-"));
        let none = |standing: &Standing| super::kept(&case, standing, at(0)).is_none();
        assert!(none(&Standing::AsVerified) && none(&Standing::Unverified));
    }
}
