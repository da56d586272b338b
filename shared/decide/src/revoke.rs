//! Revoke: the power of the instance's role, taken away once the agent has done its work. First the instance gets a
//! profile that can only talk to Systems Manager, then sessions that were issued before are denied on the role.
//! A role that others use too is not touched: the denial would hit them.

use stasis_model::Timestamp;
use stasis_model::action::{Action, arn_name};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, Credentials};
use stasis_model::facts::RevokeFacts;
use stasis_model::ids::{CaseId, InstanceId};
use stasis_model::stage::{Failure, Plan};

/// The name of our inline policy on a role: the case is in it, so that it is told from every other.
pub fn policy_name(case: &CaseId) -> String {
    format!("StasisRevokeOlderSessions-{case}")
}

/// What revoke does, at the time `now`.
pub fn plan(case: &Case, facts: &RevokeFacts, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if case.policy.credentials == Credentials::Keep {
        plan.notes.push("the role of the instance keeps its power (policy keep)".to_owned());
        return plan;
    }
    let Some(before) = &case.baseline.instance.instance_profile else {
        plan.notes
            .push(format!("{} has no instance profile, so no role's sessions to revoke", case.instance.instance_id));
        return plan;
    };
    let swap = replace_profile(case, facts, before, &mut plan);
    plan.step(swap.into_iter().collect());
    let denial = deny_older_sessions(case, facts, before, now, &mut plan);
    plan.step(denial.into_iter().collect());
    plan
}

fn unreadable(plan: &mut Plan, what: &str, why: &str) {
    plan.obstacles
        .push(Failure::lasting("Unreadable", format!("{what} could not be read, so nothing was done about it: {why}")));
}

fn replace_profile(case: &Case, facts: &RevokeFacts, before: &str, plan: &mut Plan) -> Option<Action> {
    let quarantine = match &facts.quarantine_profile {
        Observed::Known(Some(profile)) => profile,
        Observed::Known(None) => {
            plan.obstacles.push(Failure::lasting(
                "NoQuarantineProfile",
                format!(
                    "instance profile {} does not exist, so {} keeps {}; deploy infra/member.yaml in this account",
                    case.policy.quarantine_profile,
                    case.instance.instance_id,
                    arn_name(before)
                ),
            ));
            return None;
        }
        Observed::Unknown(why) => {
            unreadable(plan, "the quarantine instance profile", why);
            return None;
        }
    };
    match &facts.association {
        Observed::Unknown(why) => {
            unreadable(plan, "the instance profile", why);
            None
        }
        Observed::Known(None) => {
            plan.notes.push("the instance profile was taken off by somebody else meanwhile".to_owned());
            None
        }
        Observed::Known(Some(association)) if &association.profile == quarantine => None,
        Observed::Known(Some(association)) if association.profile != before => {
            plan.notes.push(format!(
                "the instance profile was changed to {} by somebody else meanwhile, and is replaced all the same",
                arn_name(&association.profile)
            ));
            Some(replacement(case, &association.id, &association.profile, quarantine))
        }
        Observed::Known(Some(association)) => Some(replacement(case, &association.id, before, quarantine)),
    }
}

