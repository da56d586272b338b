//! Triage: from a request and the facts about the instance to a case, or to the reason why not.

use crate::sha256;
use stasis_model::baseline::{Baseline, Instance};
use stasis_model::case::{Case, Decided, InstanceRef, Mode, Policy};
use stasis_model::error::InputError;
use stasis_model::ids::{AccountId, CaseId, InstanceId, Ticket};
use stasis_model::outcome::{Part, RunResult, RunStatus, TriageAnswer};
use stasis_model::policy::{Decision, TicketBy};
use stasis_model::trigger::{INSTANCES_MOST, Request};
use stasis_model::{SCHEMA, Timestamp};
use std::collections::BTreeMap;

/// Why an instance that was found cannot be worked on, if so.
pub fn unusable(request: &Request, instance: &Instance, owner: &AccountId) -> Option<String> {
    if instance.is_gone() {
        return Some(format!("instance {} is {}: there is nothing left to contain", request.instance, instance.state));
    }
    match &request.account {
        Some(account) if account != owner => Some(format!(
            "instance {} belongs to account {owner}, not to {account} as the request says: nothing was done",
            request.instance
        )),
        _ => None,
    }
}

/// The cluster that an instance is a node of, by the tags that EKS, Karpenter, eksctl and ECS put on their instances
/// (<https://docs.aws.amazon.com/eks/latest/userguide/eks-using-tags.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/asg-capacity-providers.html>). Tags can be set by anybody, so
/// this is said and nothing follows from it.
pub fn node(instance: &Instance) -> Option<String> {
    let tag = |key: &str| instance.tags.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let by_key = || instance.tags.keys().find_map(|key| key.strip_prefix("kubernetes.io/cluster/"));
    let eks = tag("aws:eks:cluster-name").or_else(|| tag("eks:cluster-name")).or_else(by_key);
    if let Some(cluster) = eks {
        let group = tag("eks:nodegroup-name").or_else(|| tag("karpenter.sh/nodepool"));
        let group = group.map_or_else(String::new, |group| format!(", node group {group}"));
        return Some(format!(
            "it is a node of the EKS cluster {cluster}{group}: once cut off it becomes NotReady, and after some minutes Kubernetes starts its pods on other nodes; pods that were on it, and their service accounts' credentials, belong to the incident"
        ));
    }
    instance.tags.contains_key("AmazonECSManaged").then(|| {
        "it is a container instance of an ECS cluster: once cut off its agent is disconnected, and ECS starts the tasks of services on other instances; tasks that were on it, and their roles' credentials, belong to the incident".to_owned()
    })
}

/// The id of a new case: sorts by time, and differs for two cases of the same second.
///
/// # Errors
/// Never for a time of this millennium; the id is checked like any other.
pub fn case_id(instance: &InstanceRef, execution: &str, now: Timestamp) -> Result<CaseId, InputError> {
    let mark =
        sha256(format!("{}/{}/{}/{execution}", instance.account, instance.region, instance.instance_id).as_bytes());
    let short: String = mark.chars().take(8).collect();
    format!("case-{}-{short}", now.format("%Y%m%dT%H%M%SZ")).parse()
}

/// What a run answers that names more instances than one takes: which runs take its parts.
pub fn divide(execution: &str, instances: usize, parts: &[usize]) -> TriageAnswer {
    let mark: String = sha256(execution.as_bytes()).chars().take(32).collect();
    let parts: Vec<Part> = parts.iter().map(|skip| Part { name: format!("part-{mark}-{skip}"), skip: *skip }).collect();
    let reason = format!(
        "{instances} instances are named, and one run takes {INSTANCES_MOST}: {} runs were started, each with an answer of its own",
        parts.len()
    );
    TriageAnswer::Divide { parts, output: RunResult::without_case(RunStatus::Divided, reason) }
}

/// What a new case is made of.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id.
    pub case_id: CaseId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Where the ticket is kept up to date.
    pub ticket_by: Option<TicketBy>,
    /// How far to go.
    pub mode: Mode,
    /// The execution that works on it.
    pub execution: String,
    /// The instance.
    pub instance: InstanceRef,
    /// The evidence bucket.
    pub bucket: String,
    /// What was decided.
    pub decided: Decided,
    /// The settings.
    pub policy: Policy,
    /// The facts from before.
    pub baseline: Baseline,
    /// When.
    pub now: Timestamp,
}

/// The case of a request.
pub fn open(request: &Request, opening: Opening) -> Case {
    Case {
        schema: SCHEMA,
        case_id: opening.case_id,
        ticket: opening.ticket,
        ticket_by: opening.ticket_by,
        mode: opening.mode,
        reason: request.reason.clone(),
        opened_at: opening.now,
        execution: Some(opening.execution),
        taken_over: None,
        source: request.source.clone(),
        decided: opening.decided,
        remote_addresses: request.remote_addresses.clone(),
        instance: opening.instance,
        bucket: opening.bucket,
        policy: opening.policy,
        baseline: opening.baseline,
        stages: BTreeMap::new(),
    }
}

/// The ticket where nobody gave one and none could be made: the case's own id, so that no tag is empty.
///
/// # Errors
/// Never: a case id is a legal ticket.
pub fn fallback_ticket(case_id: &CaseId) -> Result<Ticket, InputError> {
    case_id.as_str().parse()
}

