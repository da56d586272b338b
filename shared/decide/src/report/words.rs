//! The report's own text, in each language side by side: one that lacks a language, or the places of what is filled in, does
//! not compile. What AWS answered and what a stage recorded is not translated.

use super::Since;
use crate::checks;
use maud::{Markup, html};
use stasis_model::action::{Action, Device, Target, arn_name, target_group_name};
use stasis_model::case::Language;
use stasis_model::check::{Check, CheckStatus};
use stasis_model::disks::Place;
use stasis_model::evidence::EvidenceKind;
use stasis_model::ids::{GroupId, VolumeId};
use stasis_model::stage::{ActionRecord, Outcome, Stage, StageStatus};

/// How many places there are to fill in.
const fn holes(template: &str) -> usize {
    let (mut rest, mut count) = (template.as_bytes(), 0);
    while let [first, after @ ..] = rest {
        if *first == b'{' && matches!(after, [b'}', ..]) {
            count += 1;
        }
        rest = after;
    }
    count
}

macro_rules! words {
    ($($name:ident: $english:literal, $japanese:literal;)*) => {
        /// The texts of one language; `{}` is a place that is filled in.
        pub(crate) struct Words { $(pub(crate) $name: &'static str,)* }
        const ENGLISH: Words = Words { $($name: $english,)* };
        const JAPANESE: Words = Words { $($name: $japanese,)* };
        $(const _: () = assert!(holes($english) == holes($japanese), stringify!($name));)*
        #[cfg(test)]
        pub(crate) const PAIRS: &[(&str, &str)] = &[$(($english, $japanese),)*];
    };
}

impl Words {
    /// Those of a language.
    pub(crate) fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::Japanese => &JAPANESE,
        }
    }
}

