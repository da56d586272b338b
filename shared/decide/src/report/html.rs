//! report.html: one page that needs nothing else. Everything that came from the instance, the finding or a
//! person is escaped by maud; the page's own policy forbids scripts and loading anything.

use super::words::{self, Words, fill, fill_text};
use super::{Conclusion, Material, timeline::timeline, why};
use crate::checks::{release, scope, verify as names};
use crate::text::visible;
use crate::verify;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::baseline::{Baseline, Interface, Observed};
use stasis_model::case::{Credentials, Egress, Language, TrackedConnections};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::custody::Act;
use stasis_model::evidence::Evidence;
use stasis_model::ids::GroupId;
use stasis_model::memory::MemoryChoice;
use stasis_model::outcome::RunStatus;
use stasis_model::policy::Decision;
use stasis_model::stage::{ActionRecord, Outcome, StageReport, StageStatus};
use stasis_model::tags;
use stasis_model::trigger::Source;

const STYLE: &str = include_str!("style.css");

/// What the browser is to allow: this one style, known by its hash, and nothing else
/// (<https://www.w3.org/TR/CSP3/#external-hash>).
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

/// The page, in the language of the case.
pub fn html(material: &Material<'_>, conclusion: &Conclusion) -> String {
    let language = material.case.policy.report_language;
    Page { material, conclusion, language, words: Words::of(language) }.whole().into_string()
}

/// What the page is made of.
struct Page<'a> {
    material: &'a Material<'a>,
    conclusion: &'a Conclusion,
    language: Language,
    words: &'static Words,
}

/// How many acts the page shows; all of them are in the file.
const ACTS_SHOWN: usize = 150;

/// Text that is not ours: on its own, so that its direction is nobody else's, and with what cannot be seen made visible.
fn foreign(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

fn code(text: impl AsRef<str>) -> Markup {
    html! { code { (visible(text.as_ref())) } }
}

fn plain(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to - from).as_seconds_f64()
}

