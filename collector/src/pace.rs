//! Waiting: for a limit of bytes a second, and between two tries.

use std::time::{Duration, Instant};

/// Waits.
#[expect(clippy::disallowed_methods, reason = "a process of its own on the host, not a function")]
pub(crate) fn wait(duration: Duration) {
    std::thread::sleep(duration);
}

/// Keeps to a limit of bytes a second.
pub(crate) struct Pace {
    limit: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.filter(|limit| *limit > 0), begun: Instant::now(), bytes: 0 }
    }

    /// Waits until this many bytes more are allowed.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let Some(limit) = self.limit else { return };
        let due = Duration::from_millis(self.bytes.saturating_mul(1000) / limit);
        wait(due.saturating_sub(self.begun.elapsed()));
    }
}
