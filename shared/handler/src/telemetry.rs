//! Logs: JSON lines on standard output, with case, instance and stage on every line of a case. One line
//! with target `audit` for each AWS write. Never an input, a finding or what a host printed.
//!
//! Metrics: one more JSON line for each call of a stage and for each run that ended, in CloudWatch's embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>):
//! CloudWatch Logs reads them out of the log. `_aws` stands at the line's top level, so these lines do not go through `tracing`.
//! They carry `level` and `timestamp`, by which Lambda filters JSON lines.

use serde_json::{Value, json};
use stasis_model::Timestamp;
use stasis_model::ids::CaseId;
use stasis_model::outcome::RunStatus;
use stasis_model::stage::StageReport;
use std::io::Write as _;
use tracing_subscriber::EnvFilter;

/// The namespace of every metric.
const NAMESPACE: &str = "Stasis";

/// Sets the process's logging up. Called once.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env("STASIS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(true)
        .with_span_list(true)
        .flatten_event(true)
        .init();
}

/// A call of a stage: `StageDuration` in milliseconds by stage, `StageOutcome` by stage and status. Each call while a stage
/// waits is one.
pub(crate) fn of_stage(report: &StageReport) -> Value {
    json!({
        "_aws": {
            "Timestamp": report.finished_at.timestamp_millis(),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Stage"]],
                    "Metrics": [{"Name": "StageDuration", "Unit": "Milliseconds"}],
                },
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Stage", "Status"]],
                    "Metrics": [{"Name": "StageOutcome", "Unit": "Count"}],
                },
            ],
        },
        "Stage": report.stage.to_string(),
        "Status": report.status.to_string(),
        "StageDuration": milliseconds(report.started_at, report.finished_at),
        "StageOutcome": 1,
        "case": report.case_id,
        "level": "INFO",
        "target": "metric",
        "timestamp": report.finished_at,
    })
}

/// A run that ended, or what triage ended of it: `RunOutcome` by status.
pub(crate) fn of_run(case: Option<&CaseId>, status: RunStatus, at: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": at.timestamp_millis(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["Status"]],
                "Metrics": [{"Name": "RunOutcome", "Unit": "Count"}],
            }],
        },
        "Status": status.to_string(),
        "RunOutcome": 1,
        "case": case,
        "level": "INFO",
        "target": "metric",
        "timestamp": at,
    })
}

/// An instance that was contained: `TimeToContain` in milliseconds, from when that was allowed until the last network interface
/// was in quarantine.
pub(crate) fn of_containment(case: &CaseId, allowed: Timestamp, contained: Timestamp) -> Value {
    json!({
        "_aws": {
            "Timestamp": contained.timestamp_millis(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [[]],
                "Metrics": [{"Name": "TimeToContain", "Unit": "Milliseconds"}],
            }],
        },
        "TimeToContain": milliseconds(allowed, contained),
        "case": case,
        "level": "INFO",
        "target": "metric",
        "timestamp": contained,
    })
}

/// Never below nothing: the two may be of two clocks.
fn milliseconds(from: Timestamp, to: Timestamp) -> i64 {
    (to - from).num_milliseconds().max(0)
}

/// Writes a line at once, so that no line of a log comes into it. One that cannot be written is no reason to stop.
pub(crate) fn tell(line: &Value) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_model::SCHEMA;
    use stasis_model::stage::{Stage, StageStatus};

    const CASE: &str = "case-20261123T061126Z-1f2e3d4c";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn case() -> CaseId {
        serde_json::from_value(json!(CASE)).unwrap()
    }

    fn report(status: StageStatus, finished_at: &str) -> StageReport {
        StageReport {
            schema: SCHEMA,
            case_id: case(),
            stage: Stage::Protect,
            attempt: 2,
            status,
            started_at: at("2026-11-23T10:15:00Z"),
            finished_at: at(finished_at),
            wait_seconds: None,
            summary: "what a summary says".to_owned(),
            previous: None,
            actions: Vec::new(),
            failures: Vec::new(),
            evidence: Vec::new(),
            checks: Vec::new(),
            notes: vec!["a note".to_owned()],
            answer: None,
        }
    }

    /// What the specification asks of a line, and CloudWatch else passes over without a word.
    fn meets_the_specification(line: &Value) {
        let text = line.to_string();
        assert!(!text.contains('\n') && text.len() < 1 << 20, "one line of less than 1 MiB: {text}");
        let metadata = &line["_aws"];
        assert!(metadata["Timestamp"].is_i64(), "milliseconds since 1970: {metadata}");
        let directives = metadata["CloudWatchMetrics"].as_array().unwrap();
        assert!(!directives.is_empty());
        for directive in directives {
            assert_eq!(directive["Namespace"], NAMESPACE);
            for set in directive["Dimensions"].as_array().unwrap() {
                for dimension in set.as_array().unwrap() {
                    let value = line[dimension.as_str().unwrap()].as_str();
                    assert!(value.is_some_and(|v| !v.is_empty()), "{dimension} has no value: {text}");
                }
            }
            for metric in directive["Metrics"].as_array().unwrap() {
                let value = &line[metric["Name"].as_str().unwrap()];
                assert!(value.is_number(), "{metric} has no number: {text}");
                assert!(["Milliseconds", "Count"].contains(&metric["Unit"].as_str().unwrap()));
            }
        }
        // By these Lambda filters, and finds a line's time.
        assert_eq!(line["level"], "INFO");
        at(line["timestamp"].as_str().unwrap());
    }

    #[test]
    fn every_line_meets_the_specification() {
        for status in [StageStatus::Done, StageStatus::Incomplete, StageStatus::Waiting, StageStatus::Planned] {
            meets_the_specification(&of_stage(&report(status, "2026-11-23T10:15:01Z")));
        }
        meets_the_specification(&of_run(Some(&case()), RunStatus::Partial, at("2026-11-23T10:15:01Z")));
        meets_the_specification(&of_run(None, RunStatus::Ignored, at("2026-11-23T10:15:01Z")));
        let (allowed, contained) = (at("2026-11-23T10:15:00Z"), at("2026-11-23T10:15:01Z"));
        meets_the_specification(&of_containment(&case(), allowed, contained));
    }

    #[test]
    fn a_stage_tells_how_long_and_how_it_ended() {
        let line = of_stage(&report(StageStatus::Incomplete, "2026-11-23T10:15:01.250Z"));
        assert_eq!(line["StageDuration"], 1250);
        assert_eq!((&line["Stage"], &line["Status"]), (&json!("protect"), &json!("INCOMPLETE")));
        assert_eq!(line["StageOutcome"], 1);
        assert_eq!(line["case"], CASE);
        let text = line.to_string();
        assert!(!text.contains("summary") && !text.contains("note"), "nothing that a host may have said: {text}");
    }

    #[test]
    fn a_run_tells_how_it_ended() {
        let line = of_run(Some(&case()), RunStatus::Partial, at("2026-11-23T10:15:01Z"));
        assert_eq!((&line["Status"], &line["RunOutcome"], &line["case"]), (&json!("PARTIAL"), &json!(1), &json!(CASE)));
    }

    #[test]
    fn containment_tells_how_long_it_took_and_never_less_than_nothing() {
        let line = of_containment(&case(), at("2026-11-23T10:15:00Z"), at("2026-11-23T10:15:04.5Z"));
        assert_eq!(line["TimeToContain"], 4500);
        let line = of_containment(&case(), at("2026-11-23T10:15:09Z"), at("2026-11-23T10:15:04.5Z"));
        assert_eq!(line["TimeToContain"], 0);
    }
}
