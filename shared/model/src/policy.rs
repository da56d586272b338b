//! The policy: one JSON document that says what follows from which finding. Read and checked whole here; what follows from
//! it is the decide crate's. docs/policy.md explains it, and infra/policy/schema.json is its JSON schema.

use crate::case::{Credentials, Egress, Language, MinimumSize, RemoteAddresses, TrackedConnections};
use crate::disks::LockMode;
use crate::error::InputError;
use crate::ids::{AccountId, InstanceId, VpcId, quoted};
use crate::memory::MemoryChoice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The version of the document's form that is understood.
const VERSION: u32 = 1;
/// No finding below this is ever contained: GuardDuty's low severity
/// (<https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html>).
pub const SEVERITY_LEAST: f64 = 4.0;
/// The longest name of a rule and reason of an exemption, in characters.
const TEXT_MOST: usize = 200;
/// How many rules, exemptions, or values of a condition there may be.
const ITEMS_MOST: usize = 200;
/// How long approval may be waited for, in minutes: people need some, and a day leaves the rest of the run its time.
const APPROVAL: std::ops::RangeInclusive<u32> = 5..=1_440;

/// What follows from a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Nothing, and nobody is told.
    Ignore,
    /// People are told, and the finding is kept.
    Notify,
    /// The instance is protected and preserved, and stays on the network.
    Preserve,
    /// It is protected and preserved, and contained once somebody approves.
    Ask,
    /// It is protected, preserved and contained.
    Contain,
}

impl Decision {
    /// The word of the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Notify => "notify",
            Self::Preserve => "preserve",
            Self::Ask => "ask",
            Self::Contain => "contain",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// What is looked at beside the instance, by the kind of compromise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Playbook {
    /// Flow logs of its interfaces: found, or switched on.
    CoinMiner,
    /// Buckets whose objects its role may overwrite or delete: whether they keep versions.
    Ransomware,
    /// What Access Analyzer knows of its role.
    Exfiltration,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDocument {
    /// 1.
    pub version: u32,
    /// Where its schema is, for editors; not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What it is for; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// A finding that was last seen longer ago is never contained: it is notified about at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_finding_hours: Option<u32>,
    /// A finding of lower severity is never contained: it is notified about at most. Not below [`SEVERITY_LEAST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_severity: Option<f64>,
    /// What is never contained without a person, whatever a rule says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
    /// The tag by which an instance's owner asks not to be contained without a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption_tag: Option<ExemptionTag>,
    /// Settings of every case; a rule's own go before them.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub settings: Overrides,
    /// How approval is asked for, where a rule does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// Where the ticket of a case is kept that came without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<TicketBy>,
    /// Tried in order; the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What holds where no rule matches.
    pub otherwise: Otherwise,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Its name, under which cases speak of it.
    pub name: String,
    /// What it is for; not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What it applies to: all of it must hold.
    #[serde(default)]
    pub when: When,
    /// What follows; that of `otherwise` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Settings of its cases.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub settings: Overrides,
    /// How approval is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// What is looked at beside the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub playbooks: Vec<Playbook>,
}

/// What holds where no rule matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Otherwise {
    /// What follows.
    pub decision: Decision,
}

/// The conditions of a rule. One that is left out holds always.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// Types of findings, with `*` for any text, such as `CryptoCurrency:EC2/*`: one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// The severity of the finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<SeverityRange>,
    /// The account that owns the instance: one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<AccountId>>,
    /// The VPC of the instance: one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpcs: Option<Vec<VpcId>>,
    /// Tags of the instance, each value with `*` for any text: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// A range of severities on GuardDuty's scale of 1 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeverityRange {
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// What it must be below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// Something that is never contained without a person: one account, VPC or instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exemption {
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
    /// The instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The most that is done: ask, preserve, notify or ignore.
    #[serde(default = "ask")]
    pub decision: Decision,
    /// Why, for whoever reads the case.
    pub reason: String,
}

fn ask() -> Decision {
    Decision::Ask
}

/// A tag of the instance. Anybody who may tag can set it, so it leads to a question and never to silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExemptionTag {
    /// Its key.
    pub key: String,
    /// Its value; any where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Settings of cases that differ from the stack's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overrides {
    /// What the quarantine lets out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// What is done about open connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked_connections: Option<TrackedConnections>,
    /// What is done about the addresses of a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addresses: Option<RemoteAddresses>,
    /// How a scaling group at its minimum lets go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_size: Option<MinimumSize>,
    /// What becomes of the instance's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Whether the memory is acquired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryChoice>,
    /// How snapshots are locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_lock: Option<LockMode>,
    /// For how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<i32>,
    /// The language of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_language: Option<Language>,
}

