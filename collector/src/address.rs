//! Which addresses are used at all: TLS, or this very machine.

use crate::error::CollectorError;

/// Whether memory may be sent to this address: by TLS, or in the clear to the loopback interface, which no packet
/// leaves.
///
/// # Errors
/// Where it may not.
pub fn check(address: &str) -> Result<(), CollectorError> {
    const CLEAR: CollectorError = CollectorError::Address("an address without TLS is not used");
    if address.len() > 8192 || !address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CollectorError::Address("an address with other than printable characters is not used"));
    }
    if address.starts_with("https://") {
        return Ok(());
    }
    let rest = address.strip_prefix("http://").ok_or(CLEAR)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // With a user name before it, what looks like the host is none.
    match host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(host, _)| host) {
        _ if host.contains('@') => Err(CLEAR),
        "127.0.0.1" | "localhost" | "[::1]" => Ok(()),
        _ => Err(CLEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_nowhere_in_the_clear() {
        for good in
            ["https://b.s3.amazonaws.com/x?y=1", "http://127.0.0.1:4566/b/k", "http://localhost/x", "http://[::1]:80/"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        let bad = [
            "http://b.s3.amazonaws.com/x",
            "ftp://x/",
            "",
            "file:///etc/passwd",
            "http://127.0.0.1.example.com/",
            "http://127.0.0.1@example.com/",
            "http://localhost:80@example.com/",
            "http://example.com/?http://127.0.0.1/",
            "https://x/\r\nHost: y",
            "https://x/ y",
        ];
        for bad in bad {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
