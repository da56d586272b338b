//! Pages as runs of every kind make them, with every action in them, and with whatever an attacker may write into a name, a
//! title or a process: for the tests here, and written into the folder that `STASIS_REPORT_PAGES` names for those that open
//! them in a browser (tests/browser/).

use super::words::{PAIRS, stage};
use super::{Conclusion, Material, conclude, expected_stages, html};
use crate::sample;
use chrono::TimeDelta;
use stasis_model::SCHEMA;
use stasis_model::action::{AclEntry, Action, Device, Target};
use stasis_model::approval::{Answer, Verdict};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, Credentials, Language, Mode};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::disks::{LockMode, Place};
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::{Allows, Peer};
use stasis_model::memory::{AcquisitionStatus, MemoryChoice, WindowsTool};
use stasis_model::policy::{ApprovalTerms, Decision, OnExpiry, Playbook};
use stasis_model::stage::{Failure, Outcome, Stage, StageReport, StageStatus};
use stasis_model::tags::Tag;
use stasis_model::trigger::Source;

/// A stretch of an unbroken word.
macro_rules! unbroken {
    () => {
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    };
}

/// What somebody who holds the instance may write wherever there is text of theirs.
const HOSTILE: [&str; 6] = [
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "\"'>&lt;/bdi></td></table></main><h1>Contained</h1><!--",
    "invoice\u{202e}fdp.exe\u{2066}\u{200b}\u{1b}[2J",
    concat!(unbroken!(), unbroken!(), unbroken!(), unbroken!()),
    "本番サーバー خادم الإنتاج 🦀",
    "url(https://example.com/x) }} </style><style>body{display:none}</style> {} {{0}} javascript:alert(1)",
];

