//! Policy: what is to be done about one instance, and under which settings, by whom and why. The first rule that matches
//! decides; exemptions, age and severity can only weaken what it says. What whoever holds the instance can bring about - its
//! tags, and interfaces in other VPCs - only makes it stricter, and a tag may have people asked.

use stasis_model::Timestamp;
use stasis_model::baseline::Instance;
use stasis_model::case::{
    Credentials, Decided, Egress, InstanceRef, Mode, Policy, RemoteAddresses, TrackedConnections,
};
use stasis_model::disks::LockMode;
use stasis_model::error::InputError;
use stasis_model::ids::VpcId;
use stasis_model::memory::MemoryChoice;
use stasis_model::policy::{
    ApprovalTerms, Decision, Exemption, OnExpiry, Overrides, Playbook, PolicyDocument, Rule, SEVERITY_LEAST,
    is_forgeable,
};
use stasis_model::trigger::{Approve, Request, Source};
use std::cmp::Ordering;
use std::collections::BTreeSet;
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
///
/// Whoever holds the instance may hold the right to attach an interface of another VPC to it: it is judged as if it were in
/// each of its VPCs alone, and in every respect the strictest counts.
pub fn decide(document: &PolicyDocument, subject: &Subject<'_>, settings: &mut Policy) -> Decided {
    apply(settings, &document.settings, false);
    let vpcs = vpcs(subject.instance);
    let mut each = vpcs.iter().copied();
    let first = judge(document, subject, each.next(), settings);
    let others: Vec<Outcome<'_>> = each.map(|vpc| judge(document, subject, Some(vpc), settings)).collect();
    let differ = others.iter().any(|other| *other != first);
    let mut outcome = others.into_iter().fold(first, Outcome::stricter);
    if differ {
        let names: Vec<&str> = vpcs.iter().map(|vpc| vpc.as_str()).collect();
        outcome.notes.push(format!(
            "it has interfaces in several VPCs ({}): it is judged as if it were in each of them alone, and in every respect the strictest counts",
            names.join(", ")
        ));
    }
    *settings = outcome.settings;
    Decided {
        decision: outcome.decision,
        by: outcome.by,
        policy: String::new(),
        approval: (outcome.decision == Decision::Ask).then_some(outcome.terms),
        playbooks: outcome.playbooks.into_iter().collect(),
        notes: outcome.notes,
    }
}

/// The VPCs of an instance, each once, that of the instance itself first.
fn vpcs(instance: &Instance) -> Vec<&VpcId> {
    let mut known = Vec::new();
    for vpc in instance.vpc_id.iter().chain(instance.interfaces.iter().map(|interface| &interface.vpc_id)) {
        if !known.contains(&vpc) {
            known.push(vpc);
        }
    }
    known
}

/// The subject as it is read for one look at the document.
struct Reading<'a> {
    subject: &'a Subject<'a>,
    /// The VPC that it counts as being in.
    vpc: Option<&'a VpcId>,
    /// Whether the tags count that anybody can set.
    every_tag: bool,
}

impl Reading<'_> {
    fn tag(&self, key: &str) -> Option<&String> {
        if self.every_tag || !is_forgeable(key) { self.subject.instance.tags.get(key) } else { None }
    }
}

/// What follows from the document for one reading of the subject.
#[derive(PartialEq)]
struct Outcome<'a> {
    rule: Option<&'a Rule>,
    decision: Decision,
    by: String,
    /// How approval is asked for, where it is.
    terms: ApprovalTerms,
    settings: Policy,
    playbooks: BTreeSet<Playbook>,
    notes: Vec<String>,
}

impl Outcome<'_> {
    /// The stricter of two in every respect.
    fn stricter(mut self, other: Self) -> Self {
        apply(&mut self.settings, &all_of(&other.settings), true);
        self.playbooks.extend(other.playbooks);
        match self.decision.cmp(&other.decision) {
            Ordering::Less => Self {
                settings: self.settings,
                playbooks: self.playbooks,
                rule: other.rule,
                decision: other.decision,
                by: other.by,
                terms: other.terms,
                notes: other.notes,
            },
            Ordering::Equal => Self { terms: stricter(self.terms, other.terms), ..self },
            Ordering::Greater => self,
        }
    }
}