fn replacement(case: &Case, association: &str, from: &str, to: &str) -> Action {
    Action::ReplaceInstanceProfile {
        instance: case.instance.instance_id.clone(),
        association: association.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn deny_older_sessions(
    case: &Case,
    facts: &RevokeFacts,
    before: &str,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Action> {
    let role = match &facts.role {
        Observed::Known(Some(role)) => role,
        Observed::Known(None) => {
            plan.notes.push(format!("instance profile {} holds no role, so there are no sessions", arn_name(before)));
            return None;
        }
        Observed::Unknown(why) => {
            unreadable(plan, "the role of the instance profile", why);
            return None;
        }
    };
    match (&facts.shared_with, &facts.revoked) {
        (_, Observed::Known(true)) => None,
        (_, Observed::Unknown(why)) => {
            unreadable(plan, "the role's policies", why);
            None
        }
        (Observed::Unknown(why), _) => {
            unreadable(plan, "who else uses the role", why);
            None
        }
        (Observed::Known(others), _) if !others.is_empty() => {
            let names: Vec<&str> = others.iter().take(5).map(InstanceId::as_str).collect();
            plan.obstacles.push(Failure::lasting(
                "SharedRole",
                format!(
                    "role {role} is used by {} other instances too ({}{}), whose sessions the denial would cut as well, so it was not made; to do so all the same, use \"Revoke active sessions\" of the role in the IAM console",
                    others.len(),
                    names.join(", "),
                    if others.len() > names.len() { ", …" } else { "" }
                ),
            ));
            None
        }
        (Observed::Known(_), Observed::Known(false)) => {
            plan.notes.push(format!(
                "role {role} is used by no other instance of this region; who else may assume it (other regions, other services) was not looked at"
            ));
            Some(Action::RevokeSessions { role: role.clone(), policy: policy_name(&case.case_id), issued_before: now })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::facts::ProfileAssociation;

    const BEFORE: &str = "arn:aws:iam::111122223333:instance-profile/web-server";
    const QUARANTINE: &str = "arn:aws:iam::111122223333:instance-profile/stasis-quarantine";

    fn case() -> Case {
        let mut case = sample::case();
        case.policy.credentials = Credentials::Revoke;
        case.baseline.instance.instance_profile = Some(BEFORE.to_owned());
        case
    }

    fn facts() -> RevokeFacts {
        RevokeFacts {
            association: Observed::Known(Some(ProfileAssociation { id: "a-1".to_owned(), profile: BEFORE.to_owned() })),
            role: Observed::Known(Some("web".to_owned())),
            shared_with: Observed::Known(Vec::new()),
            quarantine_profile: Observed::Known(Some(QUARANTINE.to_owned())),
            revoked: Observed::Known(false),
        }
    }

    #[test]
    fn the_profile_is_swapped_before_older_sessions_are_denied() {
        let plan = plan(&case(), &facts(), sample::time());
        assert_eq!(plan.steps.len(), 2, "one after the other: {plan:?}");
        assert!(matches!(plan.steps[0][0], Action::ReplaceInstanceProfile { .. }));
        assert!(
            matches!(&plan.steps[1][0], Action::RevokeSessions { issued_before, .. } if *issued_before == sample::time())
        );
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        let mut facts = facts();
        facts.association =
            Observed::Known(Some(ProfileAssociation { id: "a-1".to_owned(), profile: QUARANTINE.to_owned() }));
        facts.revoked = Observed::Known(true);
        assert_eq!(plan(&case(), &facts, sample::time()).actions().count(), 0);
    }

    #[test]
    fn a_role_that_others_use_is_left_alone_and_it_is_said() {
        let mut facts = facts();
        facts.shared_with = Observed::Known(vec!["i-0fedcba9876543210".parse().expect("id")]);
        let plan = plan(&case(), &facts, sample::time());
        assert_eq!(plan.actions().count(), 1, "the profile of this instance is swapped all the same");
        assert_eq!(plan.obstacles[0].code, "SharedRole");
        assert!(plan.obstacles[0].message.contains("i-0fedcba9876543210"));
    }

    #[test]
    fn an_instance_without_profile_and_the_policy_keep_have_nothing_to_do() {
        let mut bare = case();
        bare.baseline.instance.instance_profile = None;
        let mut kept = case();
        kept.policy.credentials = Credentials::Keep;
        for case in [bare, kept] {
            let plan = plan(&case, &facts(), sample::time());
            assert!(plan.actions().count() == 0 && plan.obstacles.is_empty() && plan.notes.len() == 1);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_nothing_is_guessed() {
        let no = "AccessDenied".to_owned();
        let facts = RevokeFacts {
            association: Observed::Unknown(no.clone()),
            role: Observed::Unknown(no.clone()),
            shared_with: Observed::Unknown(no.clone()),
            quarantine_profile: Observed::Unknown(no.clone()),
            revoked: Observed::Unknown(no),
        };
        let plan = plan(&case(), &facts, sample::time());
        assert_eq!((plan.actions().count(), plan.obstacles.len()), (0, 2));
    }
}
