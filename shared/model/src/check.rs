//! A check of the security checklist: what must be so, and what AWS says when asked again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of a check. What could not be read is `Unknown`, and `Unknown` never counts as a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CheckStatus {
    /// As it must be.
    Pass,
    /// Otherwise than it must be.
    Fail,
    /// Not there at all.
    Missing,
    /// Could not be read, or not to be known yet.
    Unknown,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Missing => "MISSING",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// The result.
    pub status: CheckStatus,
    /// What must be so.
    pub expected: String,
    /// What was read.
    pub observed: String,
}

impl Check {
    /// A check that passes exactly when `observed` is as it must be.
    pub fn of(name: &str, expected: impl Into<String>, pass: bool, observed: impl Into<String>) -> Self {
        let status = if pass { CheckStatus::Pass } else { CheckStatus::Fail };
        Self { name: name.to_owned(), status, expected: expected.into(), observed: observed.into() }
    }

    /// A check whose object is not there.
    pub fn missing(name: &str, expected: impl Into<String>, observed: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: CheckStatus::Missing,
            expected: expected.into(),
            observed: observed.into(),
        }
    }

    /// A check that could not be made, or not yet.
    pub fn unknown(name: &str, expected: impl Into<String>, observed: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: CheckStatus::Unknown,
            expected: expected.into(),
            observed: observed.into(),
        }
    }

    /// Whether the check passed.
    pub fn passed(&self) -> bool {
        self.status == CheckStatus::Pass
    }
}
