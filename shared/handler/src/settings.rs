//! Settings, from the function's environment: the only place that reads it. What is missing stops the
//! function at its start, with the variable's name; there is no silent fallback.

use serde::de::DeserializeOwned;
use stasis_cloud::Home;
use stasis_decide::policy;
use stasis_model::case::Policy;
use stasis_model::disks::{Destination, DiskPolicy, LockMode, Place};
use stasis_model::ids::AccountId;
use stasis_model::memory::{Format, MemoryPolicy, WindowsTool};
use stasis_model::policy::PolicyDocument;
use std::collections::BTreeMap;
use std::str::FromStr;

/// The settings of a function.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Stasis runs.
    pub home: Home,
    /// The name of the function.
    pub function: String,
    /// The sources whose events carry the manual input.
    pub request_sources: Vec<String>,
    /// The settings that new cases are worked under, as far as the policy document does not change them.
    pub policy: Policy,
    /// The SSM parameter that holds the policy document; none where only the built-in one counts.
    pub policy_parameter: Option<String>,
    /// The built-in policy document, with what the stack says of it.
    pub built_in: PolicyDocument,
    /// Where Lambda's X-Ray daemon listens; none where nothing is traced.
    pub xray_daemon: Option<String>,
    topic: Option<String>,
    signing_key: Option<String>,
    roles: Option<String>,
}

/// A setting that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct SettingsError {
    name: &'static str,
    problem: String,
}

const REGION: &str = "AWS_REGION";
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME";
/// Set by Lambda where tracing is on
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime>).
const XRAY_DAEMON: &str = "AWS_XRAY_DAEMON_ADDRESS";
const ACCOUNT: &str = "STASIS_ACCOUNT";
const BUCKET: &str = "STASIS_EVIDENCE_BUCKET";
const TOPIC: &str = "STASIS_TOPIC_ARN";
const SIGNING_KEY: &str = "STASIS_SIGNING_KEY_ARN";
const REQUEST_SOURCES: &str = "STASIS_REQUEST_SOURCES";
const OWNER: &str = "STASIS_OWNER";
const EGRESS: &str = "STASIS_EGRESS";
const TRACKED: &str = "STASIS_TRACKED_CONNECTIONS";
const REMOTE: &str = "STASIS_REMOTE_ADDRESSES";
const MINIMUM: &str = "STASIS_MINIMUM_SIZE";
const CREDENTIALS: &str = "STASIS_CREDENTIALS";
const PROFILE: &str = "STASIS_QUARANTINE_PROFILE";
const DOCUMENT: &str = "STASIS_CAPTURE_DOCUMENT";
const LIMIT: &str = "STASIS_CAPTURE_LIMIT_SECONDS";
const MEMORY: &str = "STASIS_MEMORY";
const MEMORY_DOCUMENT: &str = "STASIS_MEMORY_DOCUMENT";
const MEMORY_FORMAT: &str = "STASIS_MEMORY_FORMAT";
const MEMORY_LIMIT: &str = "STASIS_MEMORY_LIMIT_SECONDS";
const MEMORY_PACE: &str = "STASIS_MEMORY_MEBIBYTES_PER_SECOND";
const WRITER_ROLE: &str = "STASIS_EVIDENCE_WRITER_ROLE_ARN";
const COLLECTOR_X86_64: &str = "STASIS_COLLECTOR_X86_64";
const COLLECTOR_ARM64: &str = "STASIS_COLLECTOR_ARM64";
const WINDOWS_TOOL: &str = "STASIS_WINDOWS_TOOL";
const WINDOWS_TOOL_ARGUMENTS: &str = "STASIS_WINDOWS_TOOL_ARGUMENTS";
const WINDOWS_TOOL_OUTPUT: &str = "STASIS_WINDOWS_TOOL_OUTPUT";

const ROLES: &str = "STASIS_ROLES";
const LANGUAGE: &str = "STASIS_REPORT_LANGUAGE";
const SNAPSHOT_LOCK: &str = "STASIS_SNAPSHOT_LOCK";
const CASE_FILE_LOCK: &str = "STASIS_CASE_FILE_LOCK";
const POLICY_PARAMETER: &str = "STASIS_POLICY_PARAMETER";
const DECISION: &str = "STASIS_DECISION";
const MINIMUM_SEVERITY: &str = "STASIS_MINIMUM_SEVERITY";
const OLDEST_FINDING: &str = "STASIS_OLDEST_FINDING_HOURS";
const RETENTION: &str = "STASIS_RETENTION_DAYS";
const SNAPSHOT_KEY: &str = "STASIS_SNAPSHOT_KEY";
const DESTINATION_ACCOUNT: &str = "STASIS_DESTINATION_ACCOUNT";
const DESTINATION_REGION: &str = "STASIS_DESTINATION_REGION";
const DESTINATION_ROLE: &str = "STASIS_DESTINATION_ROLE_ARN";
const DESTINATION_KEY: &str = "STASIS_DESTINATION_KEY";

