//! Scope: what else the compromise may reach, by the playbooks of the case. It looks, says what is wrong in checks of its
//! own, and changes one thing only: flow logs are switched on where no others tell with whom the instance talks.

use crate::checks::scope::{ANALYZER, FLOWS, MFA, VERSIONS};
use stasis_model::action::Action;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::check::Check;
use stasis_model::facts::{Analyzed, FlowLog, Reach, ReachedBucket, ScopeFacts};
use stasis_model::ids::InterfaceId;
use stasis_model::policy::Playbook;
use stasis_model::stage::{Next, Plan};
use stasis_model::tags;

/// The log group of flow logs that are switched on, as infra/member.yaml makes it.
pub const LOG_GROUP: &str = "/stasis/flow-logs";
/// How many names are listed in a check.
const NAMED: usize = 10;

/// What scope does.
pub fn plan(case: &Case, facts: &ScopeFacts) -> Plan {
    let mut plan = Plan::nothing();
    for playbook in &case.decided.playbooks {
        match playbook {
            Playbook::CoinMiner => flow_logs(case, facts, &mut plan),
            Playbook::Ransomware => buckets(facts, &mut plan),
            Playbook::Exfiltration => analyzer(facts, &mut plan),
        }
    }
    plan
}

/// The role that delivers flow logs, as infra/member.yaml makes it.
fn delivery_role(case: &Case) -> String {
    let region = &case.instance.region;
    format!("arn:{}:iam::{}:role/stasis-flow-logs-{region}", region.partition(), case.instance.account)
}

fn flow_logs(case: &Case, facts: &ScopeFacts, plan: &mut Plan) {
    let expected = "a flow log of all traffic for each interface, of the interface, its subnet or its VPC";
    let logs = match &facts.flow_logs {
        Observed::Known(logs) => logs,
        Observed::Unknown(why) => return plan.checks.push(Check::unknown(FLOWS, expected, why)),
    };
    let mut uncovered: Vec<InterfaceId> = Vec::new();
    let mut seen = Vec::new();
    for interface in &case.baseline.instance.interfaces {
        let places = [interface.interface_id.as_str(), interface.subnet_id.as_str(), interface.vpc_id.as_str()];
        let covers = |log: &&FlowLog| log.delivers && log.traffic == "ALL" && places.contains(&log.resource.as_str());
        match logs.iter().find(covers) {
            Some(log) => seen.push(format!("{} of {} goes to {}", log.id, log.resource, log.destination)),
            None => uncovered.push(interface.interface_id.clone()),
        }
    }
    // One of ours that does not deliver is not made a second time.
    let ours_fail = logs.iter().any(|log| log.ours && !log.delivers);
    seen.sort();
    seen.dedup();
    let observed = if seen.is_empty() { "none".to_owned() } else { seen.join("; ") };
    let names: Vec<&str> = uncovered.iter().map(InterfaceId::as_str).collect();
    if uncovered.is_empty() {
        plan.checks.push(Check::of(FLOWS, expected, true, observed));
        plan.notes.extend(who_else(case));
    } else if ours_fail {
        let observed = format!("the flow log of {} does not deliver; is infra/member.yaml deployed?", names.join(", "));
        plan.checks.push(Check::of(FLOWS, expected, false, observed));
    } else {
        plan.checks.push(Check::missing(
            FLOWS,
            expected,
            format!("none of {} before now; {observed}", names.join(", ")),
        ));
        plan.step(vec![Action::CreateFlowLogs {
            interfaces: uncovered,
            log_group: LOG_GROUP.to_owned(),
            role: delivery_role(case),
            tags: tags::evidence_tags(case),
        }]);
        plan.next = Next::ObserveAgain;
    }
}

/// How to find out who else talked with the addresses of the finding.
fn who_else(case: &Case) -> Option<String> {
    let addresses: Vec<String> = case.remote_addresses.iter().map(|address| format!("\"{address}\"")).collect();
    (!addresses.is_empty()).then(|| {
        format!(
            "who else talked with the addresses of the finding: ask flow logs in CloudWatch Logs Insights with: filter dstAddr in [{0}] or srcAddr in [{0}] | stats sum(bytes), min(@timestamp), max(@timestamp) by interfaceId, srcAddr, dstAddr, dstPort, action",
            addresses.join(", ")
        )
    })
}

/// A role that could not be read, or is not there: said as the check `name`, and none.
fn role<'a>(facts: &'a ScopeFacts, name: &str, expected: &str, plan: &mut Plan) -> Option<&'a str> {
    match &facts.role {
        Observed::Known(Some(role)) => Some(role),
        Observed::Known(None) => {
            plan.checks.push(Check::of(name, expected, true, "the instance has no role"));
            None
        }
        Observed::Unknown(why) => {
            plan.checks.push(Check::unknown(name, expected, why));
            None
        }
    }
}