words! {
    brand: "Stasis case report", "Stasis インシデント報告書";
    // The headline.
    contained: "Contained", "封じ込め完了";
    dry_run: "Dry run: nothing was changed", "ドライラン：何も変更していません";
    released: "Released", "封じ込め解除済み";
    rejected: "Rejected: put back as it was", "却下：元の状態に戻しました";
    release_partial: "Release is not complete", "封じ込めの解除は完了していません";
    partial_cut_off: "Partial: cut off, but something is missing", "一部未完了：遮断済みですが、問題が残っています";
    partial_online: "Partial: NOT cut off from the network", "一部未完了：ネットワークから遮断されていません";
    partial_unknown: "Partial: not known whether it is cut off", "一部未完了：遮断されているか不明です";
    not_approved: "Preserved, NOT contained: without approval", "保全のみ：承認がないため封じ込めていません";
    preserved: "Preserved, still on the network, as asked", "保全のみ：指定どおりネットワーク上に残しています";
    account_region: "account {}, {}", "アカウント {}、{}";
    pending: "Evidence is still being gathered; this report will be written again when it is complete.",
        "証拠を収集中です。収集が完了すると、この報告書は書き直されます。";
    recorded: "", "AWS の応答と各段階の記録（確認結果の「期待値」「実際の値」、エラー、補足など）は、記録されたままの言語で掲載しています。";
    // The key facts.
    network: "Network", "ネットワーク";
    network_cut: "cut off", "遮断済み";
    network_open: "NOT cut off", "遮断されていません";
    network_unknown: "not known", "不明";
    network_untouched: "left as it is", "変更なし";
    network_restored: "put back", "復元済み";
    network_release_partial: "see the checklist", "チェックリストを参照";
    passed: "{} of {} passed", "{} / {} 項目合格";
    no_checklist: "nothing was verified", "未検証";
    pieces: "{} pieces", "{} 件";
    pieces_pending: "{} pieces so far", "現時点で {} 件";
    // What happened.
    what_happened: "What happened", "概要";
    case: "Case", "ケース";
    ticket: "Ticket", "チケット";
    finding: "Finding", "検出結果";
    of_no_type: "of no type", "種別なし";
    in_guardduty_s_words: "In GuardDuty's words", "GuardDuty の説明";
    severity: "Severity", "重要度";
    finding_id: "Finding id", "検出結果 ID";
    started: "Started", "開始のきっかけ";
    by_hand: "by hand or by another tool", "手動または他のツールによる実行";
    decided: "Decided", "決定";
    taken_over: "Taken over", "引き継ぎ";
    taken_over_because: "{}, because {}", "{}、理由：{}";
    approval: "Approval", "承認";
    reason_given: "Reason given", "申告された理由";
    opened: "Opened", "ケース開始";
    cut_off: "Cut off from the network", "ネットワーク遮断";
    cut_off_after: "{}, {} after {}", "{}（{}から {}）";
    execution: "Execution", "実行 ARN";
    // The checklist.
    checklist: "Security checklist", "セキュリティチェックリスト";
    checklist_about: "Read back from AWS after the work was done. UNKNOWN never counts as a pass.",
        "作業後に AWS から読み直した結果です。「不明」を合格とみなすことはありません。";
    checklist_none: "There is no checklist: nothing was verified.", "チェックリストはありません。検証が行われていません。";
    result: "Result", "結果";
    check: "Check", "確認項目";
    expected: "Expected", "期待値";
    observed: "Observed", "実際の値";
    // Beyond the instance.
    beyond: "Beyond the instance", "インスタンス以外への影響";
    beyond_about: "What else the compromise may reach, by the playbooks of the policy. It says nothing of the containment.",
        "ポリシーのプレイブックに従って調べた、侵害が及びうる範囲です。封じ込めの成否とは関係ありません。";
    // The timeline.
    timeline: "Timeline", "タイムライン";
    timeline_picture: "When each stage ran, and when the instance was cut off", "各段階の実行時刻とネットワーク遮断の時刻";
    timeline_none: "No stage has reported.", "どの段階からも報告がありません。";
    timeline_about: "Time since the case was opened, on a logarithmic scale.", "ケース開始からの経過時間（対数目盛）。";
    stage: "Stage", "段階";
    took: "took", "所要";
    ended_at: "ended at", "終了時点";
    status: "status", "状態";
    cut_off_at: "cut off from the network: {}", "ネットワーク遮断：{}";
    // Before and after.
    before_and_after: "Before and after", "変更前と変更後";
    before_and_after_about: "What the instance was like before Stasis touched it ({}), what was done, and what AWS showed when it was read again.",
        "Stasis が操作する前の状態（{}）、実施した操作、および操作後に AWS から読み直した状態です。";
    setting: "Setting", "設定";
    before: "Before", "変更前";
    done: "Done", "操作";
    after: "After, as read back", "変更後（読み直した値）";
    left: "left as it was", "変更なし";
    not_read_back: "not read back", "読み直していません";
    termination_protection: "Termination protection", "終了保護";
    stop_protection: "Stop protection", "停止保護";
    shutdown: "Shutdown from inside", "OS からのシャットダウン時の動作";
    deleted_on_termination: "Deleted on termination", "終了時に削除されるボリューム";
    scaling_group: "Auto Scaling group", "Auto Scaling グループ";
    target_groups: "Target groups", "ターゲットグループ";
    classic_load_balancers: "Classic load balancers", "Classic Load Balancer";
    groups_of: "Security groups of {}", "{} のセキュリティグループ";
    addresses_of: "Addresses of {}", "{} のアドレス";
    instance_profile: "Instance profile", "インスタンスプロファイル";
    case_tags: "Tags of the case", "ケースのタグ";
    network_acl: "Entries of network ACLs", "ネットワーク ACL のエントリ";
    flow_logs: "Flow logs of Stasis", "Stasis のフローログ";
    on: "on", "有効";
    off: "off", "無効";
    none: "none", "なし";
    not_readable: "could not be read: {}", "読み取り不可：{}";
    group_sizes: "{} ({}; min {}, desired {}, max {})", "{}（{}、最小 {}、希望 {}、最大 {}）";
    in_group: "{} in {}", "{}（{}）";
    public_address: "public {}", "パブリック {}";
    no_source_check: "source/destination check off", "送信元/送信先チェック無効";
    // What was done.
    actions: "What was done", "実施した操作";
    actions_none: "No stage has anything to tell.", "記録された操作はありません。";
    call: "call {}, {}, {}", "{} 回目、{}、{}";
    action: "Action", "操作";
    request: "AWS request", "AWS リクエスト ID";
    // Evidence.
    evidence: "Evidence", "証拠";
    evidence_about: "Everything is under {}, versioned and locked; {} lists every file with its version and SHA-256, and is signed.",
        "すべて {} 以下にあり、バージョニングとロックで保護されています。{} に全ファイルのバージョンと SHA-256 が記載され、署名されています。";
    evidence_of_host: "Volatile data and memory are what a compromised host said of itself. Snapshots, and what AWS recorded, are not.",
        "揮発性データとメモリは、侵害されたホスト自身から得たものです。スナップショットと AWS の記録はそうではありません。";
    custody: "Who did what", "操作の記録";
    custody_about: "Calls that name this instance or what belongs to it, from a minute before the case was opened, as CloudTrail recorded them up to {}: {} that a stage's record confirms, {} more in sessions of Stasis, {} by others.",
        "ケースを開く 1 分前から {} までに CloudTrail に記録された、このインスタンスと関連リソースに対する操作：各段階の記録と一致するもの {} 件、そのほか Stasis のセッションによるもの {} 件、それ以外 {} 件。";
    custody_missing: "Not shown by CloudTrail: {} calls that the stages made.", "CloudTrail に現れていない各段階の操作：{} 件。";
    custody_more: "and {} more, in {}", "ほか {} 件は {} を参照";
    custody_who: "Who", "実行者";
    custody_when: "When", "日時";
    custody_refused: "refused: {}", "拒否：{}";
    evidence_none: "No evidence was gathered.", "証拠は収集されていません。";
    kind: "Kind", "種別";
    what: "What", "内容";
    id: "Id", "ID";
    kind_command: "command", "コマンド";
    kind_object: "file", "ファイル";
    kind_snapshot: "snapshot", "スナップショット";
    bytes: "{} bytes", "{} バイト";
    located_in: "in {}", "保管先 {}";
    verify: "How to verify it", "証拠の検証方法";
    verify_with: "With the command line of Stasis: every file, version, lock and signature, in the bucket or on a copy.",
        "Stasis のコマンドラインを使う場合（バケット上または複製上で、全ファイルとバージョン、ロック、署名を検証）：";
    verify_without: "Without Stasis: the signature of the manifest, then every file that it lists.",
        "Stasis を使わない場合（マニフェストの署名を検証し、続いて記載された全ファイルを検証）：";
    verify_key: "{} is the public half of the signing key ({}). Take it from KMS or from where it was kept at deployment, not from the case: whoever could write a false case would put a key beside it. {} stands for the key's ARN, the stack's output {}.",
        "{} は署名鍵の公開鍵です（{}）。ケースの中からではなく、KMS またはデプロイ時に保管した場所から取得してください。偽のケースを書き込める者は、偽の鍵も置けるためです。{} には鍵の ARN（スタックの出力 {}）を指定します。";
    verify_limits: "What it does not prove is in docs/case-file.md.", "この検証で証明できないことは docs/case-file.md を参照してください。";
    // What remains.
    risks: "Remaining risks", "残存リスク";
    risks_none: "None that Stasis knows of. It knows what the checklist asks, and no more.",
        "Stasis が把握しているものはありません。把握できるのはチェックリストの項目だけです。";
    risk_tracked_cut: "Connections through a NAT gateway, egress-only internet gateway, network load balancer, interface endpoint or transit gateway, and ICMP, are always tracked by AWS: those that were open go on until they time out. An entry in the network ACL cuts them (policy {}).",
        "NAT ゲートウェイ、Egress-Only インターネットゲートウェイ、Network Load Balancer、インターフェイスエンドポイント、Transit Gateway を経由する接続と ICMP は、AWS が常に追跡します。開いていた接続はタイムアウトまで続きます。遮断するにはネットワーク ACL のエントリを使います（ポリシー {}）。";
    risk_tracked_left: "Connections that were open when the group was swapped may go on until they time out: security groups do not cut tracked connections (policy {}).",
        "セキュリティグループの切り替え時に開いていた接続は、タイムアウトまで続くことがあります。セキュリティグループは追跡中の接続を切断しません（ポリシー {}）。";
    risk_resolver: "Security groups do not filter the VPC's own DNS resolver, instance metadata or time: DNS tunnelling and the role's credentials remain possible.",
        "セキュリティグループは VPC の DNS リゾルバー、インスタンスメタデータ、時刻同期への通信を制限しません。DNS トンネリングやロールの認証情報の取得は引き続き可能です。";
    risk_egress_https: "The policy lets the instance reach any address on port 443 (policy {}), and so may whoever controls it.",
        "ポリシーにより、インスタンスは任意のアドレスのポート 443 に接続できます（ポリシー {}）。侵入者も同じ経路を使えます。";
    risk_egress_endpoints: "Through the VPC's endpoints, where it has any, the instance still reaches on port 443: whatever else is in their security groups, any S3 bucket of the Region, and Systems Manager, also with credentials of another account (policy {}). The endpoints' own policies can narrow that.",
        "VPC エンドポイントがある場合、インスタンスはポート 443 で次に到達できます：エンドポイントと同じセキュリティグループに属するもの、リージョン内の任意の S3 バケット、Systems Manager（他のアカウントの認証情報でも可）（ポリシー {}）。エンドポイントポリシーで制限できます。";
    risk_credentials: "The instance has a role ({}). Credentials taken from it before now stay valid until they expire.",
        "インスタンスにはロールがあります（{}）。すでに盗まれた認証情報は、有効期限まで使用できます。";
    risk_preserve: "The instance is still on the network, as asked (mode preserve).", "指定により、インスタンスはまだネットワーク上にあります（モード preserve）。";
    risk_not_approved: "The instance is still on the network: nobody approved its containment.", "封じ込めが承認されていないため、インスタンスはまだネットワーク上にあります。";
    risk_dry_run: "Nothing was changed: the instance is as it was, and on the network.", "何も変更していません。インスタンスは元のまま、ネットワーク上にあります。";
    // What to do next.
    next: "What to do next", "次に行うこと";
    next_mend: "First mend what is named at the top; the checklist says what AWS sees.",
        "まず冒頭に記載された問題を解消してください。AWS から見た状態はチェックリストにあります。";
    next_again: "Then ask once more, and a new run goes on with this case and does what is left undone: {}",
        "その後もう一度実行すると、新しい実行がこのケースを引き継ぎ、残りの作業を続行します：{}";
    next_contain: "To contain it now: {}", "今すぐ封じ込めるには：{}";
    analysis: "Analysis", "分析";
    next_volatile: "Read the volatile data in {}: processes, sockets, sessions and modules at the time of the incident.",
        "{} の揮発性データを確認します（インシデント発生時のプロセス、ソケット、セッション、カーネルモジュール）。";
    next_memory: "Read the memory image in {} with Volatility; docs/memory.md says how, and where its symbols come from.",
        "{} のメモリイメージを Volatility で解析します。手順とシンボルの入手方法は docs/memory.md にあります。";
    next_disks: "Make volumes from the snapshots in an account of your own and mount them read-only (docs/examine.md); never start the instance's own system.",
        "スナップショットから自分のアカウントにボリュームを作成し、読み取り専用でマウントします（docs/examine.md）。対象の OS は決して起動しないでください。";
    next_trail: "Look in CloudTrail for what the instance's role did ({}), and from which addresses.",
        "CloudTrail で、インスタンスのロール（{}）が何を、どのアドレスから実行したかを調べます。";
    root_cause: "Root cause", "根本原因";
    next_way_in: "Find the way in: what listened where anyone could reach it (see the groups and addresses before), which software was out of date, whose keys or passwords were on it.",
        "侵入経路を特定します。外部から到達できた待ち受けポート（変更前のセキュリティグループとアドレスを参照）、古いソフトウェア、置かれていた鍵やパスワードを確認してください。";
    next_persistence: "Find what stays: accounts, keys, units, timers, cron jobs and modules that were added, and the time of the first of them.",
        "永続化の仕組みを特定します。追加されたアカウント、鍵、サービス、タイマー、cron ジョブ、モジュールと、その最初の時刻を確認してください。";
    next_others: "Look for the same on its neighbours: instances of the same image, scaling group or role, and whoever talked with the same addresses.",
        "同じ痕跡を周辺でも探します。同じイメージ、Auto Scaling グループ、ロールのインスタンス、同じアドレスと通信したホストが対象です。";
    recovery: "Recovery", "復旧";
    next_replace: "Close the way in, then replace the instance from a clean image. Do not reuse its disks.",
        "侵入経路を塞いだうえで、安全なイメージからインスタンスを作り直します。元のディスクは再利用しないでください。";
    next_rotate: "Renew every secret that was on the instance or within reach of its role; deny the role's older sessions.",
        "インスタンス上にあった、またはそのロールから到達できたすべての認証情報を更新し、ロールの古いセッションを拒否します。";
    next_sizes: "The minimum size of scaling group {} was lowered from {} to {}: raise it again once a replacement runs.",
        "Auto Scaling グループ {} の最小サイズを {} から {} に下げました。代替インスタンスの稼働後に戻してください。";
    next_terminate: "Once the evidence is complete and nobody needs the running host any more, turn its termination protection off and terminate it. The snapshots carry the tag {}.",
        "証拠の収集が完了し、稼働中のホストが不要になったら、終了保護を無効にして終了します。スナップショットにはタグ {} が付いています。";
    release: "Release, if it was a false alarm", "誤検知だった場合の封じ込め解除";
    release_about: "It puts back what is listed under Before and after, as far as it is what Stasis changed; evidence is kept.",
        "「変更前と変更後」のうち Stasis が変更したものを元に戻します。証拠は保持されます。";
    release_or: "or, by the state machine {}:", "または、ステートマシン {} を実行します：";
    a_false_alarm: "a false alarm", "誤検知";
    next_watch: "Watch the instance: its targets are healthy and its scaling group keeps it.",
        "インスタンスを監視します。ターゲットが正常で、Auto Scaling グループに維持されていることを確認してください。";
    next_retention: "The evidence stays under Object Lock until its retention ends. What is no longer needed then can be deleted by hand: the snapshots carry the tag {}.",
        "証拠は保持期間が終わるまでオブジェクトロックで保護されます。その後不要になったものは手動で削除できます。スナップショットにはタグ {} が付いています。";
    next_suppress: "Suppress or archive the finding, if it was a false alarm, so that it does not open a new case.",
        "誤検知だった場合は、新しいケースが開かれないよう、検出結果を抑制またはアーカイブしてください。";
    footer: "Written by Stasis {} at {}.", "Stasis {} が {} に作成。";
}

