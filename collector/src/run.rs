//! One acquisition, in the order of volatility (RFC 3227): that it began; the state; what the image needs to be read;
//! the memory, or the memory of the processes where the kernel refuses it; small files; the summary. Each step is
//! taken also when the one before it failed.

use crate::error::CollectorError;
use crate::host::{Host, MOST_BYTES};
use crate::kcore::{self, Reader, Reading};
use crate::pace::Pace;
use crate::sender::{Network, ObjectSender, PartSender};
use crate::stream::{Cutter, Parts};
use crate::{files, iomem, kernel, priority, process_memory, state};
use stasis_acquisition::manifest::{Format, Manifest, Object, SCHEMA};
use stasis_acquisition::summary::{Gap, GapKind, Kernel, MOST_GAPS, Sent, Summary, Taken};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The files that the image needs to be read, as they stand.
const BESIDE: [(Object, &str); 5] = [
    (Object::Btf, kernel::BTF),
    (Object::Kallsyms, "/proc/kallsyms"),
    (Object::Iomem, "/proc/iomem"),
    (Object::Version, "/proc/version"),
    (Object::Vmcoreinfo, "/sys/kernel/vmcoreinfo"),
];

/// What was taken of the memory.
struct Memory {
    taken: Taken,
    reason: Option<String>,
    ranges: Vec<Range<u64>>,
    gaps: Vec<Gap>,
    gap_bytes: u64,
    processes: u32,
    complete: bool,
}

/// Runs one acquisition as the manifest says, and gives the summary that was also sent.
///
/// # Errors
/// Where the manifest cannot be fetched or used: nothing is then known of where to send anything.
pub fn acquire(host: &Host, network: &Network, address: &str) -> Result<Summary, CollectorError> {
    let begun = Instant::now();
    let mut errors = priority::lower();
    let manifest = network.manifest(address)?;
    let objects = ObjectSender::new(network, &manifest);
    let mut sent = BTreeMap::new();
    let kernel = kernel::facts(host);
    sent.insert(Object::Started, objects.send(Object::Started, &started(&kernel)));
    let (state, whole) = state::lines(host);
    sent.insert(Object::State, cut_or_whole(objects.send(Object::State, &state), whole));
    drop(state);
    for (object, path) in BESIDE {
        sent.insert(object, beside(host, &objects, object, path));
    }

    let mut sender = PartSender::new(network, &manifest);
    let part_bytes = usize::try_from(manifest.part_bytes).unwrap_or(usize::MAX);
    let mut cutter = Cutter::new(&mut sender, part_bytes);
    let mut pace = Pace::new(manifest.bytes_per_second);
    let mut memory = take(host, &manifest, &mut cutter, &mut pace, &mut errors);
    if let Err(error) = cutter.finish() {
        memory.fail(&error, &mut errors);
    }
    let mut stream = cutter.record(manifest.format, 0, memory.complete);
    if let Err(error) = sender.finish() {
        // This is why the stream ended; what the reader met was only its echo.
        memory.reason = None;
        memory.fail(&error, &mut errors);
    }
    stream.complete = memory.complete;
    stream.retries = sender.retries();
    drop(sender);

    let (listing, whole) = files::lines(host);
    sent.insert(Object::Files, cut_or_whole(objects.send(Object::Files, &listing), whole));
    for (object, sent) in sent.iter().filter(|(_, sent)| sent.error.is_some()) {
        errors.push(format!("{}: {}", object.file_name(), sent.error.as_deref().unwrap_or_default()));
    }
    memory.gaps.truncate(MOST_GAPS);
    let summary = Summary {
        schema: SCHEMA,
        collector: env!("CARGO_PKG_VERSION").to_owned(),
        began_unix_ms: unix_ms().saturating_sub(milliseconds(begun.elapsed())),
        milliseconds: milliseconds(begun.elapsed()),
        kernel,
        taken: if stream.bytes == 0 { Taken::Nothing } else { memory.taken },
        reason: memory.reason,
        memory_bytes: memory.ranges.iter().map(|range| range.end - range.start).sum(),
        ranges: memory.ranges,
        gap_bytes: memory.gap_bytes,
        gaps: memory.gaps,
        stream,
        processes: memory.processes,
        objects: sent,
        errors,
        peak_kib: priority::peak_kib(),
    };
    let body = serde_json::to_vec(&summary).unwrap_or_default();
    let own = objects.send(Object::Summary, &body);
    match own.error {
        None => Ok(summary),
        Some(why) => Err(CollectorError::Send { what: Object::Summary.file_name().to_owned(), why }),
    }
}

impl Memory {
    fn fail(&mut self, error: &CollectorError, errors: &mut Vec<String>) {
        self.complete = false;
        self.reason.get_or_insert_with(|| error.to_string());
        errors.push(error.to_string());
    }
}

