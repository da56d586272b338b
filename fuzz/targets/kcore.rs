//! Whatever /proc/kcore and /proc/iomem hold: no panic, and every byte of memory is either read from somewhere, once, or
//! named as not mapped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stasis_collector::kcore::{ReadAt, plan, segments};
use std::io;

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.0.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fuzz_target!(|input: (String, &[u8])| {
    let (iomem, kcore) = input;
    let Ok(ranges) = stasis_collector::iomem::ranges(&iomem) else { return };
    let Ok(found) = segments(&Bytes(kcore)) else { return };
    let reading = plan(&ranges, &found);
    let mut pieces: Vec<(u64, u64)> = reading.segments.iter().map(|s| (s.memory.start, s.memory.end)).collect();
    pieces.extend(reading.not_mapped.iter().map(|gap| (gap.start, gap.end)));
    pieces.sort_unstable();
    assert!(pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no byte twice");
    let covered: u128 = pieces.iter().map(|(start, end)| u128::from(end - start)).sum();
    let wanted: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
    assert_eq!(covered, wanted, "no byte left out");
});