/// How far a case goes; none where there is to be no case.
pub fn mode(asked: Mode, decision: Decision) -> Option<Mode> {
    match (asked, decision) {
        (_, Decision::Ignore | Decision::Notify) => None,
        (Mode::DryRun, _) => Some(Mode::DryRun),
        (_, Decision::Preserve) => Some(Mode::Preserve),
        (_, Decision::Ask | Decision::Contain) => Some(Mode::Contain),
    }
}

/// What was decided, in a sentence.
pub fn decision_in_words(decided: &Decided) -> String {
    let mut words = format!("{}: decided by {} ({})", decided.decision, decided.by, decided.policy);
    if let Some(terms) = decided.approval {
        words.push_str(&format!("; an answer is waited for {} minutes, then: {}", terms.minutes, terms.on_expiry));
    }
    words
}

/// Why there is no case.
pub fn no_case(decided: &Decided, instance: &InstanceId) -> String {
    let what = if decided.decision == Decision::Notify {
        "people are told and nothing else is done"
    } else {
        "nothing is done"
    };
    let notes: String = decided.notes.iter().map(|note| format!("; {note}")).collect();
    format!("{what} about instance {instance}: {}{notes}", decision_in_words(decided))
}

/// What is said of a finding or request about an instance whose case is open.
pub fn joins(case: &Case, said: Option<&str>) -> String {
    let id = &case.instance.instance_id;
    let so_far = match (case.mode, case.decided.decision) {
        (Mode::Preserve, _) => format!(
            "; that case leaves {id} on the network: to contain it, start a run with {{\"instanceId\": \"{id}\"}}, which takes the case over"
        ),
        (_, Decision::Ask) => {
            "; that case asks before it contains: see whether it still waits for an answer".to_owned()
        }
        _ => String::new(),
    };
    let said = said.map_or_else(String::new, |said| format!("; {said}"));
    format!("case {} is open for {id} already; this joins it and nothing is done twice{so_far}{said}", case.case_id)
}

/// Whether this run needs the claim: a dry run holds nothing, so it keeps nobody else from acting.
pub fn claims(mode: Mode) -> bool {
    mode != Mode::DryRun
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_terminated_instance_and_a_foreign_account_are_refused() {
        let case = sample::case();
        let mut request = sample::request();
        let owner = case.instance.account.clone();
        assert_eq!(unusable(&request, &case.baseline.instance, &owner), None);
        for state in ["terminated", "shutting-down"] {
            let gone = Instance { state: state.to_owned(), ..case.baseline.instance.clone() };
            assert!(unusable(&request, &gone, &owner).is_some_and(|why| why.contains(state)));
        }
        request.account = Some("999999999999".parse().expect("account"));
        assert!(unusable(&request, &case.baseline.instance, &owner).is_some_and(|why| why.contains("999999999999")));
    }

    #[test]
    fn a_node_is_known_by_the_tags_of_its_cluster() {
        let mut instance = sample::case().baseline.instance;
        assert_eq!(node(&instance), None);
        for (key, value, parts) in [
            ("eks:cluster-name", "prod", ["EKS cluster prod", "NotReady"]),
            ("kubernetes.io/cluster/dev", "owned", ["EKS cluster dev", "pods"]),
            ("AmazonECSManaged", "", ["ECS cluster", "tasks"]),
        ] {
            instance.tags = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let said = node(&instance).expect("a node");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        instance.tags = BTreeMap::from([
            ("eks:cluster-name".to_owned(), "prod".to_owned()),
            ("eks:nodegroup-name".to_owned(), "workers".to_owned()),
        ]);
        assert!(node(&instance).is_some_and(|said| said.contains("node group workers")));
    }

    #[test]
    fn case_ids_sort_by_time_and_differ_between_executions() {
        let case = sample::case();
        let first = case_id(&case.instance, "execution-1", case.opened_at).expect("id");
        let other = case_id(&case.instance, "execution-2", case.opened_at).expect("id");
        let later = case_id(&case.instance, "execution-1", case.opened_at + chrono::TimeDelta::seconds(1)).expect("id");
        assert_ne!(first, other);
        assert!(first < later && other < later);
        assert!(fallback_ticket(&first).is_ok());
    }

    #[test]
    fn the_runs_of_parts_have_names_that_step_functions_takes_and_that_come_again() {
        // As EventBridge names executions.
        let execution =
            format!("arn:aws:states:eu-central-1:111122223333:execution:stasis-contain:{0}_{0}", "0".repeat(36));
        let answer = divide(&execution, 1234, &[0, 10, 1230]);
        let TriageAnswer::Divide { parts, output } = &answer else { panic!("{answer:?}") };
        assert_eq!(parts.iter().map(|part| part.skip).collect::<Vec<_>>(), [0, 10, 1230]);
        assert!(parts.iter().all(|part| part.name.len() <= 80), "{parts:?}");
        assert!(parts.iter().flat_map(|part| part.name.chars()).all(|c| c.is_ascii_alphanumeric() || c == '-'));
        assert_eq!(output.status, RunStatus::Divided);
        assert!(output.reason.contains("1234 instances are named, and one run takes 10: 3 runs"), "{}", output.reason);
        assert_eq!(divide(&execution, 1234, &[0, 10, 1230]), answer);
        assert_ne!(divide("another", 1234, &[0, 10, 1230]), answer);
    }
}
