//! The memory: what the machine is, what has arrived of its image, and what the host says of it. What the host
//! sends may be of any size: it is looked at before it is read.

use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_s3::types::ChecksumMode;
use aws_sdk_s3::types::Part;
use futures::future::{join, join3};
use stasis_acquisition::lime::{HEADER_BYTES, Walk};
use stasis_acquisition::manifest::Object;
use stasis_acquisition::summary::{MOST_BYTES, Summary};
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::memory::{
    Acquisition, FOLDER, Format, HOST_FOLDER, Image, Machine, MemoryFacts, Upload, UploadedPart, format_of, image_name,
    is_outcome, outcome_name,
};
use std::ops::Range;

const INSTANCES: &str = "ec2:DescribeInstances";
const TYPES: &str = "ec2:DescribeInstanceTypes";
const UPLOADS: &str = "s3:ListMultipartUploads";
const PARTS: &str = "s3:ListParts";
const HEAD: &str = "s3:HeadObject";
const GET: &str = "s3:GetObject";
const LIST: &str = "s3:ListBucket";
/// An image of a host has a handful of records; one that claims more than this is not walked to its end.
const MOST_STEPS: usize = 256;

/// What lies in the folder of the memory.
#[derive(Debug, Default)]
struct Folder {
    manifests: Vec<(u32, Timestamp)>,
    summary_bytes: Option<u64>,
    image_bytes: Option<u64>,
    has_outcome: bool,
}

impl Cloud {
    /// What the stage memory reads. `comment` marks its command.
    ///
    /// # Errors
    /// Where it cannot be told what was begun already: beginning once more would be wrong.
    pub async fn memory_facts(&self, case: &Case, comment: &str) -> Result<MemoryFacts, CloudError> {
        let id = &case.instance.instance_id;
        let folder = format!("{}{FOLDER}", case.prefix());
        let format = format_of(case);
        let key = format!("{folder}{}", image_name(format));
        // The command first: once it is over, everything that was sent is there to be seen. Asked at the same time, the
        // command could end between a listing and its own answer, and what came last would be taken for missing.
        let (agent, machine, command) =
            join3(self.agent(id), self.machine(case), self.command(case, &case.policy.memory.document, comment)).await;
        // Then the upload, and the folder last: where another run completes it meanwhile, it is either still open or an image.
        let upload = self.upload(&key).await;
        let files = self.memory_folder(&folder, format).await?;
        let (summary, image) = join(self.summary(&folder, files.summary_bytes), async {
            match files.image_bytes {
                Some(bytes) => self.image(&key, bytes, format).await.map(Some),
                None => Ok(None),
            }
        })
        .await;
        let outcome: Option<Acquisition> = if files.has_outcome { self.acquisition(case).await? } else { None };
        Ok(MemoryFacts {
            agent: agent.into(),
            machine: machine.into(),
            command: command?,
            upload: upload?,
            manifests: files.manifests,
            summary: summary?,
            image: image?,
            outcome,
        })
    }