impl Overrides {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How approval is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalTerms {
    /// How long an answer is waited for.
    pub minutes: u32,
    /// What follows where none came.
    pub on_expiry: OnExpiry,
}

impl Default for ApprovalTerms {
    fn default() -> Self {
        Self { minutes: 60, on_expiry: OnExpiry::Preserve }
    }
}

/// What follows where no answer came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// The instance is contained.
    Contain,
    /// It stays protected, preserved, and on the network.
    Preserve,
}

impl fmt::Display for OnExpiry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Contain => "contain",
            Self::Preserve => "preserve",
        })
    }
}

/// Where tickets are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TicketBy {
    /// As OpsItems of Systems Manager.
    OpsItem {},
    /// By whoever hears the events that are put on a bus of EventBridge, such as a connector of Jira or ServiceNow.
    Event {
        /// The name or ARN of the bus.
        bus: String,
    },
}

impl PolicyDocument {
    /// Reads a document, and checks all of it.
    ///
    /// # Errors
    /// Where it is not JSON, or anything in it is unknown, of the wrong form, or without sense; the place is named.
    pub fn read(text: &str) -> Result<Self, InputError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let document: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let place = error.path().to_string();
            InputError::invalid(if place == "." { "policy".to_owned() } else { place }, error.inner().to_string())
        })?;
        reader.end().map_err(|error| InputError::invalid("policy", error.to_string()))?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), InputError> {
        need(self.version == VERSION, "version", || format!("is {}, and this Stasis knows {VERSION}", self.version))?;
        if let Some(hours) = self.oldest_finding_hours {
            need((1..=87_600).contains(&hours), "oldestFindingHours", || "must be 1 to 87600".to_owned())?;
        }
        if let Some(least) = self.minimum_severity {
            need((SEVERITY_LEAST..=10.0).contains(&least), "minimumSeverity", || {
                format!("must be {SEVERITY_LEAST} to 10: findings of low severity are never contained")
            })?;
        }
        if let Some(terms) = &self.approval {
            terms.check("approval")?;
        }
        if let Some(TicketBy::Event { bus }) = &self.ticket {
            let legal = |c: char| c.is_ascii_alphanumeric() || "/_.-:".contains(c);
            need(!bus.is_empty() && bus.len() <= 256 && bus.chars().all(legal), "ticket.bus", || {
                format!("{} is neither the name nor the ARN of an event bus", quoted(bus))
            })?;
        }
        self.settings.check("settings")?;
        if let Some(tag) = &self.exemption_tag {
            need(!tag.key.is_empty() && tag.key.chars().count() <= 128, "exemptionTag.key", || {
                "must be 1 to 128 characters".to_owned()
            })?;
        }
        few(self.exemptions.len(), "exemptions")?;
        for (at, exemption) in self.exemptions.iter().enumerate() {
            exemption.check(&format!("exemptions[{at}]"))?;
        }
        few(self.rules.len(), "rules")?;
        for (at, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("rules[{at}]"), self.otherwise.decision)?;
            let first = self.rules.iter().position(|other| other.name == rule.name);
            need(first == Some(at), &format!("rules[{at}].name"), || {
                format!("{} is the name of another rule too", quoted(&rule.name))
            })?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self, place: &str, otherwise: Decision) -> Result<(), InputError> {
        line(&self.name, &format!("{place}.name"))?;
        self.when.check(&format!("{place}.when"))?;
        self.settings.check(&format!("{place}.settings"))?;
        if let Some(terms) = &self.approval {
            terms.check(&format!("{place}.approval"))?;
        }
        few(self.playbooks.len(), &format!("{place}.playbooks"))?;
        // Whoever holds the instance may hold the right to tag it.
        let weak = self.decision.unwrap_or(otherwise) < Decision::Ask;
        need(!(weak && self.when.by_forgeable_tag()), &format!("{place}.decision"), || {
            let taken = match self.decision {
                Some(_) => String::new(),
                None => format!(", and this one takes {otherwise} from otherwise"),
            };
            format!(
                "a rule by tags decides contain or ask{taken}: whoever can tag the instance could silence it otherwise; exempt it by account, vpc or instance"
            )
        })
    }
}

/// Whether whoever may tag can set a tag of this key. Keys that begin with `aws:` are AWS' own
/// (<https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>).
pub fn is_forgeable(key: &str) -> bool {
    !key.starts_with("aws:")
}

impl When {
    /// Whether it depends on tags that whoever may tag can set.
    pub fn by_forgeable_tag(&self) -> bool {
        self.tags.as_ref().is_some_and(|tags| tags.keys().any(|key| is_forgeable(key)))
    }

