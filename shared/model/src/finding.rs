//! A GuardDuty finding, as little of it as Stasis uses.
//!
//! Findings come in camelCase (EventBridge, S3 export) and PascalCase (`GetFindings`), with fields that are
//! absent, null or of several types; text in them can be chosen by an attacker. So only what is used is
//! demanded, unknown fields are ignored, and facts to act on are read again from EC2.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// What is used of a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its id.
    #[serde(default)]
    pub id: Option<String>,
    /// Its type, such as `CryptoCurrency:EC2/BitcoinTool.B!DNS`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Severity from 1 to 10, integer or not.
    #[serde(default)]
    pub severity: Option<f64>,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// The account of the resource.
    #[serde(default)]
    pub account_id: Option<String>,
    /// The region of the resource.
    #[serde(default)]
    pub region: Option<String>,
    /// When GuardDuty made it.
    #[serde(default)]
    pub created_at: Option<Value>,
    /// What it is about.
    #[serde(default)]
    pub resource: Option<Resource>,
    /// GuardDuty's own remarks.
    #[serde(default)]
    pub service: Option<Service>,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// `Instance` when it is about an EC2 instance. Others may carry `instanceDetails` all the same:
    /// acting on those would isolate a wrong host.
    #[serde(default)]
    pub resource_type: Option<String>,
    /// The instance.
    #[serde(default)]
    pub instance_details: Option<InstanceDetails>,
}

/// The instance of a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDetails {
    /// Its id.
    #[serde(default)]
    pub instance_id: Option<String>,
}

/// GuardDuty's own remarks on a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Whether someone archived it.
    #[serde(default)]
    pub archived: Option<Value>,
    /// Where a sample finding says that it is one.
    #[serde(default)]
    pub additional_info: Option<Value>,
    /// What was seen.
    #[serde(default)]
    pub action: Option<Value>,
}

/// How many remote addresses of a finding are taken.
const ADDRESSES_MOST: usize = 16;

/// The address of a `remoteIpDetails`, where it holds one.
fn remote_address(holder: &Value) -> Option<IpAddr> {
    let details = holder.get("remoteIpDetails")?;
    ["ipAddressV4", "ipAddressV6"].iter().find_map(|key| details.get(key)?.as_str()?.parse().ok())
}

impl Finding {
    /// The addresses at the other side of the connections that the finding is about. What called an AWS API is
    /// not among them: it is no connection of the instance.
    pub fn remote_addresses(&self) -> Vec<IpAddr> {
        let Some(action) = self.service.as_ref().and_then(|service| service.action.as_ref()) else {
            return Vec::new();
        };
        let connection = action.get("networkConnectionAction").into_iter();
        let probes = action.get("portProbeAction").and_then(|probe| probe.get("portProbeDetails")?.as_array());
        let mut addresses: Vec<IpAddr> =
            connection.chain(probes.into_iter().flatten()).filter_map(remote_address).take(ADDRESSES_MOST).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Reads a finding of either case of letters.
    ///
    /// # Errors
    /// Where a field that is used is of a type that it never has.
    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(camel_case(value))
    }

    /// Whether someone archived it: it was dealt with.
    pub fn is_archived(&self) -> bool {
        self.service.as_ref().and_then(|s| s.archived.as_ref()).is_some_and(is_true)
    }

    /// Whether it is a sample, made by a button in the console. The mark is a field in some deliveries and
    /// hidden in a string of JSON in others.
    pub fn is_sample(&self) -> bool {
        let Some(info) = self.service.as_ref().and_then(|s| s.additional_info.as_ref()) else { return false };
        if info.get("sample").is_some_and(is_true) {
            return true;
        }
        let hidden =
            info.get("value").and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
        hidden.is_some_and(|inner| inner.get("sample").is_some_and(is_true))
    }
}

/// True as a boolean, or as the string that some pipelines make of it.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// How deep a finding may be nested; real ones stay below 20.
const DEEPEST: usize = 64;

/// The same value with every key beginning in lower case, which turns the names that are used here from the
/// API's form into the wire's.
fn camel_case(value: &Value) -> Value {
    fn convert(value: &Value, depth: usize) -> Value {
        match value {
            Value::Object(fields) if depth < DEEPEST => {
                let fields: Map<String, Value> = fields
                    .iter()
                    .map(|(key, inner)| {
                        let mut letters = key.chars();
                        let key = letters
                            .next()
                            .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect::<String>());
                        (key, convert(inner, depth + 1))
                    })
                    .collect();
                Value::Object(fields)
            }
            Value::Object(_) => Value::Null,
            other => other.clone(),
        }
    }
    convert(value, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample_is_known_by_either_mark() {
        for info in [json!({"sample": true}), json!({"value": "{\"sample\":true}", "type": "default"})] {
            let finding = Finding::read(&json!({"service": {"additionalInfo": info}})).expect("readable");
            assert!(finding.is_sample(), "{info}");
        }
        for info in [json!(null), json!({}), json!({"value": "sample"}), json!({"sample": false}), json!("sample")] {
            let finding = Finding::read(&json!({"service": {"additionalInfo": info}})).expect("readable");
            assert!(!finding.is_sample(), "{info}");
        }
    }

    #[test]
    fn both_cases_of_letters_read_the_same() {
        let camel = json!({"id": "f", "type": "T", "severity": 8, "resource": {"resourceType": "Instance",
            "instanceDetails": {"instanceId": "i-0a1b2c3d"}}, "service": {"archived": false}});
        let pascal = json!({"Id": "f", "Type": "T", "Severity": 8.0, "Resource": {"ResourceType": "Instance",
            "InstanceDetails": {"InstanceId": "i-0a1b2c3d"}}, "Service": {"Archived": false}});
        assert_eq!(Finding::read(&camel).expect("camel"), Finding::read(&pascal).expect("pascal"));
    }
}
