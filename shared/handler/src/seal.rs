//! Seal: lists every file of a case with its hash in a manifest, has KMS sign it, and keeps it. Written last of all, so
//! that it lists everything else. What a seal is worth when it is checked is the decide crate's.

use crate::HandlerError;
use crate::settings::Settings;
use futures::future::{join_all, try_join_all};
use stasis_cloud::Cloud;
use stasis_cloud::casefile::{Created, Digested};
use stasis_decide::manifest::{self, ALGORITHM, Contents, ManifestEntry, PUBLIC_KEY, SigningKey};
use stasis_decide::proof::{Key, NOT_KNOWN};
use stasis_decide::{memory, sha256};
use stasis_model::case::Case;
use stasis_model::evidence::ObjectLock;
use stasis_model::now;
use stasis_model::stage::FileRef;
use std::collections::{BTreeMap, BTreeSet};

/// So much of a case is read once more for its hashes, in bytes, the smallest files first; more takes longer than the function
/// has. A host may send more than its memory, and must not keep a case from being sealed by it.
const READ_AGAIN: u64 = 1 << 30;
const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// What came of sealing a case.
pub(crate) struct Sealed {
    /// The manifest, by its own key in its turn.
    pub manifest: FileRef,
    /// What is missing of the seal, in words.
    pub problems: Vec<String>,
}

/// Writes the next manifest of a case and its signature.
pub(crate) async fn seal(
    cloud: &Cloud,
    settings: &Settings,
    case: &Case,
    complete: bool,
) -> Result<Sealed, HandlerError> {
    let mut problems = Vec::new();
    let signed_with = match signing_key(cloud, settings, case).await {
        Ok(key) => Some(key),
        Err(error) => {
            problems.push(format!("the manifest is not signed: {error}"));
            None
        }
    };
    // Another call may write the same number at the same time: create-only, so that neither overwrites the other.
    for _ in 0..3 {
        let (files, unlocked) = entries(cloud, case).await?;
        let contents = Contents {
            previous: newest(case, &files),
            writer: cloud.writer().await.clone(),
            complete,
            signed_with: signed_with.clone(),
            files,
        };
        let manifest = manifest::manifest(case, contents, now());
        let body = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| HandlerError::Bug(format!("the manifest cannot be written as JSON: {error}")))?;
        let signature = match &signed_with {
            Some(by) => match cloud.sign(&by.key, &body).await {
                Ok(signature) => Some(signature),
                Err(error) => {
                    problems.push(format!("the manifest is not signed: {error}"));
                    None
                }
            },
            None => None,
        };
        let key = manifest::numbered(&case.case_id, manifest.sequence);
        let Created::Yes { sha256, .. } = cloud.create(&key, JSON, body.clone()).await? else { continue };
        tracing::info!(target: "audit", manifest = manifest.sequence, sha256, signed = signature.is_some(), "sealed");
        if let Some(signature) = signature {
            let numbered = manifest::numbered_signature(&case.case_id, manifest.sequence);
            cloud.create(&numbered, BINARY, signature.clone()).await?;
            cloud.write(&format!("{}{}", case.prefix(), manifest::SIGNATURE), BINARY, signature).await?;
        }
        cloud.write(&format!("{}{}", case.prefix(), manifest::NAME), JSON, body).await?;
        problems.extend(unlocked);
        return Ok(Sealed { manifest: FileRef { key, sha256 }, problems });
    }
    Err(HandlerError::Unfinished("others keep writing manifests of this case".to_owned()))
}

/// The key that signs, with its public half kept in the case: written once, so that it lies beside what it proves.
async fn signing_key(cloud: &Cloud, settings: &Settings, case: &Case) -> Result<SigningKey, String> {
    let arn = settings.signing_key().map_err(|error| error.to_string())?;
    let der = cloud.public_key(arn).await.map_err(|error| error.to_string())?;
    let key = Key::from_der(&der).ok_or_else(|| format!("{arn} is no key of ECDSA on P-256"))?;
    let signing = |public_key: String| SigningKey {
        key: arn.to_owned(),
        algorithm: ALGORITHM.to_owned(),
        public_key,
        fingerprint: key.fingerprint.clone(),
    };
    let short: String = key.fingerprint.chars().take(16).collect();
    // A case that outlives a key keeps both.
    for name in [PUBLIC_KEY.to_owned(), format!("signing-key-{short}.pem")] {
        let path = format!("{}{name}", case.prefix());
        let body = key.pem.clone().into_bytes();
        let kept = match cloud.create(&path, "application/x-pem-file", body.clone()).await {
            Ok(Created::Yes { .. }) => true,
            Ok(Created::Exists) => {
                let there = cloud.fetch(&path).await.map_err(|error| error.to_string())?;
                there.is_some_and(|there| there.sha256 == sha256(&body))
            }
            Err(error) => return Err(error.to_string()),
        };
        if kept {
            return Ok(signing(name));
        }
    }
    Err("its public half cannot be kept beside the case: other files have its names".to_owned())
}