/// The settings of a case that have an order of strictness.
fn all_of(settings: &Policy) -> Overrides {
    Overrides {
        egress: Some(settings.egress),
        tracked_connections: Some(settings.tracked_connections),
        remote_addresses: Some(settings.remote_addresses),
        minimum_size: None,
        credentials: Some(settings.credentials),
        memory: Some(settings.memory.choice),
        snapshot_lock: Some(settings.disks.lock),
        retention_days: Some(settings.disks.lock_days),
        report_language: None,
    }
}

/// The stricter terms: those that contain before those that do not, and the sooner the stricter; of those that do not, the
/// ones that leave people longer to approve.
fn stricter(one: ApprovalTerms, other: ApprovalTerms) -> ApprovalTerms {
    std::cmp::max_by_key(one, other, |terms| match terms.on_expiry {
        OnExpiry::Contain => (true, -i64::from(terms.minutes)),
        OnExpiry::Preserve => (false, i64::from(terms.minutes)),
    })
}

/// What follows for the subject in one VPC. What holds without the tags that anybody can set is the least; with them a rule
/// is laid over it, of which counts what is stricter. A tag buys a question at most, and no night in which nobody answers.
fn judge<'a>(
    document: &'a PolicyDocument,
    subject: &Subject<'_>,
    vpc: Option<&VpcId>,
    settings: &Policy,
) -> Outcome<'a> {
    let plain = look(document, &Reading { subject, vpc, every_tag: false }, settings);
    let mut tagged = look(document, &Reading { subject, vpc, every_tag: true }, settings);
    tagged.settings = plain.settings;
    if let Some(rule) = tagged.rule.filter(|rule| rule.when.by_forgeable_tag()) {
        for setting in apply(&mut tagged.settings, &rule.settings, true) {
            tagged.notes.push(format!(
                "the {setting} of rule \"{}\" is weaker than what holds without it, and whoever can tag the instance could have asked for it: it is not taken",
                rule.name
            ));
        }
    }
    tagged.playbooks.extend(plain.playbooks);
    let or_contain = |terms| ApprovalTerms { on_expiry: OnExpiry::Contain, ..terms };
    let terms = match (tagged.decision, plain.decision) {
        (Decision::Ask, Decision::Contain) => stricter(or_contain(tagged.terms), or_contain(plain.terms)),
        (Decision::Ask, Decision::Ask) => stricter(tagged.terms, plain.terms),
        (with, without) if with < without => {
            tagged.notes.push(format!(
                "{} would lead to {with}, and whoever can tag the instance could have asked for it: {without}, as without it",
                tagged.by
            ));
            (tagged.rule, tagged.decision, tagged.by) = (plain.rule, without, plain.by);
            plain.terms
        }
        _ => return tagged,
    };
    if tagged.decision == Decision::Ask && terms != tagged.terms {
        tagged.notes.push(format!(
            "whoever can tag the instance gets no weaker terms than hold without its tags: an answer is waited for {} minutes, then: {}",
            terms.minutes, terms.on_expiry
        ));
    }
    Outcome { terms, ..tagged }
}

