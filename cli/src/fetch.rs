//! `stasis fetch`: a case from the bucket into a folder, checked as it comes. What is there already and whole is left as it
//! is, and what is half there is gone on with. Never writes outside the folder.

use crate::args::Fetch;
use crate::digest::{Digest, Digests};
use crate::error::CliError;
use crate::place::Place;
use crate::source::{Source, bar, digest_of};
use crate::text::{bytes, safe};
use crate::verify::tell;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use stasis_decide::manifest::{FOLDER, ManifestEntry, NAME, SIGNATURE};
use stasis_decide::proof::{self, Papers, Unproven};
use stasis_model::case::prefix;
use std::path::{Component, Path, PathBuf};
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// How many files come at the same time.
const AT_ONCE: usize = 6;

/// Downloads a case; whether what lies in the folder then is as it was sealed.
pub(crate) async fn run(place: &Place, what: &Fetch) -> Result<bool, CliError> {
    let trusted = place.trusted_key(what.public_key.as_deref()).await?;
    let source = Source::Bucket(place, what.case.clone());
    let held = source.held().await?;
    let papers = source.papers(&held).await?;
    let anchor = match proof::anchor(&papers, trusted.as_ref()) {
        Ok(anchor) => anchor,
        Err(unproven) => return tell(place.screen, &Err::<_, Unproven>(unproven), trusted.as_ref()),
    };
    fs::create_dir_all(&what.folder).await.map_err(|error| CliError::file(&what.folder, &error))?;
    let folder = prefix(&what.case);
    let mut wanted = Vec::new();
    for entry in &anchor.manifest.files {
        let name = entry.key.strip_prefix(&folder).unwrap_or(&entry.key);
        wanted.push((path_below(&what.folder, name)?, entry));
    }
    let total = bar(anchor.manifest.files.iter().map(|entry| entry.size).sum());
    let bar = &total;
    let fetched: Vec<Result<u64, CliError>> = futures::stream::iter(wanted)
        .map(async |(path, entry)| file(place, &path, entry, bar).await)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    total.finish_and_clear();
    let (mut came, mut failed) = (0_u64, Vec::new());
    for one in fetched {
        match one {
            Ok(bytes) => came += bytes,
            Err(error) => failed.push(error),
        }
    }
    keep_manifest(&what.folder, anchor.manifest.sequence, &papers).await?;
    place.screen.say(format!("{} fetched into {}", bytes(came), what.folder.display()))?;
    for error in &failed {
        place.screen.note(safe(&error.to_string()));
    }
    let there = Source::Folder(what.folder.clone()).prove(trusted.as_ref(), false).await?;
    tell(place.screen, &there, trusted.as_ref())
}

/// The manifest that counts lists everything but itself.
async fn keep_manifest(folder: &Path, sequence: u32, papers: &Papers) -> Result<(), CliError> {
    let numbered = [format!("{FOLDER}{sequence}.json"), format!("{FOLDER}{sequence}.sig")];
    for name in numbered.iter().map(String::as_str).chain([NAME, SIGNATURE]) {
        let Some(body) = papers.get(name) else { continue };
        let path = path_below(folder, name)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(|error| CliError::file(parent, &error))?;
        }
        fs::write(&path, body).await.map_err(|error| CliError::file(&path, &error))?;
    }
    Ok(())
}

/// A file, unless it is there and whole; how many bytes came.
async fn file(place: &Place, path: &Path, entry: &ManifestEntry, bar: &ProgressBar) -> Result<u64, CliError> {
    let io = |error: std::io::Error| CliError::file(path, &error);
    let quiet = ProgressBar::hidden();
    if fs::metadata(path).await.is_ok_and(|there| there.len() == entry.size) {
        let (_, digest) = digest_of(path, &quiet).await.map_err(io)?;
        if is_as_sealed(entry, &digest.finish()) {
            bar.inc(entry.size);
            return Ok(0);
        }
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).await.map_err(io)?;
    }
    let part = with_part(path);
    // What a former try brought is hashed, and gone on with.
    let (mut from, mut digest) = match digest_of(&part, &quiet).await {
        Ok((size, digest)) if size < entry.size => (size, digest),
        _ => (0, Digest::new()),
    };
    if from == 0 {
        digest = Digest::new();
    }
    let mut file = OpenOptions::new();
    file.create(true).write(true);
    let mut file = if from > 0 { file.append(true).open(&part).await } else { file.truncate(true).open(&part).await }
        .map_err(io)?;
    bar.inc(from);
    let before = from;
    if entry.size > from {
        let version = entry.version_id.as_deref();
        let read = place.cloud.read_version(&entry.key, version, from, &mut file, |piece| {
            digest.update(piece);
            bar.inc(u64::try_from(piece.len()).unwrap_or(0));
        });
        from = read.await?.size;
    }
    file.flush().await.map_err(io)?;
    file.sync_all().await.map_err(io)?;
    drop(file);
    let found = digest.finish();
    if from != entry.size || !is_as_sealed(entry, &found) {
        // Kept it would be gone on with for ever.
        fs::remove_file(&part).await.map_err(io)?;
        return Err(CliError::Failed(format!(
            "{} came as {from} bytes with the SHA-256 {}, and was sealed as {} bytes with {}: it was not kept; fetch again, and if it comes like this once more, the bucket holds another file than was sealed",
            path.display(),
            found.sha256,
            entry.size,
            entry.sha256
        )));
    }
    fs::rename(&part, path).await.map_err(io)?;
    Ok(from - before)
}

/// Whether a file of the right size is what was sealed.
fn is_as_sealed(entry: &ManifestEntry, found: &Digests) -> bool {
    proof::content_differs(entry, Some(&found.sha256), Some(&found.crc64nvme)).is_none()
}

fn with_part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// A name of the manifest as a path below a folder. A name that leads out of it is refused.
fn path_below(folder: &Path, name: &str) -> Result<PathBuf, CliError> {
    let relative = Path::new(name);
    let stays = !name.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)));
    if stays && !name.contains('\\') {
        return Ok(folder.join(relative));
    }
    Err(CliError::Failed(format!(
        "the manifest names a file {} that would leave the folder: nothing is written",
        safe(name)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = Path::new("case");
        for name in ["../x", "/etc/passwd", "a/../../x", "", "a\\..\\b", "./x/../.."] {
            assert!(path_below(folder, name).is_err(), "{name}");
        }
        assert_eq!(path_below(folder, "stages/triage/1.json").expect("a path"), folder.join("stages/triage/1.json"));
    }
}
