//! Proof: what is left of a case when it is checked against its signed manifest, byte by byte. Pure: whoever asks reads
//! the bucket or the folder. It repairs nothing, and what it could not check it says.

mod signature;

pub use signature::Key;

use crate::manifest::{self, FOLDER, Manifest, ManifestEntry, NAME, PUBLIC_KEY, SIGNATURE};
use crate::sha256;
use serde::Serialize;
use stasis_model::Timestamp;
use stasis_model::evidence::ObjectLock;
use stasis_model::ids::CaseId;
use stasis_model::stage::{FileRef, StageReport};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The signature does not fit, is missing, or is by another key.
    Signature,
    /// It is not there.
    Missing,
    /// Its content is another.
    Changed,
    /// It is shorter or longer.
    Size,
    /// No manifest lists it.
    Added,
    /// Another version, or a delete marker, was put over it.
    Covered,
    /// Object Lock does not keep it as the manifest says.
    Unlocked,
    /// It does not follow from the one before.
    Chain,
    /// It cannot be read.
    Unreadable,
}

/// One file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Defect {
    /// Its name in the case's folder.
    pub file: String,
    /// What is wrong.
    pub fault: Fault,
    /// The same in a sentence.
    pub words: String,
}

/// A version of a file, as the bucket lists it, or a file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Its name in the case's folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its version; none in a folder.
    pub version_id: Option<String>,
    /// Whether it is what a reader gets who names no version.
    pub is_latest: bool,
    /// Whether it is a delete marker.
    pub is_delete_marker: bool,
}

/// What reading a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// How many bytes there were.
    pub size: u64,
    /// SHA-256 of them; none where they were not read.
    pub sha256: Option<String>,
    /// CRC-64/NVME of them, in base64; none where they were not read.
    pub crc64nvme: Option<String>,
    /// How Object Lock keeps it; none in a folder, or where it keeps nothing.
    pub lock: Option<ObjectLock>,
}

/// The small files that everything else is checked against: by name in the case's folder.
pub type Papers = BTreeMap<String, Vec<u8>>;

/// Whether a file is one of [`Papers`]: manifests, signatures, keys, and the reports of the stages.
pub fn is_paper(name: &str) -> bool {
    let is_key = name.starts_with("signing-key") && name.ends_with(".pem");
    let is_report = name.starts_with("stages/") && name.ends_with(".json");
    name == NAME || name == SIGNATURE || is_key || is_report || name.starts_with(FOLDER)
}

/// Where the case is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the evidence bucket: versions and locks count.
    Bucket,
    /// In a folder that it was fetched to.
    Folder,
}

/// The manifest that counts, and what is wrong with it and those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchor {
    /// The newest manifest whose signature fits.
    pub manifest: Manifest,
    /// The key that it was checked with.
    pub key: Key,
    /// What is wrong.
    pub defects: Vec<Defect>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// What the check came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The case.
    pub case_id: CaseId,
    /// Which of its manifests counts.
    pub sequence: u32,
    /// When that was written.
    pub written_at: Timestamp,
    /// Whether the evidence was complete then.
    pub complete: bool,
    /// The key, by the SHA-256 of its DER.
    pub fingerprint: String,
    /// How many files it lists.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is wrong; nothing where the case is as it was sealed.
    pub defects: Vec<Defect>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// No manifest of the case can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven(pub Vec<Defect>);

fn defect(file: impl Into<String>, fault: Fault, words: impl Into<String>) -> Defect {
    Defect { file: file.into(), fault, words: words.into() }
}

