//! Why a run ended as it did: what is wrong, part by part, and the sentence that it makes in each language. The English one
//! is the `reason` of the answer; what AWS or a stage said stays as it was recorded in both.

use super::words::{check_status, stage};
use crate::{approval, checks, triage};
use stasis_model::approval::{Answer, Verdict};
use stasis_model::case::{Decided, Language};
use stasis_model::check::CheckStatus;
use stasis_model::ids::InstanceId;
use stasis_model::policy::{ApprovalTerms, Decision, OnExpiry};
use stasis_model::stage::Stage;

/// How many problems a reason names; all of them are in the report.
const PROBLEMS_NAMED: usize = 6;

/// Why a run ended as it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Everything was done, and AWS confirms the checks that could be made so far.
    Contained {
        /// The instance.
        instance: InstanceId,
        /// How many checks passed.
        passed: usize,
        /// Of how many.
        of: usize,
        /// Whether the others wait for evidence.
        pending: bool,
    },
    /// Something is missing.
    Partial {
        /// Whether the instance is off the network.
        cut_off: Option<bool>,
        /// What is missing.
        problems: Vec<Problem>,
    },
    /// Everything is put back.
    Released {
        /// The instance.
        instance: InstanceId,
        /// How many checks confirm it.
        checks: usize,
        /// The answer that led to it, where somebody rejected the containment.
        rejected: Option<(Answer, Option<ApprovalTerms>)>,
    },
    /// Something is not put back.
    NotReleased {
        /// The instance.
        instance: InstanceId,
        /// What.
        problems: Vec<Problem>,
    },
    /// Nothing was done, as asked.
    DryRun {
        /// How many actions were planned.
        planned: usize,
        /// How many of those EC2 would refuse, and what it says of the first.
        refused: Option<(usize, String)>,
        /// The stages that could not be planned, with what each says.
        unplanned: Vec<(Stage, String)>,
    },
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A stage never reported.
    NotRun(Stage),
    /// A stage could not do something; what it says.
    Failed(Stage, String),
    /// A stage waited for something that nobody waits for any more.
    StillWaiting(Stage),
    /// There is no checklist.
    NothingVerified,
    /// A check that is no pass.
    Check {
        /// Its result.
        status: CheckStatus,
        /// Its name, as it was recorded.
        name: String,
        /// What was read.
        observed: String,
    },
    /// It stays on the network by what people answered, or because they did not.
    Answered(Answer, Option<ApprovalTerms>),
    /// Nobody could be asked.
    NotAsked,
    /// The case only preserves.
    PreserveOnly,
    /// The release was still waiting.
    ReleaseWaiting,
    /// The release did not come to its end.
    ReleaseEnded,
    /// What a release says of something that it could not do.
    Said(String),
}

impl Problem {
    fn words(&self, language: Language) -> String {
        use Language::{English, Japanese};
        match (self, language) {
            (Self::NotRun(stage), English) => format!("{stage} did not run"),
            (Self::NotRun(of), Japanese) => format!("{}が実行されませんでした", stage(*of, Japanese)),
            (Self::Failed(stage, why), English) => format!("{stage}: {why}"),
            (Self::Failed(of, why), Japanese) => format!("{}：{why}", stage(*of, Japanese)),
            (Self::StillWaiting(stage), English) => format!("{stage} was still waiting"),
            (Self::StillWaiting(of), Japanese) => format!("{}は待機中のまま終わりました", stage(*of, Japanese)),
            (Self::NothingVerified, English) => "nothing was verified".to_owned(),
            (Self::NothingVerified, Japanese) => "検証が行われていません".to_owned(),
            (Self::Check { status, name, observed }, English) => format!("{status} {name}: {observed}"),
            (Self::Check { status, name, observed }, Japanese) => {
                format!("{}「{}」：{observed}", check_status(*status, Japanese), checks::in_japanese(name))
            }
            (Self::Answered(answer, terms), language) => answered(answer, *terms, language),
            (Self::NotAsked, English) => "nobody could be asked for approval, so it was not contained".to_owned(),
            (Self::NotAsked, Japanese) => "承認を求められなかったため、封じ込めていません".to_owned(),
            (Self::PreserveOnly, English) => "mode preserve asked for no containment".to_owned(),
            (Self::PreserveOnly, Japanese) => "保全のみのモード（preserve）のため、封じ込めは行っていません".to_owned(),
            (Self::ReleaseWaiting, English) => "it was still waiting".to_owned(),
            (Self::ReleaseWaiting, Japanese) => "待機中のまま終わりました".to_owned(),
            (Self::ReleaseEnded, English) => "it did not come to its end".to_owned(),
            (Self::ReleaseEnded, Japanese) => "最後まで実行されませんでした".to_owned(),
            (Self::Said(what), _) => what.clone(),
        }
    }
}

