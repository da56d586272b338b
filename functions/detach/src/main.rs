//! The function `stasis-detach`: takes the instance out of scaling group and load balancers. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::detach;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::DetachFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Detach;

impl Work for Detach {
    const STAGE: Stage = Stage::Detach;
    type Facts = DetachFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<DetachFacts, CloudError> {
        Ok(cloud.detach_facts(case).await)
    }

    fn plan(&self, case: &Case, facts: &DetachFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        detach::plan(case, facts)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Detach).await
}