/// The manifest that everything is checked against. With `trusted`, no other key is believed; without it the key that
/// lies beside the manifest is, which shows that the case is of one piece, and not who made it.
///
/// # Errors
/// Where no manifest can be believed.
pub fn anchor(papers: &Papers, trusted: Option<&Key>) -> Result<Anchor, Unproven> {
    let mut defects = Vec::new();
    let mut notes = Vec::new();
    let numbers: BTreeSet<u32> = papers.keys().filter_map(|name| manifest::number(name)).collect();
    let mut candidates = vec![(NAME.to_owned(), SIGNATURE.to_owned())];
    candidates.extend(numbers.iter().rev().map(|n| (format!("{FOLDER}{n}.json"), format!("{FOLDER}{n}.sig"))));
    let mut found: Option<(String, Manifest, Key)> = None;
    for (name, signature) in &candidates {
        match believed(papers, trusted, name, signature) {
            Ok((manifest, key)) => {
                // The newest one under both its names must be good; those before it are files that it lists.
                let newest = found.as_ref().is_none_or(|(_, newest, _)| newest.sequence == manifest.sequence);
                if found.as_ref().is_none_or(|(_, newest, _)| newest.sequence < manifest.sequence) {
                    if let Some((older, newest, _)) = &found {
                        let words =
                            format!("is manifest {}, and there is a later one, {}", newest.sequence, manifest.sequence);
                        defects.push(defect(older, Fault::Chain, words));
                    }
                    found = Some((name.clone(), manifest, key));
                } else if newest && papers.get(name) != found.as_ref().and_then(|(first, ..)| papers.get(first)) {
                    defects.push(defect(
                        name,
                        Fault::Changed,
                        format!("differs from {NAME}, which has the same number"),
                    ));
                }
            }
            Err(wrong) => {
                let is_older = found.as_ref().is_some_and(|(_, newest, _)| {
                    manifest::number(name).is_some_and(|number| number < newest.sequence)
                });
                if !is_older {
                    defects.push(wrong);
                }
            }
        }
    }
    let Some((_, newest, key)) = found else { return Err(Unproven(defects)) };
    let copy = format!("{FOLDER}{}.json", newest.sequence);
    if !papers.contains_key(&copy) {
        defects.push(defect(copy, Fault::Missing, "is missing"));
    }
    defects.extend(chain_of_manifests(papers, &newest));
    if trusted.is_none() {
        notes.push(format!(
            "checked with the key that lies beside the case ({}): compare its fingerprint {} with that of the stack's key, or name a key that you trust",
            newest.signed_with.as_ref().map_or(PUBLIC_KEY, |by| by.public_key.as_str()),
            key.fingerprint
        ));
    }
    if !newest.complete {
        notes.push("evidence was still being gathered when the case was sealed".to_owned());
    }
    defects.sort();
    defects.dedup();
    Ok(Anchor { manifest: newest, key, defects, notes })
}

/// A manifest whose signature fits.
fn believed(papers: &Papers, trusted: Option<&Key>, name: &str, signature: &str) -> Result<(Manifest, Key), Defect> {
    let body = papers.get(name).ok_or_else(|| defect(name, Fault::Missing, "is missing"))?;
    let signed = papers.get(signature).ok_or_else(|| defect(signature, Fault::Missing, "is missing"))?;
    let manifest: Manifest = serde_json::from_slice(body)
        .map_err(|error| defect(name, Fault::Unreadable, format!("cannot be read as a manifest: {error}")))?;
    let by = manifest
        .signed_with
        .as_ref()
        .ok_or_else(|| defect(name, Fault::Signature, "says that no key could sign it"))?;
    let beside = || {
        let pem = papers.get(&by.public_key).and_then(|pem| std::str::from_utf8(pem).ok()).and_then(Key::from_pem);
        pem.ok_or_else(|| {
            defect(&by.public_key, Fault::Missing, "holds no public key, so nothing can be checked with it")
        })
    };
    let key = trusted.cloned().map_or_else(beside, Ok)?;
    if !key.signed(body, signed) {
        let words = if key.fingerprint == by.fingerprint {
            format!("does not fit {name}: one of the two was changed")
        } else {
            format!("is by the key {}, not by {}, which is the one to check with", by.fingerprint, key.fingerprint)
        };
        return Err(defect(signature, Fault::Signature, words));
    }
    Ok((manifest, key))
}

