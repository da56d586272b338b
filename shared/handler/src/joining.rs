//! Joining: asks how the run of an open case fares, and writes down that another takes it over. What follows from what is
//! the decide crate's.

use crate::HandlerError;
use crate::open_cases::compared;
use crate::triage::{BY_HAND, json};
use stasis_cloud::casefile::Created;
use stasis_cloud::{Cloud, CloudError};
use stasis_decide::joining::{self, Joining, Progress, Run, TELLING};
use stasis_decide::open_cases;
use stasis_model::case::{Case, Claim, Decided, Mode, TakenOver, Takeover, claim_key, takeovers};
use stasis_model::memory::MemoryTools;
use stasis_model::stage::{Stage, StageReport};
use stasis_model::{SCHEMA, now};

/// How often it is decided anew where another run takes the case at the same moment.
const TRIES: u32 = 3;

/// What became of what came in for an open case.
pub(crate) enum Joined {
    /// Its run works on the case now; whether it took it over in this call.
    Ours {
        /// The case.
        case: Box<Case>,
        /// Whether it was taken over just now.
        is_new: bool,
    },
    /// The case is another run's; what there is to say of it.
    Theirs {
        /// The case.
        case: Box<Case>,
        /// What else there is to say.
        said: Option<String>,
    },
}

/// Decides what becomes of what came in, and has `execution` take the case over where that is it. `is_asked` where somebody asks
/// for it, rather than a finding.
pub(crate) async fn join(
    cloud: &Cloud,
    mut case: Case,
    execution: &str,
    wanted: &Decided,
    is_asked: bool,
    tools: &MemoryTools,
) -> Result<Joined, HandlerError> {
    for _ in 0..TRIES {
        if case.execution.as_deref() == Some(execution) && execution != BY_HAND {
            return Ok(Joined::Ours { case: Box::new(case), is_new: false });
        }
        let run = run_of(cloud, &case).await?;
        let progress = if joining::needs_progress(&case, &run, wanted.decision, is_asked) {
            let telling: &[Stage] = if is_asked { &Stage::ALL } else { &TELLING };
            let newest = cloud.newest_reports(&case.case_id, telling).await?;
            let mut progress = joining::progress(&case, &newest, is_asked);
            // What was cut off once may have been put back by somebody since: AWS says, not the report of then.
            // Of a run that goes on it does not matter.
            if run != Run::Going {
                progress.is_cut_off = progress.is_cut_off && is_still_cut_off(cloud, &case).await?;
            }
            if is_asked {
                progress.undone = match undone(cloud, &case, &newest).await {
                    Err(error) if run == Run::Going && !error.is_retryable() => {
                        tracing::warn!(error = error.name(), %error, case = %case.case_id, "whether it is held cannot be read");
                        None
                    }
                    read => read?,
                };
            }
            progress
        } else {
            Progress::default()
        };
        let (mode, decided, why) = match joining::joining(&case, &run, &progress, wanted, now()) {
            Joining::Joins(said) => return Ok(Joined::Theirs { case: Box::new(case), said }),
            Joining::Waits(why) => return Err(HandlerError::Unfinished(why)),
            Joining::TakesOver { why, .. } if execution == BY_HAND => {
                let said = format!("{why}: an execution of stasis-contain takes it over, a call by hand does not");
                return Ok(Joined::Theirs { case: Box::new(case), said: Some(said) });
            }
            Joining::TakesOver { mode, decided, why } => (mode, decided, why),
        };
        if let Some(case) = take_over(cloud, &case, execution, (mode, decided, why), tools).await? {
            return Ok(Joined::Ours { case: Box::new(case), is_new: true });
        }
        // Another run was faster.
        case = cloud
            .case(&case.case_id)
            .await?
            .ok_or_else(|| HandlerError::EvidenceAtRisk(format!("case {} exists and cannot be read", case.case_id)))?;
    }
    Err(HandlerError::Unfinished(format!("others keep taking case {} over", case.case_id)))
}

/// Whether the instance is in quarantine now. Where that cannot be read, and asking again would not help, the report counts.
async fn is_still_cut_off(cloud: &Cloud, case: &Case) -> Result<bool, HandlerError> {
    match cloud.is_in_quarantine(&case.instance.instance_id).await {
        Err(error) if !error.is_retryable() => {
            tracing::error!(code = %error.code, case = %case.case_id, "whether it is in quarantine still cannot be read");
            Ok(true)
        }
        said => Ok(said?),
    }
}

/// What was undone since AWS confirmed it, in a few words.
async fn undone(cloud: &Cloud, case: &Case, newest: &[StageReport]) -> Result<Option<String>, HandlerError> {
    // A run that took it over a moment ago is about to hold it again.
    let standing = compared(cloud, case, newest, case.worked_on_since()).await?;
    Ok(open_cases::to_hold_again(&standing))
}

/// What the run of a case does.
async fn run_of(cloud: &Cloud, case: &Case) -> Result<Run, HandlerError> {
    let Some(arn) = case.execution.as_deref().filter(|execution| execution.starts_with("arn:")) else {
        return Ok(Run::Never);
    };
    match cloud.execution(arn).await {
        Ok(Some(execution)) if execution.is_running() => Ok(Run::Going),
        Ok(Some(execution)) if execution.status == "SUCCEEDED" => Ok(Run::Ended),
        Ok(Some(execution)) => Ok(Run::Dead(execution.status)),
        Ok(None) => Ok(Run::Dead("so long ago that Step Functions no longer knows it,".to_owned())),
        // The state machine tries again in a moment.
        Err(error) if error.is_retryable() => Err(error.into()),
        Err(error) => {
            tracing::error!(code = %error.code, case = %case.case_id, "whether the run goes on cannot be read");
            Ok(Run::Unknown(error.to_string()))
        }
    }
}

/// Takes the case over, unless another run does so at the same moment.
async fn take_over(
    cloud: &Cloud,
    case: &Case,
    execution: &str,
    (mode, decided, why): (Mode, Decided, String),
    tools: &MemoryTools,
) -> Result<Option<Case>, HandlerError> {
    let claim: Option<Claim> = cloud.fetch_json(&claim_key(&case.instance)).await?;
    if claim.is_none_or(|claim| claim.case_id != case.case_id) {
        // It was released a moment ago: what came in opens a case of its own.
        return Err(HandlerError::Unfinished(format!("case {} was closed at this moment", case.case_id)));
    }
    let number = case.takeover() + 1;
    let takeover = Takeover {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        execution: execution.to_owned(),
        mode,
        decided,
        taken_over: TakenOver { number, from: case.execution.clone(), why, at: now() },
        memory_tools: tools.clone(),
    };
    let key = format!("{}{number}.json", takeovers(&case.case_id));
    match cloud.create(&key, "application/json", json(&takeover)?).await? {
        Created::Yes { .. } => {
            tracing::warn!(target: "audit", case = %case.case_id, number, why = %takeover.taken_over.why, "taken over");
            // As everybody reads it from now on.
            cloud.case(&case.case_id).await.map_err(HandlerError::from)
        }
        // A former try of this call may have written it: it is found to be ours.
        Created::Exists => Ok(None),
    }
}

/// Whether another run has taken the case over from the one that this case comes from.
pub(crate) async fn is_superseded(cloud: &Cloud, case: &Case) -> Result<Option<Takeover>, CloudError> {
    let number = case.takeover();
    Ok(cloud.newest_takeover(&case.case_id).await?.filter(|newest| newest.taken_over.number > number))
}