impl Settings {
    /// The settings in the environment.
    ///
    /// # Errors
    /// Where one is missing or malformed; it is named.
    pub fn from_env() -> Result<Self, SettingsError> {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        Self::read(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(value: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingsError> {
        let required = |name| value(name).ok_or(SettingsError { name, problem: "is not set".to_owned() });
        let account: AccountId = parsed(ACCOUNT, &required(ACCOUNT)?)?;
        Ok(Self {
            home: Home {
                region: parsed(REGION, &required(REGION)?)?,
                bucket: required(BUCKET)?,
                external_id: format!("stasis-{account}"),
                account,
            },
            function: value(FUNCTION).unwrap_or_else(|| "stasis".to_owned()),
            request_sources: value(REQUEST_SOURCES)
                .map(|list| list.split(',').map(|source| source.trim().to_owned()).filter(|s| !s.is_empty()).collect())
                .unwrap_or_default(),
            policy: Policy {
                owner: value(OWNER).unwrap_or_else(|| "SecurityTeam".to_owned()),
                egress: chosen(EGRESS, value(EGRESS))?,
                tracked_connections: chosen(TRACKED, value(TRACKED))?,
                remote_addresses: chosen(REMOTE, value(REMOTE))?,
                minimum_size: chosen(MINIMUM, value(MINIMUM))?,
                credentials: chosen(CREDENTIALS, value(CREDENTIALS))?,
                quarantine_profile: value(PROFILE).unwrap_or_else(|| "stasis-quarantine".to_owned()),
                capture_document: value(DOCUMENT).unwrap_or_else(|| "Stasis-CaptureVolatile".to_owned()),
                capture_limit_seconds: value(LIMIT).map_or(Ok(600), |text| parsed(LIMIT, &text))?,
                memory: MemoryPolicy {
                    choice: chosen(MEMORY, value(MEMORY))?,
                    document: value(MEMORY_DOCUMENT).unwrap_or_else(|| "Stasis-AcquireMemory".to_owned()),
                    writer_role: value(WRITER_ROLE).unwrap_or_default(),
                    collector_x86_64: collector(COLLECTOR_X86_64, value(COLLECTOR_X86_64))?,
                    collector_arm64: collector(COLLECTOR_ARM64, value(COLLECTOR_ARM64))?,
                    windows_tool: WindowsTool {
                        sha256: collector(WINDOWS_TOOL, value(WINDOWS_TOOL))?,
                        arguments: value(WINDOWS_TOOL_ARGUMENTS).unwrap_or_else(|| WindowsTool::default().arguments),
                        output: chosen(WINDOWS_TOOL_OUTPUT, value(WINDOWS_TOOL_OUTPUT))?,
                    },
                    format: format(value(MEMORY_FORMAT))?,
                    limit_seconds: value(MEMORY_LIMIT).map_or(Ok(21_600), |text| parsed(MEMORY_LIMIT, &text))?,
                    bytes_per_second: value(MEMORY_PACE)
                        .map_or(Ok(0_u64), |text| parsed(MEMORY_PACE, &text))?
                        .saturating_mul(1 << 20),
                },
                disks: disks(&value)?,
                report_language: chosen(LANGUAGE, value(LANGUAGE))?,
            },
            policy_parameter: value(POLICY_PARAMETER),
            built_in: built_in(&value)?,
            xray_daemon: value(XRAY_DAEMON),
            topic: value(TOPIC),
            signing_key: value(SIGNING_KEY),
            roles: value(ROLES),
        })
    }

    /// The notification topic; only the report needs it.
    ///
    /// # Errors
    /// Where it is not set.
    pub fn topic(&self) -> Result<&str, SettingsError> {
        self.topic.as_deref().ok_or(SettingsError { name: TOPIC, problem: "is not set".to_owned() })
    }

    /// ARN of the key that signs manifests; only the report needs it.
    ///
    /// # Errors
    /// Where it is not set.
    pub fn signing_key(&self) -> Result<&str, SettingsError> {
        self.signing_key.as_deref().ok_or(SettingsError { name: SIGNING_KEY, problem: "is not set".to_owned() })
    }

    /// ARNs of the roles of the stages, by the stage's name; only readiness needs them.
    ///
    /// # Errors
    /// Where they are not set, or no list of `stage=ARN`.
    pub fn roles(&self) -> Result<BTreeMap<String, String>, SettingsError> {
        read_roles(self.roles.as_deref().ok_or(SettingsError { name: ROLES, problem: "is not set".to_owned() })?)
    }
}

fn read_roles(text: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let wrong = || SettingsError { name: ROLES, problem: "is a list of stage=ARN, with commas between".to_owned() };
    text.split(',')
        .map(|one| match one.split_once('=') {
            Some((stage, arn)) if !stage.is_empty() && arn.starts_with("arn:") => {
                Ok((stage.to_owned(), arn.to_owned()))
            }
            _ => Err(wrong()),
        })
        .collect()
}

/// A word of a policy, as the case file writes it; its default where none is set.
fn chosen<T: DeserializeOwned + Default>(name: &'static str, word: Option<String>) -> Result<T, SettingsError> {
    let Some(word) = word else { return Ok(T::default()) };
    serde_json::from_value(word.into()).map_err(|error| SettingsError { name, problem: error.to_string() })
}

/// The built-in policy document, with the stack's decision, severity and age in it, checked like any other.
fn built_in(value: &impl Fn(&'static str) -> Option<String>) -> Result<PolicyDocument, SettingsError> {
    let told = |name, error: &dyn std::fmt::Display| SettingsError { name, problem: error.to_string() };
    let mut document = policy::built_in().map_err(|error| told(DECISION, &error))?;
    if let Some(word) = value(DECISION) {
        document.otherwise.decision = serde_json::from_value(word.into()).map_err(|error| told(DECISION, &error))?;
    }
    if let Some(text) = value(MINIMUM_SEVERITY) {
        document.minimum_severity = Some(parsed(MINIMUM_SEVERITY, &text)?);
    }
    if let Some(text) = value(OLDEST_FINDING) {
        document.oldest_finding_hours = Some(parsed(OLDEST_FINDING, &text)?);
    }
    let text = serde_json::to_string(&document).map_err(|error| told(DECISION, &error))?;
    PolicyDocument::read(&text).map_err(|error| told(MINIMUM_SEVERITY, &error))
}

/// How the disks are kept. A destination is whole or not there: half of one would be found out during an incident.
fn disks(value: &impl Fn(&'static str) -> Option<String>) -> Result<DiskPolicy, SettingsError> {
    let needed = |name| {
        value(name).ok_or(SettingsError { name, problem: format!("is not set, and {DESTINATION_ACCOUNT} needs it") })
    };
    let destination = match value(DESTINATION_ACCOUNT) {
        None => None,
        Some(account) => Some(Destination {
            place: Place {
                account: parsed(DESTINATION_ACCOUNT, &account)?,
                region: parsed(DESTINATION_REGION, &needed(DESTINATION_REGION)?)?,
            },
            role: value(DESTINATION_ROLE).unwrap_or_default(),
            key: needed(DESTINATION_KEY)?,
        }),
    };
    let lock_days = value(RETENTION).map_or(Ok(365), |text| parsed(RETENTION, &text))?;
    // What LockSnapshot takes (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockSnapshot.html).
    if !(1..=36_500).contains(&lock_days) {
        return Err(SettingsError { name: RETENTION, problem: "is 1 to 36500 days".to_owned() });
    }
    Ok(DiskPolicy {
        lock: chosen(SNAPSHOT_LOCK, value(SNAPSHOT_LOCK))?,
        lock_days,
        key: value(SNAPSHOT_KEY).unwrap_or_default(),
        destination,
        case_file: match chosen(CASE_FILE_LOCK, value(CASE_FILE_LOCK))? {
            LockMode::None => {
                return Err(SettingsError { name: CASE_FILE_LOCK, problem: "is governance or compliance".to_owned() });
            }
            mode => mode,
        },
    })
}

/// The layout of the image of a Linux host. Without headers nobody could tell where its memory has holes.
fn format(value: Option<String>) -> Result<Format, SettingsError> {
    match chosen(MEMORY_FORMAT, value)? {
        Format::Raw => Err(SettingsError { name: MEMORY_FORMAT, problem: "is lime or avml".to_owned() }),
        format => Ok(format),
    }
}

/// The SHA-256 of a collector; empty where none is deployed.
fn collector(name: &'static str, value: Option<String>) -> Result<String, SettingsError> {
    let value = value.unwrap_or_default();
    let is_hash = value.len() == 64 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if value.is_empty() || is_hash {
        return Ok(value);
    }
    Err(SettingsError { name, problem: "is no SHA-256 in lower-case hexadecimal".to_owned() })
}

fn parsed<T: FromStr>(name: &'static str, text: &str) -> Result<T, SettingsError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| SettingsError { name, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_model::case::{Egress, TrackedConnections};

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_nothing_is_guessed() {
        let good = [(REGION, "eu-central-1"), (ACCOUNT, "111122223333"), (BUCKET, "evidence")];
        assert_eq!(read(&good).expect("settings").policy.egress, Egress::Endpoints);
        let leave = read(&[good.as_slice(), &[(TRACKED, "leave")]].concat()).expect("settings");
        assert_eq!(leave.policy.tracked_connections, TrackedConnections::Leave);
        for (variables, name) in [
            (vec![(REGION, "eu-central-1"), (ACCOUNT, "111122223333")], BUCKET),
            (vec![(BUCKET, "evidence"), (ACCOUNT, "111122223333")], REGION),
            (vec![(REGION, "eu-central-1"), (BUCKET, "evidence")], ACCOUNT),
            (vec![(REGION, "eu-central-1"), (ACCOUNT, "home"), (BUCKET, "evidence")], ACCOUNT),
            ([good.as_slice(), &[(EGRESS, "open")]].concat(), EGRESS),
            ([good.as_slice(), &[(TRACKED, "maybe")]].concat(), TRACKED),
            ([good.as_slice(), &[(REMOTE, "all")]].concat(), REMOTE),
            ([good.as_slice(), &[(MINIMUM, "raise")]].concat(), MINIMUM),
            ([good.as_slice(), &[(CREDENTIALS, "burn")]].concat(), CREDENTIALS),
            ([good.as_slice(), &[(LIMIT, "soon")]].concat(), LIMIT),
            ([good.as_slice(), &[(MEMORY, "some")]].concat(), MEMORY),
            ([good.as_slice(), &[(MEMORY_FORMAT, "raw")]].concat(), MEMORY_FORMAT),
            ([good.as_slice(), &[(SNAPSHOT_LOCK, "glue")]].concat(), SNAPSHOT_LOCK),
            ([good.as_slice(), &[(CASE_FILE_LOCK, "none")]].concat(), CASE_FILE_LOCK),
            ([good.as_slice(), &[(RETENTION, "0")]].concat(), RETENTION),
            ([good.as_slice(), &[(LANGUAGE, "fr")]].concat(), LANGUAGE),
            ([good.as_slice(), &[(DECISION, "maybe")]].concat(), DECISION),
            ([good.as_slice(), &[(MINIMUM_SEVERITY, "high")]].concat(), MINIMUM_SEVERITY),
            ([good.as_slice(), &[(MINIMUM_SEVERITY, "2")]].concat(), MINIMUM_SEVERITY),
            ([good.as_slice(), &[(OLDEST_FINDING, "a day")]].concat(), OLDEST_FINDING),
            ([good.as_slice(), &[(DESTINATION_ACCOUNT, "1")]].concat(), DESTINATION_ACCOUNT),
            ([good.as_slice(), &[(DESTINATION_ACCOUNT, "222233334444")]].concat(), DESTINATION_REGION),
            ([good.as_slice(), &[(MEMORY_PACE, "-1")]].concat(), MEMORY_PACE),
            ([good.as_slice(), &[(COLLECTOR_ARM64, "../collector")]].concat(), COLLECTOR_ARM64),
        ] {
            assert!(read(&variables).expect_err("refused").to_string().contains(name), "{name}");
        }
        assert!(read(&good).expect("settings").topic().expect_err("no topic").to_string().contains(TOPIC));
        let roles = |text| read(&[good.as_slice(), &[(ROLES, text)]].concat()).expect("settings").roles();
        let two = roles("protect=arn:aws:iam::1:role/p,capture=arn:aws:iam::1:role/c").expect("roles");
        assert_eq!(two.get("capture").map(String::as_str), Some("arn:aws:iam::1:role/c"));
        for wrong in ["protect", "protect=role", "=arn:aws:iam::1:role/p", "protect=arn:a,"] {
            assert!(roles(wrong).expect_err("refused").to_string().contains(ROLES), "{wrong}");
        }
    }
}
