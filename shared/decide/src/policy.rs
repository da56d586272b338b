//! Policy: what is to be done about one instance, and under which settings, by whom and why. The first rule that matches
//! decides; exemptions, age and severity can only weaken what it says, and tags can only ask.

use stasis_model::Timestamp;
use stasis_model::baseline::Instance;
use stasis_model::case::{
    Credentials, Decided, Egress, InstanceRef, Mode, Policy, RemoteAddresses, TrackedConnections,
};
use stasis_model::disks::LockMode;
use stasis_model::error::InputError;
use stasis_model::memory::MemoryChoice;
use stasis_model::policy::{Decision, Exemption, OnExpiry, Overrides, PolicyDocument, Rule, SEVERITY_LEAST};
use stasis_model::trigger::{Approve, Request, Source};
use wildmatch::WildMatch;

/// The built-in policy, as docs/policy.md shows it.
const BUILT_IN: &str = include_str!("../../../infra/policy/default.json");

/// The code of the failure where the policy document cannot be used and the built-in one counts instead.
pub const UNUSABLE: &str = "PolicyUnusable";

/// What is decided about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What was asked for or found.
    pub request: &'a Request,
    /// Where the instance is.
    pub place: &'a InstanceRef,
    /// The instance, as EC2 describes it.
    pub instance: &'a Instance,
    /// When it is decided.
    pub now: Timestamp,
}

/// The built-in policy.
///
/// # Errors
/// Never: a test reads it.
pub fn built_in() -> Result<PolicyDocument, InputError> {
    PolicyDocument::read(BUILT_IN)
}

/// What follows from the policy `document` for a subject. `settings` are the stack's, and become those of the case.
pub fn decide(document: &PolicyDocument, subject: &Subject<'_>, settings: &mut Policy) -> Decided {
    apply(settings, &document.settings, false);
    let rule = document.rules.iter().find(|rule| matches(rule, subject));
    let mut notes = Vec::new();
    if let Some(rule) = rule {
        for setting in apply(settings, &rule.settings, rule.when.by_forgeable_tag()) {
            notes.push(format!(
                "the {setting} of rule \"{}\" is weaker than what holds without it, and whoever can tag the instance could have asked for it: it is not taken",
                rule.name
            ));
        }
    }
    let exempt = exemption(document, subject);
    let (decision, by) = match &subject.request.source {
        Source::Request => of_request(exempt.as_ref(), subject),
        Source::Finding { .. } => of_finding(document, rule, exempt.as_ref(), subject, &mut notes),
    };
    let mut terms = rule.and_then(|rule| rule.approval).or(document.approval).unwrap_or_default();
    // Whoever set the tag may be the attacker: it buys a question, and no night in which nobody answers.
    let by_tag = exempt.is_some_and(|exempt| exempt.by_tag) || rule.is_some_and(|rule| rule.when.by_forgeable_tag());
    if decision == Decision::Ask && by_tag && decided_without_tags(document, subject) == Decision::Contain {
        terms.on_expiry = OnExpiry::Contain;
    }
    let mut playbooks = rule.map(|rule| rule.playbooks.clone()).unwrap_or_default();
    playbooks.sort();
    playbooks.dedup();
    Decided {
        decision,
        by,
        policy: String::new(),
        approval: (decision == Decision::Ask).then_some(terms),
        playbooks,
        notes,
    }
}

/// Somebody asked for it: that decides. What is exempted is asked about, unless the request says that it need not be.
fn of_request(exempt: Option<&Exempt>, subject: &Subject<'_>) -> (Decision, String) {
    let by = "the request".to_owned();
    match (subject.request.mode, subject.request.approve) {
        (Mode::Preserve, _) => (Decision::Preserve, by),
        (Mode::DryRun, _) | (Mode::Contain, Some(Approve::Auto)) => (Decision::Contain, by),
        (Mode::Contain, Some(Approve::Ask)) => (Decision::Ask, by),
        (Mode::Contain, None) => match exempt {
            Some(Exempt { why, .. }) => (Decision::Ask, format!("{by}, and {why}")),
            None => (Decision::Contain, by),
        },
    }
}

