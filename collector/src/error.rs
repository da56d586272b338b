//! What can go wrong on the host, in words that go into the summary.

use std::io;

/// Why something could not be read or sent.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// A file of the host that cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// `/proc/kcore` is not what it must be.
    #[error("kcore: {0}")]
    Kcore(&'static str),
    /// `/proc/iomem` is not what it must be.
    #[error("iomem: {0}")]
    Iomem(String),
    /// The kernel refuses the physical memory.
    #[error("the kernel refuses the physical memory: {0}")]
    Refused(String),
    /// An address that is not used.
    #[error("{0}")]
    Address(&'static str),
    /// Something was not accepted at the other end, for good.
    #[error("{what}: {why}")]
    Send {
        /// Which part or object.
        what: String,
        /// What was answered.
        why: String,
    },
    /// The manifest names fewer parts than the image has.
    #[error("the manifest has addresses for {0} parts, and the image has more")]
    TooFewParts(u32),
    /// The manifest cannot be used.
    #[error("manifest: {0}")]
    Manifest(String),
}

impl CollectorError {
    /// A file of the host that cannot be read.
    pub(crate) fn read(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Read { path, source }
    }
}