fn everything(instance: &str) -> Vec<(Stage, Vec<Action>)> {
    let instance = || instance.parse().expect("id");
    let interface = || "eni-0aaaaaaaaaaaaaaa1".parse().expect("id");
    let group = |n: u8| format!("sg-0fffffffffffffff{n}").parse().expect("id");
    let vpc = || "vpc-0aaaaaaaaaaaaaaa1".parse().expect("id");
    let volume = || "vol-0aaaaaaaaaaaaaaa1".parse().expect("id");
    let snapshot = || "snap-0aaaaaaaaaaaaaaa1".parse().expect("id");
    let place = || Place { account: "222233334444".parse().expect("id"), region: "eu-west-1".parse().expect("region") };
    let tags = || vec![Tag { key: "Owner".to_owned(), value: "WebTeam".to_owned() }];
    let resources = || sample::case().baseline.instance.resources(&sample::case().instance.instance_id);
    let devices = || vec![Device { device: "/dev/xvda".to_owned(), volume_id: volume() }];
    let targets = || {
        vec![Target { id: sample::case().instance.instance_id.to_string(), port: Some(8080), availability_zone: None }]
    };
    let target_group =
        || "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef".to_owned();
    let allows =
        || vec![Allows { protocol: "tcp".to_owned(), from_port: 443, to_port: 443, peer: Peer::Group(group(9)) }];
    let entry = |egress| AclEntry {
        network_acl: "acl-1".to_owned(),
        rule_number: 7,
        egress,
        cidr: "198.51.100.7/32".to_owned(),
    };
    let (web, old, document) = (|| "web".to_owned(), || "old-web".to_owned(), || "Stasis-AcquireMemory".to_owned());
    let key = || "cases/c/memory/image.lime".to_owned();
    let acquire = |windows_tool| Action::AcquireMemory {
        instance: instance(),
        document: document(),
        collector: "00".repeat(32),
        windows_tool,
        delivery_seconds: 60,
        manifest: 1,
    };
    let snapshots = |without_root| Action::CreateSnapshots {
        instance: instance(),
        without: if without_root { vec![volume()] } else { Vec::new() },
        without_root,
        description: String::new(),
        tags: tags(),
    };
    vec![
        (
            Stage::Protect,
            vec![
                Action::EnableTerminationProtection { instance: instance() },
                Action::EnableStopProtection { instance: instance() },
                Action::StopOnShutdown { instance: instance() },
                Action::KeepVolumes { instance: instance(), devices: devices() },
                Action::Tag { resources: resources(), tags: tags() },
            ],
        ),
        (
            Stage::Detach,
            vec![
                Action::LowerMinimumSize { group: web(), from: 2, to: 1 },
                Action::DetachFromScalingGroup { group: web(), instance: instance(), decrement: true },
                Action::DetachFromScalingGroup { group: web(), instance: instance(), decrement: false },
                Action::DeregisterTargets { target_group: target_group(), targets: targets() },
                Action::DeregisterFromClassicLoadBalancer { load_balancer: old(), instance: instance() },
            ],
        ),
        (
            Stage::Prepare,
            vec![
                Action::CreateQuarantineGroup { vpc: vpc(), tags: tags() },
                Action::CreatePassThroughGroup { vpc: vpc(), tags: tags() },
                Action::OpenPassThroughGroup { group: group(2), egress: true, allows: allows() },
                Action::RevokeRules { group: group(1), egress: false, allows: allows() },
                Action::AllowEgress { group: group(1), allows: allows() },
            ],
        ),
        (
            Stage::Quarantine,
            vec![
                Action::Quarantine {
                    interface: interface(),
                    group: group(1),
                    via: Some(group(2)),
                    from: vec![group(3)],
                },
                Action::ClosePassThroughGroup { group: group(2), egress: false, allows: allows() },
                Action::DenyAddress { entry: entry(true) },
            ],
        ),
        (
            Stage::Capture,
            vec![
                Action::SendCommand {
                    instance: instance(),
                    document: "Stasis-CaptureVolatile".to_owned(),
                    output_prefix: String::new(),
                    delivery_seconds: 60,
                },
                Action::KeepCommandOutput {
                    instance: instance(),
                    command_id: "c".to_owned(),
                    step: "processes".to_owned(),
                },
                Action::KeepConsole { instance: instance(), screenshot: true },
                Action::KeepConsole { instance: instance(), screenshot: false },
            ],
        ),
        (
            Stage::Memory,
            vec![
                Action::BeginUpload { instance: instance(), key: key() },
                Action::WriteManifest {
                    instance: instance(),
                    number: 1,
                    key: key(),
                    upload_id: "u".to_owned(),
                    first_part: 1,
                    parts: 4,
                    part_bytes: 64 << 20,
                    uploads_at_once: 4,
                },
                acquire(None),
                acquire(Some(WindowsTool::default())),
                Action::CompleteUpload {
                    instance: instance(),
                    key: key(),
                    upload_id: "u".to_owned(),
                    parts: 4,
                    bytes: 256 << 20,
                    crc64nvme: None,
                },
                Action::KeepAcquisition {
                    instance: instance(),
                    acquisition: Box::new(sample::acquisition(AcquisitionStatus::Captured)),
                },
            ],
        ),
        (
            Stage::Preserve,
            vec![
                snapshots(false),
                snapshots(true),
                Action::CreateSnapshot { volume: volume(), description: String::new(), tags: tags() },
                Action::LockSnapshot { snapshot: snapshot(), place: place(), mode: LockMode::Governance, days: 365 },
            ],
        ),
        (
            Stage::Replicate,
            vec![
                Action::ShareSnapshot { snapshot: snapshot(), account: place().account },
                Action::CopySnapshot {
                    snapshot: snapshot(),
                    encrypted: true,
                    from: "eu-central-1".parse().expect("region"),
                    place: place(),
                    key: "alias/stasis-copies".to_owned(),
                    description: String::new(),
                    tags: tags(),
                },
                Action::UnshareSnapshot { snapshot: snapshot(), account: place().account },
            ],
        ),
        (
            Stage::Scope,
            vec![Action::CreateFlowLogs {
                interfaces: vec![interface()],
                log_group: "/stasis/flow-logs".to_owned(),
                role: "role".to_owned(),
                tags: tags(),
            }],
        ),
        (
            Stage::Revoke,
            vec![
                Action::ReplaceInstanceProfile {
                    instance: instance(),
                    association: "iip-1".to_owned(),
                    from: "arn:aws:iam::111122223333:instance-profile/web".to_owned(),
                    to: "arn:aws:iam::111122223333:instance-profile/stasis-quarantine".to_owned(),
                },
                Action::RevokeSessions { role: web(), policy: "stasis".to_owned(), issued_before: sample::time() },
            ],
        ),
        (
            Stage::Release,
            vec![
                Action::RestoreGroups { interface: interface(), groups: vec![group(3)], from: vec![group(1)] },
                Action::AllowAddress { entry: entry(false) },
                Action::RestoreSessions { role: web(), policy: "stasis".to_owned() },
                Action::RegisterTargets { target_group: target_group(), targets: targets() },
                Action::RegisterWithClassicLoadBalancer { load_balancer: old(), instance: instance() },
                Action::AttachToScalingGroup { group: web(), instance: instance() },
                Action::RestoreMinimumSize { group: web(), from: 1, to: 2 },
                Action::EnterStandby { group: web(), instance: instance() },
                Action::ProtectFromScaleIn { group: web(), instance: instance() },
                Action::DisableTerminationProtection { instance: instance() },
                Action::DisableStopProtection { instance: instance() },
                Action::RestoreShutdownBehavior { instance: instance(), behavior: "terminate".to_owned() },
                Action::RestoreDeleteOnTermination { instance: instance(), devices: devices() },
                Action::DeleteFlowLog { flow_log: "fl-1".to_owned() },
                Action::RestoreTags { resources: resources(), tags: tags() },
                Action::MarkReleased { instance: instance() },
                Action::CloseClaim { key: "open/111122223333/eu-central-1/i.json".to_owned() },
            ],
        ),
    ]
}