fn started(kernel: &Kernel) -> Vec<u8> {
    let line = serde_json::json!({
        "event": "started",
        "collector": env!("CARGO_PKG_VERSION"),
        "unixMs": unix_ms(),
        "pid": std::process::id(),
        "kernel": kernel,
    });
    line.to_string().into_bytes()
}

fn beside(host: &Host, objects: &ObjectSender<'_>, object: Object, path: &str) -> Sent {
    match host.read(path, MOST_BYTES) {
        Ok((content, whole)) => cut_or_whole(objects.send(object, &content), whole),
        Err(error) => Sent { bytes: 0, sha256: String::new(), error: Some(error.to_string()) },
    }
}

fn cut_or_whole(mut sent: Sent, whole: bool) -> Sent {
    if !whole {
        sent.error.get_or_insert_with(|| "there was more than fits".to_owned());
    }
    sent
}

/// The physical memory, or the memory of the processes where the kernel refuses it before the first byte.
fn take<P: Parts>(
    host: &Host,
    manifest: &Manifest,
    cutter: &mut Cutter<'_, P>,
    pace: &mut Pace,
    errors: &mut Vec<String>,
) -> Memory {
    let mut memory = Memory {
        taken: Taken::Memory,
        reason: None,
        ranges: Vec::new(),
        gaps: Vec::new(),
        gap_bytes: 0,
        processes: 0,
        complete: false,
    };
    let refusal = match physical(host, manifest.format, cutter, pace, &mut memory) {
        Ok(()) => {
            memory.complete = true;
            return memory;
        }
        Err(error) if cutter.bytes() > 0 => {
            memory.fail(&error, errors);
            return memory;
        }
        Err(error) => error,
    };
    errors.push(refusal.to_string());
    memory.taken = Taken::ProcessMemory;
    memory.reason = Some(refusal.to_string());
    let mut taken = process_memory::Taken::default();
    match process_memory::stream(host, cutter, &mut taken) {
        Ok(()) => memory.complete = true,
        Err(error) => memory.fail(&error, errors),
    }
    memory.processes = taken.processes;
    memory
}

/// Streams the physical memory.
fn physical<P: Parts>(
    host: &Host,
    format: Format,
    cutter: &mut Cutter<'_, P>,
    pace: &mut Pace,
    memory: &mut Memory,
) -> Result<(), CollectorError> {
    let path = host.path("/proc/kcore");
    let kcore = std::fs::File::open(&path).map_err(|error| CollectorError::Refused(format!("/proc/kcore: {error}")))?;
    let segments = kcore::segments(&kcore)?;
    let (text, _) = host.read("/proc/iomem", 4 << 20)?;
    memory.ranges = iomem::ranges(&String::from_utf8_lossy(&text))?;
    let Reading { segments, not_mapped } = kcore::plan(&memory.ranges, &segments);
    let Some(first) = segments.first() else {
        return Err(CollectorError::Kcore("it maps none of the memory"));
    };
    probe(&kcore, &segments, first.offset)?;
    for range in not_mapped {
        memory.gap_bytes += range.end - range.start;
        memory.gaps.push(Gap { start: range.start, end: range.end, why: GapKind::NotMapped });
    }
    let mut reader = Reader::new(&kcore);
    let mut outcome = Ok(());
    for segment in &segments {
        outcome = cutter.begin_range(format, &segment.memory);
        let mut at = segment.memory.start;
        if outcome.is_ok() {
            outcome = reader.read(segment, |piece| {
                cutter.write_memory(format, at, piece)?;
                at += piece.len() as u64;
                pace.keep(piece.len());
                Ok(())
            });
        }
        if outcome.is_err() {
            break;
        }
    }
    memory.gap_bytes += reader.unreadable;
    memory.gaps.append(&mut reader.gaps);
    memory.gaps.sort_by_key(|gap| gap.start);
    outcome
}

/// Whether anything can be read at all, before a stream is begun that would hold zeros only: a kernel in lockdown lets
/// kcore be opened and then refuses to read from it.
fn probe(kcore: &std::fs::File, segments: &[kcore::Segment], first: u64) -> Result<(), CollectorError> {
    use crate::kcore::ReadAt as _;
    let mut page = [0_u8; 4096];
    let mut last = None;
    for segment in segments {
        let length = segment.memory.end - segment.memory.start;
        for at in [0, length / 2, length.saturating_sub(4096)] {
            let piece = usize::try_from(length - at).unwrap_or(page.len()).min(page.len());
            let Some(piece) = page.get_mut(..piece) else { continue };
            match kcore.read_exact_at(piece, segment.offset.saturating_add(at)) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
    }
    let why = last.map_or_else(|| format!("nothing can be read from {first:#x} on"), |error| error.to_string());
    Err(CollectorError::Refused(format!("/proc/kcore: {why}")))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(milliseconds).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
