//! `stasis release`: starts the state machine that puts an instance back, and waits for what comes of it.

use crate::args::Release;
use crate::contain::tell_end;
use crate::error::CliError;
use crate::place::Place;
use crate::watch::wait;
use indicatif::ProgressBar;
use serde_json::json;
use std::time::Duration;

/// How long between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Releases a case; whether everything is as it was.
pub(crate) async fn run(place: &Place, what: &Release) -> Result<bool, CliError> {
    // Read first, so that a wrong name starts nothing.
    let case = place.case(&what.case).await?;
    let machine = place.release_machine().await?;
    let input = json!({"caseId": case.case_id, "reason": what.reason});
    let execution = place.cloud.start(&machine, &input.to_string()).await?;
    place.screen.note(format!("started {execution}"));
    if what.no_wait {
        place.screen.json(&json!({"execution": execution, "caseId": case.case_id}))?;
        place.screen.say(format!("{} is being released: stasis show {0}", case.case_id))?;
        return Ok(true);
    }
    let waiting =
        ProgressBar::new_spinner().with_message(format!("{} is put back as it was", case.instance.instance_id));
    loop {
        match place.cloud.execution(&execution).await? {
            Some(end) if !end.is_running() => {
                waiting.finish_and_clear();
                return tell_end(place, &end);
            }
            _ => {}
        }
        waiting.tick();
        wait(LOOK).await;
    }
}
