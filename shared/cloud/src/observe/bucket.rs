//! The evidence bucket: how it keeps what is in it.

use crate::{Cloud, CloudError};
use aws_sdk_s3::types::BucketVersioningStatus;
use futures::future::{join, join4};
use serde_json::Value;
use stasis_model::facts::{BucketFacts, PublicAccessBlock};

const VERSIONING: &str = "s3:GetBucketVersioning";
const LOCK: &str = "s3:GetBucketObjectLockConfiguration";
const ENCRYPTION: &str = "s3:GetEncryptionConfiguration";
const PUBLIC: &str = "s3:GetBucketPublicAccessBlock";
const POLICY: &str = "s3:GetBucketPolicy";
const REPLICATION: &str = "s3:GetReplicationConfiguration";

impl Cloud {
    /// How the evidence bucket keeps what is in it.
    pub(crate) async fn bucket_facts(&self) -> Result<BucketFacts, CloudError> {
        let (kept, guarded) = join(
            join(self.is_versioned(), self.default_retention()),
            join4(self.default_encryption(), self.public_access_block(), self.is_tls_only(), self.replicated_to()),
        )
        .await;
        let (encryption, public_access, tls_only, replicated_to) = guarded;
        Ok(BucketFacts {
            versioned: kept.0?,
            lock: kept.1?,
            encryption: encryption.into(),
            public_access: public_access.into(),
            tls_only: tls_only.into(),
            replicated_to: replicated_to.into(),
        })
    }

    async fn is_versioned(&self) -> Result<bool, CloudError> {
        let bucket = self.bucket();
        let answer = self
            .s3
            .get_bucket_versioning()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(VERSIONING, bucket, &error))?;
        Ok(answer.status() == Some(&BucketVersioningStatus::Enabled))
    }

    async fn default_retention(&self) -> Result<Option<(String, i32)>, CloudError> {
        let bucket = self.bucket();
        match self.s3.get_object_lock_configuration().bucket(bucket).send().await {
            Ok(answer) => Ok(answer.object_lock_configuration().and_then(default_retention)),
            Err(error) => none_where_not_set(CloudError::from_sdk(LOCK, bucket, &error)),
        }
    }

    async fn default_encryption(&self) -> Result<Option<String>, CloudError> {
        let bucket = self.bucket();
        match self.s3.get_bucket_encryption().bucket(bucket).send().await {
            Ok(answer) => Ok(answer
                .server_side_encryption_configuration()
                .and_then(|configuration| configuration.rules().first())
                .and_then(|rule| rule.apply_server_side_encryption_by_default())
                .map(|default| default.sse_algorithm().as_str().to_owned())),
            Err(error) => none_where_not_set(CloudError::from_sdk(ENCRYPTION, bucket, &error)),
        }
    }

    async fn public_access_block(&self) -> Result<PublicAccessBlock, CloudError> {
        let bucket = self.bucket();
        let found = match self.s3.get_public_access_block().bucket(bucket).send().await {
            Ok(answer) => answer.public_access_block_configuration().map(|block| PublicAccessBlock {
                block_acls: block.block_public_acls().unwrap_or(false),
                ignore_acls: block.ignore_public_acls().unwrap_or(false),
                block_policy: block.block_public_policy().unwrap_or(false),
                restrict_buckets: block.restrict_public_buckets().unwrap_or(false),
            }),
            Err(error) => none_where_not_set(CloudError::from_sdk(PUBLIC, bucket, &error))?,
        };
        Ok(found.unwrap_or_default())
    }

    async fn is_tls_only(&self) -> Result<bool, CloudError> {
        let bucket = self.bucket();
        let found = match self.s3.get_bucket_policy().bucket(bucket).send().await {
            Ok(answer) => answer.policy().map(str::to_owned),
            Err(error) => none_where_not_set(CloudError::from_sdk(POLICY, bucket, &error))?,
        };
        Ok(found.is_some_and(|policy| denies_without_tls(&policy, bucket)))
    }

    async fn replicated_to(&self) -> Result<Vec<String>, CloudError> {
        let bucket = self.bucket();
        let found = match self.s3.get_bucket_replication().bucket(bucket).send().await {
            Ok(answer) => answer.replication_configuration().map(|configuration| {
                let on = configuration.rules().iter().filter(|rule| rule.status().as_str() == "Enabled");
                on.filter_map(|rule| Some(rule.destination()?.bucket().to_owned())).collect()
            }),
            Err(error) => none_where_not_set(CloudError::from_sdk(REPLICATION, bucket, &error))?,
        };
        Ok(found.unwrap_or_default())
    }
}

