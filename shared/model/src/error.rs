//! What can be wrong with what comes in from outside. Never an AWS error: those are the cloud crate's.

/// A request or a case that cannot be used, with the key or value that is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A value of the wrong form.
    #[error("{key}: {problem}")]
    Invalid {
        /// The key that holds the value.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A key that nobody reads: a misspelt key silently ignored would contain the wrong way.
    #[error("{key}: unknown key; known are {known}")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The keys that exist.
        known: String,
    },
    /// A key that must be there.
    #[error("{key}: missing; {remedy}")]
    Missing {
        /// The key.
        key: String,
        /// What to add.
        remedy: String,
    },
}

impl InputError {
    /// A value of `key` that is wrong because of `problem`.
    pub fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), problem: problem.into() }
    }

    /// The same error, told of the key it came under.
    #[must_use]
    pub fn under(self, outer: &str) -> Self {
        match self {
            Self::Invalid { problem, .. } => Self::Invalid { key: outer.to_owned(), problem },
            other => other,
        }
    }
}