/// A run as the page sees it.
struct Run {
    name: &'static str,
    case: Case,
    reports: Vec<StageReport>,
    last: bool,
}

impl Run {
    /// A run in which every stage did its work.
    fn whole(name: &'static str) -> Self {
        let mut case = crate::report::tests::worked();
        case.decided.playbooks = vec![Playbook::CoinMiner];
        case.baseline.instance.instance_profile = Some("arn:aws:iam::111122223333:instance-profile/web".to_owned());
        case.source = Source::Finding {
            id: Some("arn:aws:guardduty:eu-central-1:111122223333:detector/d/finding/f".to_owned()),
            finding_type: Some("CryptoCurrency:EC2/BitcoinTool.B!DNS".to_owned()),
            severity: Some(8.0),
            title: Some("title-of-the-finding".to_owned()),
        };
        let mut run = Self { name, case, reports: Vec::new(), last: true };
        let mut begun = 150;
        for (stage, actions) in everything(run.case.instance.instance_id.as_str()) {
            if stage != Stage::Release {
                // Each stage takes longer than the one before, as evidence does.
                run.report(stage, actions, begun, begun * 3 / 2);
                begun = begun * 5 / 2;
            }
        }
        run.report(Stage::Verify, Vec::new(), begun, begun + 900);
        run
    }