/// What would follow if the instance had no tags that anybody can set, and nothing were exempt.
fn decided_without_tags(document: &PolicyDocument, subject: &Subject<'_>) -> Decision {
    match &subject.request.source {
        Source::Request => of_request(None, subject).0,
        Source::Finding { .. } => {
            let rule = document.rules.iter().find(|rule| !rule.when.by_forgeable_tag() && matches(rule, subject));
            rule.and_then(|rule| rule.decision).unwrap_or(document.otherwise.decision)
        }
    }
}

fn of_finding(
    document: &PolicyDocument,
    rule: Option<&Rule>,
    exempt: Option<&Exempt>,
    subject: &Subject<'_>,
    notes: &mut Vec<String>,
) -> (Decision, String) {
    let otherwise = document.otherwise.decision;
    let (mut decision, mut by) = match rule {
        Some(rule) => (rule.decision.unwrap_or(otherwise), format!("rule \"{}\"", rule.name)),
        None => (otherwise, "no rule, so what holds otherwise".to_owned()),
    };
    let mut weaken = |to: Decision, why: String| {
        if decision > to {
            notes.push(format!("{why}: {to} instead of {decision}"));
            decision = to;
            by = format!("{by}, but {why}");
        }
    };
    if let Some(Exempt { most, why, .. }) = exempt {
        weaken(*most, why.clone());
    }
    // What is never contained: at most people are told. To preserve harms nobody, and may go on.
    let mut never = |why: String| {
        if decision >= Decision::Ask {
            notes.push(format!("{why}: {} instead of {decision}", Decision::Notify));
            decision = Decision::Notify;
            by = format!("{by}, but {why}");
        }
    };
    if let Some(severity) = severity(subject.request) {
        let least = document.minimum_severity.unwrap_or(SEVERITY_LEAST);
        if severity < least {
            never(format!("its severity {severity} is below {least}"));
        }
    }
    if let (Some(hours), Some(seen)) = (document.oldest_finding_hours, subject.request.last_seen) {
        let age = (subject.now - seen).num_hours();
        if age >= i64::from(hours) {
            never(format!("it was last seen {age} hours ago, and {hours} is the limit"));
        }
    }
    (decision, by)
}

/// The severity of a finding that has one. A number that is none counts for the worst.
fn severity(request: &Request) -> Option<f64> {
    match &request.source {
        Source::Finding { severity, .. } => *severity,
        Source::Request => None,
    }
}

/// That something is exempted.
struct Exempt {
    /// The most that may be done.
    most: Decision,
    /// Why.
    why: String,
    /// Whether a tag of the instance says so, and no responder.
    by_tag: bool,
}

/// The most that may be done to what is exempted, and why.
fn exemption(document: &PolicyDocument, subject: &Subject<'_>) -> Option<Exempt> {
    let of = |exemption: &Exemption| {
        let (what, hit) = match exemption {
            Exemption { account: Some(account), .. } => {
                (format!("account {account}"), *account == subject.place.account)
            }
            Exemption { vpc: Some(vpc), .. } => (format!("VPC {vpc}"), in_vpc(subject.instance, vpc)),
            Exemption { instance: Some(id), .. } => (format!("instance {id}"), *id == subject.place.instance_id),
            _ => return None,
        };
        let why = format!("{what} is exempt ({})", exemption.reason);
        hit.then_some(Exempt { most: exemption.decision, why, by_tag: false })
    };
    // The weakest counts, whatever the order.
    let by_responder = document.exemptions.iter().filter_map(of).min_by_key(|exempt| exempt.most);
    by_responder.or_else(|| {
        let tag = document.exemption_tag.as_ref()?;
        let value = subject.instance.tags.get(&tag.key)?;
        let hit = tag.value.as_ref().is_none_or(|wanted| wanted == value);
        let why = format!("its tag {} asks not to be contained without a person", tag.key);
        hit.then_some(Exempt { most: Decision::Ask, why, by_tag: true })
    })
}

fn in_vpc(instance: &Instance, vpc: &stasis_model::ids::VpcId) -> bool {
    instance.vpc_id.as_ref() == Some(vpc) || instance.interfaces.iter().any(|interface| interface.vpc_id == *vpc)
}

