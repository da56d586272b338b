//! The state of the host in JSON lines, read from `/proc` by ourselves: processes with deleted executables or ones
//! that never were a file, sockets with their processes in every network namespace, sessions, and the kernel's own
//! tables as they stand there. Bounded in size and free of judgement: it says what is, not what is bad.

use crate::host::Host;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of state.
const MOST_BYTES: usize = 24 << 20;
/// The longest text of a process' own (its command line, a path), in bytes: it can be as long as it likes.
const MOST_TEXT: usize = 4096;
/// The most descriptors that are looked at in one process.
const MOST_DESCRIPTORS: usize = 65_536;
/// The most of a table of the kernel.
const MOST_TABLE: u64 = 1 << 20;

/// The kernel's tables that are taken as they stand.
const TABLES: [&str; 27] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/mounts",
    "/proc/swaps",
    "/proc/partitions",
    "/proc/net/route",
    "/proc/net/ipv6_route",
    "/proc/net/arp",
    "/proc/net/dev",
    "/proc/net/unix",
    "/proc/net/packet",
    "/proc/net/raw",
    "/proc/sys/kernel/tainted",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/modules_disabled",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/kernel/randomize_va_space",
    "/sys/kernel/security/lockdown",
    "/sys/kernel/security/lsm",
    "/sys/kernel/debug/kprobes/list",
    "/sys/kernel/debug/tracing/enabled_functions",
];

/// The states of a TCP socket, by the kernel's number.
const TCP_STATES: [&str; 13] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// The lines, up to a size.
struct Lines {
    bytes: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn add(&mut self, line: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        if self.bytes.len() + text.len() > MOST_BYTES {
            self.cut = true;
        } else {
            self.bytes.append(&mut text);
        }
    }
}

/// A process.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    parent: Option<u32>,
    name: String,
    command_line: Vec<String>,
    executable: Option<String>,
    /// The file it runs is deleted.
    deleted: bool,
    /// It runs from memory and never was a file.
    memfd: bool,
    user: Option<u32>,
    effective_user: Option<u32>,
    group: Option<u32>,
    /// In clock ticks since the host began.
    started: Option<u64>,
    threads: Option<u32>,
    /// Who traces it, where anybody does.
    tracer: Option<u32>,
    capabilities: Option<String>,
    directory: Option<String>,
    root: Option<String>,
    cgroup: Option<String>,
    namespaces: BTreeMap<&'static str, String>,
    /// Mapped code that is deleted, in memory only, of no file, or also writable.
    odd_code: Vec<String>,
    /// Descriptors of files that never were on a disk.
    memory_files: Vec<String>,
}

/// The state, as JSON lines, and whether all of it fitted.
pub fn lines(host: &Host) -> (Vec<u8>, bool) {
    let mut lines = Lines { bytes: Vec::new(), cut: false };
    let mut owners: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    let mut networks: BTreeMap<String, u32> = BTreeMap::new();
    for pid in host.processes() {
        let memory_files = descriptors(host, pid, &mut owners);
        let Some(process) = process(host, pid, memory_files) else { continue };
        if let Some(network) = process.namespaces.get("net") {
            networks.entry(network.clone()).or_insert(pid);
        }
        lines.add(&process);
    }
    for (network, pid) in &networks {
        sockets(host, network, *pid, &owners, &mut lines);
    }
    for table in TABLES {
        let line = match host.read(table, MOST_TABLE) {
            Ok((content, whole)) => {
                json!({"type": "table", "path": table, "whole": whole, "text": String::from_utf8_lossy(&content)})
            }
            Err(error) => json!({"type": "table", "path": table, "error": error.to_string()}),
        };
        lines.add(&line);
    }
    for path in ["/run/utmp", "/var/run/utmp"] {
        if let Ok((content, _)) = host.read(path, MOST_TABLE) {
            sessions(&content).iter().for_each(|session| lines.add(session));
            break;
        }
    }
    if lines.cut {
        // Room is always left for this one.
        lines.bytes.extend_from_slice(b"{\"type\":\"cut\"}\n");
    }
    (lines.bytes, !lines.cut)
}

