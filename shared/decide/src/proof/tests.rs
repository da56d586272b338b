use super::*;
use crate::manifest::{ALGORITHM, Contents, SigningKey, manifest};
use crate::sample;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey as PrivateKey};
use stasis_model::case::Case;
use stasis_model::evidence::Writer;
use stasis_model::stage::{Stage, StageStatus};
use stasis_model::{SCHEMA, stage::StageReport};

/// A case as it lies in the bucket, with the versions of its files.
#[derive(Clone)]
struct Store {
    files: BTreeMap<String, Vec<u8>>,
    case: Case,
    private: PrivateKey,
}

fn report(case: &Case, stage: Stage, attempt: u32, previous: Option<FileRef>) -> Vec<u8> {
    let report = StageReport {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        stage,
        attempt,
        status: StageStatus::Done,
        started_at: sample::time(),
        finished_at: sample::time(),
        wait_seconds: None,
        summary: "done".to_owned(),
        previous,
        actions: Vec::new(),
        failures: Vec::new(),
        evidence: Vec::new(),
        checks: Vec::new(),
        notes: Vec::new(),
        answer: None,
    };
    serde_json::to_vec(&report).expect("JSON")
}

impl Store {
    /// A case with a few files, sealed twice.
    fn sealed() -> Self {
        let case = sample::case();
        let private = PrivateKey::from_slice(&[7; 32]).expect("a key");
        let mut store = Self { files: BTreeMap::new(), case, private };
        store.put("signing-key.pem", store.key().pem.into_bytes());
        store.put("case.json", b"{\"the\": \"case\"}".to_vec());
        store.put("findings/f.json", b"a finding".to_vec());
        store.put("report.html", b"<p>first</p>".to_vec());
        let first = report(&store.case, Stage::Verify, 1, None);
        let previous = FileRef { key: format!("{}stages/verify/1.json", store.case.prefix()), sha256: sha256(&first) };
        store.put("stages/verify/1.json", first);
        store.seal(false);
        store.put("report.html", b"<p>second</p>".to_vec());
        store.put("stages/verify/2.json", report(&store.case, Stage::Verify, 2, Some(previous)));
        store.put("volatile/processes.txt", b"init\n".to_vec());
        store.seal(true);
        store
    }

    fn key(&self) -> Key {
        let der = p256::PublicKey::from(self.private.verifying_key()).to_public_key_der_bytes();
        Key::from_der(&der).expect("a key")
    }

    fn put(&mut self, name: &str, body: Vec<u8>) {
        self.files.insert(name.to_owned(), body);
    }

    fn seal(&mut self, complete: bool) {
        let last = self.files.keys().filter_map(|name| manifest::number(name)).max();
        let previous = last.map(|number| {
            let name = format!("{FOLDER}{number}.json");
            (number, FileRef { key: format!("{}{name}", self.case.prefix()), sha256: sha256(&self.files[&name]) })
        });
        let files = self.files.iter().filter(|(name, _)| manifest::lists(name)).map(|(name, body)| ManifestEntry {
            key: format!("{}{name}", self.case.prefix()),
            version_id: Some(version(body)),
            size: body.len() as u64,
            sha256: sha256(body),
            hashed_by_collector: false,
            crc64nvme: None,
            modified: Some(sample::time()),
            writer: None,
            lock: Some(lock()),
        });
        let contents = Contents {
            previous,
            writer: Writer { function: "stasis-report".to_owned(), session: "arn".to_owned() },
            complete,
            signed_with: Some(SigningKey {
                key: "arn:key".to_owned(),
                algorithm: ALGORITHM.to_owned(),
                public_key: PUBLIC_KEY.to_owned(),
                fingerprint: self.key().fingerprint,
            }),
            files: files.collect(),
        };
        let manifest = manifest(&self.case, contents, sample::time());
        let body = serde_json::to_vec(&manifest).expect("JSON");
        let signature: DerSignature = self.private.sign(&body);
        let signature = signature.as_bytes().to_vec();
        let number = manifest.sequence;
        self.put(&format!("{FOLDER}{number}.json"), body.clone());
        self.put(&format!("{FOLDER}{number}.sig"), signature.clone());
        self.put(NAME, body);
        self.put(SIGNATURE, signature);
    }

