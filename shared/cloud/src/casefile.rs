//! The case file: objects in the evidence bucket. Written once and never overwritten, except for report
//! and manifest, of which the bucket keeps every version.

use crate::{Cloud, CloudError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use stasis_model::Timestamp;
use stasis_model::evidence::{ObjectLock, Writer};
use std::collections::HashMap;

const PUT: &str = "s3:PutObject";
const GET: &str = "s3:GetObject";
const LIST: &str = "s3:ListBucket";
const RETAIN: &str = "s3:PutObjectRetention";
const WHO: &str = "sts:GetCallerIdentity";

/// Metadata of an object that names the function that wrote it.
const FUNCTION: &str = "stasis-function";
/// Metadata of an object that names the role session that wrote it.
const SESSION: &str = "stasis-session";

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its content.
    pub body: Vec<u8>,
    /// Its version.
    pub version_id: Option<String>,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// An object as its content proves it, with what S3 says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of the content, in hexadecimal; none where the content was not read.
    pub sha256: Option<String>,
    /// What S3 says of it.
    pub facts: ObjectFacts,
}

/// What S3 says of one version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectFacts {
    /// The version.
    pub version_id: Option<String>,
    /// When it was written.
    pub modified: Option<Timestamp>,
    /// The function and the session that wrote it, as they put it there. None for what the instance sent.
    pub writer: Option<Writer>,
    /// How Object Lock keeps it; none where it does not, or does not say.
    pub lock: Option<ObjectLock>,
    /// CRC-64/NVME of the whole object in base64, where S3 was asked and tells it.
    pub crc64nvme: Option<String>,
}

/// An object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What came of a create-only write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is written.
    Yes {
        /// SHA-256 of the content, in hexadecimal.
        sha256: String,
        /// AWS' id of the request.
        request_id: Option<String>,
    },
    /// There is one already, and it was left as it is.
    Exists,
}

