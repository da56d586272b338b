//! Keeps the ticket of a case up to date, where Stasis opened it or somebody listens. What it says is the decide crate's.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::ticket::{self, Progress};
use stasis_model::case::Case;
use stasis_model::now;
use stasis_model::policy::TicketBy;

/// Tells how far a case has come. A dry run has no ticket.
///
/// # Errors
/// Where Systems Manager or EventBridge refuses or cannot be reached.
pub(crate) async fn tell(cloud: &Cloud, case: &Case, progress: Progress, reason: &str) -> Result<(), CloudError> {
    match &case.ticket_by {
        _ if case.is_dry_run() => Ok(()),
        None => Ok(()),
        Some(TicketBy::OpsItem {}) => {
            let data = ticket::data_of(progress, reason, now());
            cloud.update_ops_item(&case.ticket, data, progress.is_over()).await
        }
        Some(TicketBy::Event { bus }) => {
            let event = ticket::event(case, progress, reason, now());
            let detail = serde_json::to_string(&event)
                .map_err(|error| CloudError::unusable("events:PutEvents", bus.as_str(), error.to_string()))?;
            cloud.put_event(bus, ticket::DETAIL_TYPE, detail).await
        }
    }
}
