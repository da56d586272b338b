//! The evidence: snapshots, what CloudTrail recorded, and the bucket that keeps the case file.

use super::instance::tag_map;
use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use aws_sdk_ec2::types::Filter;
use aws_sdk_s3::types::BucketVersioningStatus;
use chrono::TimeDelta;
use stasis_model::case::Case;
use stasis_model::facts::{BucketFacts, Snapshot, StoredObject};
use stasis_model::tags;

const SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const TYPES: &str = "ec2:DescribeInstanceTypes";
const LOOKUP: &str = "cloudtrail:LookupEvents";
const VERSIONING: &str = "s3:GetBucketVersioning";
const LOCK: &str = "s3:GetBucketObjectLockConfiguration";

impl Cloud {
    /// The snapshots that carry the case's tag.
    pub(crate) async fn snapshots(&self, case: &Case) -> Result<Vec<Snapshot>, CloudError> {
        let found: Vec<aws_sdk_ec2::types::Snapshot> = self
            .ec2
            .describe_snapshots()
            .owner_ids("self")
            .filters(Filter::builder().name(format!("tag:{}", tags::CASE)).values(case.case_id.as_str()).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(SNAPSHOTS, case.case_id.as_str(), &error))?;
        let mut snapshots = found
            .iter()
            .map(convert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CloudError::unusable(SNAPSHOTS, case.case_id.as_str(), error.to_string()))?;
        snapshots.sort_by(|a, b| a.volume_id.cmp(&b.volume_id));
        Ok(snapshots)
    }

    /// The size of the disks that instances of a type have on the host itself, in GB.
    pub(crate) async fn instance_store_gb(&self, kind: &str) -> Result<Option<i64>, CloudError> {
        let answer = self
            .ec2
            .describe_instance_types()
            .instance_types(kind.into())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(TYPES, kind, &error))?;
        Ok(answer
            .instance_types()
            .first()
            .and_then(|t| t.instance_storage_info())
            .and_then(|info| info.total_size_in_gb()))
    }

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

    /// How the evidence bucket keeps what is in it.
    pub(crate) async fn bucket_facts(&self) -> Result<BucketFacts, CloudError> {
        let bucket = self.bucket();
        let versioning = self
            .s3
            .get_bucket_versioning()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(VERSIONING, bucket, &error))?;
        let lock = match self.s3.get_object_lock_configuration().bucket(bucket).send().await {
            Ok(answer) => answer.object_lock_configuration().and_then(default_retention),
            Err(error) => match CloudError::from_sdk(LOCK, bucket, &error) {
                none if none.is_not_found() => None,
                error => return Err(error),
            },
        };
        Ok(BucketFacts { versioned: versioning.status() == Some(&BucketVersioningStatus::Enabled), lock })
    }
}

/// Mode and days of a bucket's default retention, where Object Lock is on.
fn default_retention(lock: &aws_sdk_s3::types::ObjectLockConfiguration) -> Option<(String, i32)> {
    let rule = lock.rule()?.default_retention()?;
    let days = rule.days().or_else(|| rule.years().map(|years| years * 365))?;
    Some((rule.mode()?.as_str().to_owned(), days))
}

fn convert(from: &aws_sdk_ec2::types::Snapshot) -> Result<Snapshot, stasis_model::error::InputError> {
    Ok(Snapshot {
        snapshot_id: from.snapshot_id().unwrap_or_default().parse()?,
        volume_id: from.volume_id().unwrap_or_default().parse()?,
        state: from.state().map_or("unknown", |s| s.as_str()).to_owned(),
        message: from.state_message().filter(|m| !m.is_empty()).map(str::to_owned),
        progress: from.progress().and_then(|p| p.trim_end_matches('%').parse().ok()).unwrap_or(0),
        encrypted: from.encrypted().unwrap_or(false),
        size_gib: from.volume_size().unwrap_or_default(),
        started_at: from.start_time().and_then(time),
        tags: tag_map(from.tags()),
    })
}