fn buckets(facts: &ScopeFacts, plan: &mut Plan) {
    let expected = "versioning on in each";
    let Some(role) = role(facts, VERSIONS, expected, plan) else { return };
    let reach = match &facts.buckets {
        Observed::Known(reach) => reach,
        Observed::Unknown(why) => return plan.checks.push(Check::unknown(VERSIONS, expected, why)),
    };
    plan.checks.push(kept(reach, expected));
    if !reach.buckets.is_empty() {
        let without = names(reach, |bucket| !bucket.mfa_delete);
        let observed = if without.is_empty() { "all of them".to_owned() } else { format!("not in {without}") };
        plan.checks.push(Check::of(MFA, "MFA delete on in each", without.is_empty(), observed));
    }
    for bucket in &reach.buckets {
        plan.notes.push(format!("{role} may {} in bucket {}", bucket.actions.join(", "), bucket.name));
    }
    plan.notes.push(
        "what the role may do is what IAM's simulation of its own policies says; policies of buckets, endpoints and organisations may allow or deny more".to_owned(),
    );
}

fn kept(reach: &Reach, expected: &str) -> Check {
    let unversioned = names(reach, |bucket| bucket.versioned == Observed::Known(false));
    let unread = names(reach, |bucket| matches!(bucket.versioned, Observed::Unknown(_)));
    let of = format!("{} of {} buckets", reach.buckets.len(), reach.asked);
    if !unversioned.is_empty() {
        return Check::of(
            VERSIONS,
            expected,
            false,
            format!("the role may destroy {of}; no versions in {unversioned}"),
        );
    }
    if !unread.is_empty() {
        return Check::unknown(VERSIONS, expected, format!("the role may destroy {of}; not readable: {unread}"));
    }
    if reach.unasked > 0 {
        return Check::unknown(VERSIONS, expected, format!("{of}; {} more buckets were not looked at", reach.unasked));
    }
    Check::of(VERSIONS, expected, true, format!("the role may destroy {of}, and all of those keep versions"))
}

