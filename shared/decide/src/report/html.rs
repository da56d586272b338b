//! report.html: one page that needs nothing else. Everything that came from the instance, the finding or a
//! person is escaped by maud; the page's own policy forbids scripts and loading anything.

use super::{Conclusion, Material};
use crate::{approval, triage, verify};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use stasis_model::Timestamp;
use stasis_model::baseline::{Baseline, Observed};
use stasis_model::case::{Case, Credentials, TrackedConnections};
use stasis_model::check::Check;
use stasis_model::evidence::Evidence;
use stasis_model::ids::GroupId;
use stasis_model::outcome::RunStatus;
use stasis_model::policy::Decision;
use stasis_model::stage::{Outcome, Stage, StageReport, StageStatus};
use stasis_model::trigger::Source;

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page.
pub fn html(material: &Material<'_>, conclusion: &Conclusion) -> String {
    let case = material.case;
    let title = format!("Stasis: {} {}", conclusion.status, case.instance.instance_id);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (headline(material, conclusion))
                main {
                    (what_happened(material))
                    (checklist(material.checklist()))
                    (beyond(material))
                    (timeline(material))
                    (before_and_after(case, material.reports))
                    (actions(material.reports))
                    (evidence(material))
                    (risks(material))
                    (next_steps(case, conclusion))
                }
                footer { "Written by Stasis " (env!("CARGO_PKG_VERSION")) " at " (time(material.now)) "." }
            }
        }
    };
    page.into_string()
}

fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to - from).as_seconds_f64()
}

fn headline(material: &Material<'_>, conclusion: &Conclusion) -> Markup {
    let case = material.case;
    let (class, words) = match conclusion.status {
        RunStatus::Contained => ("good", "Contained"),
        RunStatus::DryRun => ("plain", "Dry run: nothing was changed"),
        RunStatus::Released => ("plain", "Released"),
        RunStatus::Rejected => ("plain", "Rejected: put back as it was"),
        _ if material.is_release() => ("bad", "Release is not complete"),
        _ => match conclusion.cut_off {
            Some(true) => ("bad", "Partial: cut off, but something is missing"),
            Some(false) if !case.contains() && case.decided.decision == Decision::Ask => {
                ("bad", "Preserved, NOT contained: without approval")
            }
            Some(false) if !case.contains() => ("bad", "Preserved, still on the network, as asked"),
            Some(false) => ("bad", "Partial: NOT cut off from the network"),
            None => ("bad", "Partial: not known whether it is cut off"),
        },
    };
    html! {
        header class=(class) {
            p.brand { "Stasis case report" }
            h1 { (words) }
            p.sub {
                (case.instance.instance_id)
                @if let Some(name) = case.baseline.instance.name() { " (" (name) ")" }
                ", account " (case.instance.account) ", " (case.instance.region)
            }
            p { (conclusion.reason) }
            @if conclusion.pending { p { strong { "Evidence is still being gathered; this report will be written again when it is complete." } } }
        }
    }
}

fn what_happened(material: &Material<'_>) -> Markup {
    let case = material.case;
    html! {
        section {
            h2 { "What happened" }
            dl {
                dt { "Case" } dd { (case.case_id) }
                dt { "Ticket" } dd { (case.ticket) }
                @match &case.source {
                    Source::Finding { finding_type, severity, title, id } => {
                        dt { "Finding" } dd { (finding_type.as_deref().unwrap_or("of no type")) }
                        @if let Some(title) = title { dt { "In GuardDuty's words" } dd { (title) } }
                        @if let Some(severity) = severity { dt { "Severity" } dd { (severity) } }
                        @if let Some(id) = id { dt { "Finding id" } dd.id { (id) } }
                    }
                    Source::Request => { dt { "Started" } dd { "by hand or by another tool" } }
                }
                dt { "Decided" }
                dd { (triage::decision_in_words(&case.decided)) }
                @if let Some(over) = &case.taken_over {
                    dt { "Taken over" }
                    dd { (time(over.at)) ", because " (over.why) }
                }
                @if let Some(answer) = material.approval() {
                    dt { "Approval" }
                    dd { (approval::in_words(answer, case.decided.approval)) ", " (time(answer.at)) }
                }
                @if let Some(reason) = &case.reason { dt { "Reason given" } dd { (reason) } }
                dt { "Opened" } dd { (time(case.opened_at)) }
                @if let Some(at) = material.contained_at() {
                    dt { "Cut off from the network" }
                    dd { (time(at)) ", " strong { (format!("{:.1} s", seconds(material.allowed_since().0, at))) } " after " (material.allowed_since().1) }
                }
                @if let Some(execution) = &case.execution { dt { "Execution" } dd.id { (execution) } }
            }
        }
    }
}

