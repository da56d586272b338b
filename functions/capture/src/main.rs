//! The function `stasis-capture`: reads volatile data. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::capture;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::CaptureFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Capture;

impl Work for Capture {
    const STAGE: Stage = Stage::Capture;
    type Facts = CaptureFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<CaptureFacts, CloudError> {
        cloud.capture_facts(case, &capture::comment(case)).await
    }

    fn plan(&self, case: &Case, facts: &CaptureFacts, now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        capture::plan(case, facts, now)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Capture).await
}
