//! The host's files below one root: `/` on a suspect, a folder of samples in tests, `/host` in a container that has
//! the host mounted there. Reads only, always with a limit, and without changing a file's access time.

use crate::error::CollectorError;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// No collector reads more of a single small file than this, in bytes.
pub const MOST_BYTES: u64 = 32 << 20;

/// Where the host's files are.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host whose files are below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of a file of the host, named as on the host: `/proc/kcore`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    /// What a file holds, up to `limit` bytes, and whether that is all of it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<(Vec<u8>, bool), CollectorError> {
        let path = self.path(name);
        let mut content = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content))
            .map_err(CollectorError::read(&path))?;
        let whole = content.len() as u64 <= limit;
        content.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((content, whole))
    }

    /// A short text of `/proc` or `/sys`, trimmed; `None` where there is none.
    pub fn text(&self, name: &str) -> Option<String> {
        let (content, _) = self.read(name, 64 << 10).ok()?;
        let text = String::from_utf8_lossy(&content).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Where a link of `/proc` points, as it stands there.
    pub fn link(&self, name: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(name)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// The names in a folder, sorted, at most `limit` of them; none where it cannot be read.
    pub fn names(&self, folder: &str, limit: usize) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.take(limit).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The processes that run, by their number.
    pub fn processes(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let mut found: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        found.sort_unstable();
        found
    }
}

/// Opens an ordinary file that lies on a disk: not through a link, not a pipe that would never answer, and without
/// changing its access time, which would be a write to the evidence.
pub(crate) fn open_untouched(path: &Path) -> std::io::Result<(File, Metadata)> {
    use rustix::fs::OFlags;
    let open = |flags: OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // Only the owner or root may ask for no access time; whoever is neither gets no file by it.
    let file = open(careful | OFlags::NOATIME).or_else(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => open(careful),
        _ => Err(error),
    })?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::other("not an ordinary file"));
    }
    Ok((file, about))
}
