//! The evidence: what CloudTrail recorded, and what lies in the volatile folder.

use crate::{Cloud, CloudError};
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use chrono::TimeDelta;
use stasis_model::case::Case;
use stasis_model::facts::StoredObject;

const LOOKUP: &str = "cloudtrail:LookupEvents";

impl Cloud {
    /// Whether CloudTrail shows the SendCommand that made a command.
    pub(crate) async fn is_in_cloudtrail(&self, case: &Case, command_id: &str) -> Result<bool, CloudError> {
        let attribute = LookupAttribute::builder()
            .attribute_key(LookupAttributeKey::EventName)
            .attribute_value("SendCommand")
            .build()
            .map_err(|error| CloudError::unusable(LOOKUP, command_id, error.to_string()))?;
        let from = (case.opened_at - TimeDelta::minutes(1)).timestamp();
        let mut events = self
            .cloudtrail
            .lookup_events()
            .lookup_attributes(attribute)
            .start_time(aws_smithy_types::DateTime::from_secs(from))
            .into_paginator()
            .items()
            .send();
        while let Some(event) =
            events.try_next().await.map_err(|error| CloudError::from_sdk(LOOKUP, command_id, &error))?
        {
            if event.cloud_trail_event().is_some_and(|text| text.contains(command_id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What lies in the volatile folder of a case.
    pub(crate) async fn volatile(&self, case: &Case) -> Result<Vec<StoredObject>, CloudError> {
        let listed = self.list(&format!("{}volatile/", case.prefix())).await?;
        Ok(listed.into_iter().map(|o| StoredObject { key: o.key, size: o.size }).collect())
    }
}