fn checklist(checks: &[Check]) -> Markup {
    html! {
        section {
            h2 { "Security checklist" }
            p { "Read back from AWS after the work was done. UNKNOWN never counts as a pass." }
            @if checks.is_empty() { p { strong { "There is no checklist: nothing was verified." } } }
            @else { (table_of(checks)) }
        }
    }
}

fn table_of(checks: &[Check]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Result" } th { "Check" } th { "Expected" } th { "Observed" } } }
            tbody {
                @for check in checks {
                    tr {
                        td { span class=(format!("mark {}", check.status)) { (check.status) } }
                        td { (check.name) }
                        td { (check.expected) }
                        td { (check.observed) }
                    }
                }
            }
        } }
    }
}

/// What the playbooks found. Nothing of it says anything of the containment.
fn beyond(material: &Material<'_>) -> Markup {
    html! {
        @if let Some((checks, notes)) = material.beyond() && !(checks.is_empty() && notes.is_empty()) {
            section {
                h2 { "Beyond the instance" }
                p { "What else the compromise may reach, by the playbooks of the policy. It says nothing of the containment." }
                @if !checks.is_empty() { (table_of(checks)) }
                @if !notes.is_empty() { ul { @for note in notes { li { (note) } } } }
            }
        }
    }
}

/// Width of the timeline's bars, in its own units.
const BARS: f64 = 640.0;
/// Where the bars begin.
const LABELS: f64 = 110.0;
/// Height of a line.
const LINE: usize = 26;

fn timeline(material: &Material<'_>) -> Markup {
    let from = material.case.opened_at;
    let firsts: Vec<&StageReport> = Stage::ALL
        .iter()
        .filter_map(|stage| material.reports.iter().filter(|r| r.stage == *stage).min_by_key(|r| r.attempt))
        .collect();
    let last_at = |stage| material.latest(stage).map(|r| r.finished_at);
    let span = firsts.iter().filter_map(|r| last_at(r.stage)).map(|at| seconds(from, at)).fold(0.1, f64::max);
    let x = |at: Timestamp| LABELS + BARS * (seconds(from, at).max(0.0) / span);
    let height = firsts.len() * LINE + 10;
    html! {
        section {
            h2 { "Timeline" }
            @if firsts.is_empty() { p { "No stage has reported." } }
            @else {
                div.scroll { svg viewBox=(format!("0 0 {} {height}", LABELS + BARS + 90.0)) role="img" aria-label="When each stage ran" {
                    @for (line, first) in firsts.iter().enumerate() {
                        @let ended = last_at(first.stage).unwrap_or(first.finished_at);
                        @let width = (x(ended) - x(first.started_at)).max(3.0);
                        text x="0" y=(line * LINE + 18) { (first.stage) }
                        rect x=(format!("{:.1}", x(first.started_at))) y=(line * LINE + 5) width=(format!("{width:.1}")) height="17" rx="3"
                            class=(if matches!(material.latest(first.stage).map(|r| r.status), Some(StageStatus::Incomplete)) { "late" } else { "ok" }) {}
                        text.small x=(format!("{:.1}", x(first.started_at) + width + 6.0)) y=(line * LINE + 18) {
                            (format!("{:.1} s", seconds(from, ended)))
                        }
                    }
                } }
                p.small { "Seconds since the case was opened, to the end of each stage." }
            }
        }
    }
}

