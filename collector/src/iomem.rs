//! `/proc/iomem`: which physical addresses are memory. Hands out ranges that are sorted, apart, and not empty.

use crate::error::CollectorError;
use std::ops::Range;

/// What the kernel calls memory; also `System RAM (kmem)`, for memory that was plugged in.
const MEMORY: &str = "System RAM";

/// The ranges of memory.
///
/// # Errors
/// Where a range makes no sense, where the kernel hides the addresses (they are all zero without the privilege to see
/// them), and where there is no memory.
pub fn ranges(text: &str) -> Result<Vec<Range<u64>>, CollectorError> {
    let mut ranges = Vec::new();
    for line in text.lines() {
        let Some((addresses, name)) = line.split_once(" : ") else { continue };
        if name != MEMORY && !name.starts_with("System RAM (") {
            continue;
        }
        ranges.push(
            range(addresses.trim()).ok_or_else(|| CollectorError::Iomem(format!("{addresses:.64?} is no range")))?,
        );
    }
    if ranges.is_empty() {
        return Err(CollectorError::Iomem("there is no System RAM".to_owned()));
    }
    if ranges.iter().all(|range| range.end <= 1) {
        return Err(CollectorError::Iomem("the kernel hides the addresses".to_owned()));
    }
    Ok(apart(ranges))
}

/// `start-end` in hexadecimal, the end inclusive.
fn range(addresses: &str) -> Option<Range<u64>> {
    let (start, last) = addresses.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(last, 16).ok()?.checked_add(1)?;
    (start < end).then_some(start..end)
}

/// The same addresses as sorted ranges with room in between.
fn apart(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_found_whatever_lies_in_it() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n000a0000-000bffff : PCI Bus 0000:00\n\
                    00100000-13fdbfff : System RAM\n  01000000-01e00eb0 : Kernel code\n  02000000-0273dfff : Kernel rodata\n\
                    100000000-1ffffffff : dax0.0\n  100000000-1ffffffff : System RAM (kmem)\n";
        let expected = [0x1000..0x9_FC00, 0x10_0000..0x13FD_C000, 0x1_0000_0000..0x2_0000_0000];
        assert_eq!(ranges(text).expect("ranges"), expected);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let table = [
            ("", "there is no System RAM"),
            ("00000000-00000fff : Reserved", "there is no System RAM"),
            ("00000000-00000000 : System RAM\n00000000-00000000 : System RAM", "hides the addresses"),
            ("zz-1 : System RAM", "is no range"),
            ("2000-1000 : System RAM", "is no range"),
            ("0-ffffffffffffffff : System RAM", "is no range"),
            ("0-1ffffffffffffffff : System RAM", "is no range"),
        ];
        for (text, part) in table {
            let error = ranges(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn ranges_end_sorted_and_apart(found in proptest::collection::vec((0_u64..1 << 40, 1_u64..1 << 30), 1..20)) {
            let text: String =
                found.iter().map(|(start, length)| format!("{start:08x}-{:08x} : System RAM\n", start + length)).collect();
            let ranges = ranges(&text).expect("ranges");
            prop_assert!(ranges.iter().all(|r| r.start < r.end));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let within = |at: u64| ranges.iter().any(|r| r.contains(&at));
            prop_assert!(found.iter().all(|(start, length)| within(*start) && within(start + length)));
        }

        #[test]
        fn any_text_is_an_answer(text in ".{0,200}") {
            drop(ranges(&text));
        }
    }
}