/// A template with its places filled in.
pub(crate) fn fill(template: &str, parts: &[Markup]) -> Markup {
    let mut parts = parts.iter();
    html! {
        @for (at, text) in template.split("{}").enumerate() {
            @if at > 0 { @if let Some(part) = parts.next() { (part) } }
            (text)
        }
    }
}

/// A template with its places filled in by text.
pub(crate) fn fill_text(template: &str, parts: &[&str]) -> String {
    let mut parts = parts.iter();
    let mut filled = String::new();
    for (at, text) in template.split("{}").enumerate() {
        if at > 0 {
            filled.push_str(parts.next().copied().unwrap_or_default());
        }
        filled.push_str(text);
    }
    filled
}

/// The name of a stage.
pub(crate) fn stage(stage: Stage, language: Language) -> &'static str {
    if language == Language::English {
        return stage.name();
    }
    match stage {
        Stage::Triage => "トリアージ",
        Stage::Approval => "承認",
        Stage::Protect => "保護",
        Stage::Detach => "切り離し",
        Stage::Prepare => "隔離準備",
        Stage::Quarantine => "隔離",
        Stage::Capture => "揮発性データ取得",
        Stage::Memory => "メモリ取得",
        Stage::Preserve => "ディスク保全",
        Stage::Replicate => "複製",
        Stage::Scope => "影響範囲調査",
        Stage::Revoke => "権限失効",
        Stage::Verify => "検証",
        Stage::Report => "報告",
        Stage::Release => "解除",
    }
}