impl Page<'_> {
    fn whole(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let (_, headline) = self.headline_words();
        html! {
            (DOCTYPE)
            html lang=(self.language.tag()) {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy());
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    meta name="color-scheme" content="light dark";
                    title { "Stasis: " (headline) " (" (material.case.instance.instance_id) ")" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.headline())
                    main {
                        @if !words.recorded.is_empty() { p.small { (words.recorded) } }
                        (self.contents())
                        (self.what_happened())
                        (timeline(material, words, self.language))
                        (self.before_and_after())
                        (self.checklist())
                        (self.beyond())
                        (self.evidence())
                        (self.custody())
                        (self.risks())
                        (self.next_steps())
                        (self.actions())
                    }
                    footer { (fill(words.footer, &[plain(env!("CARGO_PKG_VERSION")), plain(time(material.now))])) }
                }
            }
        }
    }

    fn headline_words(&self) -> (&'static str, &'static str) {
        let (material, words) = (self.material, self.words);
        let case = material.case;
        match self.conclusion.status {
            RunStatus::Contained => ("good", words.contained),
            RunStatus::DryRun => ("plain", words.dry_run),
            RunStatus::Released => ("plain", words.released),
            RunStatus::Rejected => ("plain", words.rejected),
            _ if material.is_release() => ("bad", words.release_partial),
            _ => match self.conclusion.cut_off {
                Some(true) => ("bad", words.partial_cut_off),
                Some(false) if !case.contains() && case.decided.decision == Decision::Ask => {
                    ("bad", words.not_approved)
                }
                Some(false) if !case.contains() => ("bad", words.preserved),
                Some(false) => ("bad", words.partial_online),
                None => ("bad", words.partial_unknown),
            },
        }
    }

    fn headline(&self) -> Markup {
        let (case, words) = (self.material.case, self.words);
        let (class, headline) = self.headline_words();
        html! {
            header class=(class) {
                p.brand { (words.brand) }
                h1 { (headline) }
                p.sub {
                    strong { (case.instance.instance_id) }
                    @if let Some(name) = case.baseline.instance.name() { " " (foreign(name)) }
                    " · "
                    (fill(words.account_region, &[plain(case.instance.account.to_string()), plain(case.instance.region.to_string())]))
                }
                (self.reason())
                @if self.conclusion.pending { p { strong { (words.pending) } } }
                (self.key_facts())
            }
        }
    }

    fn reason(&self) -> Markup {
        let why = &self.conclusion.why;
        let problems = why.problems(self.language);
        html! {
            p.reason { (visible(&why.lead(self.language))) @if !problems.is_empty() { (self.colon()) } }
            @if !problems.is_empty() { ul.reason { @for problem in &problems { li { (foreign(problem)) } } } }
        }
    }

    fn colon(&self) -> &'static str {
        match self.language {
            Language::English => ": ",
            Language::Japanese => "：",
        }
    }

    /// What whoever opens the page in the night wants to know before anything else.
    fn key_facts(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let network = match (self.conclusion.status, self.conclusion.cut_off) {
            (RunStatus::DryRun, _) => words.network_untouched,
            (RunStatus::Released | RunStatus::Rejected, _) => words.network_restored,
            _ if material.is_release() => words.network_release_partial,
            (_, Some(true)) => words.network_cut,
            (_, Some(false)) => words.network_open,
            (_, None) => words.network_unknown,
        };
        let took = material.contained_at().filter(|_| self.conclusion.cut_off == Some(true));
        let took = took.map(|at| words::span(seconds(material.allowed_since().0, at), self.language));
        let checks = material.checklist();
        let passed = checks.iter().filter(|check| check.passed()).count();
        let pieces = self.pieces().len().to_string();
        let template = if self.conclusion.pending { words.pieces_pending } else { words.pieces };
        html! {
            dl.facts {
                div { dt { (words.network) } dd { (network) @if let Some(took) = took { " (" (took) ")" } } }
                div { dt { (words.checklist) } dd {
                    @if checks.is_empty() { (words.no_checklist) }
                    @else { (fill(words.passed, &[plain(passed.to_string()), plain(checks.len().to_string())])) }
                } }
                div { dt { (words.evidence) } dd { (fill(template, &[plain(pieces)])) } }
                div { dt { (words.opened) } dd { (time(material.case.opened_at)) } }
            }
        }
    }

    /// Where to find what, for a screen that shows a little of it.
    fn contents(&self) -> Markup {
        let words = self.words;
        let risks = (!self.material.is_release()).then_some(("risks", words.risks));
        let beyond = self
            .material
            .beyond()
            .is_some_and(|(checks, notes)| !(checks.is_empty() && notes.is_empty()))
            .then_some(("beyond", words.beyond));
        let all = [
            ("timeline", words.timeline),
            ("before-and-after", words.before_and_after),
            ("checklist", words.checklist),
        ];
        let custody = self.material.custody().map(|_| ("custody", words.custody));
        let all = all.into_iter().chain(beyond).chain([("evidence", words.evidence)]).chain(custody).chain(risks);
        html! { nav { @for (id, name) in all.chain([("next", words.next), ("actions", words.actions)]) {
            a href=(format!("#{id}")) { (name) }
        } } }
    }

    fn what_happened(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let case = material.case;
        html! {
            section {
                h2 { (words.what_happened) }
                dl {
                    dt { (words.case) } dd.id { (case.case_id) }
                    dt { (words.ticket) } dd { (foreign(case.ticket.as_str())) }
                    @match &case.source {
                        Source::Finding { finding_type, severity, title, id } => {
                            dt { (words.finding) }
                            dd { @match finding_type { Some(kind) => (foreign(kind)), None => (words.of_no_type) } }
                            @if let Some(title) = title { dt { (words.in_guardduty_s_words) } dd { (foreign(title)) } }
                            @if let Some(severity) = severity { dt { (words.severity) } dd { (severity) } }
                            @if let Some(id) = id { dt { (words.finding_id) } dd.id { (foreign(id)) } }
                        }
                        Source::Request => { dt { (words.started) } dd { (words.by_hand) } }
                    }
                    dt { (words.decided) }
                    dd { (visible(&why::decided(&case.decided, self.language))) }
                    @if let Some(over) = &case.taken_over {
                        dt { (words.taken_over) }
                        dd { (fill(words.taken_over_because, &[plain(time(over.at)), foreign(&over.why)])) }
                    }
                    @if let Some(answer) = material.approval() {
                        dt { (words.approval) }
                        dd { (visible(&why::answered(answer, case.decided.approval, self.language))) ", " (time(answer.at)) }
                    }
                    @if let Some(reason) = &case.reason { dt { (words.reason_given) } dd { (foreign(reason)) } }
                    dt { (words.opened) } dd { (time(case.opened_at)) }
                    @if let Some(at) = material.contained_at() {
                        @let (allowed, by) = material.allowed_since();
                        @let took = html! { strong { (words::span(seconds(allowed, at), self.language)) } };
                        @let by = plain(words::since(by, self.language));
                        dt { (words.cut_off) }
                        dd { (match self.language {
                            Language::English => fill(words.cut_off_after, &[plain(time(at)), took, by]),
                            Language::Japanese => fill(words.cut_off_after, &[plain(time(at)), by, took]),
                        }) }
                    }
                    @if let Some(execution) = &case.execution { dt { (words.execution) } dd.id { (visible(execution)) } }
                }
            }
        }
    }

    fn checklist(&self) -> Markup {
        let (checks, words) = (self.material.checklist(), self.words);
        html! {
            section {
                h2 id="checklist" { (words.checklist) }
                p { (words.checklist_about) }
                @if checks.is_empty() { p { strong { (words.checklist_none) } } }
                @else { (self.table_of(checks)) }
            }
        }
    }

    fn mark(&self, status: CheckStatus) -> Markup {
        html! { span class=(format!("mark {status}")) { (words::check_status(status, self.language)) } }
    }

    fn table_of(&self, checks: &[Check]) -> Markup {
        let words = self.words;
        html! {
            div.scroll { table.wide {
                thead { tr { th { (words.result) } th { (words.check) } th { (words.expected) } th { (words.observed) } } }
                tbody {
                    @for check in checks {
                        tr {
                            td { (self.mark(check.status)) }
                            td { strong { (words::check_name(check, self.language)) } }
                            td data-label=(words.expected) { (foreign(&check.expected)) }
                            td data-label=(words.observed) { (foreign(&check.observed)) }
                        }
                    }
                }
            } }
        }
    }

    /// What the playbooks found. Nothing of it says anything of the containment.
    fn beyond(&self) -> Markup {
        let words = self.words;
        html! {
            @if let Some((checks, notes)) = self.material.beyond() && !(checks.is_empty() && notes.is_empty()) {
                section {
                    h2 id="beyond" { (words.beyond) }
                    p { (words.beyond_about) }
                    @if !checks.is_empty() { (self.table_of(checks)) }
                    @if !notes.is_empty() { ul { @for note in notes { li { (foreign(note)) } } } }
                }
            }
        }
    }

    /// Each setting before, what was done about it, and what was read back.
    fn before_and_after(&self) -> Markup {
        let words = self.words;
        html! {
            section {
                h2 id="before-and-after" { (words.before_and_after) }
                p { (fill(words.before_and_after_about, &[code("baseline.json")])) }
                div.scroll { table.wide.settings {
                    thead { tr { th { (words.setting) } th { (words.before) } th { (words.done) } th { (words.after) } } }
                    tbody { @for setting in self.settings() {
                        @let done = self.done(&setting);
                        tr {
                            td { strong { (setting.name) } }
                            td data-label=(words.before) { (setting.before) }
                            td data-label=(words.done) {
                                @if done.is_empty() { (words.left) }
                                @for (record, how) in &done { div { (self.action(record)) (self.colon()) (self.outcome(*how)) } }
                            }
                            td data-label=(words.after) { (self.after(&setting)) }
                        }
                    } }
                } }
            }
        }
    }

    fn action(&self, record: &ActionRecord) -> Markup {
        let text = words::action(record, self.language);
        html! { (visible(&text)) }
    }

    fn outcome(&self, outcome: Outcome) -> Markup {
        let text = words::outcome(outcome, self.language);
        html! { @if outcome == Outcome::Failed { strong.late { (text) } } @else { (text) } }
    }

    /// The actions on a setting, each once, with what came of its last attempt.
    fn done(&self, setting: &Setting<'_>) -> Vec<(&ActionRecord, Outcome)> {
        let mut done: Vec<(&ActionRecord, Outcome)> = Vec::new();
        for record in self.material.reports.iter().flat_map(|report| &report.actions) {
            if subject(&record.action) != setting.subject {
                continue;
            }
            match done.iter_mut().find(|(known, _)| known.action == record.action) {
                // What was done stays done, whatever a later look called it.
                Some((_, how)) if *how == Outcome::Applied => {}
                Some((_, how)) => *how = record.outcome,
                None => done.push((record, record.outcome)),
            }
        }
        done
    }

    /// What the newest check of a setting read.
    fn after(&self, setting: &Setting<'_>) -> Markup {
        let name = if self.material.is_release() { setting.released } else { setting.verified };
        let beyond = self.material.beyond().map_or(&[][..], |(checks, _)| checks);
        let mut read = self.material.checklist().iter().chain(beyond);
        let check = read.find(|check| Some(check.name.as_str()) == name);
        let Some(check) = check else { return html! { span.small { (self.words.not_read_back) } } };
        // Of a check of all interfaces, what it says of this one.
        let observed = match setting.subject {
            Subject::Interface(id) => {
                check.observed.split("; ").find(|part| part.contains(id)).unwrap_or(&check.observed)
            }
            _ => &check.observed,
        };
        html! {
            (foreign(observed))
            @if !check.passed() { " " (self.mark(check.status)) }
        }
    }

    fn known<T>(&self, fact: &Observed<T>, words: impl FnOnce(&T) -> Markup) -> Markup {
        match fact {
            Observed::Known(fact) => words(fact),
            Observed::Unknown(why) => fill(self.words.not_readable, &[foreign(why)]),
        }
    }

    fn list(&self, items: &[String]) -> Markup {
        if items.is_empty() { plain(self.words.none) } else { foreign(&items.join(", ")) }
    }

    fn settings(&self) -> Vec<Setting<'_>> {
        let (case, words) = (self.material.case, self.words);
        let baseline: &Baseline = &case.baseline;
        let on = |yes: bool| plain(if yes { words.on } else { words.off });
        let row = |name: &str, before: Markup, subject, verified, released| Setting {
            name: name.to_owned(),
            before,
            subject,
            verified,
            released,
        };
        let lost: Vec<String> = baseline
            .instance
            .volumes
            .iter()
            .filter(|v| v.delete_on_termination)
            .map(|v| format!("{} ({})", v.volume_id, v.device))
            .collect();
        let scaling = self.known(&baseline.scaling, |membership| match membership {
            None => plain(words.none),
            Some(m) => match m.sizes {
                Some(s) => fill(
                    words.group_sizes,
                    &[
                        foreign(&m.group),
                        plain(&m.lifecycle_state),
                        plain(s.min.to_string()),
                        plain(s.desired.to_string()),
                        plain(s.max.to_string()),
                    ],
                ),
                None => foreign(&format!("{} ({})", m.group, m.lifecycle_state)),
            },
        });
        let targets = self.known(&baseline.targets, |targets| {
            let words_of = |t: &stasis_model::baseline::TargetRegistration| {
                let port = t.port.map(|p| format!(":{p}")).unwrap_or_default();
                let group = stasis_model::action::target_group_name(&t.target_group);
                fill_text(words.in_group, &[&format!("{}{port}", t.target), group])
            };
            self.list(&targets.iter().map(words_of).collect::<Vec<_>>())
        });
        let of_protection =
            |read: fn(&stasis_model::baseline::Protection) -> bool| self.known(&baseline.protection, |p| on(read(p)));
        let (protected, kept) = (Some(release::PROTECTION), Some(release::VOLUMES));
        let mut rows = vec![
            row(
                words.termination_protection,
                of_protection(|p| p.termination),
                Subject::Termination,
                Some(names::TERMINATION_PROTECTION),
                protected,
            ),
            row(
                words.stop_protection,
                of_protection(|p| p.stop),
                Subject::Stop,
                Some(names::STOP_PROTECTION),
                protected,
            ),
            row(
                words.shutdown,
                self.known(&baseline.protection, |p| foreign(&p.shutdown_behavior)),
                Subject::Shutdown,
                Some(names::SHUTDOWN),
                protected,
            ),
            row(words.deleted_on_termination, self.list(&lost), Subject::Volumes, Some(names::VOLUMES_KEPT), kept),
            row(words.scaling_group, scaling, Subject::Scaling, Some(names::SCALING), Some(release::SCALING)),
            row(words.target_groups, targets, Subject::Targets, Some(names::TARGETS), Some(release::TARGETS)),
            row(
                words.classic_load_balancers,
                self.known(&baseline.classic_load_balancers, |behind| self.list(behind)),
                Subject::Classic,
                Some(names::CLASSIC),
                Some(release::CLASSIC),
            ),
        ];
        for interface in &baseline.instance.interfaces {
            let id = interface.interface_id.as_str();
            let groups: Vec<String> = interface.groups.iter().map(GroupId::to_string).collect();
            let name = fill_text(words.groups_of, &[id]);
            let subject = Subject::Interface(id);
            rows.push(row(&name, self.list(&groups), subject, Some(names::INTERFACES), Some(release::GROUPS)));
            let name = fill_text(words.addresses_of, &[id]);
            rows.push(row(&name, self.addresses(interface), Subject::Nothing, None, None));
        }
        let profile = baseline.instance.instance_profile.as_deref();
        let profile = profile.map_or_else(|| plain(words.none), foreign);
        rows.push(row(words.instance_profile, profile, Subject::Profile, None, None));
        rows.push(row(words.case_tags, self.tags_before(), Subject::Tags, Some(names::TAGGED), None));
        // What the instance has of these only where Stasis made it.
        let made = [
            (words.network_acl, Subject::NetworkAcl, None, None),
            (words.flow_logs, Subject::FlowLogs, Some(scope::FLOWS), Some(release::FLOW_LOGS)),
        ];
        for (name, subject, verified, released) in made {
            let made =
                self.material.reports.iter().flat_map(|r| &r.actions).any(|a| self::subject(&a.action) == subject);
            rows.extend(made.then(|| row(name, plain(words.none), subject, verified, released)));
        }
        rows
    }

    fn addresses(&self, interface: &Interface) -> Markup {
        let words = self.words;
        let mut all = interface.addresses.clone();
        all.extend(interface.public_address.as_ref().map(|address| fill_text(words.public_address, &[address])));
        all.extend((interface.source_dest_check == Some(false)).then(|| words.no_source_check.to_owned()));
        html! { (visible(&all.join(", "))) }
    }

    /// Those tags of the instance that those of the case replace.
    fn tags_before(&self) -> Markup {
        let case = self.material.case;
        let keys: Vec<String> = tags::evidence_tags(case).into_iter().map(|tag| tag.key).collect();
        self.known(&case.baseline.tags, |by_resource| {
            let own = by_resource.get(case.instance.instance_id.as_str()).into_iter().flatten();
            let replaced: Vec<String> =
                own.filter(|(key, _)| keys.contains(key)).map(|(key, value)| format!("{key}={value}")).collect();
            self.list(&replaced)
        })
    }

    fn actions(&self) -> Markup {
        let (reports, words) = (self.material.reports, self.words);
        let telling: Vec<&StageReport> = reports.iter().filter(|r| tells(r, reports)).collect();
        html! {
            section {
                h2 id="actions" { (words.actions) }
                @if telling.is_empty() { p { (words.actions_none) } }
                @for report in telling {
                    h3 {
                        (words::stage(report.stage, self.language)) " "
                        span.small { (fill(words.call, &[
                            plain(report.attempt.to_string()),
                            plain(time(report.started_at)),
                            plain(words::stage_status(report.status, self.language)),
                        ])) }
                    }
                    @if !report.actions.is_empty() {
                        div.scroll { table.wide {
                            thead { tr { th { (words.result) } th { (words.action) } th { (words.request) } } }
                            tbody { @for record in &report.actions {
                                tr {
                                    td { (self.outcome(record.outcome)) }
                                    td {
                                        (self.action(record))
                                        @if !words::action(record, self.language).contains(&record.target) { " (" (visible(&record.target)) ")" }
                                        @if let Some(error) = &record.error { br; strong { (visible(&error.code)) } ": " (foreign(&error.message)) }
                                    }
                                    td.id { (visible(record.request_id.as_deref().unwrap_or(""))) }
                                }
                            } }
                        } }
                    }
                    @for failure in report.failures.iter().filter(|f| !report.actions.iter().any(|a| a.error.as_ref() == Some(*f))) {
                        p { strong { (visible(&failure.code)) } ": " (foreign(&failure.message)) }
                    }
                    @for note in &report.notes { p { (foreign(note)) } }
                }
            }
        }
    }

    fn evidence(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let (case, prefix) = (material.case, material.case.prefix());
        let evidence = self.pieces();
        let folder = format!("s3://{}/{prefix}", case.bucket);
        html! {
            section {
                h2 id="evidence" { (words.evidence) }
                p { (fill(words.evidence_about, &[code(&folder), code("manifest.json")])) }
                p { (words.evidence_of_host) }
                @if evidence.is_empty() { p { strong { (words.evidence_none) } } }
                @else {
                    div.scroll { table.wide.evidence {
                        thead { tr { th { (words.kind) } th { (words.what) } th { (words.id) } th { "SHA-256" } } }
                        tbody { @for piece in evidence {
                            tr {
                                td { (words::evidence_kind(piece.kind, words)) }
                                td data-label=(words.what) { (foreign(&piece.description)) (self.where_and_how_much(piece)) }
                                td.id data-label=(words.id) { (foreign(piece.id.strip_prefix(&prefix).unwrap_or(&piece.id))) }
                                td.id data-label="SHA-256" { (visible(piece.sha256.as_deref().unwrap_or("–"))) }
                            }
                        } }
                    } }
                }
                (self.how_to_verify(&folder))
            }
        }
    }

    /// Who did what, as CloudTrail has it: what others did first, since nobody else says so.
    fn custody(&self) -> Markup {
        let (words, Some(custody)) = (self.words, self.material.custody()) else { return html! {} };
        let others: Vec<&Act> = custody.by_others().collect();
        let counts = [
            plain(time(custody.read_at)),
            plain(custody.confirmed().to_string()),
            plain(custody.in_sessions().count().to_string()),
            plain(others.len().to_string()),
        ];
        let of_stages = custody.acts.iter().filter(|act| act.stage.is_some());
        let mut acts: Vec<&Act> = others.into_iter().chain(custody.in_sessions()).chain(of_stages).collect();
        let more = acts.len().saturating_sub(ACTS_SHOWN);
        acts.truncate(ACTS_SHOWN);
        html! {
            section {
                h2 id="custody" { (words.custody) }
                p { (fill(words.custody_about, &counts)) }
                @if !custody.unconfirmed.is_empty() {
                    p { strong { (fill(words.custody_missing, &[plain(custody.unconfirmed.len().to_string())])) } }
                }
                @if !acts.is_empty() {
                    div.scroll { table.wide {
                        thead { tr { th { (words.custody_when) } th { (words.custody_who) } th { (words.what) } } }
                        tbody { @for act in acts {
                            tr {
                                td { (time(act.at)) }
                                td.id data-label=(words.custody_who) {
                                    @if let Some(stage) = &act.stage { (visible(stage)) }
                                    @else if act.in_session { (foreign(&act.by)) }
                                    @else { strong { (foreign(&act.by)) } }
                                }
                                td data-label=(words.what) {
                                    (foreign(&act.what)) " " span.small { (foreign(&act.on.join(", "))) }
                                    @if let Some(code) = &act.refused { ", " (fill(words.custody_refused, &[foreign(code)])) }
                                }
                            }
                        } }
                    } }
                }
                @if more > 0 { p { (fill(words.custody_more, &[plain(more.to_string()), code("custody/")])) } }
            }
        }
    }

    /// The pieces of evidence. An earlier version of this page is none.
    fn pieces(&self) -> Vec<&Evidence> {
        let own = format!("{}{}", self.material.case.prefix(), super::NAME);
        self.material.evidence().into_iter().filter(|piece| piece.id != own).collect()
    }

    /// Where a piece is that is not in the bucket, and its size.
    fn where_and_how_much(&self, piece: &Evidence) -> Markup {
        let words = self.words;
        let elsewhere = piece.location.as_ref().filter(|at| !at.starts_with("s3://"));
        html! {
            @if let Some(at) = elsewhere { ", " (fill(words.located_in, &[foreign(at)])) }
            @if let Some(size) = piece.size { span.small { ", " (fill(words.bytes, &[plain(size.to_string())])) } }
        }
    }

    fn how_to_verify(&self, folder: &str) -> Markup {
        let (words, id) = (self.words, &self.material.case.case_id);
        let with = format!(
            "stasis verify {id}\n\
             stasis fetch {id} ./{id} && stasis verify ./{id} --offline --public-key key.pem"
        );
        let without = format!(
            "aws s3 cp --recursive {folder} ./{id} && cd ./{id}\n\
             openssl dgst -sha256 -verify key.pem -signature manifest.sig manifest.json\n\
             jq -r '.files[] | \"\\(.sha256)  \\(.key)\"' manifest.json | sed 's# cases/[^/]*/# #' | sha256sum --check"
        );
        let key = "aws kms get-public-key --key-id KEY --query PublicKey --output text | base64 -d | openssl pkey -pubin -inform DER -out key.pem";
        html! {
            h3 { (words.verify) }
            p { (words.verify_with) }
            pre { code { (with) } }
            p { (words.verify_without) }
            pre { code { (without) } }
            p.small { (fill(words.verify_key, &[code("key.pem"), code(key), code("KEY"), code("SigningKeyArn")])) " " (words.verify_limits) }
        }
    }

    fn risks(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let case = material.case;
        if material.is_release() {
            return html! {};
        }
        let failing: Vec<&Check> =
            material.checklist().iter().filter(|c| !c.passed() && verify::is_containment(c)).collect();
        let contained = case.contains() && !case.is_dry_run();
        let mut risks: Vec<Markup> = Vec::new();
        for check in failing {
            risks.push(html! { (self.mark(check.status)) " " strong { (words::check_name(check, self.language)) } (self.colon()) (foreign(&check.observed)) });
        }
        if case.is_dry_run() {
            risks.push(plain(words.risk_dry_run));
        }
        if !case.contains() {
            let asked = case.decided.decision == Decision::Ask;
            risks.push(plain(if asked { words.risk_not_approved } else { words.risk_preserve }));
        }
        if contained {
            risks.push(match case.policy.tracked_connections {
                TrackedConnections::Cut => fill(words.risk_tracked_cut, &[code("RemoteAddresses")]),
                TrackedConnections::Leave => fill(words.risk_tracked_left, &[code("TrackedConnections: leave")]),
            });
            match case.policy.egress {
                Egress::Https => risks.push(fill(words.risk_egress_https, &[code("Egress: https")])),
                Egress::Endpoints => risks.push(fill(words.risk_egress_endpoints, &[code("Egress: endpoints")])),
                Egress::None => {}
            }
            risks.push(plain(words.risk_resolver));
        }
        if let Some(profile) = &case.baseline.instance.instance_profile
            && case.policy.credentials == Credentials::Keep
        {
            risks.push(fill(words.risk_credentials, &[code(profile)]));
        }
        html! {
            section {
                h2 id="risks" { (words.risks) }
                @if risks.is_empty() { p { (words.risks_none) } }
                @else { ul { @for risk in risks { li { (risk) } } } }
            }
        }
    }

    fn next_steps(&self) -> Markup {
        let (material, words) = (self.material, self.words);
        let case = material.case;
        let tag = || code(format!("stasis:case={}", case.case_id));
        if matches!(self.conclusion.status, RunStatus::Released | RunStatus::Rejected) {
            return html! {
                section {
                    h2 id="next" { (words.next) }
                    ol {
                        li { (words.next_watch) }
                        li { (fill(words.next_retention, &[tag()])) }
                        li { (words.next_suppress) }
                    }
                }
            };
        }
        if case.is_dry_run() {
            let contain = format!("stasis contain {}", case.instance.instance_id);
            return html! {
                section { h2 id="next" { (words.next) } p { (fill(words.next_contain, &[code(contain)])) } }
            };
        }
        let prefix = case.prefix();
        let profile = case.baseline.instance.instance_profile.as_deref();
        let lowered = material.reports.iter().flat_map(|r| &r.actions).filter(|a| a.outcome == Outcome::Applied);
        let lowered = lowered.filter_map(|a| match &a.action {
            Action::LowerMinimumSize { group, from, to } => {
                Some([foreign(group), plain(from.to_string()), plain(to.to_string())])
            }
            _ => None,
        });
        html! {
            section {
                h2 id="next" { (words.next) }
                @if self.conclusion.status == RunStatus::Partial { p { strong { (words.next_mend) } } }
                @if !material.is_release() {
                    @if self.conclusion.status == RunStatus::Partial && case.contains() {
                        p { (fill(words.next_again, &[code(format!("stasis contain {}", case.instance.instance_id))])) }
                    }
                    @if self.conclusion.cut_off == Some(false) && !case.contains() {
                        p { (fill(words.next_contain, &[code(format!("stasis contain {}", case.instance.instance_id))])) }
                    }
                    h3 { (words.analysis) }
                    ol {
                        li { (fill(words.next_volatile, &[code(format!("{prefix}volatile/"))])) }
                        @if case.policy.memory.choice == MemoryChoice::Acquire {
                            li { (fill(words.next_memory, &[code(format!("{prefix}memory/"))])) }
                        }
                        li { (words.next_disks) }
                        @if let Some(profile) = profile { li { (fill(words.next_trail, &[code(profile)])) } }
                    }
                    h3 { (words.root_cause) }
                    ol {
                        li { (words.next_way_in) }
                        li { (words.next_persistence) }
                        li { (words.next_others) }
                    }
                    h3 { (words.recovery) }
                    ol {
                        li { (words.next_replace) }
                        li { (words.next_rotate) }
                        @for parts in lowered { li { (fill(words.next_sizes, &parts)) } }
                        li { (fill(words.next_terminate, &[tag()])) }
                    }
                }
                (self.how_to_release())
            }
        }
    }

    fn how_to_release(&self) -> Markup {
        let (words, id) = (self.words, &self.material.case.case_id);
        let input = format!("{{\"caseId\": \"{id}\", \"reason\": \"{}\"}}", words.a_false_alarm);
        html! {
            h3 { (words.release) }
            p { (words.release_about) }
            pre { code { "stasis release " (id) " --reason \"" (words.a_false_alarm) "\"" } }
            p { (fill(words.release_or, &[code("stasis-release")])) }
            pre { code {
                "aws stepfunctions start-execution --state-machine-arn $STASIS_RELEASE_STATE_MACHINE_ARN \\\n    --input '" (input) "'"
            } }
        }
    }
}