/// Each manifest names the hash of the one before; what an earlier one listed, the later ones list unchanged.
fn chain_of_manifests(papers: &Papers, newest: &Manifest) -> Vec<Defect> {
    let mut defects = Vec::new();
    let mut later = newest.clone();
    while later.sequence > 1 {
        let number = later.sequence - 1;
        let name = format!("{FOLDER}{number}.json");
        let Some(body) = papers.get(&name) else {
            defects.push(defect(
                name,
                Fault::Missing,
                format!("is missing, and manifest {} follows it", later.sequence),
            ));
            break;
        };
        if !later.previous.as_ref().is_some_and(|file| file.key.ends_with(&name) && file.sha256 == sha256(body)) {
            defects.push(defect(
                name,
                Fault::Chain,
                format!("is not the one that manifest {} follows", later.sequence),
            ));
            break;
        }
        let Ok(earlier) = serde_json::from_slice::<Manifest>(body) else {
            defects.push(defect(name, Fault::Unreadable, "cannot be read as a manifest"));
            break;
        };
        if earlier.sequence != number || earlier.case_id != newest.case_id {
            let words = format!("calls itself manifest {} of {}", earlier.sequence, earlier.case_id);
            defects.push(defect(&name, Fault::Chain, words));
        }
        defects.extend(undone(&earlier, &later));
        later = earlier;
    }
    if later.sequence == 1 && later.previous.is_some() {
        defects.push(defect(format!("{FOLDER}1.json"), Fault::Chain, "is the first and names one before it"));
    }
    defects
}

/// What an earlier manifest listed and a later one does not, or as something else.
fn undone(earlier: &Manifest, later: &Manifest) -> Vec<Defect> {
    let now: BTreeMap<&str, &ManifestEntry> = later.files.iter().map(|file| (file.key.as_str(), file)).collect();
    let folder = stasis_model::case::prefix(&later.case_id);
    let mut defects = Vec::new();
    for file in &earlier.files {
        let name = file.key.strip_prefix(&folder).unwrap_or(&file.key);
        match now.get(file.key.as_str()) {
            None => {
                let words = format!("was in manifest {} and is not in {}", earlier.sequence, later.sequence);
                defects.push(defect(name, Fault::Missing, words));
            }
            Some(entry) if entry.sha256 != file.sha256 && !is_rewritten(name) => {
                let words = format!("became another between manifest {} and {}", earlier.sequence, later.sequence);
                defects.push(defect(name, Fault::Changed, words));
            }
            Some(_) => {}
        }
    }
    defects
}

/// Files that Stasis itself writes again, as a new version.
fn is_rewritten(name: &str) -> bool {
    name == crate::report::NAME || name == "approval/token"
}

/// The files that are to be read for [`judge`]: each listed one that is there, with the version to read.
pub fn to_read<'a>(anchor: &'a Anchor, held: &[Held]) -> Vec<(String, &'a ManifestEntry)> {
    let there: BTreeSet<&str> =
        held.iter().filter(|file| !file.is_delete_marker).map(|file| file.name.as_str()).collect();
    let listed = anchor.manifest.files.iter().map(|entry| (name_of(anchor, entry).to_owned(), entry));
    listed.filter(|(name, _)| there.contains(name.as_str())).collect()
}

fn name_of<'a>(anchor: &Anchor, entry: &'a ManifestEntry) -> &'a str {
    entry.key.strip_prefix(&stasis_model::case::prefix(&anchor.manifest.case_id)).unwrap_or(&entry.key)
}

