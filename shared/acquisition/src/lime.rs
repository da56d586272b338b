//! The LiME format, version 1, which Volatility reads: one header of 32 bytes before each range of physical memory
//! (<https://github.com/504ensicsLabs/LiME/tree/master/doc>). Writing a header, and walking an image by its headers
//! alone, so that an image of any size is checked with a few small reads.

use std::ops::Range;

/// `EMiL` as it stands in the file.
const MAGIC: u32 = 0x4C69_4D45;
/// The version of the format.
const VERSION: u32 = 1;
/// The length of a header, in bytes.
pub const HEADER_BYTES: u64 = 32;
/// No host has more ranges of memory than this; an image that claims more is not walked on.
const MOST_RECORDS: usize = 4096;

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimeError {
    /// There is no header where one must be.
    #[error("no LiME header at byte {0}")]
    NoHeader(u64),
    /// A header of another version, or with reserved bytes in use.
    #[error("the LiME header at byte {0} is of an unknown version")]
    Version(u64),
    /// A range that ends before it begins.
    #[error("the LiME record at byte {at} is of {start:#x} to {end:#x}, which is no range")]
    NoRange {
        /// Where the header is.
        at: u64,
        /// First address.
        start: u64,
        /// Last address.
        end: u64,
    },
    /// A range before or inside the one before it.
    #[error("the LiME record at byte {at} begins at {start:#x}, inside what came before it")]
    Overlap {
        /// Where the header is.
        at: u64,
        /// First address.
        start: u64,
    },
    /// More records than any host has.
    #[error("more than {MOST_RECORDS} LiME records")]
    TooMany,
    /// The file ends inside a record.
    #[error("the image ends {missing} bytes before its last LiME record does")]
    Truncated {
        /// How many bytes are not there.
        missing: u64,
    },
    /// There is no record at all.
    #[error("the image holds no LiME record")]
    Empty,
}

/// The header of the record of a range (first address, and the address after the last).
/// An empty range has no header: `None`.
pub fn header(range: &Range<u64>) -> Option<[u8; 32]> {
    let last = range.end.checked_sub(1)?;
    if last < range.start {
        return None;
    }
    let mut header = [0_u8; 32];
    let fields = MAGIC.to_le_bytes().into_iter().chain(VERSION.to_le_bytes());
    let fields = fields.chain(range.start.to_le_bytes()).chain(last.to_le_bytes());
    for (byte, field) in header.iter_mut().zip(fields) {
        *byte = field;
    }
    Some(header)
}

/// How many bytes the image of these ranges has.
pub fn image_bytes<'a>(ranges: impl IntoIterator<Item = &'a Range<u64>>) -> u64 {
    ranges.into_iter().fold(0_u64, |sum, range| {
        sum.saturating_add(HEADER_BYTES).saturating_add(range.end.saturating_sub(range.start))
    })
}

/// A walk along the headers of an image: read 32 bytes [`at`](Walk::at), hand them to [`take`](Walk::take), until it
/// [is over](Walk::is_over).
#[derive(Debug, Clone)]
pub struct Walk {
    size: u64,
    at: u64,
    records: Vec<Range<u64>>,
}

impl Walk {
    /// A walk along an image of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self { size, at: 0, records: Vec::new() }
    }

    /// Where the next header is.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether the end is reached.
    pub fn is_over(&self) -> bool {
        self.at >= self.size
    }

    /// Takes the header that was read at [`at`](Walk::at).
    ///
    /// # Errors
    /// What is wrong with it, or with where it says that the next one is. After an error the walk is at its end.
    pub fn take(&mut self, header: &[u8]) -> Result<(), LimeError> {
        let at = self.at;
        self.at = self.size;
        let fields = fields(header).ok_or(LimeError::NoHeader(at))?;
        let (magic, version, start, last, reserved) = fields;
        if magic != MAGIC {
            return Err(LimeError::NoHeader(at));
        }
        if version != VERSION || reserved != 0 {
            return Err(LimeError::Version(at));
        }
        let end = last.checked_add(1).filter(|_| last >= start);
        let end = end.ok_or(LimeError::NoRange { at, start, end: last })?;
        if self.records.last().is_some_and(|before| start < before.end) {
            return Err(LimeError::Overlap { at, start });
        }
        if self.records.len() == MOST_RECORDS {
            return Err(LimeError::TooMany);
        }
        self.records.push(start..end);
        // Saturating: a length near 2^64 is beyond every file, and so said to be truncated.
        let next = at.saturating_add(HEADER_BYTES).saturating_add(end - start);
        if next > self.size {
            return Err(LimeError::Truncated { missing: next - self.size });
        }
        self.at = next;
        Ok(())
    }

    /// The ranges in the image, once it is walked to its end.
    ///
    /// # Errors
    /// Where there is none.
    pub fn records(self) -> Result<Vec<Range<u64>>, LimeError> {
        if self.records.is_empty() { Err(LimeError::Empty) } else { Ok(self.records) }
    }

    /// The ranges walked so far, of an image that may be cut off: the last one may be incomplete.
    pub fn so_far(&self) -> &[Range<u64>] {
        &self.records
    }
}

