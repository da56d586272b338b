//! Prepare: the quarantine groups made and brought in order, while protect and detach are still at work, so
//! that the network cut waits for nothing. It touches nothing of the instance; what it leaves undone,
//! quarantine does.

use crate::quarantine;
use stasis_model::case::Case;
use stasis_model::facts::QuarantineFacts;
use stasis_model::stage::{Next, Plan};

/// What prepare does next. It is asked again after groups were made, until they are in order.
pub fn plan(case: &Case, facts: &QuarantineFacts) -> Plan {
    let mut plan = Plan::nothing();
    let mut actions = Vec::new();
    let interfaces = quarantine::interfaces(case, facts, &mut plan);
    for vpc in quarantine::vpcs(interfaces) {
        let ready = quarantine::make_ready(case, facts, interfaces, vpc, &mut plan);
        actions.extend(ready.actions);
    }
    if !actions.is_empty() {
        plan.next = Next::ObserveAgain;
    }
    plan.step(actions);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::action::Action;
    use stasis_model::case::TrackedConnections;
    use stasis_model::facts::QuarantineGroup;

    #[test]
    fn both_groups_are_made_at_once_and_no_interface_is_touched() {
        let mut case = sample::case();
        let both = plan(&case, &sample::quarantine_facts(None));
        assert_eq!(both.steps.len(), 1, "{both:?}");
        assert!(matches!(
            both.actions().collect::<Vec<_>>().as_slice(),
            [Action::CreateQuarantineGroup { .. }, Action::CreatePassThroughGroup { .. }]
        ));
        case.policy.tracked_connections = TrackedConnections::Leave;
        assert_eq!(plan(&case, &sample::quarantine_facts(None)).actions().count(), 1);
    }

    #[test]
    fn where_everything_is_ready_nothing_is_left() {
        let case = sample::case();
        let mut facts = sample::quarantine_facts(None);
        for known in facts.vpcs.values_mut() {
            *known = sample::ready(&case, known);
        }
        assert_eq!(plan(&case, &facts).actions().count(), 0);
        let group = QuarantineGroup { group_id: "sg-0fffffffffffffff1".parse().expect("id"), rules: Vec::new() };
        for known in facts.vpcs.values_mut() {
            known.group = stasis_model::baseline::Observed::Known(Some(group.clone()));
        }
        let mending = plan(&case, &facts);
        assert!(mending.actions().all(|a| matches!(a, Action::AllowEgress { .. })), "{mending:?}");
    }
}