/// How a stage ended.
pub(crate) fn stage_status(status: StageStatus, language: Language) -> &'static str {
    let (english, japanese) = match status {
        StageStatus::Done => ("done", "完了"),
        StageStatus::Incomplete => ("INCOMPLETE", "未完了"),
        StageStatus::Waiting => ("waiting", "待機中"),
        StageStatus::Failed => ("FAILED", "失敗"),
        StageStatus::Planned => ("planned", "計画のみ"),
        StageStatus::Skipped => ("not needed", "対象外"),
    };
    one_of(language, english, japanese)
}

/// The result of a check.
pub(crate) fn check_status(status: CheckStatus, language: Language) -> &'static str {
    let (english, japanese) = match status {
        CheckStatus::Pass => ("PASS", "合格"),
        CheckStatus::Fail => ("FAIL", "不合格"),
        CheckStatus::Missing => ("MISSING", "欠落"),
        CheckStatus::Unknown => ("UNKNOWN", "不明"),
    };
    one_of(language, english, japanese)
}

/// The name of a check.
pub(crate) fn check_name(check: &Check, language: Language) -> &str {
    match language {
        Language::English => &check.name,
        Language::Japanese => checks::in_japanese(&check.name),
    }
}

/// What came of an action.
pub(crate) fn outcome(outcome: Outcome, language: Language) -> &'static str {
    let (english, japanese) = match outcome {
        Outcome::Applied => ("done", "実施済み"),
        Outcome::AlreadySo => ("was so already", "変更不要"),
        Outcome::Planned => ("planned, not done", "計画のみ"),
        Outcome::Failed => ("FAILED", "失敗"),
    };
    one_of(language, english, japanese)
}

