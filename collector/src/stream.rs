//! The stream: cuts what is written into parts of one size, and hashes it as it goes: SHA-256 for the chain of
//! custody, CRC-64/NVME because S3 itself compares it when the upload is completed. Knows nothing of the network.

use crate::error::CollectorError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha2::{Digest as _, Sha256};
use stasis_acquisition::lime;
use stasis_acquisition::manifest::Format;
use stasis_acquisition::summary::{Part, Stream};
use std::io::Write as _;
use std::ops::Range;

/// Where parts go.
pub trait Parts {
    /// An empty buffer for the next part; waits until one is free.
    ///
    /// # Errors
    /// Where nothing more will be taken.
    fn buffer(&mut self) -> Result<Vec<u8>, CollectorError>;

    /// Takes a part, numbered from 1. Sends it in its own time.
    ///
    /// # Errors
    /// Where nothing more will be taken.
    fn take(&mut self, number: u32, part: Vec<u8>) -> Result<(), CollectorError>;
}

/// Cuts a stream into parts.
pub struct Cutter<'a, P> {
    parts: &'a mut P,
    part_bytes: usize,
    buffer: Option<Vec<u8>>,
    sha256: Sha256,
    crc64: Crc,
    bytes: u64,
    cut: Vec<Part>,
}

impl<P> std::fmt::Debug for Cutter<'_, P> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Cutter").field("bytes", &self.bytes).field("parts", &self.cut.len()).finish_non_exhaustive()
    }
}

