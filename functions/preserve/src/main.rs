//! The function `stasis-preserve`: snapshots the disks. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::preserve;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::disks::PreserveFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Preserve;

impl Work for Preserve {
    const STAGE: Stage = Stage::Preserve;
    type Facts = PreserveFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<PreserveFacts, CloudError> {
        cloud.preserve_facts(case).await
    }

    fn plan(&self, case: &Case, facts: &PreserveFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
        preserve::plan(case, facts, now, tried)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Preserve).await
}