fn text(value: &str) -> String {
    let mut end = value.len().min(MOST_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().to_owned()
}

fn process(host: &Host, pid: u32, memory_files: Vec<String>) -> Option<Process> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    // The name stands in brackets and may hold any character, brackets too: the last one ends it.
    let stat = host.text(&file("stat"))?;
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(').map_or(before, |(_, name)| name);
    let numbers: Vec<&str> = after.split_whitespace().collect();
    let status = host.text(&file("status")).unwrap_or_default();
    let of_status =
        |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let ids = |key: &str, at: usize| of_status(key)?.split_whitespace().nth(at)?.parse::<u32>().ok();
    let executable = host.link(&file("exe"));
    let is = |test: fn(&str) -> bool| executable.as_deref().is_some_and(test);
    let (command_line, _) = host.read(&file("cmdline"), MOST_TEXT as u64).unwrap_or_default();
    Some(Process {
        kind: "process",
        pid,
        parent: numbers.get(1).and_then(|n| n.parse().ok()),
        name: text(name),
        command_line: command_line
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty())
            .map(|part| text(&String::from_utf8_lossy(part)))
            .collect(),
        deleted: is(|path| path.ends_with(" (deleted)")),
        memfd: is(|path| path.starts_with("/memfd:")),
        executable: executable.as_deref().map(text),
        user: ids("Uid", 0),
        effective_user: ids("Uid", 1),
        group: ids("Gid", 0),
        started: numbers.get(19).and_then(|n| n.parse().ok()),
        threads: numbers.get(17).and_then(|n| n.parse().ok()),
        tracer: ids("TracerPid", 0).filter(|tracer| *tracer != 0),
        capabilities: of_status("CapEff").map(text),
        directory: host.link(&file("cwd")).as_deref().map(text),
        root: host.link(&file("root")).as_deref().map(text),
        cgroup: host.text(&file("cgroup")).as_deref().map(text),
        namespaces: ["net", "pid", "mnt", "user"]
            .into_iter()
            .filter_map(|kind| Some((kind, text(&host.link(&file(&format!("ns/{kind}")))?))))
            .collect(),
        odd_code: odd_code(&host.read(&file("maps"), MOST_TABLE).unwrap_or_default().0),
        memory_files,
    })
}

/// Of a map, the code that no file on a disk explains.
fn odd_code(maps: &[u8]) -> Vec<String> {
    let maps = String::from_utf8_lossy(maps);
    let odd = maps.lines().filter(|line| {
        let mut fields = line.split_ascii_whitespace();
        let access = fields.nth(1).unwrap_or_default();
        let path = fields.nth(3).unwrap_or_default();
        let explained = path == "[vdso]" || path == "[vsyscall]" || path.starts_with('/');
        let gone = line.ends_with(" (deleted)") || path.starts_with("/memfd:");
        access.contains('x') && (access.contains('w') || gone || !explained)
    });
    odd.take(64).map(text).collect()
}

/// Which sockets a process holds, and which files of its never were on a disk.
fn descriptors(host: &Host, pid: u32, owners: &mut BTreeMap<u64, BTreeSet<u32>>) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let mut memory_files = Vec::new();
    for name in host.names(&folder, MOST_DESCRIPTORS) {
        let Some(target) = host.link(&format!("{folder}/{name}")) else { continue };
        let socket = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        if let Some(inode) = socket.and_then(|inode| inode.parse().ok()) {
            owners.entry(inode).or_default().insert(pid);
        } else if target.starts_with("/memfd:") && memory_files.len() < 64 {
            memory_files.push(text(&target));
        }
    }
    memory_files
}

/// The sockets of a network namespace, as one of its processes sees them.
fn sockets(host: &Host, network: &str, pid: u32, owners: &BTreeMap<u64, BTreeSet<u32>>, lines: &mut Lines) {
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let Ok((content, _)) = host.read(&format!("/proc/{pid}/net/{protocol}"), 8 << 20) else { continue };
        for line in String::from_utf8_lossy(&content).lines().skip(1) {
            if let Some(mut socket) = socket(line, protocol) {
                let holders =
                    socket.get("inode").and_then(serde_json::Value::as_u64).and_then(|inode| owners.get(&inode));
                if let Some(fields) = socket.as_object_mut() {
                    fields.insert("namespace".to_owned(), json!(network));
                    fields.insert("pids".to_owned(), json!(holders.into_iter().flatten().collect::<Vec<_>>()));
                }
                lines.add(&socket);
            }
        }
    }
}

