//! The two checksums of a file that are looked at: SHA-256, which the manifest lists, and CRC-64/NVME, by which S3 knows what was
//! too large to be read once more for the manifest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha2::{Digest as _, Sha256};

/// The checksums of what has been read so far.
pub(crate) struct Digest {
    sha256: Sha256,
    crc64: Crc,
}

/// The checksums of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests {
    /// In hexadecimal.
    pub sha256: String,
    /// In base64, as S3 writes it.
    pub crc64nvme: String,
}

impl Digest {
    /// Of nothing.
    pub(crate) fn new() -> Self {
        Self { sha256: Sha256::new(), crc64: Crc::new(CrcAlgorithm::Crc64Nvme) }
    }

    /// And of this.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.crc64.update(piece);
    }

    /// Of all of it.
    pub(crate) fn finish(self) -> Digests {
        Digests {
            sha256: self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            crc64nvme: STANDARD.encode(self.crc64.finalize().to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_the_published_values() {
        let mut digest = Digest::new();
        digest.update(b"12345");
        digest.update(b"6789");
        let all = digest.finish();
        assert_eq!(all.sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        // The check value of the CRC catalogue: ae8b14860a799888.
        assert_eq!(all.crc64nvme, STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
    }
}
