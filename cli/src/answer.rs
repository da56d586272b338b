//! `stasis approve` and `stasis reject`: answers the question of a case that waits for it.

use crate::args::Verdict;
use crate::error::CliError;
use crate::place::Place;
use serde_json::json;
use stasis_model::approval::token_key;

/// Answers the question.
pub(crate) async fn run(place: &Place, what: &Verdict, approves: bool) -> Result<bool, CliError> {
    let case = place.case(&what.case).await?;
    let nobody_asks = |why: &str| {
        CliError::NotFound(format!("{} waits for no answer{why}: stasis show {0} says how it stands", case.case_id))
    };
    let token = place.cloud.fetch(&token_key(&case)).await?.ok_or_else(|| nobody_asks(""))?;
    let token = String::from_utf8(token.body).map_err(|_| nobody_asks(" that can be answered"))?;
    let decision = if approves { "approve" } else { "reject" };
    let by = what.by.as_deref().map_or_else(|| place.caller.clone(), |by| format!("{by} ({})", place.caller));
    let answer = json!({"decision": decision, "by": by, "reason": what.reason});
    match place.cloud.answer_task(token.trim(), &answer.to_string()).await {
        Ok(()) => {}
        Err(gone) if ["TaskTimedOut", "InvalidToken", "TaskDoesNotExist"].contains(&gone.code.as_str()) => {
            return Err(nobody_asks(" any more: somebody has answered, or the time for it is over"));
        }
        Err(error) => return Err(error.into()),
    }
    place.screen.json(&json!({"caseId": case.case_id, "decision": decision, "by": by}))?;
    let then = if approves { "it is contained now" } else { "what was done meanwhile is put back; the evidence stays" };
    place.screen.say(format!("{}: {decision} by {by}; {then}: stasis watch {0}", case.case_id))?;
    Ok(true)
}
