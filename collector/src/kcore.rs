//! `/proc/kcore`: the physical memory of the running kernel as an ELF file that the kernel makes up as it is read.
//! Parses its headers, decides from where each range of memory is read, and reads it, page by page where a larger
//! piece fails: one bad page never costs the image. Never writes, and holds one small buffer.

use crate::error::CollectorError;
use stasis_acquisition::summary::{Gap, GapKind};
use std::io;
use std::ops::Range;

/// The least that is given up where reading fails.
const PAGE: usize = 4096;
/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// The length of an ELF header and of a program header, 64 bits.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// `e_phnum` that says that the number stands elsewhere; kcore never has so many.
const TOO_MANY: u16 = u16::MAX;
/// The type of a program header that is mapped.
const PT_LOAD: u32 = 1;

/// Something that is read by position: `/proc/kcore`, or a sample.
pub trait ReadAt {
    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// Where not all of it can be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// A range of physical memory and where it stands in kcore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The physical addresses.
    pub memory: Range<u64>,
    /// The offset of the first in kcore.
    pub offset: u64,
}

/// Which segments are read for which memory, and what the kernel does not map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What is read, in order of address, no two of them overlapping.
    pub segments: Vec<Segment>,
    /// What is not there.
    pub not_mapped: Vec<Range<u64>>,
}

/// The segments that kcore says to have.
///
/// # Errors
/// Where kcore cannot be read, or is no little-endian ELF file of 64 bits.
pub fn segments(kcore: &impl ReadAt) -> Result<Vec<Segment>, CollectorError> {
    let refused = |error: io::Error| CollectorError::Refused(format!("/proc/kcore: {error}"));
    let mut header = [0_u8; ELF_HEADER];
    kcore.read_exact_at(&mut header, 0).map_err(refused)?;
    let (offset, count) = program_headers(&header)?;
    let mut table = vec![0_u8; PROGRAM_HEADER * usize::from(count)];
    kcore.read_exact_at(&mut table, offset).map_err(|_| CollectorError::Kcore("its program headers are cut off"))?;
    let mut segments: Vec<Segment> = table.chunks_exact(PROGRAM_HEADER).filter_map(segment).collect();
    segments.sort_by_key(|segment| (segment.memory.start, std::cmp::Reverse(segment.memory.end)));
    Ok(segments)
}

/// Where the program headers are, and how many.
fn program_headers(header: &[u8]) -> Result<(u64, u16), CollectorError> {
    const SHORT: CollectorError = CollectorError::Kcore("its header is cut off");
    if header.get(..4) != Some(b"\x7fELF") {
        return Err(CollectorError::Kcore("it is no ELF file"));
    }
    if header.get(4..6) != Some(&[2, 1]) {
        return Err(CollectorError::Kcore("it is not of 64 bits and little-endian"));
    }
    let (offset, size, count) = (long(header, 32), half(header, 54), half(header, 56));
    let (offset, size, count) = (offset.ok_or(SHORT)?, size.ok_or(SHORT)?, count.ok_or(SHORT)?);
    if usize::from(size) != PROGRAM_HEADER {
        return Err(CollectorError::Kcore("its program headers are not of 56 bytes"));
    }
    if count == 0 {
        return Err(CollectorError::Kcore("it has no program header"));
    }
    if count == TOO_MANY {
        return Err(CollectorError::Kcore("it has more program headers than any kernel makes"));
    }
    Ok((offset, count))
}

/// The segment of a program header, where it is one of physical memory.
fn segment(header: &[u8]) -> Option<Segment> {
    let (kind, offset) = (word(header, 0)?, long(header, 8)?);
    let (address, length) = (long(header, 24)?, long(header, 40)?);
    // The kernel says -1 where a mapping has no physical address of its own (vmalloc).
    let has_address = address != u64::MAX && address != u64::from(u32::MAX);
    let end = address.checked_add(length)?;
    offset.checked_add(length)?;
    (kind == PT_LOAD && has_address && length > 0).then_some(Segment { memory: address..end, offset })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// From where each range of memory is read. `ranges` must be sorted and apart, as [`crate::iomem::ranges`] gives them.
pub fn plan(ranges: &[Range<u64>], segments: &[Segment]) -> Reading {
    let mut reading = Reading { segments: Vec::new(), not_mapped: Vec::new() };
    for range in ranges {
        let mut at = range.start;
        for segment in segments {
            let start = at.max(segment.memory.start);
            let end = range.end.min(segment.memory.end);
            if start >= end {
                continue;
            }
            if at < start {
                reading.not_mapped.push(at..start);
            }
            let offset = segment.offset.saturating_add(start - segment.memory.start);
            reading.segments.push(Segment { memory: start..end, offset });
            at = end;
        }
        if at < range.end {
            reading.not_mapped.push(at..range.end);
        }
    }
    reading
}

/// Reads segments in order and keeps a record of what could not be read.
#[derive(Debug)]
pub struct Reader<'a, K> {
    kcore: &'a K,
    buffer: Vec<u8>,
    /// What could not be read so far, neighbours joined.
    pub gaps: Vec<Gap>,
    /// How many bytes of it were asked for so far.
    pub asked: u64,
    /// How many of them could not be read.
    pub unreadable: u64,
}