/// S3 answers a setting that was never made with an error of its own.
fn none_where_not_set<T>(error: CloudError) -> Result<Option<T>, CloudError> {
    let unset = [
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchBucketPolicy",
        "ReplicationConfigurationNotFoundError",
    ];
    if unset.contains(&error.code.as_str()) { Ok(None) } else { Err(error) }
}

/// Mode and days of a bucket's default retention, where Object Lock is on.
fn default_retention(lock: &aws_sdk_s3::types::ObjectLockConfiguration) -> Option<(String, i32)> {
    let rule = lock.rule()?.default_retention()?;
    let days = rule.days().or_else(|| rule.years().map(|years| years * 365))?;
    Some((rule.mode()?.as_str().to_owned(), days))
}

/// Whether a bucket policy denies every request for every object that comes without TLS, to everybody
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html>).
fn denies_without_tls(policy: &str, bucket: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    statements.iter().any(|statement| {
        let texts = |key: &str| texts_of(statement.get(key));
        let everybody = texts("Principal").contains(&"*".to_owned())
            || texts_of(statement.pointer("/Principal/AWS")).contains(&"*".to_owned());
        let everything = texts("Action").iter().any(|action| action == "*" || action.eq_ignore_ascii_case("s3:*"));
        let objects = texts("Resource").iter().any(|r| r == "*" || r.ends_with(&format!(":::{bucket}/*")));
        let conditions = statement.get("Condition").and_then(Value::as_object);
        let condition = statement.pointer("/Condition/Bool").and_then(Value::as_object);
        // A second condition would leave some requests undenied.
        let tls = conditions.is_some_and(|all| all.len() == 1)
            && condition.is_some_and(|keys| {
                keys.len() == 1
                    && keys.iter().all(|(key, value)| {
                        key.eq_ignore_ascii_case("aws:SecureTransport") && texts_of(Some(value)) == ["false"]
                    })
            });
        texts("Effect") == ["Deny"] && everybody && everything && objects && tls
    })
}

/// A text, or a list of them, as policies write both.
fn texts_of(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Bool(flag)) => vec![flag.to_string()],
        Some(Value::Array(texts)) => texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_that_leaves_a_way_without_tls_is_not_tls_only() {
        let good = json!({"Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::evidence", "arn:aws:s3:::evidence/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }]});
        assert!(denies_without_tls(&good.to_string(), "evidence"));
        let spoilt = [
            ("/Statement/0/Effect", json!("Allow")),
            ("/Statement/0/Principal", json!({"AWS": "arn:aws:iam::111122223333:root"})),
            ("/Statement/0/Action", json!("s3:GetObject")),
            ("/Statement/0/Resource", json!("arn:aws:s3:::evidence")),
            ("/Statement/0/Resource", json!("arn:aws:s3:::other/*")),
            ("/Statement/0/Condition/Bool", json!({"aws:SecureTransport": "true"})),
            ("/Statement/0/Condition", json!({"Bool": {"aws:SecureTransport": "false"}, "IpAddress": {}})),
        ];
        for (pointer, value) in spoilt {
            let mut policy = good.clone();
            *policy.pointer_mut(pointer).expect("a place") = value.clone();
            assert!(!denies_without_tls(&policy.to_string(), "evidence"), "{pointer} {value}");
        }
        assert!(!denies_without_tls("not a policy", "evidence"));
    }
}