/// The newest manifest among these files.
fn newest(case: &Case, files: &[ManifestEntry]) -> Option<(u32, FileRef)> {
    let folder = case.prefix();
    let numbered = files.iter().filter_map(|file| {
        let number = manifest::number(file.key.strip_prefix(&folder)?)?;
        Some((number, FileRef { key: file.key.clone(), sha256: file.sha256.clone() }))
    });
    numbered.max_by_key(|(number, _)| *number)
}

/// Every file of the case, hashed, and kept for as long as the policy says; with what could not be kept so.
async fn entries(cloud: &Cloud, case: &Case) -> Result<(Vec<ManifestEntry>, Vec<String>), HandlerError> {
    let folder = case.prefix();
    let listed = cloud.list(&folder).await?;
    let sizes: BTreeMap<&str, u64> = listed
        .iter()
        .filter(|file| file.key.strip_prefix(&folder).is_some_and(manifest::lists))
        .map(|file| (file.key.as_str(), file.size))
        .collect();
    let image = memory::image_key(case);
    let small = small_enough(&sizes);
    let read = sizes.keys().map(async |key| {
        let found = if small.contains(key) { cloud.digest(key).await? } else { cloud.describe(key).await? };
        Ok::<_, HandlerError>((*key, found))
    });
    let mut files = Vec::new();
    for (key, found) in try_join_all(read).await? {
        let Some(Digested { size, sha256, facts }) = found else { continue };
        let hashed_by_collector = sha256.is_none();
        let sha256 = match sha256 {
            Some(sha256) => sha256,
            None if key == image => {
                let acquired = cloud.acquisition(case).await?;
                acquired.and_then(|acquired| acquired.sha256).unwrap_or_else(|| NOT_KNOWN.to_owned())
            }
            None => NOT_KNOWN.to_owned(),
        };
        files.push(ManifestEntry {
            key: key.to_owned(),
            version_id: facts.version_id,
            size,
            sha256,
            hashed_by_collector,
            crc64nvme: facts.crc64nvme,
            modified: facts.modified,
            writer: facts.writer,
            lock: facts.lock,
        });
    }
    let problems = lock(cloud, case, &mut files).await;
    Ok((files, problems))
}

/// The files that are read once more.
fn small_enough<'a>(sizes: &BTreeMap<&'a str, u64>) -> BTreeSet<&'a str> {
    let mut by_size: Vec<(u64, &str)> = sizes.iter().map(|(key, size)| (*size, *key)).collect();
    by_size.sort_unstable();
    let mut left = READ_AGAIN;
    let fits = |(size, _): &(u64, &str)| {
        let fits = *size <= left;
        left = left.saturating_sub(*size);
        fits
    };
    by_size.into_iter().take_while(fits).map(|(_, key)| key).collect()
}

/// Keeps each file for as long as the policy of the case says, where the bucket keeps it for a shorter time.
async fn lock(cloud: &Cloud, case: &Case, files: &mut [ManifestEntry]) -> Vec<String> {
    let wanted: Vec<Option<(String, ObjectLock)>> = files
        .iter()
        .map(|file| {
            let lock = manifest::longer_lock(case, file.lock.as_ref(), file.modified.unwrap_or_else(now))?;
            Some((file.version_id.clone()?, lock))
        })
        .collect();
    let kept = join_all(files.iter().zip(&wanted).map(async |(file, wanted)| match wanted {
        Some((version, lock)) => Some(cloud.retain(&file.key, version, lock).await),
        None => None,
    }))
    .await;
    let mut refused = Vec::new();
    for ((file, wanted), kept) in files.iter_mut().zip(wanted).zip(kept) {
        match (wanted, kept) {
            (Some((_, lock)), Some(Ok(()))) => file.lock = Some(lock),
            (_, Some(Err(error))) => refused.push(error.to_string()),
            _ => {}
        }
    }
    let count = refused.len();
    refused
        .into_iter()
        .next()
        .map(|first| format!("{count} files are not kept for as long as the policy says: {first}"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_sends_too_much_of_keeps_nothing_else_from_being_hashed() {
        let gib = 1 << 30;
        let sizes = BTreeMap::from([("huge", 5 * gib), ("image", gib / 2), ("other", gib * 6 / 10), ("report", 4096)]);
        assert_eq!(small_enough(&sizes), BTreeSet::from(["image", "report"]));
        assert_eq!(small_enough(&BTreeMap::from([("image", gib)])), BTreeSet::from(["image"]));
        assert!(small_enough(&BTreeMap::new()).is_empty());
    }
}