/// Whether a rule is about a subject. One with conditions on findings is not about requests.
fn matches(rule: &Rule, subject: &Subject<'_>) -> bool {
    let when = &rule.when;
    let kind = match &subject.request.source {
        Source::Finding { finding_type, .. } => Some(finding_type.as_deref().unwrap_or_default()),
        Source::Request => None,
    };
    let is_type = when
        .types
        .as_ref()
        .is_none_or(|types| kind.is_some_and(|kind| types.iter().any(|pattern| WildMatch::new(pattern).matches(kind))));
    let is_severe = when.severity.is_none_or(|range| {
        let severity = severity(subject.request).filter(|severity| severity.is_finite()).unwrap_or(10.0);
        kind.is_some()
            && range.at_least.is_none_or(|least| severity >= least)
            && range.below.is_none_or(|below| severity < below)
    });
    let is_account = when.accounts.as_ref().is_none_or(|accounts| accounts.contains(&subject.place.account));
    let is_vpc = when.vpcs.as_ref().is_none_or(|vpcs| vpcs.iter().any(|vpc| in_vpc(subject.instance, vpc)));
    let is_tagged = when.tags.as_ref().is_none_or(|tags| {
        tags.iter().all(|(key, pattern)| {
            subject.instance.tags.get(key).is_some_and(|value| WildMatch::new(pattern).matches(value))
        })
    });
    is_type && is_severe && is_account && is_vpc && is_tagged
}

/// Puts settings over those of a case, and names those that were not taken because they are weaker, where only stronger
/// ones may be.
fn apply(settings: &mut Policy, overrides: &Overrides, only_stronger: bool) -> Vec<&'static str> {
    let mut refused = Vec::new();
    let mut put = |name, weaker: bool| {
        let refuse = only_stronger && weaker;
        if refuse {
            refused.push(name);
        }
        !refuse
    };
    if let Some(egress) = overrides.egress
        && put("egress", openness(egress) > openness(settings.egress))
    {
        settings.egress = egress;
    }
    if let Some(tracked) = overrides.tracked_connections
        && put("trackedConnections", tracked == TrackedConnections::Leave && settings.tracked_connections != tracked)
    {
        settings.tracked_connections = tracked;
    }
    if let Some(remote) = overrides.remote_addresses
        && put("remoteAddresses", remote == RemoteAddresses::Leave && settings.remote_addresses != remote)
    {
        settings.remote_addresses = remote;
    }
    if let Some(minimum) = overrides.minimum_size {
        settings.minimum_size = minimum;
    }
    if let Some(credentials) = overrides.credentials
        && put("credentials", credentials == Credentials::Keep && settings.credentials != credentials)
    {
        settings.credentials = credentials;
    }
    if let Some(memory) = overrides.memory
        && put("memory", memory == MemoryChoice::Leave && settings.memory.choice != memory)
    {
        settings.memory.choice = memory;
    }
    if let Some(lock) = overrides.snapshot_lock
        && put("snapshotLock", strength(lock) < strength(settings.disks.lock))
    {
        settings.disks.lock = lock;
    }
    if let Some(days) = overrides.retention_days
        && put("retentionDays", days < settings.disks.lock_days)
    {
        settings.disks.lock_days = days;
    }
    refused
}

fn openness(egress: Egress) -> u8 {
    match egress {
        Egress::None => 0,
        Egress::Endpoints => 1,
        Egress::Https => 2,
    }
}