    fn report(&mut self, stage: Stage, actions: Vec<Action>, begun: i64, ended: i64) {
        let at = |milliseconds| self.case.opened_at + TimeDelta::milliseconds(milliseconds);
        let evidence = |kind, id: &str, sha256: Option<String>| Evidence {
            kind,
            id: id.to_owned(),
            description: "described".to_owned(),
            location: None,
            size: sha256.as_ref().map(|_| 1_234),
            sha256,
        };
        let kept = match stage {
            Stage::Capture => {
                let id = format!("{}volatile/processes.txt", self.case.prefix());
                vec![
                    evidence(EvidenceKind::Command, "c0ffee", None),
                    evidence(EvidenceKind::Object, &id, Some("ab".repeat(32))),
                ]
            }
            Stage::Preserve => vec![evidence(EvidenceKind::Snapshot, "snap-0aaaaaaaaaaaaaaa1", None)],
            _ => Vec::new(),
        };
        let checks = match stage {
            Stage::Scope => vec![Check::missing(crate::checks::scope::FLOWS, "expected", "observed")],
            _ => Vec::new(),
        };
        let report = StageReport {
            schema: SCHEMA,
            case_id: self.case.case_id.clone(),
            stage,
            attempt: 1,
            status: StageStatus::Done,
            started_at: at(begun),
            finished_at: at(ended),
            wait_seconds: None,
            summary: "summary".to_owned(),
            previous: None,
            actions: actions
                .into_iter()
                .map(|action| {
                    let mut record = sample::record(action, None);
                    record.at = at(ended);
                    record.request_id = Some("0a1b2c3d-0000-4000-8000-000000000001".to_owned());
                    record
                })
                .collect(),
            failures: Vec::new(),
            evidence: kept,
            checks,
            notes: vec!["noted".to_owned()],
            answer: None,
        };
        self.case.stages.entry(stage).or_insert_with(|| report.outcome(None));
        self.reports.push(report);
    }

    fn fail(&mut self, of: Stage, what: &str) {
        let failure = Failure::lasting("UnauthorizedOperation", what);
        if let Some(report) = self.reports.iter_mut().find(|report| report.stage == of) {
            report.status = StageStatus::Incomplete;
            report.failures.push(failure.clone());
            if let Some(record) = report.actions.last_mut() {
                record.outcome = Outcome::Failed;
                record.error = Some(failure);
            }
            let outcome = report.outcome(None);
            self.case.stages.insert(of, outcome);
        }
    }

    fn spoil(&mut self, name: &str, status: CheckStatus, observed: &str) {
        let checks = self.case.stages.get_mut(&Stage::Verify).map(|verify| &mut verify.checklist).expect("verified");
        let check = checks.iter_mut().find(|check| check.name == name).expect("a check");
        check.status = status;
        observed.clone_into(&mut check.observed);
    }

    fn released(name: &'static str) -> Self {
        let mut run = Self::whole(name);
        let actions = everything(run.case.instance.instance_id.as_str()).pop().map(|(_, actions)| actions);
        run.report(Stage::Release, actions.unwrap_or_default(), 90_000_000, 90_060_000);
        let release = run.case.stages.get_mut(&Stage::Release).expect("released");
        use crate::checks::release::{CLASSIC, EVIDENCE, FLOW_LOGS, GROUPS, PROTECTION, SCALING, TARGETS, VOLUMES};
        release.checklist = [GROUPS, SCALING, TARGETS, CLASSIC, PROTECTION, VOLUMES, FLOW_LOGS, EVIDENCE]
            .into_iter()
            .map(|name| Check::of(name, "expected", true, "observed"))
            .collect();
        run
    }

    fn preserved(name: &'static str, verdict: Verdict) -> Self {
        let mut run = Self::whole(name);
        run.case.mode = Mode::Preserve;
        run.case.decided.decision = Decision::Ask;
        run.case.decided.approval = Some(ApprovalTerms { minutes: 30, on_expiry: OnExpiry::Preserve });
        run.reports.retain(|report| !matches!(report.stage, Stage::Detach | Stage::Prepare | Stage::Quarantine));
        run.case.stages.retain(|stage, _| !matches!(stage, Stage::Detach | Stage::Prepare | Stage::Quarantine));
        run.answer(verdict, false);
        run
    }