/// What kind of evidence it is.
pub(crate) fn evidence_kind(kind: EvidenceKind, words: &Words) -> &'static str {
    match kind {
        EvidenceKind::Command => words.kind_command,
        EvidenceKind::Object => words.kind_object,
        EvidenceKind::Snapshot => words.kind_snapshot,
    }
}

/// What allowed the containment.
pub(crate) fn since(since: Since, language: Language) -> &'static str {
    let (english, japanese) = match since {
        Since::Opening => ("the case was opened", "ケース開始"),
        Since::Approval => ("the approval", "承認"),
        Since::Expiry => ("the time for an answer was over", "回答期限切れ"),
    };
    one_of(language, english, japanese)
}

/// A span of time, as exact as one needs it.
pub(crate) fn span(seconds: f64, language: Language) -> String {
    let [d, h, m, s] = match language {
        Language::English => [" d", " h", " min", " s"],
        Language::Japanese => [" 日", " 時間", " 分", " 秒"],
    };
    if seconds < 60.0 {
        return format!("{seconds:.1}{s}");
    }
    // Whole seconds from here on: what is cut off is less than anyone reads.
    let whole = chrono::TimeDelta::milliseconds((seconds * 1_000.0) as i64);
    let (days, hours, minutes) = (whole.num_days(), whole.num_hours(), whole.num_minutes());
    match (days, hours, minutes) {
        (0, 0, _) => format!("{minutes}{m} {}{s}", whole.num_seconds() - minutes * 60),
        (0, _, _) => format!("{hours}{h} {}{m}", minutes - hours * 60),
        _ => format!("{days}{d} {}{h}", hours - days * 24),
    }
}