fn names(reach: &Reach, which: impl Fn(&ReachedBucket) -> bool) -> String {
    let found: Vec<&str> =
        reach.buckets.iter().filter(|bucket| which(bucket)).map(|bucket| bucket.name.as_str()).collect();
    let more = found.len().saturating_sub(NAMED);
    let listed = found.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

fn analyzer(facts: &ScopeFacts, plan: &mut Plan) {
    let expected = "no active finding about the instance's role";
    let Some(role) = role(facts, ANALYZER, expected, plan) else { return };
    match &facts.analyzed {
        Observed::Unknown(why) => plan.checks.push(Check::unknown(ANALYZER, expected, why)),
        Observed::Known(Analyzed { analyzers, .. }) if analyzers.is_empty() => {
            plan.checks.push(Check::missing(
                ANALYZER,
                expected,
                "there is no active analyzer in this account and region",
            ));
        }
        Observed::Known(Analyzed { analyzers, findings }) => {
            let observed = match findings.len() {
                0 => format!("none, says {}", analyzers.join(", ")),
                1 => format!("1 finding about {role}"),
                many => format!("{many} findings about {role}"),
            };
            plan.checks.push(Check::of(ANALYZER, expected, findings.is_empty(), observed));
            plan.notes.extend(findings.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::check::CheckStatus;

    fn case(playbooks: &[Playbook]) -> Case {
        let mut case = sample::case();
        case.decided.playbooks = playbooks.to_vec();
        case.remote_addresses = vec!["198.51.100.7".parse().expect("an address")];
        case
    }

    fn nothing() -> ScopeFacts {
        ScopeFacts {
            flow_logs: Observed::Known(Vec::new()),
            role: Observed::Known(Some("arn:aws:iam::111122223333:role/web-server".to_owned())),
            buckets: Observed::Known(Reach::default()),
            analyzed: Observed::Known(Analyzed::default()),
        }
    }

    fn log(resource: &str, traffic: &str, delivers: bool, ours: bool) -> FlowLog {
        FlowLog {
            id: "fl-1".to_owned(),
            resource: resource.to_owned(),
            traffic: traffic.to_owned(),
            delivers,
            destination: "production".to_owned(),
            ours,
        }
    }

    fn statuses(plan: &Plan) -> Vec<CheckStatus> {
        plan.checks.iter().map(|check| check.status).collect()
    }

    #[test]
    fn without_a_playbook_nothing_is_asked_and_nothing_done() {
        assert_eq!(plan(&case(&[]), &nothing()), Plan::nothing());
    }

    #[test]
    fn flow_logs_are_switched_on_where_none_show_all_traffic_and_once_only() {
        let case = case(&[Playbook::CoinMiner]);
        let interface = &case.baseline.instance.interfaces[0];
        let vpc = interface.vpc_id.to_string();
        let first = plan(&case, &nothing());
        assert_eq!((statuses(&first), first.next), (vec![CheckStatus::Missing], Next::ObserveAgain));
        assert!(matches!(first.actions().next(), Some(Action::CreateFlowLogs { role, .. })
            if role == "arn:aws:iam::111122223333:role/stasis-flow-logs-eu-central-1"));
        for (logs, acts, status) in [
            (vec![log(&vpc, "ALL", true, false)], false, CheckStatus::Pass),
            (vec![log(&interface.subnet_id, "ALL", true, false)], false, CheckStatus::Pass),
            (vec![log(&vpc, "REJECT", true, false)], true, CheckStatus::Missing),
            (vec![log(&vpc, "ALL", false, false)], true, CheckStatus::Missing),
            (vec![log("vpc-elsewhere", "ALL", true, false)], true, CheckStatus::Missing),
            // Ours does not deliver: a second one would not either.
            (vec![log(interface.interface_id.as_str(), "ALL", false, true)], false, CheckStatus::Fail),
        ] {
            let plan = plan(&case, &ScopeFacts { flow_logs: Observed::Known(logs.clone()), ..nothing() });
            assert_eq!((plan.actions().count() > 0, statuses(&plan)), (acts, vec![status]), "{logs:?}");
            assert_eq!(status == CheckStatus::Pass, plan.notes.iter().any(|n| n.contains("198.51.100.7")));
        }
        let unread = ScopeFacts { flow_logs: Observed::Unknown("denied".to_owned()), ..nothing() };
        let plan = plan(&case, &unread);
        assert_eq!((statuses(&plan), plan.actions().count()), (vec![CheckStatus::Unknown], 0));
    }

    #[test]
    fn buckets_that_the_role_may_destroy_are_named_where_they_keep_no_versions() {
        let case = case(&[Playbook::Ransomware]);
        let bucket = |name: &str, versioned: Observed<bool>, mfa_delete| ReachedBucket {
            name: name.to_owned(),
            actions: vec!["s3:DeleteObject".to_owned()],
            versioned,
            mfa_delete,
        };
        let (on, off) = (Observed::Known(true), Observed::Known(false));
        let unread = Observed::Unknown("denied".to_owned());
        for (buckets, unasked, expected) in [
            (vec![], 0, vec![CheckStatus::Pass]),
            (vec![], 7, vec![CheckStatus::Unknown]),
            (vec![bucket("a", on.clone(), true)], 0, vec![CheckStatus::Pass, CheckStatus::Pass]),
            (vec![bucket("a", on.clone(), false)], 0, vec![CheckStatus::Pass, CheckStatus::Fail]),
            (
                vec![bucket("a", on.clone(), true), bucket("b", off, true)],
                0,
                vec![CheckStatus::Fail, CheckStatus::Pass],
            ),
            (vec![bucket("a", unread, true)], 0, vec![CheckStatus::Unknown, CheckStatus::Pass]),
        ] {
            let named = buckets.len();
            let reach = Reach { buckets, asked: 10, unasked };
            let plan = plan(&case, &ScopeFacts { buckets: Observed::Known(reach), ..nothing() });
            assert_eq!(statuses(&plan), expected);
            assert_eq!(plan.notes.len(), named + 1);
        }
        let none = ScopeFacts { role: Observed::Known(None), ..nothing() };
        assert_eq!(statuses(&plan(&case, &none)), [CheckStatus::Pass]);
        let unknown = ScopeFacts { role: Observed::Unknown("denied".to_owned()), ..nothing() };
        assert_eq!(statuses(&plan(&case, &unknown)), [CheckStatus::Unknown]);
    }

    #[test]
    fn what_access_analyzer_knows_is_attached_and_no_analyzer_is_no_pass() {
        let case = case(&[Playbook::Exfiltration]);
        let with = |analyzers: &[&str], findings: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let analyzed = Observed::Known(Analyzed { analyzers: owned(analyzers), findings: owned(findings) });
            plan(&case, &ScopeFacts { analyzed, ..nothing() })
        };
        assert_eq!(statuses(&with(&[], &[])), [CheckStatus::Missing]);
        assert_eq!(statuses(&with(&["account"], &[])), [CheckStatus::Pass]);
        let found = with(&["account"], &["ExternalAccess 1"]);
        assert_eq!(
            (statuses(&found), found.notes.as_slice()),
            (vec![CheckStatus::Fail], &["ExternalAccess 1".to_owned()][..])
        );
    }
}