    fn papers(&self) -> Papers {
        self.files.iter().filter(|(name, _)| is_paper(name)).map(|(name, body)| (name.clone(), body.clone())).collect()
    }

    fn held(&self) -> Vec<Held> {
        let held = self.files.iter().map(|(name, body)| Held {
            name: name.clone(),
            size: body.len() as u64,
            version_id: Some(version(body)),
            is_latest: true,
            is_delete_marker: false,
        });
        held.collect()
    }

    fn judged(&self, trusted: Option<&Key>) -> Result<Proof, Unproven> {
        let papers = self.papers();
        let anchor = anchor(&papers, trusted)?;
        let held = self.held();
        let read = to_read(&anchor, &held).into_iter().map(|(name, _)| {
            let body = &self.files[&name];
            let read =
                Read { size: body.len() as u64, sha256: Some(sha256(body)), crc64nvme: None, lock: Some(lock()) };
            (name, Ok(read))
        });
        let read = read.collect();
        Ok(judge(Place::Bucket, anchor, &papers, &held, &read, sample::time()))
    }

    /// The files that are named as wrong.
    fn wrong(&self) -> Vec<(String, Fault)> {
        let defects = match self.judged(Some(&self.key_of_stack())) {
            Ok(proof) => proof.defects,
            Err(Unproven(defects)) => {
                assert!(!defects.is_empty());
                defects
            }
        };
        defects.into_iter().map(|defect| (defect.file, defect.fault)).collect()
    }

    fn key_of_stack(&self) -> Key {
        self.key()
    }
}

trait DerOf {
    fn to_public_key_der_bytes(&self) -> Vec<u8>;
}

impl DerOf for p256::PublicKey {
    fn to_public_key_der_bytes(&self) -> Vec<u8> {
        use p256::pkcs8::EncodePublicKey as _;
        self.to_public_key_der().expect("DER").as_bytes().to_vec()
    }
}

fn version(body: &[u8]) -> String {
    sha256(body).chars().take(8).collect()
}

fn lock() -> ObjectLock {
    ObjectLock { mode: "GOVERNANCE".to_owned(), until: sample::time() + chrono::Duration::days(365) }
}

#[test]
fn the_untouched_case_has_no_defect() {
    let store = Store::sealed();
    let proof = store.judged(Some(&store.key())).expect("proof");
    assert_eq!(proof.defects, Vec::new());
    assert_eq!((proof.sequence, proof.complete, proof.files), (2, true, 9));
    assert_eq!(proof.notes, Vec::<String>::new());
    let unanchored = store.judged(None).expect("proof");
    assert!(unanchored.defects.is_empty() && unanchored.notes[0].contains(&store.key().fingerprint));
}

#[test]
fn each_file_changed_dropped_truncated_or_swapped_is_found_and_named() {
    let whole = Store::sealed();
    let names: Vec<String> = whole.files.keys().cloned().collect();
    for name in &names {
        let mut changed = whole.clone();
        changed.files.get_mut(name).expect("file")[0] ^= 1;
        let mut truncated = whole.clone();
        truncated.files.get_mut(name).expect("file").pop();
        let mut longer = whole.clone();
        longer.files.get_mut(name).expect("file").push(b'\n');
        let mut dropped = whole.clone();
        dropped.files.remove(name);
        for (how, store) in
            [("changed", &changed), ("truncated", &truncated), ("longer", &longer), ("dropped", &dropped)]
        {
            let wrong = store.wrong();
            assert!(wrong.iter().any(|(file, _)| file == name || is_twin(file, name)), "{name} {how}: {wrong:?}");
        }
        for other in names.iter().filter(|other| *other > name && whole.files[*other] != whole.files[name]) {
            let mut swapped = whole.clone();
            swapped.put(name, whole.files[other].clone());
            swapped.put(other, whole.files[name].clone());
            assert!(!swapped.wrong().is_empty(), "{name} and {other} swapped");
        }
    }
}

