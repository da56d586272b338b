//! Says what IAM would decide about requests, one JSON object a line on standard input:
//! `{"policy": [NAME, DOCUMENT]}` gives a policy of an identity its name, and
//! `{"by": NAME, "action": …, "resource": ARN, "context": {KEY: VALUE}}` asks about a request under it. Each request is
//! answered by one line, `{"decision": "allow" | "deny" | "none", "by": [SID…]}`, where none is IAM's implicit deny.
//!
//! It knows nothing of boundaries, organizations and policies of resources, and it reaches no network.

use iam_rs::{
    Arn, Context, ContextValue, Decision, EvaluationOptions, IAMPolicy, IAMRequest, PolicyEvaluator, Principal,
    PrincipalId,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead as _, BufWriter, Write as _};

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Policy {
        policy: (String, IAMPolicy),
    },
    Request {
        by: String,
        action: String,
        resource: String,
        #[serde(default)]
        context: HashMap<String, ContextValue>,
    },
}

#[derive(Serialize)]
struct Answer {
    decision: &'static str,
    by: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut policies: HashMap<String, PolicyEvaluator> = HashMap::new();
    let mut answers = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))? {
            Line::Policy { policy: (name, policy) } => {
                let options = EvaluationOptions {
                    stop_on_explicit_deny: false,
                    collect_match_details: true,
                    ..EvaluationOptions::default()
                };
                policies.insert(name, PolicyEvaluator::with_policies(vec![policy]).with_options(options));
            }
            Line::Request { by, action, resource, context } => {
                let evaluator = policies.get(&by).ok_or_else(|| format!("no policy is named {by}"))?;
                let arn = Arn::parse(&resource).map_err(|error| format!("{resource}: {error}"))?;
                // Policies of an identity name no principal; the evaluator wants one all the same.
                let who = Principal::Aws(PrincipalId::String("arn:aws:iam::111122223333:role/stasis".to_owned()));
                let mut given = Context::new();
                for (key, value) in context {
                    given.insert(key, value);
                }
                let request = IAMRequest::new_with_context(who, action, arn, given);
                let result = evaluator.evaluate(&request).map_err(|error| format!("{error}: {line}"))?;
                let decision = match result.decision {
                    Decision::Allow => "allow",
                    Decision::Deny => "deny",
                    Decision::NotApplicable => "none",
                };
                let satisfied = result.statement_details.into_iter().filter(|s| s.conditions_satisfied);
                let answer = Answer { decision, by: satisfied.filter_map(|s| s.sid).collect() };
                serde_json::to_writer(&mut answers, &answer)?;
                answers.write_all(b"\n")?;
            }
        }
    }
    answers.flush()?;
    Ok(())
}
