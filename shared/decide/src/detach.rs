//! Detach: out of the scaling group and every load balancer, before the network is cut. Once it is cut the
//! instance fails its health checks, and a scaling group that heeds them terminates it; termination
//! protection does not hold a scaling group back.

use stasis_model::action::{Action, Target};
use stasis_model::baseline::{Observed, ScalingMembership, TargetRegistration};
use stasis_model::case::{Case, MinimumSize};
use stasis_model::facts::DetachFacts;
use stasis_model::stage::{Failure, Next, Plan};
use std::collections::BTreeMap;

/// What detach does: make room in the scaling group, then leave everything at once.
pub fn plan(case: &Case, facts: &DetachFacts) -> Plan {
    let mut plan = Plan::nothing();
    let mut leave = Vec::new();
    if let Some(Some(membership)) = read(&facts.scaling, "the Auto Scaling group", &mut plan) {
        leave_scaling_group(case, membership, &mut plan, &mut leave);
    }
    if let Some(targets) = read(&facts.targets, "the target groups", &mut plan) {
        leave.extend(leave_target_groups(targets));
    }
    if let Some(names) = read(&facts.classic_load_balancers, "the classic load balancers", &mut plan) {
        leave.extend(names.iter().map(|name| Action::DeregisterFromClassicLoadBalancer {
            load_balancer: name.clone(),
            instance: case.instance.instance_id.clone(),
        }));
    }
    if facts.targets_unasked > 0 {
        plan.notes.push(format!(
            "{} target groups were not asked, because it would have kept the network open for too long; they are asked once it is cut",
            facts.targets_unasked
        ));
        plan.next = Next::Wait(1);
    }
    plan.step(leave);
    plan
}

/// A fact, or else an obstacle: what cannot be read is not left unsaid.
fn read<'a, T>(fact: &'a Observed<T>, what: &str, plan: &mut Plan) -> Option<&'a T> {
    match fact {
        Observed::Known(fact) => Some(fact),
        Observed::Unknown(why) => {
            plan.obstacles.push(Failure::lasting("Unreadable", format!("{what} could not be read: {why}")));
            None
        }
    }
}

/// States in which a scaling group lets an instance go
/// (<https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html>).
const DETACHABLE: [&str; 2] = ["InService", "Standby"];

fn leave_scaling_group(case: &Case, membership: &ScalingMembership, plan: &mut Plan, leave: &mut Vec<Action>) {
    let group = &membership.group;
    let instance = &case.instance.instance_id;
    let state = membership.lifecycle_state.as_str();
    if state.starts_with("Detach") {
        plan.notes.push(format!("scaling group {group} is detaching {instance} already"));
        return;
    }
    if !DETACHABLE.contains(&state) {
        plan.obstacles.push(Failure::lasting(
            "ScalingState",
            format!(
                "{instance} is {state} in scaling group {group}, which lets an instance go from {} only",
                DETACHABLE.join(" or ")
            ),
        ));
        return;
    }
    // A Standby instance is no longer counted in the desired capacity.
    let at_minimum =
        membership.sizes.filter(|sizes| state == "InService" && sizes.desired <= sizes.min && sizes.min > 0);
    let replace = at_minimum.is_some() && case.policy.minimum_size == MinimumSize::Replace;
    if let Some(sizes) = at_minimum.filter(|_| !replace) {
        plan.step(vec![Action::LowerMinimumSize { group: group.clone(), from: sizes.min, to: sizes.desired - 1 }]);
    }
    leave.push(Action::DetachFromScalingGroup {
        group: group.clone(),
        instance: instance.clone(),
        // One that stands by is not counted in the desired capacity: a group that shrank all the same would take
        // another instance out of service.
        decrement: !replace && state == "InService",
    });
}

