//! Protect: nothing and nobody shall stop or terminate the instance, or lose its disks with it.

use stasis_model::action::{Action, Device};
use stasis_model::baseline::{Observed, TagsByResource};
use stasis_model::case::Case;
use stasis_model::facts::ProtectFacts;
use stasis_model::stage::{Failure, Plan};
use stasis_model::tags::{self, Tag};
use std::collections::BTreeMap;

/// What protect does. All of it at once: no action waits for another.
pub fn plan(case: &Case, facts: &ProtectFacts) -> Plan {
    let mut plan = Plan::nothing();
    let instance = case.instance.instance_id.clone();
    let mut actions = Vec::new();
    let (termination, stop, shutdown) = match &facts.protection {
        Observed::Known(now) => (now.termination, now.stop, now.shutdown_behavior == "stop"),
        // Not known to be protected is not protected: setting it again does no harm.
        Observed::Unknown(_) => (false, false, false),
    };
    if facts.instance.spot {
        plan.obstacles.push(Failure::lasting(
            "SpotInstance",
            format!("{instance} is a Spot Instance: EC2 offers it neither termination nor stop protection, and may reclaim it at any time"),
        ));
    } else {
        if !termination {
            actions.push(Action::EnableTerminationProtection { instance: instance.clone() });
        }
        if !stop {
            actions.push(Action::EnableStopProtection { instance: instance.clone() });
        }
        if !shutdown {
            actions.push(Action::StopOnShutdown { instance: instance.clone() });
        }
    }
    let devices: Vec<Device> = facts
        .instance
        .volumes
        .iter()
        .filter(|volume| volume.delete_on_termination)
        .map(|volume| Device { device: volume.device.clone(), volume_id: volume.volume_id.clone() })
        .collect();
    if !devices.is_empty() {
        actions.push(Action::KeepVolumes { instance, devices });
    }
    actions.extend(tagging(case, facts));
    plan.step(actions);
    plan
}

/// The tags that the resource must carry.
pub fn wanted_tags(case: &Case, resource: &str) -> Vec<Tag> {
    let mut wanted = tags::evidence_tags(case);
    if resource == case.instance.instance_id.as_str() {
        wanted.push(Tag::new(tags::STATUS, status(case)));
    }
    wanted
}

/// What the instance's status tag says while the case is open.
fn status(case: &Case) -> &'static str {
    if case.contains() { "contained" } else { "preserved" }
}

/// Whether a resource has all of the tags.
pub fn has_tags(tags: &TagsByResource, resource: &str, wanted: &[Tag]) -> bool {
    let none = BTreeMap::new();
    let present = tags.get(resource).unwrap_or(&none);
    wanted.iter().all(|tag| present.get(&tag.key) == Some(&tag.value))
}

/// One call for the resources that take the same tags and lack some; the instance has one tag more.
fn tagging(case: &Case, facts: &ProtectFacts) -> Vec<Action> {
    let lacking: Vec<String> = facts
        .instance
        .resources(&case.instance.instance_id)
        .into_iter()
        .filter(|resource| match &facts.tags {
            Observed::Known(tags) => !has_tags(tags, resource, &wanted_tags(case, resource)),
            Observed::Unknown(_) => true,
        })
        .collect();
    let (instance, others): (Vec<String>, Vec<String>) =
        lacking.into_iter().partition(|resource| resource == case.instance.instance_id.as_str());
    [instance, others]
        .into_iter()
        .filter_map(|resources| {
            let tags = wanted_tags(case, resources.first()?);
            Some(Action::Tag { resources, tags })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::baseline::Protection;

    fn facts() -> ProtectFacts {
        let baseline = sample::case().baseline;
        ProtectFacts {
            instance: baseline.instance,
            protection: baseline.protection,
            tags: Observed::Known(BTreeMap::new()),
        }
    }

    fn words(plan: &Plan) -> Vec<String> {
        plan.actions().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_instance_gets_everything_in_one_step() {
        let plan = plan(&sample::case(), &facts());
        assert_eq!(plan.steps.len(), 1, "{plan:?}");
        assert_eq!(
            words(&plan),
            [
                "turn termination protection on",
                "turn stop protection on",
                "make a shutdown from inside stop, not terminate",
                "keep vol-0aaaaaaaaaaaaaaa1 (/dev/xvda), vol-0aaaaaaaaaaaaaaa2 (/dev/xvdb) if the instance is ever terminated",
                "tag i-0a1b2c3d4e5f67890 as evidence",
                "tag vol-0aaaaaaaaaaaaaaa1, vol-0aaaaaaaaaaaaaaa2, eni-0aaaaaaaaaaaaaaa1 as evidence",
            ]
        );
    }

    #[test]
    fn what_is_so_already_is_left_alone() {
        let case = sample::case();
        let mut facts = facts();
        facts.protection =
            Observed::Known(Protection { termination: true, stop: true, shutdown_behavior: "stop".to_owned() });
        for volume in &mut facts.instance.volumes {
            volume.delete_on_termination = false;
        }
        let tags = facts
            .instance
            .resources(&case.instance.instance_id)
            .into_iter()
            .map(|resource| {
                let tags = wanted_tags(&case, &resource).into_iter().map(|tag| (tag.key, tag.value)).collect();
                (resource, tags)
            })
            .collect();
        facts.tags = Observed::Known(tags);
        assert_eq!(plan(&case, &facts), Plan::nothing());
    }

    #[test]
    fn protection_that_cannot_be_read_is_set_all_the_same() {
        let mut facts = facts();
        facts.protection = Observed::Unknown("denied".to_owned());
        facts.tags = Observed::Unknown("denied".to_owned());
        assert_eq!(plan(&sample::case(), &facts).actions().count(), 6);
    }

    #[test]
    fn a_spot_instance_is_said_to_be_at_risk_and_the_rest_is_done() {
        let mut facts = facts();
        facts.instance.spot = true;
        let plan = plan(&sample::case(), &facts);
        assert_eq!(plan.obstacles.first().map(|o| o.code.as_str()), Some("SpotInstance"));
        assert!(plan.actions().all(|a| matches!(a, Action::KeepVolumes { .. } | Action::Tag { .. })), "{plan:?}");
    }
}