    fn answer(&mut self, verdict: Verdict, contain: bool) {
        let at = self.case.opened_at + TimeDelta::milliseconds(200);
        let answer = Answer { verdict, contain, by: Some("Jo".to_owned()), reason: Some("because".to_owned()), at };
        let mut outcome = crate::report::tests::outcome(Stage::Approval, StageStatus::Done);
        outcome.answer = Some(answer);
        self.case.stages.insert(Stage::Approval, outcome);
    }

    fn page(&self, language: Language) -> String {
        let mut case = self.case.clone();
        case.policy.report_language = language;
        let material = Material { case: &case, reports: &self.reports, last: self.last, now: sample::time() };
        html(&material, &conclude(&material))
    }

    fn conclusion(&self) -> Conclusion {
        conclude(&Material { case: &self.case, reports: &self.reports, last: self.last, now: sample::time() })
    }

    /// The same with what an attacker may write everywhere where there is text of others.
    fn hostile(name: &'static str) -> Self {
        let mut run = Self::whole(name);
        let all = HOSTILE.join(" ");
        run.case.reason = Some(all.clone());
        run.case.source = Source::Finding {
            id: Some(all.clone()),
            finding_type: Some(all.clone()),
            severity: Some(8.0),
            title: Some(all.clone()),
        };
        run.case.decided.by = format!("rule \"{all}\"");
        run.case.execution = Some(all.clone());
        let instance = &mut run.case.baseline.instance;
        instance.tags.insert("Name".to_owned(), all.clone());
        instance.instance_profile = Some(all.clone());
        if let Observed::Known(Some(membership)) = &mut run.case.baseline.scaling {
            membership.group.clone_from(&all);
        }
        run.case.baseline.classic_load_balancers = Observed::Known(HOSTILE.map(str::to_owned).to_vec());
        run.case.baseline.protection = Observed::Unknown(all.clone());
        run.answer(Verdict::Approved, true);
        if let Some(answer) = run.case.stages.get_mut(&Stage::Approval).and_then(|approval| approval.answer.as_mut()) {
            answer.by = Some(all.clone());
            answer.reason = Some(all.clone());
        }
        run.fail(Stage::Capture, &format!("the agent printed {all}"));
        run.spoil(crate::checks::verify::INTERFACES, CheckStatus::Fail, &all);
        for report in &mut run.reports {
            report.notes = HOSTILE.iter().map(|text| format!("process {text}")).collect();
            for piece in &mut report.evidence {
                piece.id.clone_from(&all);
                piece.description.clone_from(&all);
                piece.location = Some(all.clone());
            }
            for record in &mut report.actions {
                if let Action::DetachFromScalingGroup { group, .. } = &mut record.action {
                    group.clone_from(&all);
                    record.words = record.action.to_string();
                    record.target = record.action.target();
                }
                record.request_id = Some(all.clone());
            }
        }
        run
    }
}

