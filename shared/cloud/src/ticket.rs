//! The ticket of a case that came without one: an OpsItem. Its text is ours and the case's ids only.

use crate::{Cloud, CloudError};
use aws_sdk_ssm::operation::create_ops_item::CreateOpsItemError;
use aws_sdk_ssm::types::{OpsItemDataType, OpsItemDataValue};
use stasis_model::case::InstanceRef;
use stasis_model::ids::{CaseId, Ticket};
use stasis_model::source::Level;

const CREATE: &str = "ssm:CreateOpsItem";
/// Systems Manager makes no second item for the same text while the first is open
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/OpsCenter-working-deduplication.html>).
const DEDUPLICATION: &str = "/aws/dedup";

impl Cloud {
    /// Opens an OpsItem for a case, or finds the one that a former try opened.
    ///
    /// # Errors
    /// Where Systems Manager refuses or cannot be reached.
    pub async fn open_ticket(
        &self,
        case_id: &CaseId,
        instance: &InstanceRef,
        level: Level,
    ) -> Result<Ticket, CloudError> {
        let deduplication = format!("{{\"dedupString\":\"{case_id}\"}}");
        let data = OpsItemDataValue::builder().value(deduplication).r#type(OpsItemDataType::SearchableString).build();
        let sent = self
            .ssm_at_home
            .create_ops_item()
            .title(format!("Stasis: compromised instance {}", instance.instance_id))
            .description(format!(
                "Stasis opened {case_id} for instance {} in account {}, region {}. The case file is in the evidence bucket under cases/{case_id}/.",
                instance.instance_id, instance.account, instance.region
            ))
            .source("Stasis")
            .category("Security")
            .severity(level.ops_item_severity())
            .operational_data(DEDUPLICATION, data)
            .send()
            .await;
        let id = match sent {
            Ok(answer) => answer.ops_item_id().map(str::to_owned),
            Err(error) => match error.as_service_error() {
                Some(CreateOpsItemError::OpsItemAlreadyExistsException(exists)) if exists.ops_item_id().is_some() => {
                    exists.ops_item_id().map(str::to_owned)
                }
                _ => return Err(CloudError::from_sdk(CREATE, case_id.as_str(), &error)),
            },
        };
        id.ok_or_else(|| CloudError::unusable(CREATE, case_id.as_str(), "it names no OpsItem"))?.parse().map_err(
            |error: stasis_model::error::InputError| CloudError::unusable(CREATE, case_id.as_str(), error.to_string()),
        )
    }
}