fn strength(lock: LockMode) -> u8 {
    match lock {
        LockMode::None => 0,
        LockMode::Governance => 1,
        LockMode::Compliance => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use stasis_model::case::Case;

    fn finding(kind: &str, severity: f64) -> Request {
        Request {
            source: Source::Finding {
                id: Some("f".to_owned()),
                finding_type: Some(kind.to_owned()),
                severity: Some(severity),
                title: None,
            },
            ..sample::request()
        }
    }

    fn document(rules: Value) -> PolicyDocument {
        let text = json!({"version": 1, "rules": rules, "otherwise": {"decision": "ask"}}).to_string();
        PolicyDocument::read(&text).expect("a policy")
    }

    fn decided(document: &PolicyDocument, request: &Request, case: &Case) -> (Decided, Policy) {
        let mut settings = case.policy.clone();
        let subject =
            Subject { request, place: &case.instance, instance: &case.baseline.instance, now: sample::time() };
        (decide(document, &subject, &mut settings), settings)
    }

    fn decision(document: &PolicyDocument, request: &Request) -> Decision {
        decided(document, request, &sample::case()).0.decision
    }

    #[test]
    fn the_built_in_policy_asks_and_tells_of_probes_only() {
        let built_in = built_in().expect("it is valid");
        assert_eq!(decision(&built_in, &finding("CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0)), Decision::Ask);
        assert_eq!(decision(&built_in, &finding("Recon:EC2/PortProbeEMRUnprotectedPort", 8.0)), Decision::Notify);
        assert_eq!(decision(&built_in, &sample::request()), Decision::Contain);
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_is_named() {
        let case = sample::case();
        let vpc = case.baseline.instance.vpc_id.clone().expect("a VPC");
        let policy = document(json!([
            {"name": "miners", "when": {"types": ["Nothing", "CryptoCurrency:EC2/*"]}, "decision": "contain"},
            {"name": "loud", "when": {"severity": {"atLeast": 8, "below": 9}}, "decision": "preserve"},
            {"name": "here", "when": {"accounts": ["111122223333"], "vpcs": [vpc], "severity": {"atLeast": 9}}, "decision": "notify"},
            {"name": "elsewhere", "when": {"accounts": ["999999999999"]}, "decision": "ignore"},
            {"name": "as otherwise", "when": {"types": ["Trojan:EC2/DropPoint"]}}
        ]));
        for (kind, severity, expected, by) in [
            ("CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.5, Decision::Contain, "rule \"miners\""),
            ("Backdoor:EC2/C&CActivity.B", 8.0, Decision::Preserve, "rule \"loud\""),
            ("Backdoor:EC2/C&CActivity.B", 9.0, Decision::Notify, "rule \"here\""),
            ("Backdoor:EC2/C&CActivity.B", 7.9, Decision::Ask, "no rule"),
            ("Trojan:EC2/DropPoint", 5.0, Decision::Ask, "rule \"as otherwise\""),
            ("cryptocurrency:EC2/X", 7.0, Decision::Ask, "no rule"),
        ] {
            let (decided, _) = decided(&policy, &finding(kind, severity), &case);
            assert_eq!(decided.decision, expected, "{kind} {severity}");
            assert!(decided.by.starts_with(by), "{}", decided.by);
            assert_eq!(decided.approval.is_some(), expected == Decision::Ask);
        }
        let mut unknown = finding("Backdoor:EC2/C&CActivity.B", 1.0);
        unknown.source = Source::Finding { id: None, finding_type: None, severity: None, title: None };
        assert_eq!(decision(&policy, &unknown), Decision::Notify, "no severity counts as the worst");
    }

    #[test]
    fn what_is_low_old_or_exempt_is_never_contained_and_it_says_why() {
        let mut policy = document(json!([{"name": "all", "decision": "contain"}]));
        policy.oldest_finding_hours = Some(24);
        let kind = "Backdoor:EC2/C&CActivity.B";
        let low = decided(&policy, &finding(kind, 3.9), &sample::case()).0;
        assert_eq!(low.decision, Decision::Notify);
        assert!(low.by.contains("severity 3.9 is below 4") && low.notes.len() == 1, "{low:?}");
        policy.minimum_severity = Some(7.0);
        assert_eq!(decision(&policy, &finding(kind, 6.9)), Decision::Notify);
        assert_eq!(decision(&policy, &finding(kind, 7.0)), Decision::Contain);
        let seen = |hours: i64| Request {
            last_seen: Some(sample::time() - chrono::TimeDelta::hours(hours)),
            ..finding(kind, 8.0)
        };
        let old = decided(&policy, &seen(24), &sample::case()).0;
        assert_eq!(old.decision, Decision::Notify);
        assert!(old.by.contains("24 hours ago"), "{old:?}");
        assert_eq!(decision(&policy, &seen(23)), Decision::Contain);
        assert_eq!(decision(&policy, &seen(-5)), Decision::Contain, "a clock that is ahead");
        let mut preserving = policy.clone();
        preserving.rules[0].decision = Some(Decision::Preserve);
        assert_eq!(decision(&preserving, &seen(100)), Decision::Preserve, "that harms nobody");
        let exempt = |what: Value| {
            let text = json!({"version": 1, "exemptions": [what], "otherwise": {"decision": "contain"}}).to_string();
            decided(&PolicyDocument::read(&text).expect("a policy"), &finding(kind, 8.0), &sample::case()).0
        };
        let case = sample::case();
        for (what, expected) in [
            (json!({"account": "111122223333", "reason": "the bank"}), Decision::Ask),
            (
                json!({"vpc": case.baseline.instance.vpc_id, "decision": "notify", "reason": "the bank"}),
                Decision::Notify,
            ),
            (
                json!({"instance": case.instance.instance_id, "decision": "ignore", "reason": "the bank"}),
                Decision::Ignore,
            ),
            (json!({"instance": "i-0fedcba987654321f", "decision": "ignore", "reason": "another"}), Decision::Contain),
        ] {
            let decided = exempt(what.clone());
            assert_eq!(decided.decision, expected, "{what}");
            assert_eq!(decided.by.contains("the bank"), expected != Decision::Contain, "{}", decided.by);
        }
    }

    #[test]
    fn an_exemption_never_strengthens_and_a_tag_only_asks() {
        let mut case = sample::case();
        case.baseline.instance.tags.insert("stasis:exempt".to_owned(), "please".to_owned());
        for (otherwise, expected) in [
            ("contain", Decision::Ask),
            ("ask", Decision::Ask),
            ("preserve", Decision::Preserve),
            ("notify", Decision::Notify),
            ("ignore", Decision::Ignore),
        ] {
            let text =
                json!({"version": 1, "exemptionTag": {"key": "stasis:exempt"}, "otherwise": {"decision": otherwise}});
            let policy = PolicyDocument::read(&text.to_string()).expect("a policy");
            let found = decided(&policy, &finding("Backdoor:EC2/X", 8.0), &case).0;
            assert_eq!(found.decision, expected, "{otherwise}");
            // Nobody answers: what would have been contained without the tag is.
            let expiry = found.approval.map(|terms| terms.on_expiry);
            let expected = match otherwise {
                "contain" => Some(OnExpiry::Contain),
                "ask" => Some(OnExpiry::Preserve),
                _ => None,
            };
            assert_eq!(expiry, expected, "{otherwise}");
        }
        let other = json!({"version": 1, "exemptionTag": {"key": "stasis:exempt", "value": "yes"}, "otherwise": {"decision": "contain"}});
        let policy = PolicyDocument::read(&other.to_string()).expect("a policy");
        assert_eq!(decided(&policy, &finding("Backdoor:EC2/X", 8.0), &case).0.decision, Decision::Contain);
    }

    #[test]
    fn a_request_is_its_own_decision_and_what_is_exempt_is_asked_about() {
        let text = json!({"version": 1, "exemptions": [{"account": "111122223333", "decision": "ignore", "reason": "the bank"}],
            "rules": [{"name": "all findings", "when": {"types": ["*"]}, "decision": "ignore", "settings": {"egress": "https"}},
                {"name": "here", "when": {"accounts": ["111122223333"]}, "decision": "ignore", "settings": {"egress": "none"}}],
            "otherwise": {"decision": "ignore"}});
        let exempting = PolicyDocument::read(&text.to_string()).expect("a policy");
        let plain = PolicyDocument { exemptions: Vec::new(), ..exempting.clone() };
        let asked = |mode, approve| Request { mode, approve, ..sample::request() };
        for (policy, request, expected) in [
            (&plain, asked(Mode::Contain, None), Decision::Contain),
            (&plain, asked(Mode::Contain, Some(Approve::Ask)), Decision::Ask),
            (&plain, asked(Mode::Preserve, None), Decision::Preserve),
            (&exempting, asked(Mode::Contain, None), Decision::Ask),
            (&exempting, asked(Mode::Contain, Some(Approve::Auto)), Decision::Contain),
            (&exempting, asked(Mode::DryRun, None), Decision::Contain),
        ] {
            let (decided, settings) = decided(policy, &request, &sample::case());
            assert_eq!(decided.decision, expected, "{request:?}");
            assert!(decided.approval.is_none_or(|terms| terms.on_expiry == OnExpiry::Preserve), "a responder's word");
            assert!(decided.by.starts_with("the request"), "{}", decided.by);
            assert_eq!(settings.egress, Egress::None, "of the first rule that is not about findings");
        }
    }

    #[test]
    fn settings_are_the_rule_s_and_a_tag_can_only_strengthen_them() {
        let all = json!({"egress": "https", "trackedConnections": "leave", "remoteAddresses": "deny", "minimumSize": "replace",
            "credentials": "revoke", "memory": "leave", "snapshotLock": "none", "retentionDays": 7});
        let mut case = sample::case();
        case.policy.memory.choice = MemoryChoice::Acquire;
        case.baseline.instance.tags.insert("team".to_owned(), "lab".to_owned());
        case.baseline.instance.tags.insert("aws:cloudformation:stack-name".to_owned(), "lab".to_owned());
        let request = finding("Backdoor:EC2/X", 8.0);
        for when in [json!({"types": ["*"]}), json!({"tags": {"aws:cloudformation:stack-name": "l*"}})] {
            let (decided, settings) =
                decided(&document(json!([{"name": "r", "when": when, "settings": all}])), &request, &case);
            assert!(decided.notes.is_empty(), "{decided:?}");
            assert_eq!((settings.egress, settings.tracked_connections), (Egress::Https, TrackedConnections::Leave));
            assert_eq!((settings.disks.lock, settings.disks.lock_days), (LockMode::None, 7));
            assert_eq!(settings.memory.choice, MemoryChoice::Leave);
        }
        let by_tag = document(json!([{"name": "r", "when": {"tags": {"team": "lab"}}, "settings": all}]));
        let (decided, settings) = decided(&by_tag, &request, &case);
        assert_eq!(decided.notes.len(), 5, "{:?}", decided.notes);
        assert_eq!((settings.egress, settings.tracked_connections), (Egress::Endpoints, TrackedConnections::Cut));
        assert_eq!((settings.disks.lock, settings.disks.lock_days), (LockMode::Governance, 365));
        assert_eq!(settings.memory.choice, MemoryChoice::Acquire);
        assert_eq!((settings.remote_addresses, settings.credentials), (RemoteAddresses::Deny, Credentials::Revoke));
    }

    proptest! {
        /// Whatever tags an attacker puts on the instance: what would be contained without them is at least asked about.
        #[test]
        fn no_tag_brings_silence(tags in proptest::collection::btree_map("[a-z:]{1,16}", "[a-z*]{0,8}", 0..6), severity in 4.0..10.0_f64) {
            let text = json!({"version": 1, "exemptionTag": {"key": "a"}, "rules": [
                {"name": "a", "when": {"tags": {"a": "*"}}, "decision": "ask", "settings": {"egress": "https", "memory": "leave"}},
                {"name": "b", "when": {"tags": {"b": "x*"}}},
                {"name": "rest", "decision": "contain"}], "otherwise": {"decision": "contain"}});
            let policy = PolicyDocument::read(&text.to_string()).expect("a policy");
            let mut case = sample::case();
            case.policy.memory.choice = MemoryChoice::Acquire;
            case.baseline.instance.tags = tags;
            case.baseline.instance.tags.insert("a".to_owned(), "x".to_owned());
            let (decided, settings) = decided(&policy, &finding("Backdoor:EC2/X", severity), &case);
            prop_assert!(decided.decision >= Decision::Ask);
            prop_assert!(decided.approval.is_none_or(|terms| terms.on_expiry == OnExpiry::Contain));
            prop_assert_eq!((settings.egress, settings.memory.choice), (Egress::Endpoints, MemoryChoice::Acquire));
        }
    }
}