fn runs() -> Vec<Run> {
    let contained = Run::whole("contained");
    let mut pending = Run::whole("pending");
    pending.last = false;
    pending.case.stages.insert(Stage::Preserve, crate::report::tests::outcome(Stage::Preserve, StageStatus::Waiting));
    let mut partial = Run::whole("partial");
    partial.fail(Stage::Quarantine, "refused");
    partial.fail(Stage::Capture, "unreachable");
    partial.case.stages.remove(&Stage::Preserve);
    partial.reports.retain(|report| !matches!(report.stage, Stage::Preserve | Stage::Memory));
    let mut dead = crate::report::tests::outcome(Stage::Memory, StageStatus::Failed);
    dead.failures = vec![Failure::lasting("Lambda.Unknown", "gone")];
    partial.case.stages.insert(Stage::Memory, dead);
    for (name, status) in [
        (crate::checks::verify::INTERFACES, CheckStatus::Fail),
        (crate::checks::verify::SCALING, CheckStatus::Unknown),
        (crate::checks::verify::VOLATILE, CheckStatus::Missing),
    ] {
        partial.spoil(name, status, "observed");
    }
    let mut unverified = Run::whole("unverified");
    unverified.case.stages.remove(&Stage::Verify);
    unverified.case.policy.credentials = Credentials::Revoke;
    let mut planned = Run::whole("dry-run");
    planned.case.mode = Mode::DryRun;
    planned.case.source = Source::Request;
    for report in &mut planned.reports {
        report.status = StageStatus::Planned;
        report.actions.iter_mut().for_each(|record| record.outcome = Outcome::Planned);
    }
    if let Some(record) = planned.reports.first_mut().and_then(|report| report.actions.first_mut()) {
        record.error = Some(Failure::lasting("UnauthorizedOperation", "refused"));
    }
    planned.case.stages = planned.reports.iter().map(|report| (report.stage, report.outcome(None))).collect();
    planned.case.stages.insert(Stage::Scope, crate::report::tests::outcome(Stage::Scope, StageStatus::Failed));
    let mut rejected = Run::released("rejected");
    rejected.answer(Verdict::Rejected, false);
    let mut approved = Run::whole("approved");
    approved.answer(Verdict::Approved, true);
    let mut half = Run::released("release-partial");
    half.fail(Stage::Release, "refused");
    let mut nothing = Run::whole("no-report");
    nothing.reports.clear();
    nothing.case.stages.clear();
    nothing.case.policy.memory.choice = MemoryChoice::Leave;
    vec![
        contained,
        pending,
        partial,
        unverified,
        planned,
        Run::released("released"),
        rejected,
        half,
        approved,
        Run::preserved("not-approved", Verdict::Expired),
        Run::preserved("unasked", Verdict::Unasked),
        nothing,
        Run::hostile("hostile"),
    ]
}

/// The text of a page, as a browser shows it, without what is marked as recorded.
fn own_text(page: &str) -> String {
    let body = page.split_once("</head>").map_or(page, |(_, body)| body);
    let mut text = String::new();
    let (mut recorded, mut rest) = (0_usize, body);
    while let Some((before, after)) = rest.split_once('<') {
        if recorded == 0 {
            text.push_str(before);
        }
        let (tag, after) = after.split_once('>').expect("a whole tag");
        let name = tag.split_whitespace().next().unwrap_or_default();
        match name.trim_start_matches('/') {
            "bdi" | "code" | "pre" if name.starts_with('/') => recorded -= 1,
            "bdi" | "code" | "pre" => recorded += 1,
            _ => text.push('\n'),
        }
        rest = after;
    }
    text
}

/// Words of a text that make an English phrase: two or more next to each other, of small letters.
fn phrases(text: &str) -> Vec<String> {
    let is_word = |word: &str| {
        let word = word.trim_end_matches([',', '.', ';', ':']);
        word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase())
    };
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|line| line.windows(2).any(|pair| pair.iter().all(|word| is_word(word))))
        .map(|l| l.join(" "))
        .collect()
}

#[test]
fn no_english_of_the_page_is_left_in_a_japanese_one() {
    for run in runs().iter().filter(|run| run.name != "hostile") {
        let (english, japanese) = (own_text(&run.page(Language::English)), own_text(&run.page(Language::Japanese)));
        assert!(!phrases(&english).is_empty(), "{}: the test would find none", run.name);
        // What was recorded may be part of a sentence of ours.
        let recorded: Vec<&str> = run
            .case
            .stages
            .values()
            .flat_map(|outcome| &outcome.checklist)
            .flat_map(|check| [check.expected.as_str(), check.observed.as_str()])
            .chain([run.case.decided.by.as_str(), run.case.decided.policy.as_str()])
            .collect();
        let japanese = recorded.iter().fold(japanese, |text, fact| text.replace(fact, ""));
        assert_eq!(phrases(&japanese), Vec::<String>::new(), "{}", run.name);
        for (english, _) in PAIRS.iter().filter(|(english, _)| english.contains(' ')) {
            let parts = english.split("{}").filter(|part| part.trim().len() > 3);
            for part in parts {
                assert!(!japanese.contains(part), "{}: {part}", run.name);
            }
        }
        for of in run.case.stages.keys().filter(|of| **of != Stage::Report) {
            assert!(japanese.contains(stage(*of, Language::Japanese)), "{}: {of}", run.name);
        }
    }
}