/// A setting before and what became of it.
fn before_and_after(case: &Case, reports: &[StageReport]) -> Markup {
    let rows = settings(&case.baseline);
    let changed = |kinds: &[&str]| -> Option<String> {
        let done: Vec<String> = reports
            .iter()
            .flat_map(|r| &r.actions)
            .filter(|a| kinds.contains(&kind(a)) || interface_of(a).is_some_and(|id| kinds.contains(&id)))
            .map(|a| format!("{}: {}", a.words, outcome(a.outcome)))
            .collect();
        (!done.is_empty()).then(|| done.join("; "))
    };
    html! {
        section {
            h2 { "Before and after" }
            p { "What the instance was like before Stasis touched it (" code { "baseline.json" } "), and what was changed." }
            div.scroll { table {
                thead { tr { th { "Setting" } th { "Before" } th { "Changed" } } }
                tbody { @for (name, before, kinds) in &rows {
                    tr { td { (name) } td { (before) } td { (changed(kinds).unwrap_or_else(|| "left as it was".to_owned())) } }
                } }
            } }
        }
    }
}

fn kind(record: &stasis_model::stage::ActionRecord) -> &'static str {
    use stasis_model::action::Action;
    match record.action {
        Action::EnableTerminationProtection { .. } | Action::DisableTerminationProtection { .. } => "termination",
        Action::EnableStopProtection { .. } | Action::DisableStopProtection { .. } => "stop",
        Action::StopOnShutdown { .. } | Action::RestoreShutdownBehavior { .. } => "shutdown",
        Action::KeepVolumes { .. } | Action::RestoreDeleteOnTermination { .. } => "volumes",
        Action::LowerMinimumSize { .. }
        | Action::DetachFromScalingGroup { .. }
        | Action::AttachToScalingGroup { .. }
        | Action::RestoreMinimumSize { .. }
        | Action::EnterStandby { .. }
        | Action::ProtectFromScaleIn { .. } => "scaling",
        Action::DeregisterTargets { .. } | Action::RegisterTargets { .. } => "targets",
        Action::DeregisterFromClassicLoadBalancer { .. } | Action::RegisterWithClassicLoadBalancer { .. } => "classic",
        Action::ReplaceInstanceProfile { .. } | Action::RevokeSessions { .. } | Action::RestoreSessions { .. } => {
            "profile"
        }
        _ => "other",
    }
}

/// The interface whose groups an action changed.
fn interface_of(record: &stasis_model::stage::ActionRecord) -> Option<&str> {
    use stasis_model::action::Action;
    match &record.action {
        Action::Quarantine { interface, .. } | Action::RestoreGroups { interface, .. } => Some(interface.as_str()),
        _ => None,
    }
}

fn known<T>(fact: &Observed<T>, words: impl FnOnce(&T) -> String) -> String {
    match fact {
        Observed::Known(fact) => words(fact),
        Observed::Unknown(why) => format!("could not be read: {why}"),
    }
}