/// A setting of the instance, and where its story is told.
struct Setting<'a> {
    name: String,
    before: Markup,
    /// What the actions on it are about.
    subject: Subject<'a>,
    /// The check of containment that reads it.
    verified: Option<&'static str>,
    /// The check of a release that does.
    released: Option<&'static str>,
}

/// What an action is about, as far as the page tells of it under Before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject<'a> {
    Termination,
    Stop,
    Shutdown,
    Volumes,
    Scaling,
    Targets,
    Classic,
    Interface(&'a str),
    Profile,
    Tags,
    NetworkAcl,
    FlowLogs,
    /// A setting that nothing changes.
    Nothing,
    /// Something that is no setting of the instance.
    Other,
}

fn subject(action: &Action) -> Subject<'_> {
    match action {
        Action::EnableTerminationProtection { .. } | Action::DisableTerminationProtection { .. } => {
            Subject::Termination
        }
        Action::EnableStopProtection { .. } | Action::DisableStopProtection { .. } => Subject::Stop,
        Action::StopOnShutdown { .. } | Action::RestoreShutdownBehavior { .. } => Subject::Shutdown,
        Action::KeepVolumes { .. } | Action::RestoreDeleteOnTermination { .. } => Subject::Volumes,
        Action::LowerMinimumSize { .. }
        | Action::DetachFromScalingGroup { .. }
        | Action::AttachToScalingGroup { .. }
        | Action::RestoreMinimumSize { .. }
        | Action::EnterStandby { .. }
        | Action::ProtectFromScaleIn { .. } => Subject::Scaling,
        Action::DeregisterTargets { .. } | Action::RegisterTargets { .. } => Subject::Targets,
        Action::DeregisterFromClassicLoadBalancer { .. } | Action::RegisterWithClassicLoadBalancer { .. } => {
            Subject::Classic
        }
        Action::Quarantine { interface, .. } | Action::RestoreGroups { interface, .. } => {
            Subject::Interface(interface.as_str())
        }
        Action::ReplaceInstanceProfile { .. } | Action::RevokeSessions { .. } | Action::RestoreSessions { .. } => {
            Subject::Profile
        }
        Action::Tag { .. } | Action::RestoreTags { .. } | Action::MarkReleased { .. } => Subject::Tags,
        Action::DenyAddress { .. } | Action::AllowAddress { .. } => Subject::NetworkAcl,
        Action::CreateFlowLogs { .. } | Action::DeleteFlowLog { .. } => Subject::FlowLogs,
        Action::CreateQuarantineGroup { .. }
        | Action::CreatePassThroughGroup { .. }
        | Action::OpenPassThroughGroup { .. }
        | Action::ClosePassThroughGroup { .. }
        | Action::RevokeRules { .. }
        | Action::AllowEgress { .. }
        | Action::SendCommand { .. }
        | Action::KeepCommandOutput { .. }
        | Action::KeepConsole { .. }
        | Action::BeginUpload { .. }
        | Action::WriteManifest { .. }
        | Action::AcquireMemory { .. }
        | Action::CompleteUpload { .. }
        | Action::KeepAcquisition { .. }
        | Action::KeepCustody { .. }
        | Action::CreateSnapshots { .. }
        | Action::CreateSnapshot { .. }
        | Action::LockSnapshot { .. }
        | Action::CopySnapshot { .. }
        | Action::ShareSnapshot { .. }
        | Action::UnshareSnapshot { .. }
        | Action::CloseClaim { .. } => Subject::Other,
    }
}

/// Whether a report has something to tell: a look that only found that AWS is still at it has not, unless it is the last.
fn tells(report: &StageReport, reports: &[StageReport]) -> bool {
    let is_last = || !reports.iter().any(|r| r.stage == report.stage && r.attempt > report.attempt);
    let empty = report.actions.is_empty() && report.failures.is_empty() && report.notes.is_empty();
    !empty && (!report.actions.is_empty() || report.status != StageStatus::Waiting || is_last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::conclude;
    use crate::report::tests::worked;
    use crate::sample;

    #[test]
    fn the_page_says_the_status_the_reason_and_every_check() {
        let case = worked();
        let material = Material { case: &case, reports: &[], last: true, now: sample::time() };
        let conclusion = conclude(&material);
        let page = html(&material, &conclusion);
        assert!(page.contains("<h1>Contained</h1>") && page.contains(&conclusion.reason));
        for check in material.checklist() {
            assert!(page.contains(&check.name), "{}", check.name);
        }
        assert!(page.contains("default-src 'none'") && !page.contains("unsafe"));
    }
}