fn fields(header: &[u8]) -> Option<(u32, u32, u64, u64, u64)> {
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let long = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    Some((word(0)?, word(4)?, long(8)?, long(16)?, long(24)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "memory of one range")]
    use super::*;
    use proptest::prelude::*;

    /// Walks an image that is in memory.
    fn walk(image: &[u8]) -> Result<Vec<Range<u64>>, LimeError> {
        let mut walk = Walk::new(image.len() as u64);
        while !walk.is_over() {
            let at = usize::try_from(walk.at()).expect("in memory");
            walk.take(&image[at..(at + 32).min(image.len())])?;
        }
        walk.records()
    }

    fn image(ranges: &[Range<u64>]) -> Vec<u8> {
        ranges
            .iter()
            .flat_map(|range| {
                let length = usize::try_from(range.end - range.start).expect("small");
                header(range).expect("a range").into_iter().chain(std::iter::repeat_n(0xAB, length))
            })
            .collect()
    }

    #[test]
    fn the_header_is_that_of_the_format() {
        let bytes = header(&(0x1000..0x9_F000)).expect("a range");
        assert_eq!(&bytes[..8], b"EMiL\x01\0\0\0");
        assert_eq!(u64::from_le_bytes(bytes[16..24].try_into().expect("8")), 0x9_EFFF, "the last address is inclusive");
        assert_eq!((header(&(5..5)), header(&Range { start: 6, end: 5 })), (None, None));
        assert!(header(&(0..u64::MAX)).is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = image(&[0x1000..0x1100]);
        let changed = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            walk(&bad)
        };
        assert_eq!(walk(&[]), Err(LimeError::Empty));
        assert_eq!(walk(&good[..20]), Err(LimeError::NoHeader(0)));
        assert_eq!(walk(&good[..200]), Err(LimeError::Truncated { missing: 88 }));
        assert_eq!(changed(0, b'X'), Err(LimeError::NoHeader(0)));
        assert_eq!(changed(4, 2), Err(LimeError::Version(0)));
        assert_eq!(changed(31, 1), Err(LimeError::Version(0)));
        assert_eq!(changed(17, 0), Err(LimeError::NoRange { at: 0, start: 0x1000, end: 0xFF }));
        assert!(matches!(changed(23, 0xFF), Err(LimeError::Truncated { .. })));
        let twice = [good.clone(), good.clone()].concat();
        assert_eq!(walk(&twice), Err(LimeError::Overlap { at: 288, start: 0x1000 }));
        let mut all = [0_u8; 32];
        all[..8].copy_from_slice(b"EMiL\x01\0\0\0");
        all[16..24].fill(0xFF);
        assert_eq!(walk(&all), Err(LimeError::NoRange { at: 0, start: 0, end: u64::MAX }));
    }

    prop_compose! {
        fn ranges()(steps in proptest::collection::vec((0_u64..0x1_0000, 1_u64..2000), 1..12)) -> Vec<Range<u64>> {
            let mut at = 0;
            steps.into_iter().map(|(gap, length)| {
                let start = at + gap;
                at = start + length;
                start..at
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_walked(ranges in ranges()) {
            let image = image(&ranges);
            prop_assert_eq!(image.len() as u64, image_bytes(&ranges));
            prop_assert_eq!(walk(&image), Ok(ranges));
        }

        #[test]
        fn an_image_that_is_cut_off_is_never_taken_for_a_whole_one(ranges in ranges(), cut in any::<prop::sample::Index>()) {
            let image = image(&ranges);
            let cut = cut.index(image.len());
            // Between two records nothing shows; the sizes in the summary do that.
            let between = (1..ranges.len()).any(|n| image_bytes(&ranges[..n]) == cut as u64);
            prop_assert!(between || walk(&image[..cut]).is_err());
        }

        #[test]
        fn anything_may_be_walked(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in any::<[u8; 8]>()) {
            let mut image = b"EMiL\x01\0\0\0".to_vec();
            image.extend(start);
            image.extend(bytes);
            if let Ok(records) = walk(&image) {
                prop_assert_eq!(image_bytes(&records), image.len() as u64);
            }
        }
    }
}
