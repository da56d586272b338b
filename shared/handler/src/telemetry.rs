//! Logs: JSON lines on standard output, with case, instance and stage on every line of a case. One line
//! with target `audit` for each AWS write. Never an input, a finding or what a host printed.

use tracing_subscriber::EnvFilter;

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
