//! The case file as an analyst reads it: every version of every object, and what a version holds. Only reads.

use crate::casefile::Digested;
use crate::{Cloud, CloudError};
use stasis_model::ids::CaseId;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

const VERSIONS: &str = "s3:ListBucketVersions";
const LIST: &str = "s3:ListBucket";
const GET: &str = "s3:GetObjectVersion";

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its key.
    pub key: String,
    /// Its id.
    pub version_id: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is what a reader gets who names no version.
    pub is_latest: bool,
    /// Whether it is a delete marker.
    pub is_delete_marker: bool,
}

impl Cloud {
    /// Every version and delete marker below a prefix.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<Version>, CloudError> {
        let mut found = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        loop {
            let answer = self
                .s3
                .list_object_versions()
                .bucket(&self.home.bucket)
                .prefix(prefix)
                .set_key_marker(marker.0.take())
                .set_version_id_marker(marker.1.take())
                .send()
                .await
                .map_err(|error| CloudError::from_sdk(VERSIONS, prefix, &error))?;
            found.extend(answer.versions().iter().filter_map(|version| {
                Some(Version {
                    key: version.key()?.to_owned(),
                    version_id: version.version_id().unwrap_or("null").to_owned(),
                    size: u64::try_from(version.size().unwrap_or(0)).unwrap_or(0),
                    is_latest: version.is_latest().unwrap_or(false),
                    is_delete_marker: false,
                })
            }));
            found.extend(answer.delete_markers().iter().filter_map(|marker| {
                Some(Version {
                    key: marker.key()?.to_owned(),
                    version_id: marker.version_id().unwrap_or("null").to_owned(),
                    size: 0,
                    is_latest: marker.is_latest().unwrap_or(false),
                    is_delete_marker: true,
                })
            }));
            if !answer.is_truncated().unwrap_or(false) || answer.next_key_marker().is_none() {
                return Ok(found);
            }
            marker = (answer.next_key_marker().map(str::to_owned), answer.next_version_id_marker().map(str::to_owned));
        }
    }

    /// The ids of the cases in the bucket, oldest first by their names.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn case_ids(&self) -> Result<Vec<CaseId>, CloudError> {
        let listing = self.s3.list_objects_v2().bucket(&self.home.bucket).prefix("cases/").delimiter("/");
        let mut pages = listing.into_paginator().send();
        let mut found: Vec<CaseId> = Vec::new();
        while let Some(page) = pages.try_next().await.map_err(|error| CloudError::from_sdk(LIST, "cases/", &error))? {
            let names = page.common_prefixes().iter().filter_map(|prefix| prefix.prefix());
            found.extend(names.filter_map(|name| name.strip_prefix("cases/")?.trim_end_matches('/').parse().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Reads a version from a byte on into `to`, and tells `seen` of each piece: its bytes. Gives what S3 says of it, with
    /// the size of the whole.
    ///
    /// # Errors
    /// Where the bucket refuses, cannot be reached, or `to` cannot be written to.
    pub async fn read_version(
        &self,
        key: &str,
        version: Option<&str>,
        from: u64,
        to: &mut (impl AsyncWrite + Unpin),
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Digested, CloudError> {
        let mut request = self.s3.get_object().bucket(&self.home.bucket).key(key);
        request = request.set_version_id(version.map(str::to_owned));
        if from > 0 {
            request = request.range(format!("bytes={from}-"));
        }
        let mut answer = request.send().await.map_err(|error| CloudError::from_sdk(GET, key, &error))?;
        if from > 0 && !answer.content_range().is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
            let why =
                format!("asked from byte {from} on, and it answered with something else: {:?}", answer.content_range());
            return Err(CloudError::unusable(GET, key, why));
        }
        let facts = crate::casefile::facts_of(&answer);
        let mut size = from;
        let unreachable = |why: String| CloudError::new(GET, key, "Unreachable", why, None);
        while let Some(piece) = answer.body.try_next().await.map_err(|error| unreachable(error.to_string()))? {
            size += u64::try_from(piece.len()).unwrap_or(0);
            to.write_all(&piece).await.map_err(|error| CloudError::unusable(GET, key, error.to_string()))?;
            seen(&piece);
        }
        to.flush().await.map_err(|error| CloudError::unusable(GET, key, error.to_string()))?;
        Ok(Digested { size, sha256: None, facts })
    }
}
