//! Identifiers, checked once at the door. A value of one of these types is safe to put into a request,
//! an S3 key, a tag or a log line; it says nothing about whether the thing exists.

use crate::error::InputError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $key:literal, $check:expr, $form:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as AWS writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InputError;

            fn from_str(text: &str) -> Result<Self, InputError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InputError::invalid($key, format!("{} is not {}", quoted(text), $form)))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InputError;

            fn try_from(text: String) -> Result<Self, InputError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

/// Foreign text for an error message: escaped, and cut where it is absurdly long.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if text.chars().nth(64).is_some() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// EC2 ids are a prefix and 8 (before 2016) or 17 hexadecimal digits.
fn ec2_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|tail| {
        matches!(tail.len(), 8 | 17) && tail.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Ids of AWS resources that we only ever read from AWS: the prefix and harmless characters.
fn aws_id(text: &str, prefix: &str) -> bool {
    text.len() <= 128
        && text
            .strip_prefix(prefix)
            .is_some_and(|tail| !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

identifier!(
    /// An EC2 instance.
    InstanceId, "instanceId", |text| ec2_id(text, "i-"),
    "an instance id: i- and 8 or 17 hexadecimal digits, such as i-0a1b2c3d4e5f67890"
);
identifier!(
    /// An AWS account.
    AccountId, "account", |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()),
    "an account id of 12 digits"
);
identifier!(
    /// An AWS region of any partition, such as `eu-central-1`, `cn-north-1` or `us-gov-west-1`.
    Region, "region",
    |text| {
        let parts: Vec<&str> = text.split('-').collect();
        text.len() <= 32
            && (3..=4).contains(&parts.len())
            && parts.iter().all(|part| !part.is_empty())
            && parts.split_last().is_some_and(|(last, words)| {
                last.bytes().all(|b| b.is_ascii_digit()) && words.iter().all(|w| w.bytes().all(|b| b.is_ascii_lowercase()))
            })
    },
    "a region such as eu-central-1"
);

impl Region {
    /// The partition that the region is in, as ARNs name it
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>).
    pub fn partition(&self) -> &'static str {
        match self.0.split_once('-') {
            Some(("cn", _)) => "aws-cn",
            Some(("us", rest)) if rest.starts_with("gov-") => "aws-us-gov",
            Some(("us", rest)) if rest.starts_with("isob-") => "aws-iso-b",
            Some(("us", rest)) if rest.starts_with("iso-") => "aws-iso",
            _ => "aws",
        }
    }
}

identifier!(
    /// A network interface.
    InterfaceId, "networkInterfaceId", |text| aws_id(text, "eni-"), "a network interface id"
);
identifier!(
    /// A security group.
    GroupId, "groupId", |text| aws_id(text, "sg-"), "a security group id"
);
identifier!(
    /// An EBS volume.
    VolumeId, "volumeId", |text| aws_id(text, "vol-"), "a volume id"
);
identifier!(
    /// An EBS snapshot.
    SnapshotId, "snapshotId", |text| aws_id(text, "snap-"), "a snapshot id"
);
identifier!(
    /// A VPC.
    VpcId, "vpcId", |text| aws_id(text, "vpc-"), "a VPC id"
);
identifier!(
    /// A case of Stasis: `case-<UTC time>-<eight hexadecimal digits>`; sorts by the time it was opened.
    CaseId, "caseId",
    |text| {
        text.strip_prefix("case-").is_some_and(|tail| {
            (10..=64).contains(&tail.len()) && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    },
    "a case id such as case-20261123T061126Z-1f2e3d4c"
);
identifier!(
    /// The ticket that the incident is worked on under. It becomes a tag value on every piece of evidence,
    /// so it keeps to the characters and the length that every AWS service allows there
    /// (<https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>).
    Ticket, "ticket",
    |text| {
        !text.trim().is_empty()
            && text == text.trim()
            && text.chars().count() <= 128
            && !text.to_ascii_lowercase().starts_with("aws:")
            && text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c))
    },
    "a ticket: 1 to 128 letters, digits, spaces and _ . : / = + - @"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_of_both_lengths_are_taken_and_nothing_else() {
        for good in ["i-0a1b2c3d", "i-0a1b2c3d4e5f67890"] {
            assert!(good.parse::<InstanceId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "i-",
            "i-99",
            "i-0A1B2C3D",
            "i-0a1b2c3d4e5f6789",
            "I-0a1b2c3d",
            "i-0a1b2c3d ",
            "${instance_id}",
            "i-archived123456789",
            "i-0a1b2c3d\n",
            "../i-0a1b2c3d",
            "eni-0a1b2c3d",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn regions_of_all_partitions_are_taken() {
        for good in ["us-east-1", "ap-northeast-3", "cn-north-1", "us-gov-west-1", "us-iso-east-1"] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        let partition = |text: &str| text.parse::<Region>().expect("a region").partition();
        assert_eq!(
            ["us-east-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1"].map(partition),
            ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b"]
        );
        for bad in ["", "us", "us-east", "us-east-1a", "US-EAST-1", "us--1", "us-east-1/..", "a-b-c-d-1"] {
            assert!(bad.parse::<Region>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_ticket_is_always_a_legal_tag_value() {
        for good in ["INC-1234", "oi-0123456789ab", "https://jira.example/browse/SEC-1", "事案 12"] {
            assert!(good.parse::<Ticket>().is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", " ", " INC", "<b>", "a\nb", "aws:x", "$(id)", long.as_str()] {
            assert!(bad.parse::<Ticket>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_shows_foreign_text_escaped_and_short() {
        let Err(error) = "\u{1b}[31m<script>".repeat(100).parse::<InstanceId>() else { panic!("accepted") };
        let message = error.to_string();
        assert!(message.len() < 700 && !message.contains('\u{1b}'), "{message}");
    }
}