impl Cloud {
    /// Writes an object that must not be there yet.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn create(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<Created, CloudError> {
        let digest = Sha256::digest(&body);
        let writer = self.writer().await;
        // Two writers at the same moment: S3 answers one of them 409, and that one is to ask again
        // (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
        for _ in 0..3 {
            let sent = self
                .s3
                .put_object()
                .bucket(&self.home.bucket)
                .key(key)
                .content_type(content_type)
                .metadata(FUNCTION, &writer.function)
                .metadata(SESSION, &writer.session)
                .checksum_sha256(STANDARD.encode(digest))
                .if_none_match("*")
                .body(ByteStream::from(body.clone()))
                .send()
                .await;
            match sent {
                Ok(answer) => {
                    return Ok(Created::Yes {
                        sha256: hex(&digest),
                        request_id: answer.request_id().map(str::to_owned),
                    });
                }
                Err(error) => match CloudError::from_sdk(PUT, key, &error) {
                    exists if exists.code == "PreconditionFailed" => return Ok(Created::Exists),
                    race if race.is_conflict() => {}
                    error => return Err(error),
                },
            }
        }
        Err(CloudError::new(PUT, key, "ConditionalRequestConflict", "others keep writing it", Some(409)))
    }

    /// Writes an object, as a new version where there is one.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn write(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<String, CloudError> {
        let digest = Sha256::digest(&body);
        let writer = self.writer().await;
        self.s3
            .put_object()
            .bucket(&self.home.bucket)
            .key(key)
            .content_type(content_type)
            .metadata(FUNCTION, &writer.function)
            .metadata(SESSION, &writer.session)
            .checksum_sha256(STANDARD.encode(digest))
            .body(ByteStream::from(body))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PUT, key, &error))?;
        Ok(hex(&digest))
    }

    /// Reads an object; none where there is none.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn fetch(&self, key: &str) -> Result<Option<Fetched>, CloudError> {
        let answer = match self.s3.get_object().bucket(&self.home.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) => return none_where_absent(CloudError::from_sdk(GET, key, &error)),
        };
        let version_id = answer.version_id().map(str::to_owned);
        let body = answer
            .body
            .collect()
            .await
            .map_err(|error| CloudError::new(GET, key, "Unreachable", error.to_string(), None))?
            .to_vec();
        let sha256 = hex(&Sha256::digest(&body));
        Ok(Some(Fetched { body, version_id, sha256 }))
    }

    /// Size and SHA-256 of an object, read piece by piece: what a host sent may be larger than the function's memory.
    /// None where there is no such object.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn digest(&self, key: &str) -> Result<Option<Digested>, CloudError> {
        let mut answer = match self.s3.get_object().bucket(&self.home.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) => return none_where_absent(CloudError::from_sdk(GET, key, &error)),
        };
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        while let Some(piece) = answer
            .body
            .try_next()
            .await
            .map_err(|error| CloudError::new(GET, key, "Unreachable", error.to_string(), None))?
        {
            size += u64::try_from(piece.len()).unwrap_or(0);
            hash.update(&piece);
        }
        Ok(Some(Digested { size, sha256: Some(hex(&hash.finalize())), facts: facts_of(&answer) }))
    }

    /// What S3 says of an object that is too large to be read once more. None where there is no such object.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn describe(&self, key: &str) -> Result<Option<Digested>, CloudError> {
        let asked = self.s3.head_object().bucket(&self.home.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let answer = match asked.send().await {
            Ok(answer) => answer,
            Err(error) => return none_where_absent(CloudError::from_sdk(GET, key, &error)),
        };
        let facts = ObjectFacts {
            version_id: answer.version_id().map(str::to_owned),
            modified: answer.last_modified().and_then(timestamp),
            writer: writer_in(answer.metadata()),
            lock: lock_of(answer.object_lock_mode(), answer.object_lock_retain_until_date()),
            // One that is composed of those of the parts says nothing of the whole.
            crc64nvme: answer
                .checksum_crc64_nvme()
                .filter(|_| answer.checksum_type() != Some(&ChecksumType::Composite))
                .map(str::to_owned),
        };
        let size = u64::try_from(answer.content_length().unwrap_or(0)).unwrap_or(0);
        Ok(Some(Digested { size, sha256: None, facts }))
    }

    /// Keeps a version of an object until then. What keeps it longer already stays: S3 refuses to shorten it.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn retain(&self, key: &str, version: &str, lock: &ObjectLock) -> Result<(), CloudError> {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::from(lock.mode.as_str()))
            .retain_until_date(DateTime::from_secs(lock.until.timestamp()))
            .build();
        self.s3
            .put_object_retention()
            .bucket(&self.home.bucket)
            .key(key)
            .version_id(version)
            .retention(retention)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(RETAIN, key, &error))?;
        Ok(())
    }

    /// The function and the role session that this process writes as. Asked once; what cannot be asked is said so, since
    /// evidence is never lost for want of a name.
    pub async fn writer(&self) -> &Writer {
        self.process
            .writer
            .get_or_init(|| async {
                let function = self.config.app_name().map_or("stasis", |name| name.as_ref()).to_owned();
                let session = match self.sts.get_caller_identity().send().await {
                    Ok(answer) => answer.arn().unwrap_or("not told").to_owned(),
                    Err(error) => format!("not known ({})", CloudError::from_sdk(WHO, &function, &error).code),
                };
                Writer { function, session }
            })
            .await
    }

    /// Reads a JSON document; none where there is none.
    ///
    /// # Errors
    /// Where the bucket refuses, cannot be reached, or the document is not what it should be.
    pub async fn fetch_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CloudError> {
        let Some(fetched) = self.fetch(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&fetched.body)
            .map_err(|error| CloudError::unusable(GET, key, format!("it cannot be read: {error}")))?;
        Ok(Some(value))
    }

    /// Every object below a prefix.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, CloudError> {
        let mut pages = self.s3.list_objects_v2().bucket(&self.home.bucket).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.try_next().await.map_err(|error| CloudError::from_sdk(LIST, prefix, &error))? {
            found.extend(page.contents().iter().filter_map(|object| {
                Some(Listed {
                    key: object.key()?.to_owned(),
                    size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                })
            }));
        }
        Ok(found)
    }
}

fn none_where_absent<T>(error: CloudError) -> Result<Option<T>, CloudError> {
    if error.is_not_found() { Ok(None) } else { Err(error) }
}

pub(crate) fn facts_of(answer: &GetObjectOutput) -> ObjectFacts {
    ObjectFacts {
        version_id: answer.version_id().map(str::to_owned),
        modified: answer.last_modified().and_then(timestamp),
        writer: writer_in(answer.metadata()),
        lock: lock_of(answer.object_lock_mode(), answer.object_lock_retain_until_date()),
        crc64nvme: None,
    }
}

fn timestamp(at: &DateTime) -> Option<Timestamp> {
    Timestamp::from_timestamp(at.secs(), at.subsec_nanos())
}

fn writer_in(metadata: Option<&HashMap<String, String>>) -> Option<Writer> {
    let metadata = metadata?;
    Some(Writer { function: metadata.get(FUNCTION)?.clone(), session: metadata.get(SESSION)?.clone() })
}

fn lock_of(mode: Option<&ObjectLockMode>, until: Option<&DateTime>) -> Option<ObjectLock> {
    Some(ObjectLock { mode: mode?.as_str().to_owned(), until: timestamp(until?)? })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
