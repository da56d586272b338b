//! The collector comes last: every process of the host runs before it, and when memory runs short the kernel ends it
//! before any other.

/// The score at which the kernel ends a process first.
const FIRST_TO_DIE: &str = "1000";
/// The lowest priority.
const LAST_TO_RUN: i32 = 19;

/// Lowers this process' priority, and gives what did not work.
pub fn lower() -> Vec<String> {
    let mut errors = Vec::new();
    // This process' own file, whatever root the host is read from.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_DIE) {
        errors.push(format!("oom_score_adj: {error}"));
    }
    if let Err(error) = rustix::process::setpriority_process(None, LAST_TO_RUN) {
        errors.push(format!("nice: {error}"));
    }
    errors
}

/// The most memory that this process had, in KiB.
pub fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