/// A mark of the timeline's scale: a round number of one unit.
pub(crate) fn mark(seconds: u32, language: Language) -> String {
    let japanese = language == Language::Japanese;
    match seconds {
        0 => "0".to_owned(),
        s if s < 60 => format!("{s} {}", if japanese { "秒" } else { "s" }),
        s if s < 3_600 => format!("{} {}", s / 60, if japanese { "分" } else { "min" }),
        s if s < 86_400 => format!("{} {}", s / 3_600, if japanese { "時間" } else { "h" }),
        s => format!("{} {}", s / 86_400, if japanese { "日" } else { "d" }),
    }
}

fn one_of(language: Language, english: &'static str, japanese: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::Japanese => japanese,
    }
}

/// An action: as it was recorded, or what it was in Japanese.
pub(crate) fn action(record: &ActionRecord, language: Language) -> String {
    match language {
        Language::English => record.words.clone(),
        Language::Japanese => in_japanese(&record.action),
    }
}

fn in_japanese(action: &Action) -> String {
    match action {
        Action::EnableTerminationProtection { .. } => "終了保護を有効化".to_owned(),
        Action::EnableStopProtection { .. } => "停止保護を有効化".to_owned(),
        Action::StopOnShutdown { .. } => "OS からのシャットダウンを終了ではなく停止に変更".to_owned(),
        Action::KeepVolumes { devices, .. } => {
            format!("インスタンスが終了しても {} を残すよう変更", devices_in_words(devices))
        }
        Action::Tag { resources, .. } => format!("{} に証拠のタグを付与", resources.join(", ")),
        Action::LowerMinimumSize { group, from, to } => {
            format!("切り離しのため、Auto Scaling グループ {group} の最小サイズを {from} から {to} に変更")
        }
        Action::DetachFromScalingGroup { group, decrement: true, .. } => {
            format!("Auto Scaling グループ {group} から切り離し（希望台数を 1 減らす）")
        }
        Action::DetachFromScalingGroup { group, decrement: false, .. } => {
            format!("Auto Scaling グループ {group} から切り離し（希望台数は維持）")
        }
        Action::DeregisterTargets { target_group, targets } => {
            format!(
                "ターゲットグループ {} から {} を登録解除",
                target_group_name(target_group),
                targets_in_words(targets)
            )
        }
        Action::DeregisterFromClassicLoadBalancer { load_balancer, .. } => {
            format!("Classic Load Balancer {load_balancer} から登録解除")
        }
        Action::CreateQuarantineGroup { vpc, .. } => format!("{vpc} に隔離用グループを作成"),
        Action::CreatePassThroughGroup { vpc, .. } => format!("{vpc} に通過用グループを作成"),
        Action::OpenPassThroughGroup { group, egress, .. } => {
            format!("通過用グループ {group} の{}を開放", direction(*egress))
        }
        Action::ClosePassThroughGroup { group, egress, .. } => {
            format!("通過用グループ {group} の{}を閉鎖", direction(*egress))
        }
        Action::RevokeRules { group, egress, allows } => {
            let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
            format!("隔離用グループ {group} の{}ルールを削除：{}", direction(*egress), rules.join("; "))
        }
        Action::AllowEgress { group, allows } => {
            let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
            format!("隔離用グループ {group} から Systems Manager への通信を許可：{}", rules.join("; "))
        }
        Action::Quarantine { interface, group, via, from } => {
            let via =
                via.as_ref().map_or_else(String::new, |via| format!("（開いている接続を切断するため {via} を経由）"));
            format!("{interface} を {} から隔離用グループ {group} に移動{via}", groups_in_words(from))
        }
        Action::SendCommand { document, .. } => format!("エージェントで揮発性データを取得（{document}）"),
        Action::KeepCommandOutput { step, .. } => format!("{step} の出力を保存"),
        Action::KeepConsole { screenshot: true, .. } => "コンソールのスクリーンショットを保存".to_owned(),
        Action::KeepConsole { screenshot: false, .. } => "コンソール出力を保存".to_owned(),
        Action::BeginUpload { .. } => "メモリイメージのアップロードを開始".to_owned(),
        Action::WriteManifest { number, parts, part_bytes, .. } => {
            format!("アップロード用マニフェスト {number} を作成（{} MiB × {parts} パート）", part_bytes >> 20)
        }
        Action::AcquireMemory { document, windows_tool: Some(_), .. } => {
            format!("エージェントで Windows 用メモリ取得ツールを実行（{document}）")
        }
        Action::AcquireMemory { document, .. } => format!("エージェントでメモリ取得プログラムを実行（{document}）"),
        Action::CompleteUpload { parts, bytes, .. } => {
            format!("{parts} パート、{bytes} バイトのイメージを確定")
        }
        Action::KeepCustody { custody, .. } => format!("CloudTrail に記録された {} 件の操作を保存", custody.acts.len()),
        Action::KeepAcquisition { acquisition, .. } => format!("メモリ取得の結果を記録：{}", acquisition.status),
        Action::CreateSnapshots { without, without_root, .. } => {
            let root = without_root.then_some("ルートボリューム");
            let names: Vec<&str> = root.into_iter().chain(without.iter().map(VolumeId::as_str)).collect();
            let but = if names.is_empty() { String::new() } else { format!("（{} を除く）", names.join(", ")) };
            format!("すべての EBS ボリューム{but}のスナップショットを同一時点で作成")
        }
        Action::CreateFlowLogs { log_group, .. } => {
            format!("全トラフィックのフローログを有効化（ロググループ {log_group}）")
        }
        Action::DeleteFlowLog { .. } => "Stasis が有効化したフローログを無効化".to_owned(),
        Action::CreateSnapshot { .. } => "このボリュームのスナップショットを単独で作成".to_owned(),
        Action::LockSnapshot { mode, days, place, .. } => {
            format!("{mode} モードで {days} 日間ロック（{}）", place_in_words(place).trim_end())
        }
        Action::CopySnapshot { place, key, .. } => format!("{}にコピー（鍵 {key} で暗号化）", place_in_words(place)),
        Action::ShareSnapshot { account, .. } => format!("コピーのためアカウント {account} に共有"),
        Action::UnshareSnapshot { account, .. } => format!("アカウント {account} への共有を解除"),
        Action::DenyAddress { entry } => {
            format!("サブネット全体で{}を拒否", entry_in_words(entry))
        }
        Action::AllowAddress { entry } => format!("{}の拒否を解除", entry_in_words(entry)),
        Action::ReplaceInstanceProfile { from, to, .. } => {
            format!("インスタンスプロファイルを {} から {} に変更", arn_name(from), arn_name(to))
        }
        Action::RevokeSessions { role, issued_before, .. } => {
            format!("ロール {role} の {} より前に発行されたセッションを拒否", issued_before.to_rfc3339())
        }
        Action::RestoreGroups { interface, groups, from } => {
            format!("{interface} のグループを {} から {} に復元", groups_in_words(from), groups_in_words(groups))
        }
        Action::RestoreSessions { role, policy } => format!("ロール {role} からポリシー {policy} を削除"),
        Action::RegisterTargets { target_group, targets } => {
            format!("ターゲットグループ {} に {} を登録", target_group_name(target_group), targets_in_words(targets))
        }
        Action::RegisterWithClassicLoadBalancer { load_balancer, .. } => {
            format!("Classic Load Balancer {load_balancer} に登録")
        }
        Action::AttachToScalingGroup { group, .. } => {
            format!("Auto Scaling グループ {group} に追加（希望台数を 1 増やす）")
        }
        Action::RestoreMinimumSize { group, from, to } => {
            format!("Auto Scaling グループ {group} の最小サイズを {from} から {to} に復元")
        }
        Action::EnterStandby { group, .. } => format!("Auto Scaling グループ {group} でスタンバイに復元"),
        Action::ProtectFromScaleIn { group, .. } => {
            format!("Auto Scaling グループ {group} のスケールイン保護を復元")
        }
        Action::DisableTerminationProtection { .. } => "終了保護を元どおり無効化".to_owned(),
        Action::DisableStopProtection { .. } => "停止保護を元どおり無効化".to_owned(),
        Action::RestoreShutdownBehavior { behavior, .. } => {
            format!("OS からのシャットダウン時の動作を {behavior} に復元")
        }
        Action::RestoreDeleteOnTermination { devices, .. } => {
            format!("インスタンスの終了時に {} を削除する設定に復元", devices_in_words(devices))
        }
        Action::RestoreTags { resources, tags } => {
            let tags: Vec<String> = tags.iter().map(|t| format!("{}={}", t.key, t.value)).collect();
            format!("{} の以前のタグ {} を復元", resources.join(", "), tags.join(", "))
        }
        Action::MarkReleased { .. } => "インスタンスに封じ込め解除済みのタグを付与".to_owned(),
        Action::CloseClaim { .. } => "ケースを終了（新たな検出結果があれば新しいケースを開く）".to_owned(),
    }
}

fn place_in_words(place: &Place) -> String {
    format!("アカウント {} の {} ", place.account, place.region)
}

fn direction(egress: bool) -> &'static str {
    if egress { "アウトバウンド" } else { "インバウンド" }
}

fn entry_in_words(entry: &stasis_model::action::AclEntry) -> String {
    let way = if entry.egress { "宛て" } else { "から" };
    let (cidr, acl, number) = (&entry.cidr, &entry.network_acl, entry.rule_number);
    format!(" {cidr} {way}の全通信（ネットワーク ACL {acl}、エントリ {number}）")
}

fn devices_in_words(devices: &[Device]) -> String {
    let names: Vec<String> = devices.iter().map(|d| format!("{}（{}）", d.volume_id, d.device)).collect();
    names.join("、")
}

fn targets_in_words(targets: &[Target]) -> String {
    let names: Vec<String> =
        targets.iter().map(|t| t.port.map_or_else(|| t.id.clone(), |port| format!("{}:{port}", t.id))).collect();
    names.join("、")
}

fn groups_in_words(groups: &[GroupId]) -> String {
    let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    names.join("、")
}
