//! The disks: volumes, snapshots with their locks and shares, and the copies elsewhere.

use super::instance::tag_map;
use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::{Filter, SnapshotAttributeName};
use futures::future::{join, join_all, join3, join4};
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::disks::{
    Lock, PreserveFacts, ReplicateFacts, Snapshot, VolumeFacts, destination_of, is_cross_account,
};
use stasis_model::error::InputError;
use stasis_model::ids::VolumeId;
use stasis_model::tags;
use std::collections::{BTreeMap, BTreeSet};

const SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const LOCKS: &str = "ec2:DescribeLockedSnapshots";
const SHARES: &str = "ec2:DescribeSnapshotAttribute";
const VOLUMES: &str = "ec2:DescribeVolumes";
const KEY: &str = "kms:DescribeKey";
const TYPES: &str = "ec2:DescribeInstanceTypes";
/// The key that EBS uses where no other is named
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/how-ebs-encryption-works.html>).
const AWS_EBS: &str = "alias/aws/ebs";

impl Cloud {
    /// What preserve reads. Where the instance cannot be described again, the baseline stands in for it.
    ///
    /// # Errors
    /// Where snapshots cannot be described: a second set would be made without knowing of the first.
    pub async fn preserve_facts(&self, case: &Case) -> Result<PreserveFacts, CloudError> {
        let kind = case.baseline.instance.instance_type.as_str();
        let (described, snapshots, instance_store, aws_ebs_key) = join4(
            self.instance(&case.instance.instance_id),
            snapshots_of(&self.ec2, case),
            self.instance_store_gb(kind),
            self.aws_ebs_key(),
        )
        .await;
        let instance = described.map_or_else(|_| case.baseline.instance.clone(), |(instance, _)| instance);
        let (mut snapshots, older) = snapshots?;
        snapshots.retain(|snapshot| snapshot.copy_of().is_none());
        let known: BTreeSet<&VolumeId> =
            instance.volumes.iter().chain(&case.baseline.instance.volumes).map(|v| &v.volume_id).collect();
        let ids: Vec<&VolumeId> = known.into_iter().collect();
        let (volumes, ()) = join(self.volumes(case, &ids), read_locks(&self.ec2, &mut snapshots)).await;
        Ok(PreserveFacts {
            volumes: volumes.into(),
            aws_ebs_key: aws_ebs_key.into(),
            snapshots,
            older: older.into_iter().map(|snapshot| snapshot.snapshot_id).collect(),
            instance_store_gb: instance_store.into(),
            instance,
        })
    }

    /// What replicate reads.
    ///
    /// # Errors
    /// Where the snapshots beside the instance cannot be described, or those elsewhere for a passing reason: copies would
    /// be made a second time without knowing of the first.
    pub async fn replicate_facts(&self, case: &Case) -> Result<ReplicateFacts, CloudError> {
        let (here, there, aws_ebs_key) = join3(self.kept_snapshots(case), self.copies(case), self.aws_ebs_key()).await;
        let there = match there {
            Err(error) if error.is_retryable() => return Err(error),
            there => there.into(),
        };
        Ok(ReplicateFacts { here: here?, there, aws_ebs_key: aws_ebs_key.into() })
    }

    /// The snapshots beside the instance with their locks, and with whom they are shared where any is.
    pub(crate) async fn kept_snapshots(&self, case: &Case) -> Result<Vec<Snapshot>, CloudError> {
        let mut snapshots = self.snapshots(case).await?;
        read_locks(&self.ec2, &mut snapshots).await;
        if is_cross_account(case) {
            let shares = join_all(snapshots.iter().map(|s| self.shared_with(s.snapshot_id.as_str()))).await;
            for (snapshot, shared_with) in snapshots.iter_mut().zip(shares) {
                // Not known for a moment is not the same as not shared: it is asked again.
                snapshot.shared_with = match shared_with {
                    Err(error) if error.is_retryable() => return Err(error),
                    known => known.into(),
                };
            }
        }
        Ok(snapshots)
    }

    /// The copies in the destination with their locks; none where there is no destination.
    pub(crate) async fn copies(&self, case: &Case) -> Result<Vec<Snapshot>, CloudError> {
        let Some(to) = destination_of(case) else { return Ok(Vec::new()) };
        let elsewhere = self.ec2_in(case, &to.place).await?;
        let (mut copies, _) = snapshots_of(&elsewhere.ec2, case).await?;
        copies.retain(|snapshot| snapshot.copy_of().is_some());
        read_locks(&elsewhere.ec2, &mut copies).await;
        Ok(copies)
    }

    /// The snapshots of the case beside the instance, without their locks.
    pub(crate) async fn snapshots(&self, case: &Case) -> Result<Vec<Snapshot>, CloudError> {
        let (snapshots, _) = snapshots_of(&self.ec2, case).await?;
        Ok(snapshots)
    }