#[test]
fn each_page_says_its_language_and_a_japanese_one_once_that_records_are_as_they_were_made() {
    for run in runs() {
        let (english, japanese) = (run.page(Language::English), run.page(Language::Japanese));
        assert!(english.contains("<html lang=\"en\">") && japanese.contains("<html lang=\"ja\">"));
        assert_eq!(japanese.matches("記録されたままの言語").count(), 1, "{}", run.name);
        let reason = run.conclusion().reason;
        assert!(reason.is_ascii() || run.name == "hostile", "the reason of the answer stays English: {reason}");
    }
}

#[test]
fn foreign_text_stays_text_and_turns_nothing_around() {
    let run = Run::hostile("hostile");
    for language in [Language::English, Language::Japanese] {
        let page = run.page(language);
        for tag in ["<script", "<img", "</style><style", "<h1>Contained", "<!--"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.matches("&lt;script&gt;").count() >= 20);
        assert!(page.contains("invoice[U+202E]fdp.exe[U+2066][U+200B][U+001B][2J"));
        let turning = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{1b}'];
        assert!(!page.contains(turning));
    }
}

#[test]
fn every_setting_is_told_with_what_was_read_back() {
    let page = Run::whole("contained").page(Language::English);
    assert!(
        page.contains("eni-0aaaaaaaaaaaaaaa1 in sg-0fffffffffffffff1"),
        "the group of the interface, as verify read it"
    );
    assert_eq!(page.matches("not read back").count(), 3, "addresses, profile and network ACL");
    let released = Run::released("released").page(Language::English);
    assert!(
        released.contains("turn termination protection off again: done"),
        "the way back is told beside the way there"
    );
}

#[test]
fn how_to_verify_and_to_release_is_said_with_the_case_s_id() {
    for language in [Language::English, Language::Japanese] {
        let page = Run::whole("contained").page(language);
        for command in ["stasis verify", "stasis fetch", "stasis release"] {
            assert!(page.contains(&format!("{command} case-20261123T061126Z-1f2e3d4c")), "{command}");
        }
        assert!(page.contains("openssl dgst -sha256 -verify key.pem -signature manifest.sig manifest.json"));
    }
}

#[test]
fn the_runs_are_of_every_kind_and_hold_every_stage() {
    let runs = runs();
    for status in ["CONTAINED", "PARTIAL", "DRY_RUN", "RELEASED", "REJECTED"] {
        assert!(runs.iter().any(|run| run.conclusion().status.to_string() == status), "{status}");
    }
    for stage in expected_stages(&runs[0].case) {
        assert!(runs[0].reports.iter().any(|report| report.stage == stage), "{stage}");
    }
}

/// Writes the pages for the tests that open them in a browser.
#[test]
#[expect(clippy::disallowed_methods, reason = "where to write to is said by the one who opens the pages")]
fn pages_are_written_where_they_are_asked_for() {
    let Ok(folder) = std::env::var("STASIS_REPORT_PAGES") else { return };
    for run in runs() {
        for language in [Language::English, Language::Japanese] {
            let path = format!("{folder}/{}.{}.html", run.name, language.tag());
            std::fs::write(&path, run.page(language)).expect("the page is written");
        }
    }
    let hostile = serde_json::to_string(&HOSTILE.map(crate::text::visible)).expect("JSON");
    std::fs::write(format!("{folder}/hostile.json"), hostile).expect("the texts are written");
}