    /// What was written down of the acquisition and counts; none where it has not ended.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn acquisition(&self, case: &Case) -> Result<Option<Acquisition>, CloudError> {
        for takeover in (0..=case.takeover()).rev() {
            let key = format!("{}{FOLDER}{}", case.prefix(), outcome_name(takeover));
            if let Some(newest) = self.fetch_json::<Acquisition>(&key).await? {
                return Ok(Some(newest).filter(|newest| newest.stands(case)));
            }
        }
        Ok(None)
    }

    pub(crate) async fn machine(&self, case: &Case) -> Result<Machine, CloudError> {
        let id = case.instance.instance_id.as_str();
        let kind = case.baseline.instance.instance_type.as_str();
        let (described, types) = join(
            self.ec2.describe_instances().instance_ids(id).send(),
            self.ec2.describe_instance_types().instance_types(kind.into()).send(),
        )
        .await;
        let described = described.map_err(|error| CloudError::from_sdk(INSTANCES, id, &error))?;
        let types = types.map_err(|error| CloudError::from_sdk(TYPES, kind, &error))?;
        let instance =
            described.reservations().iter().flat_map(|r| r.instances()).find(|i| i.instance_id() == Some(id));
        let architecture = instance.and_then(|i| i.architecture()).map(|a| a.as_str().to_owned());
        let memory = types.instance_types().first().and_then(|t| t.memory_info()?.size_in_mib());
        Ok(Machine {
            architecture: architecture
                .ok_or_else(|| CloudError::unusable(INSTANCES, id, "it names no architecture"))?,
            memory_mib: memory
                .and_then(|mib| u64::try_from(mib).ok())
                .ok_or_else(|| CloudError::unusable(TYPES, kind, "it names no memory"))?,
        })
    }

    /// The upload that is open for the key, with what has arrived; of several the oldest, so that everybody who looks
    /// takes the same.
    pub(crate) async fn upload(&self, key: &str) -> Result<Option<Upload>, CloudError> {
        let mut found: Vec<(Timestamp, String)> = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        loop {
            let answer = self
                .s3
                .list_multipart_uploads()
                .bucket(&self.home.bucket)
                .prefix(key)
                .set_key_marker(marker.0.take())
                .set_upload_id_marker(marker.1.take())
                .send()
                .await
                .map_err(|error| CloudError::from_sdk(UPLOADS, key, &error))?;
            found.extend(
                answer
                    .uploads()
                    .iter()
                    .filter(|upload| upload.key() == Some(key))
                    .filter_map(|upload| Some((upload.initiated().and_then(time)?, upload.upload_id()?.to_owned()))),
            );
            if !answer.is_truncated().unwrap_or(false) || answer.next_key_marker().is_none() {
                break;
            }
            marker = (answer.next_key_marker().map(str::to_owned), answer.next_upload_id_marker().map(str::to_owned));
        }
        let Some((begun_at, upload_id)) = found.into_iter().min() else { return Ok(None) };
        let parts = self.parts(key, &upload_id).await?;
        let parts = parts
            .iter()
            .filter_map(|part| {
                Some(UploadedPart {
                    number: u32::try_from(part.part_number()?).ok()?,
                    bytes: u64::try_from(part.size()?).ok()?,
                    at: part.last_modified().and_then(time).unwrap_or(begun_at),
                })
            })
            .collect();
        Ok(Some(Upload { upload_id, begun_at, parts }))
    }

    /// The parts of an upload, every page, by number; none where the upload is gone.
    pub(crate) async fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>, CloudError> {
        let listing =
            self.s3.list_parts().bucket(&self.home.bucket).key(key).upload_id(upload_id).into_paginator().items();
        let mut parts: Vec<Part> = match listing.send().try_collect().await {
            Ok(parts) => parts,
            Err(error) => match CloudError::from_sdk(PARTS, key, &error) {
                gone if gone.code == "NoSuchUpload" => Vec::new(),
                error => return Err(error),
            },
        };
        parts.sort_by_key(Part::part_number);
        Ok(parts)
    }

    async fn memory_folder(&self, folder: &str, format: Format) -> Result<Folder, CloudError> {
        let mut found = Folder::default();
        let mut pages = self.s3.list_objects_v2().bucket(&self.home.bucket).prefix(folder).into_paginator().send();
        while let Some(page) = pages.try_next().await.map_err(|error| CloudError::from_sdk(LIST, folder, &error))? {
            for object in page.contents() {
                let Some(name) = object.key().and_then(|key| key.strip_prefix(folder)) else { continue };
                let bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                if name == image_name(format) {
                    found.image_bytes = Some(bytes);
                } else if name.strip_prefix(HOST_FOLDER) == Some(Object::Summary.file_name()) {
                    found.summary_bytes = Some(bytes);
                } else if is_outcome(name) {
                    found.has_outcome = true;
                } else if let Some(number) = name.strip_prefix("manifest-").and_then(|n| n.strip_suffix(".json"))
                    && let (Ok(number), Some(at)) = (number.parse(), object.last_modified().and_then(time))
                {
                    found.manifests.push((number, at));
                }
            }
        }
        Ok(found)
    }

    /// What the host says. What it sends is never larger than what is read.
    async fn summary(&self, folder: &str, bytes: Option<u64>) -> Result<Option<Result<Summary, String>>, CloudError> {
        let Some(bytes) = bytes else { return Ok(None) };
        if bytes > MOST_BYTES {
            return Ok(Some(Err(format!("it has {bytes} bytes, and no summary has more than {MOST_BYTES}"))));
        }
        let Some(fetched) = self.fetch(&format!("{folder}{HOST_FOLDER}{}", Object::Summary.file_name())).await? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&fetched.body).map_err(|error| error.to_string())))
    }

    async fn image(&self, key: &str, bytes: u64, format: Format) -> Result<Image, CloudError> {
        let head = self
            .s3
            .head_object()
            .bucket(&self.home.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(HEAD, key, &error))?;
        let ranges = match format {
            Format::Lime => Some(self.lime_ranges(key, bytes).await?),
            Format::Avml | Format::Raw => None,
        };
        Ok(Image {
            bytes,
            version_id: head.version_id().map(str::to_owned),
            ranges,
            crc64nvme: head.checksum_crc64_nvme().map(str::to_owned),
        })
    }

    /// The ranges in a LiME image, by its headers alone.
    async fn lime_ranges(&self, key: &str, bytes: u64) -> Result<Result<Vec<Range<u64>>, String>, CloudError> {
        let mut walk = Walk::new(bytes);
        for _ in 0..MOST_STEPS {
            if walk.is_over() {
                return Ok(walk.records().map_err(|error| error.to_string()));
            }
            let at = walk.at();
            let last = at.saturating_add(HEADER_BYTES - 1).min(bytes.saturating_sub(1));
            let sent = self
                .s3
                .get_object()
                .bucket(&self.home.bucket)
                .key(key)
                .range(format!("bytes={at}-{last}"))
                .send()
                .await;
            let answer = sent.map_err(|error| CloudError::from_sdk(GET, key, &error))?;
            let header = answer
                .body
                .collect()
                .await
                .map_err(|error| CloudError::new(GET, key, "Unreachable", error.to_string(), None))?;
            if let Err(error) = walk.take(&header.into_bytes()) {
                return Ok(Err(error.to_string()));
            }
        }
        Ok(Err(format!("it has more than {MOST_STEPS} records")))
    }
}
