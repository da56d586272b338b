//! The analyst's command line, as a person runs it, and what it proves of a case.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// What a run of the command line came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Its answer, where it ended with this code.
    fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn stasis(arguments: &[&str]) -> Ran {
    Ran::of(&local().command_line(arguments, &[]).output().expect("stasis runs"))
}

/// A folder of this test alone.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

fn files_of(folder: &Path, below: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_of(&path, below, found);
        } else {
            let name = path.strip_prefix(below).expect("below").to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
}

/// The files that a check of the folder names as wrong, and its exit code.
fn wrong(folder: &Path, key: &Path) -> (i32, Vec<String>) {
    let (folder, key) = (folder.to_str().expect("text"), key.to_str().expect("text"));
    let ran = stasis(&["--json", "verify", folder, "--offline", "--public-key", key]);
    let answer: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {} {}", ran.out, ran.err));
    let defects = answer["defects"].as_array().expect("defects");
    (ran.code, defects.iter().map(|defect| defect["file"].as_str().expect("a name").to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_of_a_case_changed_dropped_truncated_or_swapped_is_found() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0, "agent": "offline"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let case = output["caseId"].as_str().expect("a case").to_owned();
    let there = folder("mutated");
    let fetched = stasis(&["fetch", &case, there.to_str().expect("text")]);
    assert_eq!(fetched.code, 0, "{}{}", fetched.out, fetched.err);
    assert!(fetched.out.contains("is as it was sealed"), "{}", fetched.out);
    let key = there.with_extension("pem");
    std::fs::copy(there.join("signing-key.pem"), &key).expect("copied");
    let mut files = BTreeMap::new();
    files_of(&there, &there, &mut files);
    assert!(files.len() > 20, "{:?}", files.keys());
    // As openssl would check it: the signature is over the bytes of the manifest.
    let trusted =
        stasis_decide::proof::Key::from_pem(&String::from_utf8(files["signing-key.pem"].clone()).expect("text"));
    assert!(trusted.expect("a key").signed(&files["manifest.json"], &files["manifest.sig"]));
    assert_eq!(wrong(&there, &key), (0, Vec::new()), "the untouched case passes");
    let names: Vec<String> = files.keys().cloned().collect();
    let mut missed = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let (path, body) = (there.join(name), &files[name]);
        let mut check = |how: &str| {
            let (code, named) = wrong(&there, &key);
            let stem = |name: &str| name.trim_end_matches(".json").trim_end_matches(".sig").to_owned();
            if code != 1 || !named.iter().any(|file| stem(file) == stem(name)) {
                missed.push(format!("{name} {how}: {code} {named:?}"));
            }
        };
        let mut flipped = body.clone();
        let middle = flipped.len() / 2;
        match flipped.get_mut(middle) {
            Some(byte) => *byte ^= 0x01,
            None => flipped.push(0),
        }
        std::fs::write(&path, flipped).expect("written");
        check("changed");
        std::fs::write(&path, [body.as_slice(), b" "].concat()).expect("written");
        check("longer");
        if !body.is_empty() {
            std::fs::write(&path, &body[..body.len() - 1]).expect("written");
            check("truncated");
        }
        std::fs::remove_file(&path).expect("removed");
        check("dropped");
        // With the next file of other content.
        if let Some(other) = names[at + 1..].iter().find(|other| files[*other] != *body) {
            std::fs::write(&path, &files[other]).expect("written");
            std::fs::write(there.join(other), body).expect("written");
            check("swapped");
            std::fs::write(there.join(other), &files[other]).expect("written");
        }
        std::fs::write(&path, body).expect("written");
    }
    assert_eq!(missed, Vec::<String>::new());
    std::fs::write(there.join("stages/added.txt"), "more").expect("written");
    assert_eq!(wrong(&there, &key), (1, vec!["stages/added.txt".to_owned()]));
    std::fs::remove_file(there.join("stages/added.txt")).expect("removed");
    assert_eq!(wrong(&there, &key), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_was_cut_off_says_so_and_goes_on() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let case = output["caseId"].as_str().expect("a case").to_owned();
    let there = folder("cut-off");
    let path = there.to_str().expect("text");
    assert_eq!(stasis(&["fetch", &case, path]).code, 0);
    let image = there.join("memory/image.lime");
    let whole = std::fs::read(&image).expect("the image");
    std::fs::write(there.join("memory/image.lime.part"), &whole[..whole.len() / 2]).expect("written");
    std::fs::remove_file(&image).expect("removed");
    std::fs::write(there.join("case.json"), "{}").expect("written");
    let ran = stasis(&["verify", path, "--offline"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    for words in ["NOT as it was sealed", "memory/image.lime.part is half of a download", "stasis fetch"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    let again = stasis(&["fetch", &case, path]);
    assert_eq!(again.code, 0, "{}{}", again.out, again.err);
    assert_eq!(std::fs::read(&image).expect("the image"), whole);
    assert!(!there.join("memory/image.lime.part").exists());
    // Half of a download that is of something else is not built upon.
    std::fs::remove_file(&image).expect("removed");
    std::fs::write(there.join("memory/image.lime.part"), vec![7; whole.len() / 2]).expect("written");
    let spoiled = stasis(&["fetch", &case, path]);
    assert!(spoiled.code == 1 && spoiled.err.contains("it was not kept"), "{}{}", spoiled.out, spoiled.err);
    assert_eq!(stasis(&["fetch", &case, path]).code, 0);
    // A manifest that is not there.
    std::fs::remove_file(there.join("manifest.json")).expect("removed");
    std::fs::remove_dir_all(there.join("manifests")).expect("removed");
    let bare = stasis(&["verify", path, "--offline"]);
    assert!(bare.code == 1 && bare.out.contains("stasis fetch CASE DIR goes on"), "{}", bare.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_over_a_case_in_the_bucket_is_named_and_a_finding_that_joins_it_is_sealed_in() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0, "agent": "offline"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let case = output["caseId"].as_str().expect("a case").to_owned();
    let sealed = stasis(&["--json", "verify", &case]).json(0);
    assert_eq!((sealed["proven"].as_bool(), sealed["keyIsTrusted"].as_bool()), (Some(true), Some(true)), "{sealed:#}");
    assert_eq!(output["manifest"]["key"], format!("cases/{case}/manifests/{}.json", sealed["sequence"]));
    let second = local().contain(&crate::contain::finding(&suspect.id)).await.output();
    assert_eq!(second["status"], "DUPLICATE", "{second:#}");
    let joined = stasis(&["--json", "verify", &case]).json(0);
    assert_eq!(joined["sequence"].as_u64(), sealed["sequence"].as_u64().map(|n| n + 1), "{joined:#}");
    assert_eq!(joined["files"].as_u64(), sealed["files"].as_u64().map(|n| n + 3), "{joined:#}");

    let s3 = local().s3().await;
    let key = |name: &str| format!("cases/{case}/{name}");
    let put = async |name: &str| {
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"another");
        s3.put_object().bucket(local().bucket()).key(key(name)).body(body).send().await.expect("put");
    };
    put("case.json").await;
    put("findings/forged.json").await;
    #[expect(clippy::disallowed_methods, reason = "an attacker's hand")]
    s3.delete_object().bucket(local().bucket()).key(key("baseline.json")).send().await.expect("hidden");
    let found = stasis(&["--json", "verify", &case]).json(1);
    let defects = found["defects"].as_array().expect("defects").iter();
    let named: Vec<(String, String)> = defects
        .map(|d| {
            (d["file"].as_str().unwrap_or_default().to_owned(), d["fault"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let expected = [("baseline.json", "covered"), ("case.json", "covered"), ("findings/forged.json", "added")];
    assert_eq!(named, expected.map(|(file, fault)| (file.to_owned(), fault.to_owned())), "{found:#}");
    // What was sealed is there beneath it all, and is what is fetched.
    let there = folder("beneath");
    let fetched = stasis(&["fetch", &case, there.to_str().expect("text")]);
    assert_eq!(fetched.code, 0, "{}{}", fetched.out, fetched.err);
    assert_ne!(std::fs::read(there.join("case.json")).expect("the case"), b"another");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_contains_follows_shows_and_releases() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0, "name": "web\u{202e}31m"}));
    let before = suspect.writes();
    let plan = stasis(&["contain", &suspect.id, "--dry-run", "--watch"]);
    assert!(
        plan.code == 0 && plan.out.contains("nothing outside the case file was changed"),
        "{}{}",
        plan.out,
        plan.err
    );
    assert_eq!(suspect.writes(), before, "nothing was changed");
    let watched = stasis(&["contain", &suspect.id, "--ticket", "INC-7", "--reason", "beacon", "--watch"]);
    assert_eq!(watched.code, 0, "{}{}", watched.out, watched.err);
    for words in ["quarantine DONE", "verify     ", "CONTAINED"] {
        assert!(watched.out.contains(words), "{words}: {}", watched.out);
    }
    assert!(!watched.out.contains('\u{1b}'), "no escape in a pipe: {}", watched.out);
    // The dry run's case is not open.
    let listed = stasis(&["--json", "list", "--open"]).json(0);
    let mut listed = listed.as_array().expect("cases").iter().filter(|one| one["instanceId"] == *suspect.id);
    let mine = listed.next().expect("it is listed");
    assert!(listed.next().is_none(), "one case of it is open");
    assert_eq!((mine["status"].as_str(), mine["ticket"].as_str()), (Some("CONTAINED"), Some("INC-7")), "{mine:#}");
    let case = mine["caseId"].as_str().expect("a case");
    let shown = stasis(&["show", case]);
    assert_eq!(shown.code, 0, "{}{}", shown.out, shown.err);
    for words in ["CONTAINED", "INC-7", "31m", "quarantine", "checks pass", "sealed by manifest"] {
        assert!(shown.out.contains(words), "{words}: {}", shown.out);
    }
    assert!(!shown.out.contains(['\u{1b}', '\u{202e}']), "{}", shown.out);
    assert_eq!(stasis(&["--json", "show", case]).json(0)["status"], "CONTAINED");
    let released = stasis(&["release", case, "--reason", "a false alarm"]);
    assert!(released.code == 0 && released.out.starts_with("RELEASED"), "{}{}", released.out, released.err);
    assert_eq!(stasis(&["--json", "verify", case]).json(0)["proven"], true);
    assert_eq!(stasis(&["--json", "show", case]).json(0)["status"], "RELEASED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_answers_and_a_second_answer_comes_too_late() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0, "agent": "offline"}));
    let asked = stasis(&["--json", "contain", &suspect.id, "--ask"]).json(0);
    let case = asked["caseId"].as_str().expect("a case").to_owned();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(150));
    while local().keys(&format!("cases/{case}/stages/approval/")).await.is_empty() {
        looks.tick().await;
    }
    assert!(stasis(&["show", &case]).out.contains("stasis approve"));
    let answer = stasis(&["reject", &case, "--by", "ada", "--reason", "a drill"]);
    assert!(answer.code == 0 && answer.out.contains("by ada (arn:aws:"), "{}{}", answer.out, answer.err);
    let execution = asked["execution"].as_str().expect("an execution");
    let output = local().end_of(execution).await.output();
    assert!(
        output["status"] == "REJECTED" && output["reason"].as_str().is_some_and(|r| r.contains("ada")),
        "{output:#}"
    );
    let late = stasis(&["approve", &case]);
    assert!(late.code == 3 && late.err.contains("waits for no answer any more"), "{} {}", late.code, late.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_what_to_do_next() {
    let unknown = "case-20200101T000000Z-00000000";
    let unreachable = local().command_line(&["list"], &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).output();
    let nowhere = Ran::of(&unreachable.expect("stasis runs"));
    assert!(nowhere.code == 5 && nowhere.err.contains("AWS_ENDPOINT_URL"), "{} {}", nowhere.code, nowhere.err);
    let table: [(&[&str], i32, &str); 9] = [
        (&["show", unknown], 3, "stasis list names those that there are"),
        (&["verify", unknown], 3, "stasis list names those that there are"),
        (&["fetch", unknown, "nowhere"], 3, "stasis list names those that there are"),
        (&["release", unknown, "--reason", "x"], 3, "stasis list names those that there are"),
        (&["list", "--bucket", "no-such-bucket-of-stasis"], 3, "--bucket"),
        (&["verify", "no/such/folder"], 3, "there is no such folder"),
        (&["verify", unknown, "--offline"], 2, "fetch"),
        (&["release", "web-1", "--reason", "x"], 2, "case"),
        (&["contain", "i-0000000000000000f"], 3, "i-0000000000000000f"),
    ];
    for (arguments, code, words) in table {
        let ran = stasis(arguments);
        assert!(ran.code == code && ran.err.contains(words), "{arguments:?}: {} {}{}", ran.code, ran.out, ran.err);
    }
    let no_stack = local().command_line(&["list", "--stack", "other"], &[("STASIS_EVIDENCE_BUCKET", "")]).output();
    let no_stack = Ran::of(&no_stack.expect("stasis runs"));
    assert!(
        no_stack.code == 3 && no_stack.err.contains("there is no stack other"),
        "{} {}",
        no_stack.code,
        no_stack.err
    );
    // Without the variables, the stack says where everything is.
    let by_stack = local().command_line(&["--json", "list"], &[("STASIS_EVIDENCE_BUCKET", "")]).output();
    assert_eq!(Ran::of(&by_stack.expect("stasis runs")).code, 0);
    assert!(stasis(&["completions", "bash"]).out.contains("verify"));
}