/// One action per target group, with every registration in it.
fn leave_target_groups(targets: &[TargetRegistration]) -> Vec<Action> {
    let mut by_group: BTreeMap<&str, Vec<Target>> = BTreeMap::new();
    for registration in targets.iter().filter(|t| !t.is_leaving()) {
        by_group.entry(&registration.target_group).or_default().push(Target {
            id: registration.target.clone(),
            port: registration.port,
            availability_zone: registration.availability_zone.clone(),
        });
    }
    by_group
        .into_iter()
        .map(|(target_group, targets)| Action::DeregisterTargets { target_group: target_group.to_owned(), targets })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::baseline::ScalingSizes;

    fn facts() -> DetachFacts {
        let baseline = sample::case().baseline;
        DetachFacts {
            scaling: baseline.scaling,
            targets: baseline.targets,
            targets_unasked: 0,
            classic_load_balancers: baseline.classic_load_balancers,
        }
    }

    fn kinds(plan: &Plan) -> Vec<&'static str> {
        plan.actions()
            .map(|action| match action {
                Action::LowerMinimumSize { .. } => "lower",
                Action::DetachFromScalingGroup { .. } => "detach",
                Action::DeregisterTargets { .. } => "deregister",
                Action::DeregisterFromClassicLoadBalancer { .. } => "classic",
                _ => "other",
            })
            .collect()
    }

    fn with_sizes(state: &str, min: i32, desired: i32) -> DetachFacts {
        DetachFacts {
            scaling: Observed::Known(Some(ScalingMembership {
                group: "web".to_owned(),
                lifecycle_state: state.to_owned(),
                protected_from_scale_in: true,
                sizes: Some(ScalingSizes { min, max: 4, desired }),
            })),
            targets: Observed::Known(Vec::new()),
            targets_unasked: 0,
            classic_load_balancers: Observed::Known(Vec::new()),
        }
    }

    #[test]
    fn an_ordinary_instance_leaves_everything_at_once() {
        let plan = plan(&sample::case(), &facts());
        assert_eq!(plan.steps.len(), 1, "{plan:?}");
        assert_eq!(kinds(&plan), ["detach", "deregister", "classic"]);
    }

    #[test]
    fn the_minimum_is_lowered_first_and_only_where_it_is_in_the_way() {
        let table: [(&str, i32, i32, &[&str]); 7] = [
            ("InService", 1, 2, &["detach"]),
            ("InService", 2, 2, &["lower", "detach"]),
            ("InService", 1, 1, &["lower", "detach"]),
            ("InService", 0, 1, &["detach"]),
            ("Standby", 1, 1, &["detach"]),
            ("Standby", 2, 2, &["detach"]),
            ("Detaching", 1, 2, &[]),
        ];
        for (state, min, desired, expected) in table {
            let plan = plan(&sample::case(), &with_sizes(state, min, desired));
            assert_eq!(kinds(&plan), expected, "{state} {min} {desired}");
            let shrinks = |a: &Action| matches!(a, Action::DetachFromScalingGroup { decrement: true, .. });
            assert_eq!(plan.actions().any(shrinks), state == "InService", "{state}");
            if expected.len() == 2 {
                assert_eq!(plan.steps.len(), 2, "the minimum is lowered before, not beside");
            }
        }
    }

    #[test]
    fn by_policy_a_group_at_its_minimum_starts_a_replacement_instead() {
        let mut case = sample::case();
        case.policy.minimum_size = MinimumSize::Replace;
        for (min, desired, shrinks) in [(2, 2, false), (1, 1, false), (1, 2, true), (0, 1, true)] {
            let plan = plan(&case, &with_sizes("InService", min, desired));
            let [Action::DetachFromScalingGroup { decrement, .. }] = plan.actions().collect::<Vec<_>>()[..] else {
                panic!("{plan:?}")
            };
            assert_eq!(*decrement, shrinks, "min {min} desired {desired}");
        }
    }

    #[test]
    fn target_groups_that_were_not_asked_are_asked_later() {
        let facts = DetachFacts { targets_unasked: 2900, ..facts() };
        let plan = plan(&sample::case(), &facts);
        assert_eq!((plan.next, plan.actions().count()), (Next::Wait(1), 3));
        assert!(plan.notes[0].contains("2900"));
    }

    #[test]
    fn a_state_that_cannot_be_left_is_an_obstacle() {
        for state in ["Pending", "Pending:Wait", "Terminating", "Terminating:Wait", "EnteringStandby"] {
            let plan = plan(&sample::case(), &with_sizes(state, 1, 2));
            assert_eq!(plan.obstacles.first().map(|o| o.code.as_str()), Some("ScalingState"), "{state}");
            assert_eq!(plan.actions().count(), 0, "{state}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_done() {
        let mut facts = facts();
        facts.scaling = Observed::Unknown("AccessDenied".to_owned());
        let plan = plan(&sample::case(), &facts);
        assert_eq!(kinds(&plan), ["deregister", "classic"]);
        assert!(plan.obstacles.iter().any(|o| o.message.contains("AccessDenied")), "{plan:?}");
    }

    #[test]
    fn every_port_of_a_target_is_named_and_a_draining_one_is_left_alone() {
        let registration = |port, health: &str| TargetRegistration {
            target_group: "arn:tg/a/1".to_owned(),
            target: "10.0.0.5".to_owned(),
            port: Some(port),
            availability_zone: None,
            health: Some(health.to_owned()),
        };
        let facts = DetachFacts {
            scaling: Observed::Known(None),
            targets: Observed::Known(vec![
                registration(80, "healthy"),
                registration(81, "unhealthy"),
                registration(82, "draining"),
            ]),
            targets_unasked: 0,
            classic_load_balancers: Observed::Known(Vec::new()),
        };
        let plan = plan(&sample::case(), &facts);
        let Some(Action::DeregisterTargets { targets, .. }) = plan.actions().next() else { panic!("{plan:?}") };
        assert_eq!(targets.iter().map(|t| t.port).collect::<Vec<_>>(), [Some(80), Some(81)]);
    }
}