impl Why {
    /// What comes before the problems, where there are any; the whole sentence where there are none. First what anyone needs to
    /// know.
    pub(crate) fn lead(&self, language: Language) -> String {
        use Language::{English, Japanese};
        match (self, language) {
            (Self::Partial { cut_off, .. }, English) => match cut_off {
                Some(true) => "the instance is cut off from the network, but",
                Some(false) => "the instance is NOT cut off from the network",
                None => "it is NOT KNOWN whether the instance is cut off from the network",
            }
            .to_owned(),
            (Self::Partial { cut_off, .. }, Japanese) => match cut_off {
                Some(true) => "インスタンスはネットワークから遮断されていますが、次の問題があります",
                Some(false) => "インスタンスはネットワークから遮断されていません",
                None => "インスタンスがネットワークから遮断されているか不明です",
            }
            .to_owned(),
            (Self::NotReleased { instance, .. }, English) => {
                format!("{instance} is not wholly released; once this is mended, run the release again")
            }
            (Self::NotReleased { instance, .. }, Japanese) => {
                format!(
                    "{instance} の封じ込め解除は完了していません。次の問題を解消してから、もう一度解除を実行してください"
                )
            }
            _ => self.words(language),
        }
    }

    /// The problems, as many as a reason names, and how many more there are.
    pub(crate) fn problems(&self, language: Language) -> Vec<String> {
        match self {
            Self::Partial { problems, .. } | Self::NotReleased { problems, .. } => named(problems, language),
            _ => Vec::new(),
        }
    }

