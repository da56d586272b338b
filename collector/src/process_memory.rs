//! Process memory: what is left where the kernel refuses the physical memory. Every process' resident memory by
//! `/proc/PID/mem`, its map, and its executable, also a deleted one or one that never was a file, as a tar stream.
//! Reads only what is resident: reading the rest would make the kernel fetch it, and grow without end.

use crate::error::CollectorError;
use crate::host::Host;
use crate::stream::{Cutter, Parts};
use crate::tar;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

const PAGE: u64 = 4096;
const CHUNK: usize = 1 << 20;
/// The largest executable that is taken.
const MOST_EXECUTABLE: u64 = 256 << 20;
/// Mappings of the kernel's own, which hold nothing of the process.
const NOT_TAKEN: [&str; 3] = ["[vvar]", "[vsyscall]", "[vvar_vclock]"];

/// What was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Processes.
    pub processes: u32,
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes that could not be read; zeros in the archive.
    pub unreadable: u64,
}

/// Streams every process but this one. A process that ends meanwhile is left out from there on.
///
/// # Errors
/// Where nothing more is taken at the other end.
pub fn stream<P: Parts>(host: &Host, cutter: &mut Cutter<'_, P>, taken: &mut Taken) -> Result<(), CollectorError> {
    for pid in host.processes().into_iter().filter(|pid| *pid != std::process::id()) {
        process(host, pid, cutter, taken)?;
    }
    cutter.write(&tar::END)
}

fn process<P: Parts>(
    host: &Host,
    pid: u32,
    cutter: &mut Cutter<'_, P>,
    taken: &mut Taken,
) -> Result<(), CollectorError> {
    let Ok((maps, _)) = host.read(&format!("/proc/{pid}/smaps"), crate::host::MOST_BYTES) else { return Ok(()) };
    // A kernel thread maps nothing.
    if maps.is_empty() {
        return Ok(());
    }
    taken.processes += 1;
    member(cutter, &format!("{pid}/smaps"), &maps)?;
    executable(host, pid, cutter)?;
    let Ok(memory) = File::open(host.path(&format!("/proc/{pid}/mem"))) else { return Ok(()) };
    let page_map = File::open(host.path(&format!("/proc/{pid}/pagemap"))).ok();
    for mapping in resident(&String::from_utf8_lossy(&maps)) {
        for range in present(page_map.as_ref(), &mapping) {
            let length = range.end - range.start;
            cutter.write(&tar::header(&format!("{pid}/{:x}-{:x}", range.start, range.end), length))?;
            taken.unreadable += copy(&memory, &range, cutter)?;
            cutter.write(&vec![0; tar::padding(length)])?;
            taken.bytes += length;
        }
    }
    Ok(())
}

fn member<P: Parts>(cutter: &mut Cutter<'_, P>, name: &str, content: &[u8]) -> Result<(), CollectorError> {
    let size = content.len() as u64;
    cutter.write(&tar::header(name, size))?;
    cutter.write(content)?;
    cutter.write(&vec![0; tar::padding(size)])
}

/// The executable by its open link, which works for a deleted one. Its size is asked once, and the member has that
/// size whatever happens to it meanwhile.
fn executable<P: Parts>(host: &Host, pid: u32, cutter: &mut Cutter<'_, P>) -> Result<(), CollectorError> {
    let Ok(file) = File::open(host.path(&format!("/proc/{pid}/exe"))) else { return Ok(()) };
    let Ok(size) = file.metadata().map(|about| about.len().min(MOST_EXECUTABLE)) else { return Ok(()) };
    cutter.write(&tar::header(&format!("{pid}/exe"), size))?;
    copy(&file, &(0..size), cutter)?;
    cutter.write(&vec![0; tar::padding(size)])
}

/// Copies a range; zeros stand for what cannot be read. Gives how much that was.
fn copy<P: Parts>(file: &File, range: &Range<u64>, cutter: &mut Cutter<'_, P>) -> Result<u64, CollectorError> {
    let mut buffer = vec![0_u8; CHUNK];
    let mut unreadable = 0;
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        if file.read_exact_at(piece, at).is_err() {
            let mut page_at = at;
            for page in piece.chunks_mut(4096) {
                if file.read_exact_at(page, page_at).is_err() {
                    page.fill(0);
                    unreadable += page.len() as u64;
                }
                page_at += page.len() as u64;
            }
        }
        cutter.write(piece)?;
        at += length as u64;
    }
    Ok(unreadable)
}

