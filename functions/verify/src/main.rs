//! The function `stasis-verify`: reads everything back and fills the checklist. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::{capture, verify};
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::VerifyFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Verify;

impl Work for Verify {
    const STAGE: Stage = Stage::Verify;
    type Facts = VerifyFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<VerifyFacts, CloudError> {
        Ok(cloud.verify_facts(case, &capture::comment(case)).await)
    }

    fn plan(&self, case: &Case, facts: &VerifyFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        verify::plan(case, facts)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Verify).await
}
