//! Approval: the answer to the question whether an instance is to be contained.

use crate::Timestamp;
use crate::case::Case;
use serde::{Deserialize, Serialize};

/// How the question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Somebody said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// The question could not be asked, or no answer to it could be read.
    Unasked,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// How the question ended.
    pub verdict: Verdict,
    /// Whether the instance is contained now.
    pub contain: bool,
    /// Who answered, in their own words. Step Functions does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// The key of the token by which the question is answered.
pub fn token_key(case: &Case) -> String {
    format!("{}approval/token", case.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::StageOutcome;

    #[test]
    fn what_the_state_machine_answers_where_a_question_fails_is_read() {
        // As the Catch of ApprovalSettle builds it, which tests/infra/check.py evaluates.
        let text = r#"{"stage": "approval", "status": "FAILED", "summary": "Denied: s3:PutObject",
            "failures": [{"code": "Denied", "message": "s3:PutObject"}], "answer": {"at": "2026-11-24T03:48:48.123Z",
            "verdict": "unasked", "contain": true, "reason": "what came of the question could not be kept: Denied"}}"#;
        let outcome: StageOutcome = serde_json::from_str(text).expect("an outcome");
        let answer = outcome.answer.expect("an answer");
        assert_eq!((answer.verdict, answer.contain), (Verdict::Unasked, true));
    }
}
