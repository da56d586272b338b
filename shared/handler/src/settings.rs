//! Settings, from the function's environment: the only place that reads it. What is missing stops the
//! function at its start, with the variable's name; there is no silent fallback.

use stasis_model::case::{Egress, Policy};
use stasis_model::ids::Region;
use std::str::FromStr;

/// The settings of a function.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region that Stasis runs in.
    pub region: Region,
    /// The evidence bucket.
    pub bucket: String,
    /// The settings that new cases are worked under.
    pub policy: Policy,
    topic: Option<String>,
}

/// A setting that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct SettingsError {
    name: &'static str,
    problem: String,
}

const REGION: &str = "AWS_REGION";
const BUCKET: &str = "STASIS_EVIDENCE_BUCKET";
const TOPIC: &str = "STASIS_TOPIC_ARN";
const OWNER: &str = "STASIS_OWNER";
const EGRESS: &str = "STASIS_EGRESS";
const DOCUMENT: &str = "STASIS_CAPTURE_DOCUMENT";
const LIMIT: &str = "STASIS_CAPTURE_LIMIT_SECONDS";

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
        let egress = match value(EGRESS).as_deref() {
            None | Some("endpoints") => Egress::Endpoints,
            Some("https") => Egress::Https,
            Some("none") => Egress::None,
            Some(other) => {
                return Err(SettingsError {
                    name: EGRESS,
                    problem: format!("{other:?} is none of endpoints, https, none"),
                });
            }
        };
        Ok(Self {
            region: parsed(REGION, &required(REGION)?)?,
            bucket: required(BUCKET)?,
            policy: Policy {
                owner: value(OWNER).unwrap_or_else(|| "SecurityTeam".to_owned()),
                egress,
                capture_document: value(DOCUMENT).unwrap_or_else(|| "Stasis-CaptureVolatile".to_owned()),
                capture_limit_seconds: value(LIMIT).map_or(Ok(600), |text| parsed(LIMIT, &text))?,
            },
            topic: value(TOPIC),
        })
    }

    /// The notification topic; only the report needs it.
    ///
    /// # Errors
    /// Where it is not set.
    pub fn topic(&self) -> Result<&str, SettingsError> {
        self.topic.as_deref().ok_or(SettingsError { name: TOPIC, problem: "is not set".to_owned() })
    }
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

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_nothing_is_guessed() {
        let good = [(REGION, "eu-central-1"), (BUCKET, "evidence")];
        assert_eq!(read(&good).expect("settings").policy.egress, Egress::Endpoints);
        for (variables, name) in [
            (vec![(REGION, "eu-central-1")], BUCKET),
            (vec![(BUCKET, "evidence")], REGION),
            ([good.as_slice(), &[(EGRESS, "open")]].concat(), EGRESS),
            ([good.as_slice(), &[(LIMIT, "soon")]].concat(), LIMIT),
        ] {
            assert!(read(&variables).expect_err("refused").to_string().contains(name), "{name}");
        }
        assert!(read(&good).expect("settings").topic().expect_err("no topic").to_string().contains(TOPIC));
    }
}