    /// The sentence.
    pub(crate) fn words(&self, language: Language) -> String {
        use Language::{English, Japanese};
        match (self, language) {
            (Self::Contained { instance, passed, of, pending: true }, English) => format!(
                "{instance} is protected and cut off; AWS confirms {passed} of {of} checks so far, the others wait for evidence"
            ),
            (Self::Contained { instance, passed, of, pending: true }, Japanese) => format!(
                "{instance} は保護され、ネットワークから遮断されています。現時点で {of} 項目中 {passed} 項目を AWS で確認済みです。残りは証拠の収集待ちです。"
            ),
            (Self::Contained { instance, of, pending: false, .. }, English) => {
                format!("{instance} is protected, cut off and preserved, and AWS confirms all {of} checks")
            }
            (Self::Contained { instance, of, pending: false, .. }, Japanese) => format!(
                "{instance} は保護され、ネットワークから遮断され、証拠も保全されました。全 {of} 項目を AWS で確認済みです。"
            ),
            (Self::Partial { problems, .. } | Self::NotReleased { problems, .. }, English) => {
                format!("{}: {}", self.lead(English), named(problems, English).join("; "))
            }
            (Self::Partial { problems, .. } | Self::NotReleased { problems, .. }, Japanese) => {
                format!("{}：{}", self.lead(Japanese), named(problems, Japanese).join("／"))
            }
            (Self::Released { instance, checks, rejected }, English) => {
                let why = rejected
                    .as_ref()
                    .map_or_else(String::new, |(answer, terms)| format!("{}; ", approval::in_words(answer, *terms)));
                format!(
                    "{why}{instance} is as it was before, and AWS confirms all {checks} checks; the evidence is kept, and a new finding opens a new case"
                )
            }
            (Self::Released { instance, checks, rejected }, Japanese) => {
                let why = rejected
                    .as_ref()
                    .map_or_else(String::new, |(answer, terms)| format!("{}。", answered(answer, *terms, Japanese)));
                format!(
                    "{why}{instance} は元の状態に戻り、全 {checks} 項目を AWS で確認済みです。証拠は保持されます。新たな検出結果があれば、新しいケースが開かれます。"
                )
            }
            (Self::DryRun { planned, refused, unplanned }, English) => {
                let mut words =
                    format!("dry run: {planned} actions planned, nothing outside the case file was changed");
                if let Some((count, first)) = refused {
                    words = format!("{words}; {count} of them {first}");
                }
                for (of, why) in unplanned {
                    words = format!("{words}; {of} could not be planned: {why}");
                }
                words
            }
            (Self::DryRun { planned, refused, unplanned }, Japanese) => {
                let mut words = format!(
                    "ドライラン：{planned} 件の操作を計画しました。ケースファイル以外には何も変更していません。"
                );
                if let Some((count, first)) = refused {
                    words = format!("{words}うち {count} 件は実行できない見込みです：{first}。");
                }
                for (of, why) in unplanned {
                    words = format!("{words}{}は計画できませんでした：{why}。", stage(*of, Japanese));
                }
                words
            }
        }
    }
}

fn named(problems: &[Problem], language: Language) -> Vec<String> {
    let mut named: Vec<String> = problems.iter().take(PROBLEMS_NAMED).map(|problem| problem.words(language)).collect();
    let more = problems.len().saturating_sub(PROBLEMS_NAMED);
    if more > 0 {
        named.push(match language {
            Language::English => format!("and {more} more"),
            Language::Japanese => format!("ほか {more} 件"),
        });
    }
    named
}

/// What people answered, in a sentence.
pub(crate) fn answered(answer: &Answer, terms: Option<ApprovalTerms>, language: Language) -> String {
    if language == Language::English {
        return approval::in_words(answer, terms);
    }
    let by = answer.by.as_deref().unwrap_or("名前の記載なし");
    let reason = answer.reason.as_ref().map_or_else(String::new, |reason| format!("、理由：{reason}"));
    let then = if answer.contain { "封じ込めを行う" } else { "ネットワーク上に残す" };
    match answer.verdict {
        Verdict::Approved => format!("承認（{by}{reason}）"),
        Verdict::Rejected => format!("却下（{by}{reason}）"),
        Verdict::Expired => {
            let minutes = terms.unwrap_or_default().minutes;
            format!("{minutes} 分以内に回答がなかったため、ポリシーの定めにより{then}")
        }
        Verdict::Unasked => format!("承認を得られなかったため{reason}、ポリシーの定めにより{then}"),
    }
}

/// What was decided, in a sentence. By whom and by which policy is as it was recorded.
pub(crate) fn decided(decided: &Decided, language: Language) -> String {
    if language == Language::English {
        return triage::decision_in_words(decided);
    }
    let decision = match decided.decision {
        Decision::Ignore => "対応しない（ignore）",
        Decision::Notify => "通知のみ（notify）",
        Decision::Preserve => "保全のみ（preserve）",
        Decision::Ask => "承認を求める（ask）",
        Decision::Contain => "封じ込める（contain）",
    };
    let mut words = format!("{decision}。決定の根拠：{}（{}）", decided.by, decided.policy);
    if let Some(terms) = decided.approval {
        let then = match terms.on_expiry {
            OnExpiry::Contain => "封じ込める",
            OnExpiry::Preserve => "保全のみにとどめる",
        };
        words.push_str(&format!("。回答を {} 分間待ち、回答がなければ{then}", terms.minutes));
    }
    words
}
