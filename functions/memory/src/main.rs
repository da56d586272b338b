//! The function `stasis-memory`: acquires the memory. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::memory;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::memory::MemoryFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Memory;

impl Work for Memory {
    const STAGE: Stage = Stage::Memory;
    type Facts = MemoryFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<MemoryFacts, CloudError> {
        cloud.memory_facts(case, &memory::comment(case)).await
    }

    fn plan(&self, case: &Case, facts: &MemoryFacts, now: Timestamp, tried: &[ActionRecord]) -> Plan {
        memory::plan(case, facts, now, tried)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Memory).await
}
