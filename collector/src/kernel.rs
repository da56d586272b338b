//! What the reader of an image must know of the kernel: its release, what it refuses, how it is laid out.

use crate::host::Host;
use stasis_acquisition::summary::Kernel;

/// Where the kernel's own types are.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The processor's flag for five levels of page tables; without the flag the kernel does not use them.
const FIVE_LEVELS: &str = "la57";

/// What is known of the kernel.
pub fn facts(host: &Host) -> Kernel {
    let machine = host.text("/proc/sys/kernel/arch").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    Kernel {
        release: host.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        machine,
        lockdown: host.text("/sys/kernel/security/lockdown").map(|text| in_force(&text)),
        five_level_paging: five_level_paging(host),
        has_btf: host.path(BTF).exists(),
        text_address: text_address(host),
        tainted: host.text("/proc/sys/kernel/tainted").and_then(|text| text.parse().ok()),
    }
}

/// Of `none [integrity] confidentiality` the word in brackets.
fn in_force(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(mode, _)| mode).to_owned()
}

/// `no5lvl` on the command line switches it off whatever the processor can; the kernel then hides the flag too.
fn five_level_paging(host: &Host) -> bool {
    let Ok((content, _)) = host.read("/proc/cpuinfo", 1 << 20) else { return false };
    let text = String::from_utf8_lossy(&content);
    let flags = text.lines().find_map(|line| line.strip_prefix("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == FIVE_LEVELS))
}

/// Where `_text` is: how far the kernel was shifted.
fn text_address(host: &Host) -> Option<u64> {
    let (content, _) = host.read("/proc/kallsyms", crate::host::MOST_BYTES).ok()?;
    let text = String::from_utf8_lossy(&content);
    let line = text.lines().find(|line| line.ends_with(" _text"))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|address| *address != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lockdown_in_force_is_in_brackets() {
        assert_eq!(in_force("none [integrity] confidentiality"), "integrity");
        assert_eq!(in_force("[none] integrity confidentiality"), "none");
        assert_eq!(in_force("odd"), "odd");
    }
}
