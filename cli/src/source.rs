//! A case to be read: in the evidence bucket, or in a folder that it was fetched to. Only reads.

use crate::digest::{Digest, Digests};
use crate::error::CliError;
use crate::place::Place;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use stasis_decide::manifest::ManifestEntry;
use stasis_decide::proof::{self, Anchor, Held, Key, Papers, Proof, Read, Unproven};
use stasis_model::case::prefix;
use stasis_model::evidence::ObjectLock;
use stasis_model::ids::CaseId;
use stasis_model::now;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt as _;

/// How many files are read at the same time.
const AT_ONCE: usize = 8;
/// Up to this size a quick check reads a file, in bytes.
const QUICK: u64 = 64 << 20;
/// How much of a file is read at a time.
const PIECE: usize = 1 << 20;

/// Where the case lies.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// In the bucket.
    Bucket(&'a Place, CaseId),
    /// In a folder.
    Folder(PathBuf),
}

impl Source<'_> {
    /// Which of the two.
    pub(crate) fn place(&self) -> proof::Place {
        match self {
            Self::Bucket(..) => proof::Place::Bucket,
            Self::Folder(_) => proof::Place::Folder,
        }
    }

    /// Every file, in every version.
    pub(crate) async fn held(&self) -> Result<Vec<Held>, CliError> {
        let held = match self {
            Self::Bucket(place, case) => {
                let folder = prefix(case);
                let versions = place.cloud.versions(&folder).await?;
                let named = versions.into_iter().filter_map(|version| {
                    Some(Held {
                        name: version.key.strip_prefix(&folder)?.to_owned(),
                        size: version.size,
                        version_id: Some(version.version_id),
                        is_latest: version.is_latest,
                        is_delete_marker: version.is_delete_marker,
                    })
                });
                named.collect()
            }
            Self::Folder(folder) => {
                let mut found = Vec::new();
                files_below(folder, folder, &mut found)?;
                found
            }
        };
        if !held.is_empty() {
            return Ok(held);
        }
        Err(CliError::NotFound(match self {
            Self::Bucket(place, case) => format!(
                "there is no case {case} in bucket {}; stasis list names those that there are, and --bucket, --region and --profile look elsewhere",
                place.cloud.bucket()
            ),
            Self::Folder(folder) => {
                format!("there is nothing in {}: fetch the case first (stasis fetch CASE {0})", folder.display())
            }
        }))
    }

    /// The small files that the others are checked against.
    pub(crate) async fn papers(&self, held: &[Held]) -> Result<Papers, CliError> {
        let names: BTreeSet<&str> = held
            .iter()
            .filter(|file| file.is_latest && !file.is_delete_marker && proof::is_paper(&file.name))
            .map(|file| file.name.as_str())
            .collect();
        let read = futures::stream::iter(names).map(async |name| Ok((name.to_owned(), self.paper(name).await?)));
        let read: Vec<Result<_, CliError>> = read.buffer_unordered(AT_ONCE).collect().await;
        let mut papers = Papers::new();
        for paper in read {
            if let (name, Some(body)) = paper? {
                papers.insert(name, body);
            }
        }
        Ok(papers)
    }

    async fn paper(&self, name: &str) -> Result<Option<Vec<u8>>, CliError> {
        match self {
            Self::Bucket(place, case) => {
                Ok(place.cloud.fetch(&format!("{}{name}", prefix(case))).await?.map(|fetched| fetched.body))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                tokio::fs::read(&path).await.map(Some).map_err(|error| CliError::file(path, &error))
            }
        }
    }

    /// Reads a file whole, in the version that the manifest names.
    async fn read(&self, name: &str, entry: &ManifestEntry, quick: bool, bar: &ProgressBar) -> Result<Read, String> {
        let is_skipped = quick && entry.size > QUICK;
        match self {
            Self::Bucket(place, _) => {
                if is_skipped {
                    let found = place.cloud.describe(&entry.key).await.map_err(|error| error.code)?;
                    let found = found.ok_or("it is not there")?;
                    return Ok(Read { size: found.size, sha256: None, crc64nvme: None, lock: found.facts.lock });
                }
                let mut digest = Digest::new();
                let mut nowhere = tokio::io::sink();
                let version = entry.version_id.as_deref();
                let read = place.cloud.read_version(&entry.key, version, 0, &mut nowhere, |piece| {
                    digest.update(piece);
                    bar.inc(u64::try_from(piece.len()).unwrap_or(0));
                });
                let read = read.await.map_err(|error| format!("{}: {}", error.code, error.message))?;
                Ok(whole(read.size, digest.finish(), read.facts.lock))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                if is_skipped {
                    let size = tokio::fs::metadata(&path).await.map_err(|error| error.to_string())?.len();
                    return Ok(Read { size, sha256: None, crc64nvme: None, lock: None });
                }
                let (size, digest) = digest_of(&path, bar).await.map_err(|error| error.to_string())?;
                Ok(whole(size, digest.finish(), None))
            }
        }
    }

    /// Checks the whole case.
    pub(crate) async fn prove(&self, trusted: Option<&Key>, quick: bool) -> Result<Result<Proof, Unproven>, CliError> {
        let held = self.held().await?;
        let papers = self.papers(&held).await?;
        let anchor = match proof::anchor(&papers, trusted) {
            Ok(anchor) => anchor,
            Err(unproven) => return Ok(Err(unproven)),
        };
        let read = self.read_all(&anchor, &held, quick).await;
        Ok(Ok(proof::judge(self.place(), anchor, &papers, &held, &read, now())))
    }

    async fn read_all(&self, anchor: &Anchor, held: &[Held], quick: bool) -> BTreeMap<String, Result<Read, String>> {
        let listed = proof::to_read(anchor, held);
        let bar = bar(listed.iter().map(|(_, entry)| entry.size).sum());
        let bar = &bar;
        let read = futures::stream::iter(listed)
            .map(async |(name, entry)| {
                let read = self.read(&name, entry, quick, bar).await;
                (name, read)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        bar.finish_and_clear();
        read
    }
}

/// A bar on standard error for so many bytes; nothing where that is no terminal.
pub(crate) fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}")
    {
        bar.set_style(style);
    }
    bar
}

/// A file that was read whole.
fn whole(size: u64, digests: Digests, lock: Option<ObjectLock>) -> Read {
    Read { size, sha256: Some(digests.sha256), crc64nvme: Some(digests.crc64nvme), lock }
}

/// Size and running checksums of a file.
pub(crate) async fn digest_of(path: &Path, bar: &ProgressBar) -> Result<(u64, Digest), std::io::Error> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut digest, mut size) = (Digest::new(), 0_u64);
    let mut piece = vec![0_u8; PIECE];
    loop {
        let count = file.read(&mut piece).await?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok((size, digest));
        }
        digest.update(read);
        let count = u64::try_from(count).unwrap_or(0);
        size += count;
        bar.inc(count);
    }
}

fn files_below(root: &Path, folder: &Path, found: &mut Vec<Held>) -> Result<(), CliError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder == root => {
            return Err(CliError::NotFound(format!(
                "there is no folder {}: fetch the case first (stasis fetch CASE {0})",
                root.display()
            )));
        }
        Err(error) => return Err(CliError::file(folder, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| CliError::file(folder, &error))?.path();
        // A link is what it is, not what it leads to.
        let kind = std::fs::symlink_metadata(&path).map_err(|error| CliError::file(&path, &error))?;
        if kind.is_dir() {
            files_below(root, &path, found)?;
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        found.push(Held { name, size: kind.len(), is_latest: true, ..Held::default() });
    }
    Ok(())
}