/// What the whole case comes to.
pub fn judge(
    place: Place,
    anchor: Anchor,
    papers: &Papers,
    held: &[Held],
    read: &BTreeMap<String, Result<Read, String>>,
    now: Timestamp,
) -> Proof {
    let mut defects = anchor.defects.clone();
    let mut notes = anchor.notes.clone();
    let (mut unread, mut over) = (0_usize, 0_usize);
    for entry in &anchor.manifest.files {
        let name = name_of(&anchor, entry);
        let versions: Vec<&Held> = held.iter().filter(|file| file.name == name).collect();
        if versions.iter().all(|version| version.is_delete_marker) {
            defects.push(defect(name, Fault::Missing, "is missing"));
            continue;
        }
        if place == Place::Bucket {
            defects.extend(covered(name, entry, &versions));
        }
        match read.get(name) {
            None => defects.push(defect(name, Fault::Unreadable, "was not read")),
            Some(Err(why)) => defects.push(defect(name, Fault::Unreadable, format!("cannot be read: {why}"))),
            Some(Ok(read)) => {
                defects.extend(differs(name, entry, read));
                notes.extend(word_of_the_host(name, entry, read));
                unread += usize::from(read.sha256.is_none());
                if place == Place::Bucket {
                    let (wrong, ended) = unlocked(name, entry, read, now);
                    defects.extend(wrong);
                    over += usize::from(ended);
                }
            }
        }
    }
    defects.extend(added(&anchor, held));
    defects.extend(chain_of_reports(papers, &anchor));
    if unread > 0 {
        notes.push(format!(
            "{unread} files were not read, as asked: their sizes and versions fit, their content was not checked"
        ));
    }
    if over > 0 {
        notes.push(format!("the retention of {over} files has come to its end"));
    }
    if place == Place::Folder {
        notes.push("a folder has no versions and no Object Lock: check the bucket for them".to_owned());
    }
    let unhashed: Vec<&str> =
        anchor.manifest.files.iter().filter(|f| f.hashed_by_collector).map(|f| name_of(&anchor, f)).collect();
    if !unhashed.is_empty() {
        notes.push(format!(
            "{} was too large to be hashed for the manifest: it is checked by S3's own checksum where that was sealed, and its SHA-256 is the word of the host",
            unhashed.join(", ")
        ));
    }
    defects.sort();
    defects.dedup();
    Proof {
        case_id: anchor.manifest.case_id.clone(),
        sequence: anchor.manifest.sequence,
        written_at: anchor.manifest.written_at,
        complete: anchor.manifest.complete,
        fingerprint: anchor.key.fingerprint.clone(),
        files: anchor.manifest.files.len(),
        bytes: anchor.manifest.files.iter().map(|file| file.size).sum(),
        defects,
        notes,
    }
}

/// The version that was sealed must still be the one that a reader gets.
fn covered(name: &str, entry: &ManifestEntry, versions: &[&Held]) -> Option<Defect> {
    let latest = versions.iter().find(|version| version.is_latest)?;
    let sealed = entry.version_id.as_deref()?;
    if latest.version_id.as_deref() == Some(sealed) {
        return None;
    }
    let what = if latest.is_delete_marker { "a delete marker" } else { "another version" };
    let latest = latest.version_id.as_deref().unwrap_or("null");
    let rest = if versions.iter().any(|version| version.version_id.as_deref() == Some(sealed)) {
        format!("version {sealed}, which was sealed, is still there beneath it")
    } else {
        format!("version {sealed}, which was sealed, is gone")
    };
    Some(defect(name, Fault::Covered, format!("{what} ({latest}) was put over it; {rest}")))
}

fn differs(name: &str, entry: &ManifestEntry, read: &Read) -> Option<Defect> {
    if read.size != entry.size {
        let words = format!("has {} bytes instead of {}", read.size, entry.size);
        return Some(defect(name, Fault::Size, words));
    }
    let words = content_differs(entry, read.sha256.as_deref(), read.crc64nvme.as_deref())?;
    Some(defect(name, Fault::Changed, words))
}

/// What the manifest writes where nobody knows a file's SHA-256.
pub const NOT_KNOWN: &str = "not known";

/// How the content of a file of the right size differs from what was sealed; none where it does not, or was not read. Of what
/// was not hashed for the manifest S3's checksum counts: its SHA-256 is the word of the host, which may have lied or said nothing.
pub fn content_differs(entry: &ManifestEntry, sha256: Option<&str>, crc64nvme: Option<&str>) -> Option<String> {
    let sha256 = sha256?;
    match (&entry.crc64nvme, crc64nvme) {
        (Some(sealed), Some(found)) if entry.hashed_by_collector => {
            (sealed != found).then(|| format!("has the CRC-64/NVME {found} instead of {sealed}"))
        }
        _ if entry.hashed_by_collector && entry.sha256 == NOT_KNOWN => None,
        _ => (sha256 != entry.sha256).then(|| format!("has the SHA-256 {sha256} instead of {}", entry.sha256)),
    }
}

/// What is to be said of a file of which only the host knew the SHA-256.
fn word_of_the_host(name: &str, entry: &ManifestEntry, read: &Read) -> Option<String> {
    if !entry.hashed_by_collector || entry.sha256 == NOT_KNOWN || entry.crc64nvme.is_none() {
        return None;
    }
    let found = read.sha256.as_ref().filter(|found| **found != entry.sha256)?;
    Some(format!(
        "{name} is what S3 took (CRC-64/NVME), and not what the host said that it sent: its SHA-256 is {found}, and the host said {}",
        entry.sha256
    ))
}

