//! The evidence: what CloudTrail recorded, and what lies in the volatile folder.

use crate::{Cloud, CloudError};
use aws_sdk_cloudtrail::operation::lookup_events::builders::LookupEventsFluentBuilder;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use chrono::TimeDelta;
use stasis_model::case::Case;
use stasis_model::facts::StoredObject;

pub(super) const LOOKUP: &str = "cloudtrail:LookupEvents";

impl Cloud {
    /// Whether CloudTrail shows the SendCommand that made a command.
    pub(crate) async fn is_in_cloudtrail(&self, case: &Case, command_id: &str) -> Result<bool, CloudError> {
        let asked = self.events_of(case, LookupAttributeKey::EventName, "SendCommand")?;
        let mut events = asked.into_paginator().items().send();
        while let Some(event) =
            events.try_next().await.map_err(|error| CloudError::from_sdk(LOOKUP, command_id, &error))?
        {
            if event.cloud_trail_event().is_some_and(|text| text.contains(command_id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The question for CloudTrail's records of an attribute, since the case was opened.
    pub(super) fn events_of(
        &self,
        case: &Case,
        key: LookupAttributeKey,
        value: &str,
    ) -> Result<LookupEventsFluentBuilder, CloudError> {
        let attribute = LookupAttribute::builder()
            .attribute_key(key)
            .attribute_value(value)
            .build()
            .map_err(|error| CloudError::unusable(LOOKUP, value, error.to_string()))?;
        let from = (case.opened_at - TimeDelta::minutes(1)).timestamp();
        let from = aws_smithy_types::DateTime::from_secs(from);
        Ok(self.cloudtrail.lookup_events().lookup_attributes(attribute).start_time(from))
    }

    /// What lies in the volatile folder of a case.
    pub(crate) async fn volatile(&self, case: &Case) -> Result<Vec<StoredObject>, CloudError> {
        let listed = self.list(&format!("{}volatile/", case.prefix())).await?;
        Ok(listed.into_iter().map(|o| StoredObject { key: o.key, size: o.size }).collect())
    }
}
