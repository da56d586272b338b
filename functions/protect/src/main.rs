//! The function `stasis-protect`: keeps the instance from being stopped or terminated. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::protect;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::ProtectFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Protect;

impl Work for Protect {
    const STAGE: Stage = Stage::Protect;
    type Facts = ProtectFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<ProtectFacts, CloudError> {
        Ok(cloud.protect_facts(case).await)
    }

    fn plan(&self, case: &Case, facts: &ProtectFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        protect::plan(case, facts)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Protect).await
}