/// A signature is named together with what it signs.
fn is_twin(file: &str, name: &str) -> bool {
    file.trim_end_matches(".json").trim_end_matches(".sig") == name.trim_end_matches(".json").trim_end_matches(".sig")
}

#[test]
fn what_was_added_is_named() {
    let mut store = Store::sealed();
    store.put("findings/later.json", b"{}".to_vec());
    assert_eq!(store.wrong(), [("findings/later.json".to_owned(), Fault::Added)]);
    // Reports that were added are no part of the chain either.
    let mut store = Store::sealed();
    store.put("stages/verify/3.json", report(&store.case.clone(), Stage::Verify, 3, None));
    assert_eq!(
        store.wrong(),
        [("stages/verify/3.json".to_owned(), Fault::Added), ("stages/verify/3.json".to_owned(), Fault::Chain)]
    );
}

#[test]
fn a_manifest_of_another_key_is_not_believed_however_well_it_fits() {
    let mut forged = Store::sealed();
    let real = forged.key();
    forged.private = PrivateKey::from_slice(&[9; 32]).expect("a key");
    let names: Vec<String> =
        forged.files.keys().filter(|name| name.starts_with(FOLDER) || !manifest::lists(name)).cloned().collect();
    names.iter().for_each(|name| drop(forged.files.remove(name)));
    forged.put(PUBLIC_KEY, forged.key().pem.into_bytes());
    forged.seal(true);
    let Err(Unproven(defects)) = forged.judged(Some(&real)) else { panic!("believed") };
    assert!(
        defects.iter().all(|defect| defect.fault == Fault::Signature || defect.fault == Fault::Missing),
        "{defects:?}"
    );
    assert!(defects.iter().any(|defect| defect.words.contains("is by the key")), "{defects:?}");
    // Nothing but the trusted key tells it from the real one.
    assert!(forged.judged(None).expect("proof").defects.is_empty());
}

#[test]
fn an_older_manifest_put_back_is_told_from_the_newest() {
    let mut store = Store::sealed();
    let (json, sig) = (store.files["manifests/1.json"].clone(), store.files["manifests/1.sig"].clone());
    store.put(NAME, json);
    store.put(SIGNATURE, sig);
    assert!(store.wrong().contains(&(NAME.to_owned(), Fault::Chain)), "{:?}", store.wrong());
}

#[test]
fn a_record_that_became_another_between_two_manifests_is_named_though_the_newest_fits() {
    let mut store = Store::sealed();
    store.put("case.json", b"{\"another\": \"case\"}".to_vec());
    store.seal(true);
    assert_eq!(store.wrong(), [("case.json".to_owned(), Fault::Changed)]);
    let mut store = Store::sealed();
    store.files.remove("findings/f.json");
    store.seal(true);
    assert_eq!(store.wrong(), [("findings/f.json".to_owned(), Fault::Missing)]);
}

#[test]
fn versions_and_locks_of_the_bucket_count() {
    let store = Store::sealed();
    let papers = store.papers();
    let key = store.key();
    let judged = |held: Vec<Held>, lock_now: Option<ObjectLock>, now: Timestamp| {
        let anchor = anchor(&papers, Some(&key)).expect("anchor");
        let read = to_read(&anchor, &held).into_iter().map(|(name, entry)| {
            let lock = if name == "case.json" { lock_now.clone() } else { Some(lock()) };
            (name, Ok(Read { size: entry.size, sha256: Some(entry.sha256.clone()), crc64nvme: None, lock }))
        });
        let read = read.collect();
        judge(Place::Bucket, anchor, &papers, &held, &read, now)
    };
    let faults = |proof: &Proof| proof.defects.iter().map(|d| (d.file.clone(), d.fault)).collect::<Vec<_>>();
    for marker in [true, false] {
        let mut held = store.held();
        for file in held.iter_mut().filter(|file| file.name == "case.json") {
            file.is_latest = false;
        }
        held.push(Held {
            name: "case.json".to_owned(),
            version_id: Some("new".to_owned()),
            is_latest: true,
            is_delete_marker: marker,
            ..Held::default()
        });
        let proof = judged(held, Some(lock()), sample::time());
        assert_eq!(faults(&proof), [("case.json".to_owned(), Fault::Covered)]);
        assert!(proof.defects[0].words.contains("still there beneath it"), "{}", proof.defects[0].words);
    }
    let shorter = ObjectLock { until: lock().until - chrono::Duration::days(1), ..lock() };
    for weak in [None, Some(shorter)] {
        let proof = judged(store.held(), weak, sample::time());
        assert_eq!(faults(&proof), [("case.json".to_owned(), Fault::Unlocked)]);
    }
    // Once its time is over it need not be locked any more, and that is said.
    let later = judged(store.held(), None, lock().until + chrono::Duration::days(1));
    assert!(later.defects.is_empty() && later.notes.iter().any(|note| note.contains("come to its end")), "{later:?}");
}