/// The readable mappings of an `smaps` that have anything in memory or in swap.
fn resident(smaps: &str) -> Vec<Range<u64>> {
    let mut found: Vec<(Range<u64>, bool, u64)> = Vec::new();
    for line in smaps.lines() {
        if let Some((range, taken)) = mapping(line) {
            found.push((range, taken, 0));
        } else if let Some(rest) = line.strip_prefix("Rss:").or_else(|| line.strip_prefix("Swap:"))
            && let (Some((.., kib)), Some(number)) = (found.last_mut(), rest.split_whitespace().next())
        {
            *kib = kib.saturating_add(number.parse().unwrap_or(0));
        }
    }
    found.into_iter().filter(|(_, taken, kib)| *taken && *kib > 0).map(|(range, ..)| range).collect()
}

/// A line that begins a mapping, `start-end rwxp offset device inode path`, and whether it is taken.
fn mapping(line: &str) -> Option<(Range<u64>, bool)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let access = fields.next()?;
    let path = fields.nth(3).unwrap_or_default();
    let taken = access.starts_with('r') && !path.starts_with("/dev/") && !NOT_TAKEN.contains(&path);
    (start < end).then_some((start..end, taken))
}

/// Of a mapping, the ranges whose pages are in memory or in swap; all of it where that cannot be told.
/// <https://docs.kernel.org/admin-guide/mm/pagemap.html>: bit 63 is present, bit 62 swapped.
fn present(page_map: Option<&File>, mapping: &Range<u64>) -> Vec<Range<u64>> {
    let Some(page_map) = page_map else { return vec![mapping.clone()] };
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut entries = vec![0_u8; 8 * 4096];
    let mut at = mapping.start;
    while at < mapping.end {
        let pages = ((mapping.end - at) / PAGE).clamp(1, 4096);
        let length = usize::try_from(pages * 8).unwrap_or(entries.len());
        let Some(piece) = entries.get_mut(..length) else { break };
        if page_map.read_exact_at(piece, at / PAGE * 8).is_err() {
            return vec![mapping.clone()];
        }
        for entry in piece.chunks_exact(8) {
            let value = entry.try_into().map(u64::from_le_bytes).unwrap_or_default();
            let end = (at + PAGE).min(mapping.end);
            if value >> 62 != 0 {
                match found.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => found.push(at..end),
                }
            }
            at = end;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn mappings_with_nothing_in_memory_are_left_out() {
        let smaps = "55d0-55d8 r-xp 00000000 08:01 1 /usr/bin/x\nSize: 8 kB\nRss:                 4 kB\nSwap: 0 kB\n\
                     7f00-7f10 rw-p 00000000 00:00 0 \nRss: 0 kB\nSwap: 8 kB\n\
                     8000-9000 ---p 00000000 00:00 0\nRss: 4 kB\n\
                     9000-a000 r--p 00000000 00:00 0 [vvar]\nRss: 4 kB\n\
                     a000-b000 rw-s 00000000 00:06 9 /dev/dri/card0\nRss: 4 kB\n\
                     c000-fffffff000 rw-p 00000000 00:00 0\nRss: 0 kB\nSwap: 0 kB\n\
                     zz-1 rw-p 0 0 0\n1-0 rw-p 0 0 0\n";
        assert_eq!(resident(smaps), [0x55d0..0x55d8, 0x7f00..0x7f10]);
    }

    #[test]
    fn pages_that_are_not_there_are_not_asked_for() {
        let descriptor = rustix::fs::memfd_create("pagemap", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        let mut file = File::from(descriptor);
        for present in [1_u64, 0, 0, 1, 1, 0, 1, 0] {
            file.write_all(&(present << 63).to_le_bytes()).expect("written");
        }
        let found = present(Some(&file), &(0..8 * PAGE));
        assert_eq!(found, [0..PAGE, 3 * PAGE..5 * PAGE, 6 * PAGE..7 * PAGE]);
        assert_eq!(present(Some(&file), &(0..9 * PAGE)), vec![0..9 * PAGE], "an unreadable map hides nothing");
    }
}
