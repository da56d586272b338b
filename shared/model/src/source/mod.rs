//! Findings, as little of them as Stasis uses: one module for each form in which they come.
//!
//! Fields are absent, null or of several types, and text in them can be chosen by an attacker. So only what is used is
//! demanded, unknown fields are ignored, every identifier is checked here, and facts to act on are read again from EC2.

pub mod asff;
pub mod guardduty;
pub mod ocsf;

use crate::Timestamp;
use crate::error::InputError;
use crate::ids::{AccountId, InstanceId, Region};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// An instance that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The instance.
    pub instance: InstanceId,
    /// The account it should be in, where that is said.
    pub account: Option<AccountId>,
    /// The region it should be in, where that is said.
    pub region: Option<Region>,
}

/// What is used of a finding about EC2 instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its type, as GuardDuty calls it where it is GuardDuty's.
    pub kind: Option<String>,
    /// Its severity from 1 to 10.
    pub severity: Option<f64>,
    /// Its title. Foreign text.
    pub title: Option<String>,
    /// When what it is about was last seen, where it says so.
    pub last_seen: Option<Timestamp>,
    /// The instances that it is about; never empty.
    pub instances: Vec<Named>,
    /// The addresses at the other side of the connections that it is about.
    pub remote_addresses: Vec<IpAddr>,
}

/// GuardDuty's levels of severity
/// (<https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below 4.
    Low,
    /// From 4.
    Medium,
    /// From 7.
    High,
    /// From 9.
    Critical,
}

impl Level {
    /// The level of a severity, whatever number it is; what is no number is taken for the worst.
    pub fn of(severity: f64) -> Self {
        if severity < 4.0 {
            Self::Low
        } else if severity < 7.0 {
            Self::Medium
        } else if severity < 9.0 {
            Self::High
        } else {
            Self::Critical
        }
    }

    /// The severity of an OpsItem: 1 critical to 4 low
    /// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/OpsCenter-create-OpsItems.html>).
    pub fn ops_item_severity(self) -> &'static str {
        match self {
            Self::Low => "4",
            Self::Medium => "3",
            Self::High => "2",
            Self::Critical => "1",
        }
    }
}

/// What a finding means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// Instances to act on.
    Act(Box<Detection>),
    /// Not ours to act on, because of this.
    Ignore(String),
}

/// How deep a finding may be nested; real ones stay below 20.
const DEEPEST: usize = 64;

/// The same value with every key beginning in lower case, which turns the names that are used here from GuardDuty's and
/// Security Hub's API into one form. What is nested deeper than any real finding is left out.
pub(crate) fn lower_first(value: &Value) -> Value {
    fn convert(value: &Value, depth: usize) -> Value {
        match value {
            Value::Object(_) | Value::Array(_) if depth >= DEEPEST => Value::Null,
            Value::Object(fields) => {
                let fields: Map<String, Value> = fields
                    .iter()
                    .map(|(key, inner)| {
                        let mut letters = key.chars();
                        let first = letters.next().map(char::to_lowercase).into_iter().flatten();
                        (first.chain(letters).collect(), convert(inner, depth + 1))
                    })
                    .collect();
                Value::Object(fields)
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| convert(item, depth + 1)).collect()),
            other => other.clone(),
        }
    }
    convert(value, 0)
}

/// The text at a place, where there is one that says something.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The time at the first of these places that holds one: as RFC 3339 writes it, or in milliseconds since 1970. One that
/// cannot be read is none, for it must not make a finding look old.
pub(crate) fn time(value: &Value, pointers: &[&str]) -> Option<Timestamp> {
    pointers.iter().find_map(|pointer| match value.pointer(pointer)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => Timestamp::from_timestamp_millis(number.as_i64()?),
        _ => None,
    })
}

/// The items at a place; none where it is no list.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// True as a boolean, or as the text that some pipelines make of it.
pub(crate) fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(|value| {
        value.as_bool() == Some(true) || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    })
}

/// An instance by its id or its ARN (`arn:aws:ec2:eu-central-1:111122223333:instance/i-…`), with what is known of where it
/// is besides: the ARN says it best.
///
/// # Errors
/// Where id, account or region is malformed; `key` is named.
pub(crate) fn named(uid: &str, account: Option<&str>, region: Option<&str>, key: &str) -> Result<Named, InputError> {
    let (mut account, mut region, mut id) = (account, region, uid);
    if let Some((place, tail)) = uid.split_once(":instance/") {
        // From the end: some forwarders lose a part of an ARN's beginning.
        let mut parts = place.rsplit(':');
        account = parts.next().filter(|part| !part.is_empty()).or(account);
        region = parts.next().filter(|part| !part.is_empty()).or(region);
        id = tail;
    }
    let under = |error: InputError| error.under(key);
    Ok(Named {
        instance: id.parse().map_err(under)?,
        account: account.map(str::parse).transpose().map_err(under)?,
        region: region.map(str::parse).transpose().map_err(under)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        /// Every number has a level, and a greater one never a lower level.
        #[test]
        fn severities_map_without_a_gap(a in any::<f64>(), b in 0.0..11.0_f64, c in 0.0..11.0_f64) {
            let _ = Level::of(a);
            prop_assert!(b > c || Level::of(b) <= Level::of(c));
        }
    }

    #[test]
    fn the_bounds_are_guardduty_s() {
        let levels = [1.0, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0, 10.0, f64::NAN].map(|s| Level::of(s).ops_item_severity());
        assert_eq!(levels, ["4", "4", "3", "3", "2", "2", "1", "1", "1"]);
    }

    #[test]
    fn an_arn_says_where_an_instance_is_and_a_bare_id_leaves_it_to_the_finding() {
        let of = |uid: &str| named(uid, Some("999999999999"), Some("us-east-1"), "uid").expect("an instance");
        for (arn, account, region) in [
            ("arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d", "111122223333", "eu-central-1"),
            ("arn:aws-cn:ec2:cn-north-1:111122223333:instance/i-0a1b2c3d", "111122223333", "cn-north-1"),
            ("arn:aws-us-gov:ec2:us-gov-west-1:111122223333:instance/i-0a1b2c3d", "111122223333", "us-gov-west-1"),
            // As a sanitised publication has it.
            ("arn:aws::ec2:us-east-1:193043430472:instance/i-0a1b2c3d", "193043430472", "us-east-1"),
            ("i-0a1b2c3d", "999999999999", "us-east-1"),
        ] {
            let found = of(arn);
            let place = (found.account.expect("an account"), found.region.expect("a region"));
            assert_eq!((place.0.as_str(), place.1.as_str()), (account, region), "{arn}");
        }
        let error = named("arn:aws:ec2:x:y:instance/i-zz", None, None, "resources.uid").expect_err("refused");
        assert!(error.to_string().starts_with("resources.uid: "), "{error}");
    }

    #[test]
    fn what_is_nested_too_deep_is_left_out_and_breaks_nothing() {
        let mut deep = json!({"Id": "x"});
        for _ in 0..200 {
            deep = json!({"Next": deep});
        }
        assert!(lower_first(&json!({"Deep": deep, "Id": "f"}))["id"] == "f");
    }
}
