//! The function `stasis-quarantine`: cuts the instance from the network. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::quarantine;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::QuarantineFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Quarantine;

impl Work for Quarantine {
    const STAGE: Stage = Stage::Quarantine;
    type Facts = QuarantineFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<QuarantineFacts, CloudError> {
        Ok(cloud.quarantine_facts(case).await)
    }

    fn plan(&self, case: &Case, facts: &QuarantineFacts, _now: Timestamp, tried: &[ActionRecord]) -> Plan {
        quarantine::plan(case, facts, tried)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Quarantine).await
}
