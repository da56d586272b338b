//! The function `stasis-prepare`: makes the quarantine groups ready. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::prepare;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::QuarantineFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Prepare;

impl Work for Prepare {
    const STAGE: Stage = Stage::Prepare;
    type Facts = QuarantineFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<QuarantineFacts, CloudError> {
        Ok(cloud.network_facts(case).await)
    }

    fn plan(&self, case: &Case, facts: &QuarantineFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        prepare::plan(case, facts)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Prepare).await
}