#[test]
fn a_folder_that_is_half_there_says_what_is_missing_and_what_to_do() {
    let mut store = Store::sealed();
    store.files.remove("volatile/processes.txt");
    store.put("volatile/processes.txt.part", b"in".to_vec());
    let proof = store.judged(Some(&store.key())).expect("proof");
    let words: Vec<String> = proof.defects.iter().map(|d| format!("{} {}", d.file, d.words)).collect();
    assert_eq!(
        words,
        [
            "volatile/processes.txt is missing",
            "volatile/processes.txt.part is half of a download: run stasis fetch again"
        ]
    );
}

#[test]
fn what_was_not_read_is_said_to_be_unread() {
    let store = Store::sealed();
    let papers = store.papers();
    let anchor = anchor(&papers, None).expect("anchor");
    let held = store.held();
    let read = to_read(&anchor, &held)
        .into_iter()
        .map(|(name, entry)| (name, Ok(Read { size: entry.size, sha256: None, crc64nvme: None, lock: Some(lock()) })))
        .collect();
    let proof = judge(Place::Bucket, anchor.clone(), &papers, &held, &read, sample::time());
    assert!(proof.defects.is_empty() && proof.notes.iter().any(|note| note.starts_with("9 files were not read")));
    let none = judge(Place::Bucket, anchor, &papers, &held, &BTreeMap::new(), sample::time());
    assert_eq!(none.defects.len(), 9);
}

#[test]
fn of_what_was_too_large_to_hash_the_checksum_of_s3_counts_and_not_the_word_of_the_host() {
    let entry = |sha256: &str, crc: Option<&str>| ManifestEntry {
        key: "cases/x/memory/image.lime".to_owned(),
        version_id: None,
        size: 3,
        sha256: sha256.to_owned(),
        hashed_by_collector: true,
        crc64nvme: crc.map(str::to_owned),
        modified: None,
        writer: None,
        lock: None,
    };
    let differs = |entry: &ManifestEntry, sha256: &str, crc: &str| content_differs(entry, Some(sha256), Some(crc));
    let host = "a".repeat(64);
    let truth = "b".repeat(64);
    // A host that lies, or says nothing, makes no case look changed.
    assert_eq!(differs(&entry(&host, Some("crc")), &truth, "crc"), None);
    assert_eq!(differs(&entry(NOT_KNOWN, Some("crc")), &truth, "crc"), None);
    assert_eq!(differs(&entry(NOT_KNOWN, None), &truth, "crc"), None);
    // What became another in the bucket is found, whatever the host said.
    assert!(differs(&entry(&truth, Some("crc")), &truth, "other").is_some());
    assert!(differs(&entry(NOT_KNOWN, Some("crc")), &truth, "other").is_some());
    // Where S3 told no checksum, the word of the host is all there is.
    assert!(differs(&entry(&host, None), &truth, "crc").is_some());
    let said = |host: &str| {
        let read = Read { size: 3, sha256: Some(truth.clone()), crc64nvme: Some("crc".to_owned()), lock: None };
        word_of_the_host("image.lime", &entry(host, Some("crc")), &read)
    };
    assert!(said(&host).is_some_and(|note| note.contains("the host said")) && said(&truth).is_none());
}