impl<'a, K: ReadAt> Reader<'a, K> {
    /// A reader that begins.
    pub fn new(kcore: &'a K) -> Self {
        Self { kcore, buffer: vec![0; CHUNK], gaps: Vec::new(), asked: 0, unreadable: 0 }
    }

    /// Reads a segment piece by piece; zeros stand for what cannot be read.
    ///
    /// # Errors
    /// What `sink` says.
    pub fn read<E>(&mut self, segment: &Segment, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut at = segment.memory.start;
        while at < segment.memory.end {
            let left = segment.memory.end - at;
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let offset = segment.offset.saturating_add(at - segment.memory.start);
            self.fill(at, offset, length);
            self.asked += length as u64;
            sink(self.buffer.get(..length).unwrap_or_default())?;
            at += length as u64;
        }
        Ok(())
    }

    fn fill(&mut self, address: u64, offset: u64, length: usize) {
        let Some(buffer) = self.buffer.get_mut(..length) else { return };
        if self.kcore.read_exact_at(buffer, offset).is_ok() {
            return;
        }
        let mut at = 0_u64;
        for page in buffer.chunks_mut(PAGE) {
            let length = page.len() as u64;
            if self.kcore.read_exact_at(page, offset.saturating_add(at)).is_err() {
                page.fill(0);
                self.unreadable += length;
                let start = address.saturating_add(at);
                match self.gaps.last_mut() {
                    Some(gap) if gap.end == start => gap.end = start.saturating_add(length),
                    _ => self.gaps.push(Gap { start, end: start.saturating_add(length), why: GapKind::Unreadable }),
                }
            }
            at += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A kcore in memory, some of whose offsets cannot be read.
    struct Sample {
        content: Vec<u8>,
        bad: Vec<Range<u64>>,
    }

    impl ReadAt for Sample {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let end = offset.saturating_add(buffer.len() as u64);
            if self.bad.iter().any(|bad| bad.start < end && offset < bad.end) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let range = usize::try_from(offset).expect("small")..usize::try_from(end).expect("small");
            buffer.copy_from_slice(self.content.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    /// An ELF file with these program headers (type, offset, address, length) and nothing else.
    fn elf(headers: &[(u32, u64, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0_u8; ELF_HEADER];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(headers.len()).expect("few").to_le_bytes());
        for (kind, offset, address, length) in headers {
            let mut header = [0_u8; PROGRAM_HEADER];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&offset.to_le_bytes());
            header[24..32].copy_from_slice(&address.to_le_bytes());
            header[40..48].copy_from_slice(&length.to_le_bytes());
            file.extend(header);
        }
        file
    }

    fn of(content: Vec<u8>) -> Sample {
        Sample { content, bad: Vec::new() }
    }

    #[test]
    fn segments_of_physical_memory_are_found() {
        let file = elf(&[
            (4, 0, 0, 100),
            (1, 0x9000, u64::MAX, 0x1000),
            (1, 0x5000, 0x10_0000, 0x2000),
            (1, 0x3000, 0x1000, 0),
        ]);
        let found = segments(&of(file)).expect("segments");
        assert_eq!(found, [Segment { memory: 0x10_0000..0x10_2000, offset: 0x5000 }]);
    }

    #[test]
    fn what_is_no_kcore_is_named() {
        let good = elf(&[(1, 0x1000, 0x1000, 0x1000)]);
        let changed = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            segments(&of(bad)).expect_err("refused").to_string()
        };
        assert!(segments(&of(good[..40].to_vec())).expect_err("short").to_string().contains("/proc/kcore"));
        assert!(segments(&of(good[..80].to_vec())).expect_err("short").to_string().contains("cut off"));
        assert!(changed(0, b"MZ").contains("no ELF file"));
        assert!(changed(4, &[1]).contains("64 bits"));
        assert!(changed(5, &[2]).contains("little-endian"));
        assert!(changed(54, &[55]).contains("56 bytes"));
        assert!(changed(56, &[0]).contains("no program header"));
        assert!(changed(56, &[0xFF, 0xFF]).contains("more program headers"));
        assert!(changed(32, &[0xFF; 8]).contains("cut off"), "an offset near 2^64");
    }

    #[test]
    fn segments_near_the_end_of_the_address_space_are_left_out() {
        let file = elf(&[(1, 0x1000, u64::MAX - 5, 100), (1, u64::MAX - 5, 0x1000, 100), (1, 0x1000, 0x2000, 0x1000)]);
        assert_eq!(segments(&of(file)).expect("segments").len(), 1);
    }

    #[test]
    fn memory_that_is_not_mapped_is_said_and_overlaps_are_read_once() {
        let segment = |start: u64, end: u64, offset: u64| Segment { memory: start..end, offset };
        let segments =
            [segment(0x1000, 0x3000, 0), segment(0x2000, 0x5000, 0x10_0000), segment(0x8000, 0x9000, 0x20_0000)];
        let reading = plan(&[0x800..0x4800, 0x7000..0x9000, 0xA000..0xB000], &segments);
        assert_eq!(
            reading.segments,
            [segment(0x1000, 0x3000, 0), segment(0x3000, 0x4800, 0x10_1000), segment(0x8000, 0x9000, 0x20_0000)]
        );
        assert_eq!(reading.not_mapped, [0x800..0x1000, 0x7000..0x8000, 0xA000..0xB000]);
    }

    #[test]
    fn a_bad_page_costs_a_page() {
        let content: Vec<u8> = (0..64 * PAGE).map(|n| u8::try_from(n / PAGE + 1).expect("small")).collect();
        let page = PAGE as u64;
        let kcore = Sample { content: content.clone(), bad: vec![3 * page..5 * page, 9 * page + 7..9 * page + 8] };
        let mut reader = Reader::new(&kcore);
        let mut read: Vec<u8> = Vec::new();
        let segment = Segment { memory: 0x10_0000..0x10_0000 + 64 * page, offset: 0 };
        reader
            .read(&segment, |piece| {
                read.extend(piece);
                Ok::<(), ()>(())
            })
            .expect("read");
        let mut expected = content;
        expected[3 * PAGE..5 * PAGE].fill(0);
        expected[9 * PAGE..10 * PAGE].fill(0);
        assert_eq!(read, expected);
        let gap = |first: u64, end: u64| Gap {
            start: 0x10_0000 + first * page,
            end: 0x10_0000 + end * page,
            why: GapKind::Unreadable,
        };
        assert_eq!(reader.gaps, [gap(3, 5), gap(9, 10)]);
        assert_eq!((reader.asked, reader.unreadable), (64 * page, 3 * page));
    }

    prop_compose! {
        fn ranges()(steps in proptest::collection::vec((1_u64..5000, 1_u64..5000), 0..10)) -> Vec<Range<u64>> {
            let mut at = 0;
            steps.into_iter().map(|(gap, length)| { let start = at + gap; at = start + length; start..at }).collect()
        }
    }

    proptest! {
        /// Every address of the memory is read exactly once or said to be missing, from the place that the segment says.
        #[test]
        fn a_plan_covers_the_memory_once(
            ranges in ranges(),
            found in proptest::collection::vec((0_u64..30_000, 1_u64..9000), 0..8),
        ) {
            let mut segments: Vec<Segment> = found
                .into_iter()
                .enumerate()
                .map(|(n, (start, length))| Segment { memory: start..start + length, offset: 1_000_000 * (n as u64 + 1) })
                .collect();
            segments.sort_by_key(|s| (s.memory.start, std::cmp::Reverse(s.memory.end)));
            let reading = plan(&ranges, &segments);
            let mut pieces: Vec<Range<u64>> =
                reading.segments.iter().map(|s| s.memory.clone()).chain(reading.not_mapped.clone()).collect();
            pieces.sort_by_key(|p| p.start);
            let mut joined: Vec<Range<u64>> = Vec::new();
            for piece in pieces {
                match joined.last_mut() {
                    Some(last) if last.end == piece.start && !ranges.iter().any(|r| r.start == piece.start) => last.end = piece.end,
                    _ => joined.push(piece),
                }
            }
            prop_assert_eq!(joined, ranges);
            for read in &reading.segments {
                prop_assert!(segments.iter().any(|s| s.memory.start <= read.memory.start && read.memory.end <= s.memory.end
                    && read.offset - s.offset == read.memory.start - s.memory.start));
            }
            for missing in &reading.not_mapped {
                prop_assert!(segments.iter().all(|s| s.memory.end <= missing.start || missing.end <= s.memory.start));
            }
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut file = elf(&[]);
            for (at, byte) in bytes.iter().enumerate().take(4) { file[56 + at % 2] = *byte; }
            file.extend(&bytes);
            drop(segments(&of(file)));
            drop(segments(&of(bytes)));
        }
    }
}