fn settings(baseline: &Baseline) -> Vec<(String, String, Vec<&str>)> {
    let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
    fn row<'a>(name: &str, before: String, kind: &'a str) -> (String, String, Vec<&'a str>) {
        (name.to_owned(), before, vec![kind])
    }
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let mut rows = vec![
        row("Termination protection", known(&baseline.protection, |p| on(p.termination)), "termination"),
        row("Stop protection", known(&baseline.protection, |p| on(p.stop)), "stop"),
        row("Shutdown from inside", known(&baseline.protection, |p| p.shutdown_behavior.clone()), "shutdown"),
        row(
            "Deleted on termination",
            list(
                baseline
                    .instance
                    .volumes
                    .iter()
                    .filter(|v| v.delete_on_termination)
                    .map(|v| format!("{} ({})", v.volume_id, v.device))
                    .collect(),
            ),
            "volumes",
        ),
        row(
            "Auto Scaling group",
            known(&baseline.scaling, |s| {
                s.as_ref().map_or_else(
                    || "none".to_owned(),
                    |m| match m.sizes {
                        Some(s) => format!(
                            "{} ({}; min {}, desired {}, max {})",
                            m.group, m.lifecycle_state, s.min, s.desired, s.max
                        ),
                        None => format!("{} ({})", m.group, m.lifecycle_state),
                    },
                )
            }),
            "scaling",
        ),
        row(
            "Target groups",
            known(&baseline.targets, |targets| {
                list(
                    targets
                        .iter()
                        .map(|t| {
                            let port = t.port.map(|p| format!(":{p}")).unwrap_or_default();
                            format!(
                                "{}{port} in {}",
                                t.target,
                                stasis_model::action::target_group_name(&t.target_group)
                            )
                        })
                        .collect(),
                )
            }),
            "targets",
        ),
        row("Classic load balancers", known(&baseline.classic_load_balancers, |names| list(names.clone())), "classic"),
    ];
    rows.extend(baseline.instance.interfaces.iter().map(|i| {
        let groups: Vec<&str> = i.groups.iter().map(GroupId::as_str).collect();
        row(&format!("Groups of {}", i.interface_id), groups.join(", "), i.interface_id.as_str())
    }));
    let addresses = |i: &stasis_model::baseline::Interface| {
        let public = i.public_address.as_ref().map(|a| format!(", public {a}")).unwrap_or_default();
        let check = match i.source_dest_check {
            Some(false) => ", source/destination check off",
            _ => "",
        };
        format!("{}{public}{check}", i.addresses.join(", "))
    };
    rows.extend(
        baseline
            .instance
            .interfaces
            .iter()
            .map(|i| row(&format!("Addresses of {}", i.interface_id), addresses(i), "addresses")),
    );
    let profile = baseline.instance.instance_profile.clone().unwrap_or_else(|| "none".to_owned());
    rows.push(row("Instance profile", profile, "profile"));
    rows
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "done",
        Outcome::AlreadySo => "was so already",
        Outcome::Planned => "planned, not done",
        Outcome::Failed => "FAILED",
    }
}

/// Whether a report has something to tell: a look that only found that AWS is still at it has not, unless it is the last.
fn tells(report: &StageReport, reports: &[StageReport]) -> bool {
    let is_last = || !reports.iter().any(|r| r.stage == report.stage && r.attempt > report.attempt);
    let empty = report.actions.is_empty() && report.failures.is_empty() && report.notes.is_empty();
    !empty && (!report.actions.is_empty() || report.status != StageStatus::Waiting || is_last())
}

fn actions(reports: &[StageReport]) -> Markup {
    html! {
        section {
            h2 { "What was done" }
            @for report in reports.iter().filter(|r| tells(r, reports)) {
                h3 { (report.stage) " " span.small { "call " (report.attempt) ", " (time(report.started_at)) ", " (report.status) } }
                @if !report.actions.is_empty() {
                    div.scroll { table {
                        thead { tr { th { "Result" } th { "Action" } th { "AWS request" } } }
                        tbody { @for record in &report.actions {
                            tr {
                                td { (outcome(record.outcome)) }
                                td { (record.words) @if !record.words.contains(&record.target) { " (" (record.target) ")" } @if let Some(error) = &record.error { br; strong { (error.code) ": " (error.message) } } }
                                td.id { (record.request_id.as_deref().unwrap_or("")) }
                            }
                        } }
                    } }
                }
                @for failure in report.failures.iter().filter(|f| !report.actions.iter().any(|a| a.error.as_ref() == Some(*f))) {
                    p { strong { (failure.code) } ": " (failure.message) }
                }
                @for note in &report.notes { p { (note) } }
            }
        }
    }
}

fn evidence(material: &Material<'_>) -> Markup {
    let evidence = material.evidence();
    let case = material.case;
    html! {
        section {
            h2 { "Evidence" }
            p { "Everything is under " code { "s3://" (case.bucket) "/" (case.prefix()) } ", versioned and locked; " code { "manifest.json" }
                " lists every file with its SHA-256. To check a file: " code { "sha256sum FILE" } "." }
            @if evidence.is_empty() { p { strong { "No evidence was gathered." } } }
            @else {
                div.scroll { table {
                    thead { tr { th { "What" } th { "Id" } th { "SHA-256" } } }
                    tbody { @for piece in evidence {
                        tr { td { (piece.description) (elsewhere(piece)) } td.id { (piece.id) } td.id { (piece.sha256.as_deref().unwrap_or("")) } }
                    } }
                } }
            }
        }
    }
}