    async fn shared_with(&self, snapshot: &str) -> Result<BTreeSet<String>, CloudError> {
        let answer = self
            .ec2
            .describe_snapshot_attribute()
            .snapshot_id(snapshot)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SHARES, snapshot, &error))?;
        let permissions = answer.create_volume_permissions().iter();
        Ok(permissions
            .filter_map(|p| p.user_id().or_else(|| p.group().map(|group| group.as_str())).map(str::to_owned))
            .collect())
    }

    /// The volumes in detail; by filter, since one that is gone would have EC2 refuse to describe any.
    async fn volumes(&self, case: &Case, ids: &[&VolumeId]) -> Result<BTreeMap<VolumeId, VolumeFacts>, CloudError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names = ids.iter().map(|id| id.as_str().to_owned()).collect();
        let subject = case.instance.instance_id.as_str();
        let found: Vec<aws_sdk_ec2::types::Volume> = self
            .ec2
            .describe_volumes()
            .filters(Filter::builder().name("volume-id").set_values(Some(names)).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(VOLUMES, subject, &error))?;
        found
            .iter()
            .map(|volume| volume_facts(volume, subject))
            .collect::<Result<_, _>>()
            .map_err(|error| CloudError::unusable(VOLUMES, subject, error.to_string()))
    }

    /// ARN of the key `aws/ebs`. Asking for it makes KMS have it, where nothing was ever encrypted with it.
    async fn aws_ebs_key(&self) -> Result<Option<String>, CloudError> {
        match self.kms.describe_key().key_id(AWS_EBS).send().await {
            Ok(answer) => Ok(answer.key_metadata().and_then(|key| key.arn()).map(str::to_owned)),
            Err(error) => match CloudError::from_sdk(KEY, AWS_EBS, &error) {
                none if none.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The size of the disks that instances of a type have on the host itself, in GB.
    async fn instance_store_gb(&self, kind: &str) -> Result<Option<i64>, CloudError> {
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
}

/// The snapshots of the caller's account and region that carry the case's tag, by volume and age: those of the case, and
/// those that are older than it.
async fn snapshots_of(ec2: &aws_sdk_ec2::Client, case: &Case) -> Result<(Vec<Snapshot>, Vec<Snapshot>), CloudError> {
    let found: Vec<aws_sdk_ec2::types::Snapshot> = ec2
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
    snapshots.sort_by(|a, b| {
        (&a.volume_id, a.started_at, &a.snapshot_id).cmp(&(&b.volume_id, b.started_at, &b.snapshot_id))
    });
    Ok(snapshots.into_iter().partition(|snapshot| !snapshot.is_older_than(case)))
}

/// Adds the locks; why they are not known where they could not be read.
async fn read_locks(ec2: &aws_sdk_ec2::Client, snapshots: &mut [Snapshot]) {
    if snapshots.is_empty() {
        return;
    }
    let ids: Vec<String> = snapshots.iter().map(|s| s.snapshot_id.to_string()).collect();
    match locks(ec2, &ids).await {
        Ok(mut locks) => {
            for snapshot in snapshots {
                snapshot.lock = Observed::Known(locks.remove(snapshot.snapshot_id.as_str()));
            }
        }
        Err(error) => {
            for snapshot in snapshots {
                snapshot.lock = Observed::Unknown(error.to_string());
            }
        }
    }
}

async fn locks(ec2: &aws_sdk_ec2::Client, ids: &[String]) -> Result<BTreeMap<String, Lock>, CloudError> {
    let mut locks = BTreeMap::new();
    let mut token = None;
    loop {
        let answer = ec2
            .describe_locked_snapshots()
            .set_snapshot_ids(Some(ids.to_vec()))
            .set_next_token(token.take())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(LOCKS, ids.join(", "), &error))?;
        for found in answer.snapshots() {
            let lock = Lock {
                state: found.lock_state().map_or("unknown", |state| state.as_str()).to_owned(),
                days: found.lock_duration(),
                expires_at: found.lock_expires_on().and_then(time),
            };
            locks.insert(found.snapshot_id().unwrap_or_default().to_owned(), lock);
        }
        match answer.next_token().filter(|next| !next.is_empty()) {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(locks),
        }
    }
}

fn volume_facts(from: &aws_sdk_ec2::types::Volume, instance: &str) -> Result<(VolumeId, VolumeFacts), InputError> {
    let volume_id: VolumeId = from.volume_id().unwrap_or_default().parse()?;
    let others = from.attachments().iter().filter_map(|a| a.instance_id()).filter(|id| *id != instance);
    let facts = VolumeFacts {
        volume_id: volume_id.clone(),
        state: from.state().map_or("unknown", |s| s.as_str()).to_owned(),
        kind: from.volume_type().map_or("unknown", |kind| kind.as_str()).to_owned(),
        size_gib: from.size().unwrap_or_default(),
        key: from.kms_key_id().map(str::to_owned).filter(|_| from.encrypted().unwrap_or(false)),
        others: others.map(str::parse).collect::<Result<_, _>>()?,
    };
    Ok((volume_id, facts))
}

fn convert(from: &aws_sdk_ec2::types::Snapshot) -> Result<Snapshot, InputError> {
    let not_read = "it was not asked for";
    Ok(Snapshot {
        snapshot_id: from.snapshot_id().unwrap_or_default().parse()?,
        volume_id: from.volume_id().unwrap_or_default().parse()?,
        state: from.state().map_or("unknown", |s| s.as_str()).to_owned(),
        message: from.state_message().filter(|m| !m.is_empty()).map(str::to_owned),
        progress: from.progress().and_then(|p| p.trim_end_matches('%').parse().ok()).unwrap_or(0),
        encrypted: from.encrypted().unwrap_or(false),
        key: from.kms_key_id().filter(|key| !key.is_empty()).map(str::to_owned),
        size_gib: from.volume_size().unwrap_or_default(),
        started_at: from.start_time().and_then(time),
        lock: Observed::Unknown(not_read.to_owned()),
        shared_with: Observed::Unknown(not_read.to_owned()),
        tags: tag_map(from.tags()),
    })
}
