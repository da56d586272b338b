//! `stasis contain`: starts the state machine for an instance, and says which case that became.

use crate::args::Contain;
use crate::error::CliError;
use crate::place::Place;
use crate::text::safe;
use crate::watch::{self, wait};
use serde::Serialize;
use serde_json::{Map, Value};
use stasis_cloud::execution::Execution;
use stasis_model::case::Claim;
use stasis_model::ids::CaseId;
use stasis_model::outcome::{RunResult, RunStatus};
use std::time::Duration;

/// How often, and how long between two looks, the case is looked for.
const LOOKS: u32 = 120;
const LOOK: Duration = Duration::from_millis(500);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    execution: &'a str,
    case_id: Option<&'a CaseId>,
}

/// Contains an instance; whether it went as it should, as far as it was waited for.
pub(crate) async fn run(place: &Place, what: &Contain) -> Result<bool, CliError> {
    let machine = place.contain_machine().await?;
    let execution = place.cloud.start(&machine, &Value::Object(input(what)).to_string()).await?;
    place.screen.note(format!("started {execution}"));
    let ended = |execution: Option<Execution>| execution.filter(|execution| !execution.is_running());
    for _ in 0..LOOKS {
        if let Some(case) = case_of(place, what, &execution).await? {
            return go_on(place, what, &execution, &case).await;
        }
        if let Some(end) = ended(place.cloud.execution(&execution).await?) {
            return tell_end(place, &end);
        }
        wait(LOOK).await;
    }
    place.screen.json(&Started { execution: &execution, case_id: None })?;
    place.screen.say("it runs, and has opened no case yet: see stasis list, and the execution itself")?;
    Ok(true)
}

/// The input of the state machine.
fn input(what: &Contain) -> Map<String, Value> {
    let mode = match (what.dry_run, what.preserve) {
        (true, _) => "dry-run",
        (_, true) => "preserve",
        _ => "contain",
    };
    let mut input = Map::new();
    let mut put = |key: &str, value: String| drop(input.insert(key.to_owned(), Value::String(value)));
    put("instanceId", what.instance.to_string());
    put("mode", mode.to_owned());
    put("approve", if what.ask { "ask" } else { "auto" }.to_owned());
    let optional = [
        ("ticket", what.ticket.as_ref().map(ToString::to_string)),
        ("reason", what.reason.clone()),
        ("account", what.account.as_ref().map(ToString::to_string)),
        ("region", what.instance_region.as_ref().map(ToString::to_string)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            put(key, value);
        }
    }
    input
}

/// The case that an execution has opened, by its claim.
async fn case_of(place: &Place, what: &Contain, execution: &str) -> Result<Option<CaseId>, CliError> {
    let tail = format!("/{}.json", what.instance);
    for claim in place.cloud.list("open/").await?.iter().filter(|claim| claim.key.ends_with(&tail)) {
        let claim: Option<Claim> = place.cloud.fetch_json(&claim.key).await?;
        let Some(claim) = claim else { continue };
        // The claim comes first, the case a moment later; one that was open before is ours once it is taken over.
        let case = place.cloud.case(&claim.case_id).await?;
        if case.is_some_and(|case| case.execution.as_deref() == Some(execution)) {
            return Ok(Some(claim.case_id));
        }
    }
    Ok(None)
}

async fn go_on(place: &Place, what: &Contain, execution: &str, case: &CaseId) -> Result<bool, CliError> {
    if what.watch {
        return watch::run(place, case).await;
    }
    place.screen.json(&Started { execution, case_id: Some(case) })?;
    place.screen.say(format!("{case} is open for {}", what.instance))?;
    place.screen.say(format!("  follow it    stasis watch {case}"))?;
    place.screen.say(format!("  what it is   stasis show {case}"))?;
    place.screen.say(format!("  undo it      stasis release {case} --reason …"))?;
    Ok(true)
}

/// The end of an execution, in words; whether it is a good one.
pub(crate) fn tell_end(place: &Place, end: &Execution) -> Result<bool, CliError> {
    if let Some((error, cause)) = &end.failure {
        let text = format!("{}: {}", safe(error), safe(cause));
        return Err(match error.as_str() {
            "InvalidInput" => CliError::Usage(text),
            "NotFound" => CliError::NotFound(text),
            _ => CliError::Failed(text),
        });
    }
    let Some(output) = &end.output else {
        return Err(CliError::Failed(format!("the execution ended as {} and says nothing more", end.status)));
    };
    let value: Value = serde_json::from_str(output)
        .map_err(|error| CliError::Failed(format!("the answer of the state machine cannot be read: {error}")))?;
    place.screen.json(&value)?;
    let result: RunResult = serde_json::from_value(value)
        .map_err(|error| CliError::Failed(format!("the answer of the state machine cannot be read: {error}")))?;
    place.screen.say(format!("{}: {}", result.status, safe(&result.reason)))?;
    if let Some(case) = &result.case_id {
        place.screen.say(format!("  {case}: stasis show {case}"))?;
    }
    Ok(result.status != RunStatus::Partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser as _;
    use serde_json::json;

    #[test]
    fn the_command_line_becomes_the_input_of_the_state_machine() {
        let input_of = |line: &str| {
            let arguments = Arguments::try_parse_from(line.split(' ')).expect("a command line");
            let Command::Contain(what) = arguments.command else { panic!("contain") };
            Value::Object(input(&what))
        };
        assert_eq!(
            input_of("stasis contain i-0a1b2c3d4e5f67890"),
            json!({"instanceId": "i-0a1b2c3d4e5f67890", "mode": "contain", "approve": "auto"})
        );
        assert_eq!(
            input_of(
                "stasis contain i-0a1b2c3d --ask --ticket INC-7 --reason odd --account 111122223333 --instance-region eu-west-1"
            ),
            json!({"instanceId": "i-0a1b2c3d", "mode": "contain", "approve": "ask", "ticket": "INC-7", "reason": "odd",
                "account": "111122223333", "region": "eu-west-1"})
        );
        assert_eq!(input_of("stasis contain i-0a1b2c3d --dry-run")["mode"], "dry-run");
        assert_eq!(input_of("stasis contain i-0a1b2c3d --preserve")["mode"], "preserve");
        for wrong in ["stasis contain web-1", "stasis contain i-0a1b2c3d --dry-run --ask", "stasis release case-1"] {
            assert!(Arguments::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