/// Where a piece is that is not in the bucket.
fn elsewhere(piece: &Evidence) -> String {
    piece.location.as_ref().filter(|at| !at.starts_with("s3://")).map_or_else(String::new, |at| format!(", in {at}"))
}

fn risks(material: &Material<'_>) -> Markup {
    let case = material.case;
    if material.is_release() {
        return html! {};
    }
    let failing: Vec<&Check> =
        material.checklist().iter().filter(|c| !c.passed() && verify::is_containment(c)).collect();
    html! {
        section {
            h2 { "What remains" }
            ul {
                @for check in failing { li { strong { (check.name) ": " } (check.observed) } }
                @if case.contains() && !case.is_dry_run() {
                    @match case.policy.tracked_connections {
                        TrackedConnections::Cut => li { "Connections through a NAT gateway, egress-only internet gateway, network load balancer, interface endpoint or transit gateway, and ICMP, are always tracked by AWS: those that were open go on until they time out. An entry in the network ACL cuts them (policy RemoteAddresses)." },
                        TrackedConnections::Leave => li { "Connections that were open when the group was swapped may go on until they time out: security groups do not cut tracked connections (policy leave)." },
                    }
                    li { "Security groups do not filter the VPC's own DNS resolver, instance metadata or time: DNS tunnelling and the role's credentials remain possible." }
                }
                @if let Some(profile) = &case.baseline.instance.instance_profile {
                    @if case.policy.credentials == Credentials::Keep {
                        li { "The instance has a role (" code { (profile) } "). Credentials taken from it before now stay valid until they expire." }
                    }
                }
                @if !case.contains() { li { "The instance is still on the network, as asked (mode preserve)." } }
            }
        }
    }
}

fn next_steps(case: &Case, conclusion: &Conclusion) -> Markup {
    if conclusion.status == RunStatus::Released {
        return html! {
            section {
                h2 { "What to do next" }
                ol {
                    li { "Watch the instance: its targets are healthy and its scaling group keeps it." }
                    li { "The evidence stays under Object Lock until its retention ends. What is no longer needed then can be deleted by hand: the snapshots carry the tag " code { "stasis:case=" (case.case_id) } "." }
                    li { "Suppress or archive the finding, if it was a false alarm, so that it does not open a new case." }
                }
            }
        };
    }
    html! {
        section {
            h2 { "What to do next" }
            ol {
                @if conclusion.status == RunStatus::Partial { li { strong { "First mend what is named at the top; the checklist says what AWS sees." } } }
                li { "Look at the volatile data in " code { (case.prefix()) "volatile/" } ": processes, sockets and modules at the time of the incident." }
                li { "Make volumes from the snapshots in an account of your own and mount them read-only; never start the instance's own system." }
                li { "Find the way in (root cause), then replace the instance from a clean image. Do not reuse its disks or its role's credentials." }
                li { "If it was a false alarm, start " code { "stasis-release" } " with " code { "{\"caseId\": \"" (case.case_id) "\", \"reason\": \"…\"}" } ": it puts back what is listed under Before and after. Evidence is kept." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::conclude;
    use crate::report::tests::worked;
    use crate::sample;

    #[test]
    fn foreign_text_stays_text() {
        let mut case = worked();
        let hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
        case.baseline.instance.tags.insert("Name".to_owned(), hostile.to_owned());
        case.reason = Some(hostile.to_owned());
        case.source = Source::Finding {
            id: Some(hostile.to_owned()),
            finding_type: Some(hostile.to_owned()),
            severity: Some(8.0),
            title: Some(hostile.to_owned()),
        };
        if let Some(check) = case.stages.get_mut(&Stage::Verify).and_then(|v| v.checklist.first_mut()) {
            check.observed = hostile.to_owned();
        }
        let material = Material { case: &case, reports: &[], last: true, now: sample::time() };
        let page = html(&material, &conclude(&material));
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.matches("&lt;script&gt;").count() >= 5);
    }

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
        assert!(page.contains("default-src 'none'"));
    }
}