    fn check(&self, place: &str) -> Result<(), InputError> {
        let sizes = [
            ("types", self.types.as_ref().map(Vec::len)),
            ("accounts", self.accounts.as_ref().map(Vec::len)),
            ("vpcs", self.vpcs.as_ref().map(Vec::len)),
            ("tags", self.tags.as_ref().map(BTreeMap::len)),
        ];
        for (key, size) in sizes {
            need(size != Some(0), &format!("{place}.{key}"), || "is empty; leave it out for any".to_owned())?;
            few(size.unwrap_or_default(), &format!("{place}.{key}"))?;
        }
        for kind in self.types.iter().flatten() {
            line(kind, &format!("{place}.types"))?;
        }
        if let Some(range) = &self.severity {
            let within = |bound: Option<f64>| bound.is_none_or(|bound| (0.0..=10.0).contains(&bound));
            let any = range.at_least.is_some() || range.below.is_some();
            let open = range.at_least.unwrap_or(0.0) < range.below.unwrap_or(11.0);
            need(any && open && within(range.at_least) && within(range.below), &format!("{place}.severity"), || {
                "needs atLeast or below, of 0 to 10, the first less than the second".to_owned()
            })?;
        }
        Ok(())
    }
}

impl Exemption {
    fn check(&self, place: &str) -> Result<(), InputError> {
        let named = [self.account.is_some(), self.vpc.is_some(), self.instance.is_some()];
        need(named.iter().filter(|named| **named).count() == 1, place, || {
            "names one of account, vpc and instance".to_owned()
        })?;
        need(self.decision != Decision::Contain, &format!("{place}.decision"), || {
            "is ask, preserve, notify or ignore: contain exempts from nothing".to_owned()
        })?;
        line(&self.reason, &format!("{place}.reason"))
    }
}

impl Overrides {
    fn check(&self, place: &str) -> Result<(), InputError> {
        match self.retention_days {
            Some(days) => need((1..=36_500).contains(&days), &format!("{place}.retentionDays"), || {
                "must be 1 to 36500".to_owned()
            }),
            None => Ok(()),
        }
    }
}

impl ApprovalTerms {
    fn check(&self, place: &str) -> Result<(), InputError> {
        need(APPROVAL.contains(&self.minutes), &format!("{place}.minutes"), || {
            format!("must be {} to {}", APPROVAL.start(), APPROVAL.end())
        })
    }
}

fn need(holds: bool, place: &str, problem: impl FnOnce() -> String) -> Result<(), InputError> {
    if holds { Ok(()) } else { Err(InputError::invalid(place, problem())) }
}

fn few(count: usize, place: &str) -> Result<(), InputError> {
    need(count <= ITEMS_MOST, place, || format!("holds {count}, and {ITEMS_MOST} are the most"))
}

fn line(text: &str, place: &str) -> Result<(), InputError> {
    let fits = !text.trim().is_empty() && text.chars().count() <= TEXT_MOST && !text.chars().any(char::is_control);
    need(fits, place, || format!("must be one line of 1 to {TEXT_MOST} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The same documents are put to the JSON schema by tests/infra/check.py, so that the two cannot drift apart.
    const DOCUMENTS: &str = include_str!("../../../tests/policy/documents.json");

    #[test]
    fn a_document_is_read_whole_or_refused_by_the_place_that_is_wrong() {
        let documents: Vec<Value> = serde_json::from_str(DOCUMENTS).expect("JSON");
        for case in &documents {
            let (name, text) = (&case["name"], case["document"].to_string());
            match (PolicyDocument::read(&text), case["refused"].as_str()) {
                (Ok(document), None) => {
                    let again = serde_json::to_string(&document).expect("JSON");
                    assert_eq!(PolicyDocument::read(&again), Ok(document), "{name}");
                }
                (Err(error), Some(place)) => {
                    assert!(
                        error.to_string().starts_with(place) || error.to_string().contains(&format!("`{place}`")),
                        "{name}: {error}"
                    );
                }
                (read, refused) => panic!("{name}: {read:?}, and not {refused:?}"),
            }
        }
        for text in ["", "{", "{\"version\": 1, \"otherwise\": {\"decision\": \"ask\"}} more", "null", "\u{0}"] {
            assert!(PolicyDocument::read(text).is_err(), "{text:?}");
        }
        let twice = "{\"version\": 1, \"version\": 1, \"otherwise\": {\"decision\": \"ask\"}}";
        assert!(PolicyDocument::read(twice).is_err(), "a key twice has two meanings");
    }

    proptest::proptest! {
        /// Whatever it holds, reading it ends in a document or in an error that names a place.
        #[test]
        fn nothing_that_is_read_panics(text in ".{0,300}", cut in 0..2000_usize) {
            let read = |text: &str| PolicyDocument::read(text).err().map(|error| error.to_string());
            proptest::prop_assert!(read(&text).is_none_or(|error| !error.is_empty()));
            let shortened: String = DOCUMENTS.chars().skip(cut).take(cut).collect();
            proptest::prop_assert!(read(&shortened).is_none_or(|error| !error.is_empty()));
        }
    }

    #[test]
    fn decisions_are_ordered_from_nothing_to_everything() {
        use Decision::{Ask, Contain, Ignore, Notify, Preserve};
        assert!([Ignore, Notify, Preserve, Ask, Contain].windows(2).all(|pair| pair[0] < pair[1]));
    }
}