/// What is wrong with the lock, and whether its time is over, which is as it should be.
fn unlocked(name: &str, entry: &ManifestEntry, read: &Read, now: Timestamp) -> (Option<Defect>, bool) {
    let Some(sealed) = &entry.lock else {
        let words = "was under no Object Lock when the case was sealed";
        return (read.lock.is_none().then(|| defect(name, Fault::Unlocked, words)), false);
    };
    let ended = sealed.until <= now;
    match &read.lock {
        // A second of difference is S3's own rounding.
        Some(lock) if lock.until >= sealed.until - chrono::Duration::seconds(1) => {
            let weaker = sealed.mode == "COMPLIANCE" && lock.mode != sealed.mode;
            (weaker.then(|| defect(name, Fault::Unlocked, format!("is kept in {} mode alone", lock.mode))), ended)
        }
        Some(lock) => {
            let words = format!("is kept until {} and not until {}", lock.until, sealed.until);
            (Some(defect(name, Fault::Unlocked, words)), ended)
        }
        None if ended => (None, true),
        None => (
            Some(defect(
                name,
                Fault::Unlocked,
                format!("is not under Object Lock, though it should be until {}", sealed.until),
            )),
            false,
        ),
    }
}

/// What no manifest lists.
fn added(anchor: &Anchor, held: &[Held]) -> Vec<Defect> {
    let number = anchor.manifest.sequence;
    let own =
        [format!("{FOLDER}{number}.json"), format!("{FOLDER}{number}.sig"), NAME.to_owned(), SIGNATURE.to_owned()];
    let mut known: BTreeSet<&str> = anchor.manifest.files.iter().map(|entry| name_of(anchor, entry)).collect();
    known.extend(own.iter().map(String::as_str));
    let there =
        held.iter().filter(|file| file.is_latest && !file.is_delete_marker && !known.contains(file.name.as_str()));
    there
        .map(|file| {
            let words = match file.name.ends_with(".part") {
                true => "is half of a download: run stasis fetch again".to_owned(),
                false => format!("is not in manifest {number}: it was added since"),
            };
            defect(&file.name, Fault::Added, words)
        })
        .collect()
}

/// Each report of a stage names the hash of the one before it.
fn chain_of_reports(papers: &Papers, anchor: &Anchor) -> Vec<Defect> {
    let mut stages: BTreeMap<&str, BTreeMap<u32, &str>> = BTreeMap::new();
    for name in papers.keys() {
        let Some((stage, file)) = name.strip_prefix("stages/").and_then(|rest| rest.split_once('/')) else { continue };
        let Some(number) = file.strip_suffix(".json").and_then(|number| number.parse().ok()) else { continue };
        stages.entry(stage).or_default().insert(number, name);
    }
    let mut defects = Vec::new();
    for reports in stages.values() {
        let mut before: Option<(&str, String)> = None;
        for name in reports.values() {
            let body = papers.get(*name).map(Vec::as_slice).unwrap_or_default();
            match serde_json::from_slice::<StageReport>(body) {
                Err(error) => {
                    defects.push(defect(*name, Fault::Unreadable, format!("cannot be read as a report: {error}")))
                }
                Ok(report) if report.case_id != anchor.manifest.case_id => {
                    defects.push(defect(*name, Fault::Chain, format!("is a report of {}", report.case_id)));
                }
                Ok(report) if !follows(report.previous.as_ref(), before.as_ref()) => {
                    let words = match &before {
                        Some((before, _)) => format!("does not follow {before}"),
                        None => "names a report before it that is not there".to_owned(),
                    };
                    defects.push(defect(*name, Fault::Chain, words));
                }
                Ok(_) => {}
            }
            before = Some((name, sha256(body)));
        }
    }
    defects
}

fn follows(named: Option<&FileRef>, before: Option<&(&str, String)>) -> bool {
    match (named, before) {
        (None, None) => true,
        (Some(named), Some((name, sha256))) => named.key.ends_with(name) && named.sha256 == *sha256,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
