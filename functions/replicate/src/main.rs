//! The function `stasis-replicate`: copies the snapshots. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::replicate;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::disks::ReplicateFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Replicate;

impl Work for Replicate {
    const STAGE: Stage = Stage::Replicate;
    type Facts = ReplicateFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<ReplicateFacts, CloudError> {
        cloud.replicate_facts(case).await
    }

    fn plan(&self, case: &Case, facts: &ReplicateFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
        replicate::plan(case, facts, now, tried)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Replicate).await
}
