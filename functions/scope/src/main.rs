//! The function `stasis-scope`: looks at what else the compromise may reach. Wiring only.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::scope;
use stasis_handler::Work;
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::facts::ScopeFacts;
use stasis_model::stage::{ActionRecord, Plan, Stage};

struct Scope;

impl Work for Scope {
    const STAGE: Stage = Stage::Scope;
    type Facts = ScopeFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<ScopeFacts, CloudError> {
        Ok(cloud.scope_facts(case).await)
    }

    fn plan(&self, case: &Case, facts: &ScopeFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        scope::plan(case, facts)
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve(Scope).await
}