/// What the document says of one reading.
fn look<'a>(document: &'a PolicyDocument, reading: &Reading<'_>, settings: &Policy) -> Outcome<'a> {
    let rule = document.rules.iter().find(|rule| matches(rule, reading));
    let exempt = exemption(document, reading);
    let mut notes = Vec::new();
    let (decision, by) = match &reading.subject.request.source {
        Source::Request => of_request(exempt.as_ref(), reading.subject),
        Source::Finding { .. } => of_finding(document, rule, exempt.as_ref(), reading.subject, &mut notes),
    };
    let mut settings = settings.clone();
    if let Some(rule) = rule {
        apply(&mut settings, &rule.settings, false);
    }
    Outcome {
        rule,
        decision,
        by,
        terms: rule.and_then(|rule| rule.approval).or(document.approval).unwrap_or_default(),
        settings,
        playbooks: rule.iter().flat_map(|rule| rule.playbooks.iter().copied()).collect(),
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
    if let Some(Exempt { most, why }) = exempt {
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
}

/// The most that may be done to what is exempted, and why.
fn exemption(document: &PolicyDocument, reading: &Reading<'_>) -> Option<Exempt> {
    let place = reading.subject.place;
    let of = |exemption: &Exemption| {
        let (what, hit) = match exemption {
            Exemption { account: Some(account), .. } => (format!("account {account}"), *account == place.account),
            Exemption { vpc: Some(vpc), .. } => (format!("VPC {vpc}"), reading.vpc == Some(vpc)),
            Exemption { instance: Some(id), .. } => (format!("instance {id}"), *id == place.instance_id),
            _ => return None,
        };
        let why = format!("{what} is exempt ({})", exemption.reason);
        hit.then_some(Exempt { most: exemption.decision, why })
    };
    // The weakest counts, whatever the order.
    let by_responder = document.exemptions.iter().filter_map(of).min_by_key(|exempt| exempt.most);
    by_responder.or_else(|| {
        let tag = document.exemption_tag.as_ref()?;
        let value = reading.tag(&tag.key)?;
        let hit = tag.value.as_ref().is_none_or(|wanted| wanted == value);
        let why = format!("its tag {} asks not to be contained without a person", tag.key);
        hit.then_some(Exempt { most: Decision::Ask, why })
    })
}

/// Whether a rule is about a subject. One with conditions on findings is not about requests.
fn matches(rule: &Rule, reading: &Reading<'_>) -> bool {
    let (when, subject) = (&rule.when, reading.subject);
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
    let is_vpc = when.vpcs.as_ref().is_none_or(|vpcs| vpcs.iter().any(|vpc| reading.vpc == Some(vpc)));
    let is_tagged = when.tags.as_ref().is_none_or(|tags| {
        tags.iter().all(|(key, pattern)| reading.tag(key).is_some_and(|value| WildMatch::new(pattern).matches(value)))
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
    if let Some(language) = overrides.report_language {
        settings.report_language = language;
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
    use stasis_model::baseline::Interface;
    use stasis_model::case::{Case, Language};
    use stasis_model::policy::{ApprovalTerms, Playbook};

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
            "credentials": "revoke", "memory": "leave", "snapshotLock": "none", "retentionDays": 7,
            "reportLanguage": "ja"});
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
            assert_eq!((settings.memory.choice, settings.report_language), (MemoryChoice::Leave, Language::Japanese));
        }
        let by_tag = document(json!([{"name": "r", "when": {"tags": {"team": "lab"}}, "settings": all}]));
        let (decided, settings) = decided(&by_tag, &request, &case);
        assert_eq!(decided.notes.len(), 5, "{:?}", decided.notes);
        assert_eq!((settings.egress, settings.tracked_connections), (Egress::Endpoints, TrackedConnections::Cut));
        assert_eq!((settings.disks.lock, settings.disks.lock_days), (LockMode::Governance, 365));
        assert_eq!(settings.memory.choice, MemoryChoice::Acquire);
        assert_eq!((settings.remote_addresses, settings.credentials), (RemoteAddresses::Deny, Credentials::Revoke));
    }

    /// The sample's case with these tags, and with an interface more in each of these VPCs.
    fn with(tags: &[(&str, &str)], vpcs: &[&str]) -> Case {
        let mut case = sample::case();
        let instance = &mut case.baseline.instance;
        instance.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (vpc, device_index) in vpcs.iter().zip(1..) {
            let first = instance.interfaces[0].clone();
            instance.interfaces.push(Interface { vpc_id: vpc.parse().expect("a VPC"), device_index, ..first });
        }
        case
    }

    fn policy(value: &Value) -> PolicyDocument {
        PolicyDocument::read(&value.to_string()).expect("a policy")
    }

    #[test]
    fn a_rule_by_tags_is_laid_over_what_holds_without_it() {
        let text = json!({"version": 1, "exemptionTag": {"key": "stasis:exempt"}, "rules": [
            {"name": "lab", "when": {"tags": {"team": "lab"}}, "decision": "ask", "approval": {"minutes": 1440, "onExpiry": "preserve"},
             "settings": {"egress": "endpoints", "memory": "acquire"}, "playbooks": ["coin-miner"]},
            {"name": "malware", "when": {"types": ["Trojan:*"]}, "decision": "contain", "approval": {"minutes": 5, "onExpiry": "contain"},
             "settings": {"egress": "none", "credentials": "revoke", "retentionDays": 400}, "playbooks": ["exfiltration"]}],
            "otherwise": {"decision": "ask"}});
        let (asked, settings) = decided(&policy(&text), &finding("Trojan:EC2/X", 8.0), &with(&[("team", "lab")], &[]));
        assert_eq!(asked.decision, Decision::Ask);
        assert!(asked.by.starts_with("rule \"lab\""), "{}", asked.by);
        assert_eq!(asked.approval, Some(ApprovalTerms { minutes: 5, on_expiry: OnExpiry::Contain }));
        assert_eq!(asked.playbooks, [Playbook::CoinMiner, Playbook::Exfiltration]);
        assert_eq!((settings.egress, settings.credentials), (Egress::None, Credentials::Revoke));
        assert_eq!((settings.disks.lock_days, settings.memory.choice), (400, MemoryChoice::Acquire));
        assert!(
            asked.notes.iter().any(|note| note.contains("the egress of rule \"lab\" is weaker")),
            "{:?}",
            asked.notes
        );
        assert!(asked.notes.iter().any(|note| note.contains("5 minutes")), "{:?}", asked.notes);
        // Where it is the stricter one, it decides.
        let (asked, settings) = decided(&policy(&text), &finding("Recon:EC2/X", 8.0), &with(&[("team", "lab")], &[]));
        assert_eq!(asked.approval, Some(ApprovalTerms { minutes: 1440, on_expiry: OnExpiry::Preserve }));
        assert_eq!((settings.egress, settings.memory.choice), (Egress::Endpoints, MemoryChoice::Acquire));
    }

    #[test]
    fn a_tag_does_not_end_the_question_sooner_where_it_then_lapses() {
        let text = json!({"version": 1, "rules": [{"name": "lab", "when": {"tags": {"team": "lab"}}, "decision": "ask",
            "approval": {"minutes": 5, "onExpiry": "preserve"}}], "otherwise": {"decision": "ask"}});
        let (asked, _) = decided(&policy(&text), &finding("Trojan:EC2/X", 8.0), &with(&[("team", "lab")], &[]));
        assert_eq!(asked.approval, Some(ApprovalTerms { minutes: 60, on_expiry: OnExpiry::Preserve }));
    }

    #[test]
    fn a_rule_by_tags_brings_no_silence_whatever_document_it_stands_in() {
        // The reader refuses this document; the decision does not lean on that.
        let text = json!({"version": 1, "rules": [
            {"name": "lab", "when": {"tags": {"team": "lab"}}, "settings": {"egress": "none"}},
            {"name": "malware", "when": {"types": ["Trojan:*"]}, "decision": "contain"}], "otherwise": {"decision": "notify"}});
        assert!(PolicyDocument::read(&text.to_string()).is_err());
        let document = serde_json::from_value(text).expect("a policy");
        let (found, settings) = decided(&document, &finding("Trojan:EC2/X", 8.0), &with(&[("team", "lab")], &[]));
        assert_eq!((found.decision, settings.egress), (Decision::Contain, Egress::None));
        assert!(found.by.starts_with("rule \"malware\""), "{}", found.by);
        assert!(found.notes.iter().any(|note| note.contains("rule \"lab\"")), "{:?}", found.notes);
        // A low finding is preserved by a rule, and a tag that would contain it takes that from nobody.
        let low = policy(&json!({"version": 1, "rules": [
            {"name": "lab", "when": {"tags": {"team": "lab"}}, "decision": "contain"},
            {"name": "rest", "decision": "preserve"}], "otherwise": {"decision": "contain"}}));
        let (found, _) = decided(&low, &finding("Trojan:EC2/X", 2.0), &with(&[("team", "lab")], &[]));
        assert_eq!(found.decision, Decision::Preserve);
    }

    #[test]
    fn what_a_responder_exempted_is_contained_by_no_tag_without_a_person() {
        let text = json!({"version": 1, "exemptionTag": {"key": "stasis:exempt"},
            "exemptions": [{"instance": sample::case().instance.instance_id, "reason": "the domain controller"}],
            "rules": [{"name": "lab", "when": {"tags": {"team": "lab"}}, "decision": "contain"}],
            "otherwise": {"decision": "contain"}});
        for tags in [[("team", "lab")], [("team", "prod")], [("stasis:exempt", "")]] {
            for request in [finding("Trojan:EC2/X", 8.0), sample::request()] {
                let (asked, _) = decided(&policy(&text), &request, &with(&tags, &[]));
                assert_eq!(asked.decision, Decision::Ask, "{tags:?}");
                assert_eq!(asked.approval, Some(ApprovalTerms::default()), "{tags:?}");
                assert!(asked.by.contains("the domain controller"), "{}", asked.by);
            }
        }
    }

    #[test]
    fn an_interface_in_another_vpc_buys_nothing() {
        let own = "vpc-0aaaaaaaaaaaaaaa1";
        let exempting = |vpcs: &[&str]| {
            let exemptions: Vec<Value> =
                vpcs.iter().map(|vpc| json!({"vpc": vpc, "decision": "notify", "reason": "the factory"})).collect();
            policy(&json!({"version": 1, "exemptions": exemptions, "otherwise": {"decision": "contain"}}))
        };
        for (exempt, interfaces, expected) in [
            (vec![own], vec![], Decision::Notify),
            (vec!["vpc-2"], vec!["vpc-2"], Decision::Contain),
            (vec![own], vec!["vpc-2"], Decision::Contain),
            (vec![own, "vpc-2"], vec!["vpc-2"], Decision::Notify),
            (vec![own, "vpc-2"], vec!["vpc-2", "vpc-3"], Decision::Contain),
        ] {
            let (found, _) = decided(&exempting(&exempt), &finding("Trojan:EC2/X", 8.0), &with(&[], &interfaces));
            assert_eq!(found.decision, expected, "{exempt:?} {interfaces:?}");
            assert_eq!(found.notes.iter().any(|note| note.contains("several VPCs")), !interfaces.is_empty());
        }
        let mut nowhere = with(&[], &[]);
        nowhere.baseline.instance.vpc_id = None;
        nowhere.baseline.instance.interfaces.clear();
        assert_eq!(
            decided(&exempting(&[own]), &finding("Trojan:EC2/X", 8.0), &nowhere).0.decision,
            Decision::Contain,
            "nobody knows its VPC"
        );
        // A rule that weakens is not reached by it, and one that strengthens stays.
        let rules = policy(&json!({"version": 1, "rules": [
            {"name": "lab", "when": {"vpcs": ["vpc-2"]}, "decision": "ignore", "settings": {"egress": "https", "memory": "acquire"}},
            {"name": "production", "when": {"vpcs": [own]}, "decision": "contain", "settings": {"egress": "none"}, "playbooks": ["exfiltration"]}],
            "otherwise": {"decision": "notify"}}));
        for interfaces in [vec![], vec!["vpc-2"], vec!["vpc-3"], vec!["vpc-3", "vpc-2"]] {
            let (found, settings) = decided(&rules, &finding("Trojan:EC2/X", 8.0), &with(&[], &interfaces));
            assert_eq!((found.decision, settings.egress), (Decision::Contain, Egress::None), "{interfaces:?}");
            assert_eq!(found.playbooks, [Playbook::Exfiltration]);
            assert!(found.by.starts_with("rule \"production\""), "{}", found.by);
        }
        // The stricter place counts for an instance that is in two.
        let moved = with(&[], &["vpc-4"]);
        let strict = policy(
            &json!({"version": 1, "rules": [{"name": "there", "when": {"vpcs": ["vpc-4"]}, "decision": "contain"}],
            "otherwise": {"decision": "notify"}}),
        );
        assert_eq!(decided(&strict, &finding("Trojan:EC2/X", 8.0), &moved).0.decision, Decision::Contain);
    }

    /// Any document, sensible or not, over few names, so that its rules meet.
    fn documents() -> impl Strategy<Value = PolicyDocument> {
        let word = |words: &'static [&'static str]| proptest::sample::select(words).prop_map(|word| json!(word));
        let some = |strategy: BoxedStrategy<Value>| proptest::option::weighted(0.4, strategy).boxed();
        let decision = || word(&["contain", "ask", "preserve", "notify", "ignore"]).boxed();
        let approval = (5..=1440_u32, word(&["contain", "preserve"]))
            .prop_map(|(minutes, then)| json!({"minutes": minutes, "onExpiry": then}))
            .boxed();
        let tags = proptest::collection::btree_map(
            proptest::sample::select(&["a", "b", "aws:c", "stasis:exempt"][..]),
            proptest::sample::select(&["*", "x", "y"][..]),
            1..3,
        );
        let vpcs = proptest::collection::vec(word(&["vpc-0aaaaaaaaaaaaaaa1", "vpc-2", "vpc-3"]), 1..3);
        let settings = (
            some(word(&["endpoints", "https", "none"]).boxed()),
            some(word(&["cut", "leave"]).boxed()),
            some(word(&["leave", "deny"]).boxed()),
            some(word(&["keep", "revoke"]).boxed()),
            some(word(&["acquire", "leave"]).boxed()),
            some(word(&["governance", "compliance", "none"]).boxed()),
            some((1..999_i32).prop_map(|days| json!(days)).boxed()),
        )
            .prop_map(|(egress, tracked, remote, credentials, memory, lock, days)| {
                json!({"egress": egress, "trackedConnections": tracked, "remoteAddresses": remote, "credentials": credentials,
                    "memory": memory, "snapshotLock": lock, "retentionDays": days})
            })
            .boxed();
        let rule = (
            some(word(&["Backdoor:*", "Trojan:*"]).prop_map(|kind| json!([kind])).boxed()),
            some(tags.prop_map(|tags| json!(tags)).boxed()),
            some(vpcs.prop_map(|vpcs| json!(vpcs)).boxed()),
            some(decision()),
            settings.clone(),
            some(approval.clone()),
            proptest::collection::vec(word(&["coin-miner", "ransomware", "exfiltration"]), 0..3),
        )
            .prop_map(|(types, tags, vpcs, decision, settings, approval, playbooks)| {
                json!({"name": "r", "when": {"types": types, "tags": tags, "vpcs": vpcs}, "decision": decision,
                    "settings": settings, "approval": approval, "playbooks": playbooks})
            });
        let exemption = (
            word(&["vpc-0aaaaaaaaaaaaaaa1", "vpc-2", "vpc-3"]),
            proptest::bool::weighted(0.1),
            word(&["ask", "preserve", "notify", "ignore"]),
        )
            .prop_map(|(vpc, by_account, most)| match by_account {
                true => json!({"account": "111122223333", "decision": most, "reason": "r"}),
                false => json!({"vpc": vpc, "decision": most, "reason": "r"}),
            });
        let parts = (
            proptest::collection::vec(rule, 0..5),
            proptest::collection::vec(exemption, 0..3),
            settings,
            some(approval),
            decision(),
            proptest::option::of(4.0..9.0_f64),
            proptest::option::of(1..48_u32),
        );
        parts.prop_map(|(rules, exemptions, settings, approval, otherwise, severity, hours)| {
            serde_json::from_value(json!({"version": 1, "exemptionTag": {"key": "stasis:exempt"}, "rules": rules,
                "exemptions": exemptions, "settings": settings, "approval": approval, "minimumSeverity": severity,
                "oldestFindingHours": hours, "otherwise": {"decision": otherwise}}))
            .expect("a document")
        })
    }

    /// What is decided about: mostly a finding, and else a request.
    fn requests() -> impl Strategy<Value = Request> {
        let kinds = proptest::sample::select(&["Backdoor:EC2/X", "Trojan:EC2/X", "Recon:EC2/X"][..]);
        let findings = (kinds, 1.0..10.0_f64, 0..72_i64).prop_map(|(kind, severity, hours)| Request {
            last_seen: Some(sample::time() - chrono::TimeDelta::hours(hours)),
            ..finding(kind, severity)
        });
        let modes = proptest::sample::select(&[Mode::Contain, Mode::Preserve, Mode::DryRun][..]);
        let approve = proptest::sample::select(&[None, Some(Approve::Ask), Some(Approve::Auto)][..]);
        let asked = (modes, approve).prop_map(|(mode, approve)| Request { mode, approve, ..sample::request() });
        prop_oneof![4 => findings, 1 => asked]
    }

    fn tags() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let one = (
            proptest::sample::select(&["a", "b", "Name", "stasis:exempt"][..]),
            proptest::sample::select(&["x", "y", ""][..]),
        );
        proptest::collection::vec(one, 0..4)
    }

    fn vpcs() -> impl Strategy<Value = Vec<&'static str>> {
        proptest::collection::vec(
            proptest::sample::select(&["vpc-0aaaaaaaaaaaaaaa1", "vpc-2", "vpc-3", "vpc-4"][..]),
            0..3,
        )
    }

    /// In what one outcome is weaker than another.
    fn weaknesses(one: &(Decided, Policy), other: &(Decided, Policy)) -> Vec<&'static str> {
        let order = |terms: ApprovalTerms| match terms.on_expiry {
            OnExpiry::Contain => (1, -i64::from(terms.minutes)),
            OnExpiry::Preserve => (0, i64::from(terms.minutes)),
        };
        let terms =
            |a: &Decided, b: &Decided| matches!((a.approval, b.approval), (Some(a), Some(b)) if order(a) < order(b));
        let open = |egress: Egress| [Egress::None, Egress::Endpoints, Egress::Https].iter().position(|e| *e == egress);
        let locked = |lock: LockMode| {
            [LockMode::None, LockMode::Governance, LockMode::Compliance].iter().position(|mode| *mode == lock)
        };
        let ((a, x), (b, y)) = (one, other);
        [
            ("decision", a.decision < b.decision),
            ("approval", terms(a, b)),
            ("playbooks", b.playbooks.iter().any(|playbook| !a.playbooks.contains(playbook))),
            ("egress", open(x.egress) > open(y.egress)),
            (
                "connections",
                x.tracked_connections == TrackedConnections::Leave && x.tracked_connections != y.tracked_connections,
            ),
            ("addresses", x.remote_addresses == RemoteAddresses::Leave && x.remote_addresses != y.remote_addresses),
            ("credentials", x.credentials == Credentials::Keep && x.credentials != y.credentials),
            ("memory", x.memory.choice == MemoryChoice::Leave && x.memory.choice != y.memory.choice),
            ("lock", locked(x.disks.lock) < locked(y.disks.lock)),
            ("days", x.disks.lock_days < y.disks.lock_days),
        ]
        .into_iter()
        .filter_map(|(name, weaker)| weaker.then_some(name))
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever the document says and whatever tags an attacker puts on the instance, nothing is weaker than without
        /// them; only that people may be asked before what would have been contained is, and it is where they do not answer.
        #[test]
        fn no_tag_weakens(document in documents(), request in requests(), tags in tags(), vpcs in vpcs()) {
            let without = decided(&document, &request, &with(&[], &vpcs));
            let tagged = decided(&document, &request, &with(&tags, &vpcs));
            let mut weaker = weaknesses(&tagged, &without);
            if (tagged.0.decision, without.0.decision) == (Decision::Ask, Decision::Contain) {
                prop_assert_eq!(tagged.0.approval.map(|terms| terms.on_expiry), Some(OnExpiry::Contain));
                weaker.retain(|what| *what != "decision");
            }
            prop_assert!(weaker.is_empty(), "{:?}: {:#?} {:#?}", weaker, tagged, without);
        }

        /// Whatever the document says, an interface in another VPC makes nothing weaker than it is in any of them alone.
        #[test]
        fn no_interface_weakens(document in documents(), request in requests(), tags in tags(), vpcs in vpcs()) {
            let attached = decided(&document, &request, &with(&tags, &vpcs));
            let mut places = vec![with(&tags, &[])];
            places.extend(vpcs.iter().map(|vpc| {
                let mut moved = with(&tags, &[]);
                moved.baseline.instance.vpc_id = Some(vpc.parse().expect("a VPC"));
                moved.baseline.instance.interfaces.clear();
                moved
            }));
            for place in &places {
                let alone = decided(&document, &request, place);
                let weaker = weaknesses(&attached, &alone);
                prop_assert!(weaker.is_empty(), "{:?}: {:#?} {:#?}", weaker, attached, alone);
            }
        }
    }
}
