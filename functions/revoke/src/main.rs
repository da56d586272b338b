//! The function `stasis-revoke`: takes the power of the instance's role away. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::revoke;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::RevokeFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Revoke;

impl Work for Revoke {
    const STAGE: Stage = Stage::Revoke;
    type Facts = RevokeFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<RevokeFacts, CloudError> {
        Ok(cloud.revoke_facts(case, &revoke::policy_name(&case.case_id)).await)
    }

    fn plan(&self, case: &Case, facts: &RevokeFacts, now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        revoke::plan(case, facts, now)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Revoke).await
}