/// A line of `/proc/net/tcp` and its like.
fn socket(line: &str, protocol: &str) -> Option<serde_json::Value> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let state = usize::from_str_radix(fields.get(3)?, 16).ok()?;
    let state = if protocol.starts_with("tcp") { *TCP_STATES.get(state)? } else { "" };
    Some(json!({
        "type": "socket",
        "protocol": protocol,
        "local": endpoint(fields.get(1)?)?,
        "remote": endpoint(fields.get(2)?)?,
        "state": state,
        "user": fields.get(7)?.parse::<u32>().ok()?,
        "inode": fields.get(9)?.parse::<u64>().ok()?,
    }))
}

/// `0100007F:1F90`: the address in words of the host's byte order, the port in hexadecimal.
fn endpoint(text: &str) -> Option<String> {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<u32>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok().filter(|w| w.len() == 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let address = if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        IpAddr::V4(Ipv4Addr::from(four))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?))
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?).to_string())
}

/// Who is logged in, from the records of `utmp` (384 bytes each, the same on both architectures).
fn sessions(content: &[u8]) -> Vec<serde_json::Value> {
    const RECORD: usize = 384;
    const USER_PROCESS: u16 = 7;
    let word = |record: &[u8], at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let words = |record: &[u8], at: usize, length: usize| {
        let bytes = record.get(at..at + length).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    };
    content
        .chunks_exact(RECORD)
        .filter(|record| record.get(..2) == Some(&USER_PROCESS.to_le_bytes()))
        .map(|record| {
            json!({
                "type": "session",
                "pid": word(record, 4),
                "line": words(record, 8, 32),
                "user": words(record, 44, 32),
                "from": words(record, 76, 256),
                "sinceUnix": word(record, 340),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_are_read_in_the_hosts_order() {
        assert_eq!(endpoint("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(endpoint("00000000000000000000000001000000:0016").as_deref(), Some("[::1]:22"));
        for bad in ["", "0100007F", "0100007F:1F90F", "01:1", "zz00007F:1F90", "0100007F0100007F:1"] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }

    #[test]
    fn code_that_no_file_explains_is_found() {
        let maps = b"55d0-55d8 r-xp 00000000 08:01 1 /usr/bin/x\n55d8-55e0 rwxp 00000000 08:01 1 /usr/bin/x\n\
                     7000-7010 r-xp 00000000 00:00 0 \n7010-7020 r-xp 00000000 00:01 9 /memfd:x (deleted)\n\
                     7020-7030 r-xp 00000000 08:01 2 /tmp/y (deleted)\n7030-7040 rw-p 00000000 00:00 0 \n\
                     7040-7050 r-xp 00000000 00:00 0 [vdso]\n";
        let found = odd_code(maps);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(!found.iter().any(|line| line.starts_with("55d0") || line.contains("vdso")));
    }

    #[test]
    fn sessions_are_read() {
        let mut record = vec![0_u8; 384];
        record[0] = 7;
        record[4..8].copy_from_slice(&4242_u32.to_le_bytes());
        record[8..13].copy_from_slice(b"pts/0");
        record[44..48].copy_from_slice(b"root");
        record[76..88].copy_from_slice(b"198.51.100.7");
        let found = sessions(&[vec![0_u8; 384], record, vec![1; 10]].concat());
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&found[0]["user"], &found[0]["from"], &found[0]["pid"]),
            (&json!("root"), &json!("198.51.100.7"), &json!(4242))
        );
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(text(&"é".repeat(MOST_TEXT)).len(), MOST_TEXT);
        assert!(text(&format!("x{}", "é".repeat(MOST_TEXT))).len() < MOST_TEXT);
    }

    proptest! {
        #[test]
        fn any_line_is_an_answer(line in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            drop(socket(&line, "tcp"));
            drop(endpoint(&line));
            drop(odd_code(&bytes));
            drop(sessions(&bytes));
        }
    }
}