impl<'a, P: Parts> Cutter<'a, P> {
    /// A stream that is cut into parts of this many bytes.
    pub fn new(parts: &'a mut P, part_bytes: usize) -> Self {
        Self {
            parts,
            part_bytes: part_bytes.max(1),
            buffer: None,
            sha256: Sha256::new(),
            crc64: Crc::new(CrcAlgorithm::Crc64Nvme),
            bytes: 0,
            cut: Vec::new(),
        }
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes on.
    ///
    /// # Errors
    /// Where a part is not taken: nothing more is then sent.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), CollectorError> {
        while !bytes.is_empty() {
            let mut buffer = match self.buffer.take() {
                Some(buffer) => buffer,
                None => self.parts.buffer()?,
            };
            let room = self.part_bytes.saturating_sub(buffer.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            buffer.extend_from_slice(now);
            self.sha256.update(now);
            self.crc64.update(now);
            self.bytes += now.len() as u64;
            bytes = later;
            if buffer.len() >= self.part_bytes {
                self.cut(buffer)?;
            } else {
                self.buffer = Some(buffer);
            }
        }
        Ok(())
    }

    fn cut(&mut self, part: Vec<u8>) -> Result<(), CollectorError> {
        self.cut.push(Part {
            bytes: part.len() as u64,
            sha256: hex(&self.sha256.clone().finalize()),
            crc64nvme: STANDARD.encode(self.crc64.finalize().to_be_bytes()),
        });
        let number = u32::try_from(self.cut.len()).unwrap_or(u32::MAX);
        self.parts.take(number, part)
    }

    /// Sends what is left as the last part. Call it also after an error of the source: what was read is evidence.
    ///
    /// # Errors
    /// Where it is not taken.
    pub fn finish(&mut self) -> Result<(), CollectorError> {
        match self.buffer.take() {
            Some(rest) if !rest.is_empty() => self.cut(rest),
            _ => Ok(()),
        }
    }

    /// The record of what was written.
    pub fn record(&self, format: Format, retries: u32, complete: bool) -> Stream {
        Stream {
            format,
            bytes: self.bytes,
            sha256: hex(&self.sha256.clone().finalize()),
            part_bytes: self.part_bytes as u64,
            parts: self.cut.clone(),
            retries,
            complete,
        }
    }

    /// Writes a range of physical memory piece by piece in the layout of the image: the header first, where the
    /// layout has one for the whole range.
    ///
    /// # Errors
    /// Where nothing more is taken.
    pub fn begin_range(&mut self, format: Format, range: &Range<u64>) -> Result<(), CollectorError> {
        match (format, lime::header(range)) {
            (Format::Lime, Some(header)) => self.write(&header),
            _ => Ok(()),
        }
    }

    /// Writes one piece of a range.
    ///
    /// # Errors
    /// Where nothing more is taken.
    pub fn write_memory(&mut self, format: Format, start: u64, piece: &[u8]) -> Result<(), CollectorError> {
        match format {
            Format::Lime => self.write(piece),
            Format::Avml => match avml_block(start, piece) {
                Some(block) => self.write(&block),
                None => Ok(()),
            },
            Format::Raw => Err(CollectorError::Manifest(NO_RAW.to_owned())),
        }
    }
}

/// Without headers nobody could tell where a range of a host with holes in its memory belongs.
pub(crate) const NO_RAW: &str = "the collector does not make images without headers";

/// A block of AVML version 2: a header as LiME's with another mark, the memory in snappy's frame format, and the
/// length of that. `None` for an empty piece.
fn avml_block(start: u64, piece: &[u8]) -> Option<Vec<u8>> {
    let mut block = lime::header(&(start..start.checked_add(piece.len() as u64)?))?.to_vec();
    for (byte, mark) in block.iter_mut().zip(*b"AVML\x02\0\0\0") {
        *byte = mark;
    }
    let before = block.len();
    let mut encoder = snap::write::FrameEncoder::new(block);
    encoder.write_all(piece).ok()?;
    let mut block = encoder.into_inner().ok()?;
    let length = block.len().saturating_sub(before) as u64;
    block.extend(length.to_le_bytes());
    Some(block)
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    /// Parts in memory; after `most` of them nothing more is taken.
    #[derive(Default)]
    struct Kept {
        parts: Vec<(u32, Vec<u8>)>,
        most: Option<usize>,
    }

    impl Parts for Kept {
        fn buffer(&mut self) -> Result<Vec<u8>, CollectorError> {
            Ok(Vec::new())
        }

        fn take(&mut self, number: u32, part: Vec<u8>) -> Result<(), CollectorError> {
            if self.most.is_some_and(|most| self.parts.len() >= most) {
                return Err(CollectorError::TooFewParts(number - 1));
            }
            self.parts.push((number, part));
            Ok(())
        }
    }

    fn crc(bytes: &[u8]) -> String {
        STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
    }

    #[test]
    fn the_checksum_is_the_one_that_s3_means() {
        // The check value of CRC-64/NVME: https://reveng.sourceforge.io/crc-catalogue/all.htm
        assert_eq!(crc(b"123456789"), STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
    }

    #[test]
    fn a_part_that_is_not_taken_ends_the_stream_and_what_was_sent_is_recorded() {
        let mut kept = Kept { most: Some(2), ..Kept::default() };
        let mut cutter = Cutter::new(&mut kept, 4);
        let error = cutter.write(&[7; 20]).expect_err("two parts only");
        assert_eq!(error.to_string(), "the manifest has addresses for 2 parts, and the image has more");
        let record = cutter.record(Format::Lime, 0, false);
        assert_eq!((record.parts.len(), record.complete), (3, false));
        assert_eq!(record.parts[1].sha256, hex(&Sha256::digest([7; 8])));
        assert_eq!(kept.parts.len(), 2);
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_stream(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            part_bytes in 1_usize..70,
        ) {
            let stream = pieces.concat();
            let mut kept = Kept::default();
            let mut cutter = Cutter::new(&mut kept, part_bytes);
            for piece in &pieces { cutter.write(piece).expect("taken"); }
            cutter.finish().expect("taken");
            let record = cutter.record(Format::Lime, 0, true);
            prop_assert_eq!(&record.sha256, &hex(&Sha256::digest(&stream)));
            prop_assert_eq!(record.bytes, stream.len() as u64);
            let mut whole = Vec::new();
            for (n, (number, part)) in kept.parts.iter().enumerate() {
                whole.extend(part);
                let last = n + 1 == kept.parts.len();
                prop_assert!(part.len() == part_bytes || (last && !part.is_empty()));
                prop_assert_eq!(*number as usize, n + 1);
                let said = &record.parts[n];
                prop_assert_eq!(said.bytes, part.len() as u64);
                prop_assert_eq!(&said.sha256, &hex(&Sha256::digest(&whole)));
                prop_assert_eq!(&said.crc64nvme, &crc(&whole));
            }
            prop_assert_eq!(whole, stream);
        }

        #[test]
        fn a_compressed_block_holds_the_memory(start in 0_u64..1 << 40, piece in proptest::collection::vec(0_u8..4, 1..5000)) {
            let block = avml_block(start, &piece).expect("a block");
            prop_assert_eq!(&block[..8], b"AVML\x02\0\0\0");
            prop_assert_eq!(u64::from_le_bytes(block[8..16].try_into().expect("8")), start);
            prop_assert_eq!(u64::from_le_bytes(block[16..24].try_into().expect("8")), start + piece.len() as u64 - 1);
            let frame = &block[32..block.len() - 8];
            prop_assert_eq!(u64::from_le_bytes(block[block.len() - 8..].try_into().expect("8")), frame.len() as u64);
            let mut read = Vec::new();
            snap::read::FrameDecoder::new(frame).read_to_end(&mut read).expect("snappy");
            prop_assert_eq!(read, piece);
        }
    }
}
