//! The ticket of a case, at home: an OpsItem, or events on a bus for whoever keeps tickets elsewhere. Holds no text of its
//! own but titles.

use crate::{Cloud, CloudError};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_ssm::operation::create_ops_item::CreateOpsItemError;
use aws_sdk_ssm::types::{OpsItemDataType, OpsItemDataValue, OpsItemStatus};
use stasis_model::case::InstanceRef;
use stasis_model::ids::{CaseId, Ticket};
use stasis_model::source::Level;
use std::collections::{BTreeMap, HashMap};

const CREATE: &str = "ssm:CreateOpsItem";
const UPDATE: &str = "ssm:UpdateOpsItem";
const PUT: &str = "events:PutEvents";
/// The source of our events.
const SOURCE: &str = "stasis";
/// Systems Manager makes no second item for the same text while the first is open
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/OpsCenter-working-deduplication.html>).
const DEDUPLICATION: &str = "/aws/dedup";

impl Cloud {
    /// Opens an OpsItem for a case, or finds the one that a former try opened.
    ///
    /// # Errors
    /// Where Systems Manager refuses or cannot be reached.
    pub async fn open_ops_item(
        &self,
        case_id: &CaseId,
        instance: &InstanceRef,
        level: Level,
        data: BTreeMap<&'static str, String>,
    ) -> Result<Ticket, CloudError> {
        let mut data = operational(data);
        data.insert(DEDUPLICATION.to_owned(), searchable(format!("{{\"dedupString\":\"{case_id}\"}}")));
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
            .set_operational_data(Some(data))
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

    /// Tells an OpsItem how far its case has come: in progress, or resolved.
    ///
    /// # Errors
    /// Where Systems Manager refuses or cannot be reached.
    pub async fn update_ops_item(
        &self,
        ticket: &Ticket,
        data: BTreeMap<&'static str, String>,
        is_over: bool,
    ) -> Result<(), CloudError> {
        let status = if is_over { OpsItemStatus::Resolved } else { OpsItemStatus::InProgress };
        self.ssm_at_home
            .update_ops_item()
            .ops_item_id(ticket.as_str())
            .status(status)
            .set_operational_data(Some(operational(data)))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(UPDATE, ticket.as_str(), &error))?;
        Ok(())
    }

    /// Puts an event about a case on a bus.
    ///
    /// # Errors
    /// Where EventBridge refuses it or cannot be reached.
    pub async fn put_event(&self, bus: &str, detail_type: &str, detail: String) -> Result<(), CloudError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source(SOURCE)
            .detail_type(detail_type)
            .detail(detail)
            .build();
        let answer = self
            .events
            .put_events()
            .entries(entry)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PUT, bus, &error))?;
        // EventBridge answers 200 for what it did not take, too.
        match answer.entries().iter().find_map(|entry| Some((entry.error_code()?, entry.error_message()))) {
            Some((code, message)) => Err(CloudError::new(PUT, bus, code, message.unwrap_or("no reason given"), None)),
            None => Ok(()),
        }
    }
}

fn operational(data: BTreeMap<&'static str, String>) -> HashMap<String, OpsItemDataValue> {
    data.into_iter().map(|(key, value)| (key.to_owned(), searchable(value))).collect()
}

fn searchable(value: String) -> OpsItemDataValue {
    OpsItemDataValue::builder().value(value).r#type(OpsItemDataType::SearchableString).build()
}
