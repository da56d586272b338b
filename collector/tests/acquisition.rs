//! One whole acquisition against a host in a folder and a bucket on the loopback interface: what is sent, in which
//! form, and what is said when something goes wrong. The bucket is a hundred lines of HTTP, so that every header that
//! was sent is seen, and so that it fails on demand.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
#![allow(clippy::single_range_in_vec_init, reason = "memory of one range")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use stasis_acquisition::lime::{self, Walk};
use stasis_acquisition::manifest::{Format, Manifest, Object, PartAddresses, SCHEMA};
use stasis_acquisition::summary::{Gap, GapKind, Summary, Taken};
use stasis_collector::host::Host;
use stasis_collector::run::acquire;
use stasis_collector::sender::Network;
use stasis_collector::stream::hex;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the bucket does with the first tries of a part.
#[derive(Clone, Copy)]
enum Fault {
    Status(u16),
    HangUp,
}

#[derive(Default)]
struct Bucket {
    /// By path: what was accepted.
    stored: Mutex<BTreeMap<String, Vec<u8>>>,
    /// By what a path contains: the fault, and how often.
    faults: Mutex<Vec<(String, Fault, u32)>>,
    /// The headers of every request.
    headers: Mutex<Vec<(String, BTreeMap<String, String>)>>,
    /// What is served to GET.
    served: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Bucket {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let bucket = Arc::new(Self::default());
        let serving = Arc::clone(&bucket);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bucket = Arc::clone(&serving);
                std::thread::spawn(move || bucket.serve(stream));
            }
        });
        (bucket, address)
    }

    fn serve(&self, mut stream: TcpStream) {
        while let Some((method, path, headers, body)) = request(&mut stream) {
            self.headers.lock().unwrap().push((format!("{method} {path}"), headers.clone()));
            let fault = {
                let mut faults = self.faults.lock().unwrap();
                let found = faults.iter_mut().find(|(part, _, left)| path.contains(part.as_str()) && *left > 0);
                found.map(|(_, fault, left)| {
                    *left -= 1;
                    *fault
                })
            };
            match (fault, method.as_str()) {
                (Some(Fault::HangUp), _) => return,
                (Some(Fault::Status(status)), _) => {
                    answer(
                        &mut stream,
                        status,
                        b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
                    );
                }
                (None, "GET") => match self.served.lock().unwrap().get(&path) {
                    Some(body) => answer(&mut stream, 200, body),
                    None => answer(&mut stream, 403, b""),
                },
                (None, _) => {
                    let md5 = STANDARD.encode(Md5::digest(&body));
                    let mut stored = self.stored.lock().unwrap();
                    if headers.get("content-md5") != Some(&md5) {
                        answer(&mut stream, 400, b"<Error><Code>BadDigest</Code></Error>");
                    } else if headers.contains_key("if-none-match") && stored.contains_key(&path) {
                        answer(&mut stream, 412, b"");
                    } else {
                        stored.insert(path, body);
                        answer(&mut stream, 200, b"");
                    }
                }
            }
        }
    }

    fn fault(&self, part: &str, fault: Fault, times: u32) {
        self.faults.lock().unwrap().push((part.to_owned(), fault, times));
    }

    fn object(&self, object: Object) -> Option<Vec<u8>> {
        self.stored.lock().unwrap().get(&format!("/{}", object.file_name())).cloned()
    }

    /// The parts that arrived, in order, up to the first that did not.
    fn image(&self) -> Vec<u8> {
        let stored = self.stored.lock().unwrap();
        (1_u32..).map_while(|n| stored.get(&part_path(n)).cloned()).collect::<Vec<_>>().concat()
    }
}

/// Method, path, headers by lower-case name, and body.
type Request = (String, String, BTreeMap<String, String>, Vec<u8>);

fn request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0_u8; 1];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: BTreeMap<String, String> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let mut body = vec![0_u8; headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((first.next()?.to_owned(), first.next()?.to_owned(), headers, body))
}

fn answer(stream: &mut TcpStream, status: u16, body: &[u8]) {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

fn part_path(number: u32) -> String {
    format!("/image?partNumber={number}&uploadId=u&X-Amz-Signature=s{number}")
}

/// A host in a folder of cargo's own, gone when dropped.
struct FakeHost(PathBuf);

impl FakeHost {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("host-{}-{number}", std::process::id()));
        let host = Self(folder);
        host.put("proc/version", b"Linux version 6.1.0-test (x@y) #1 SMP\n");
        host.put("proc/sys/kernel/osrelease", b"6.1.0-test\n");
        host.put("proc/kallsyms", b"ffffffff9a000000 T _text\nffffffff9a000100 T other\n");
        host.put("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n");
        host.put("sys/kernel/btf/vmlinux", b"\x9f\xeb types");
        host
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    /// Memory of these ranges: `/proc/iomem`, and a kcore in which each range stands behind the other.
    fn memory(&self, ranges: &[Range<u64>]) -> Vec<u8> {
        let iomem: String =
            ranges.iter().map(|r| format!("{:08x}-{:08x} : System RAM\n", r.start, r.end - 1)).collect();
        self.put("proc/iomem", iomem.as_bytes());
        let mut offset = 64 + 56 * ranges.len() as u64;
        let mut kcore = vec![0_u8; 64];
        kcore[..6].copy_from_slice(b"\x7fELF\x02\x01");
        kcore[32..40].copy_from_slice(&64_u64.to_le_bytes());
        kcore[54..56].copy_from_slice(&56_u16.to_le_bytes());
        kcore[56..58].copy_from_slice(&u16::try_from(ranges.len()).expect("few").to_le_bytes());
        for range in ranges {
            let mut header = [0_u8; 56];
            header[..4].copy_from_slice(&1_u32.to_le_bytes());
            header[8..16].copy_from_slice(&offset.to_le_bytes());
            header[24..32].copy_from_slice(&range.start.to_le_bytes());
            header[40..48].copy_from_slice(&(range.end - range.start).to_le_bytes());
            kcore.extend(header);
            offset += range.end - range.start;
        }
        let mut image = Vec::new();
        for range in ranges {
            let content: Vec<u8> =
                range.clone().map(|at| u8::try_from((at * 31 + at / 4096) % 251).expect("small")).collect();
            image.extend(lime::header(range).expect("a range"));
            image.extend(&content);
            kcore.extend(&content);
        }
        self.put("proc/kcore", &kcore);
        image
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A manifest at this bucket.
fn manifest(address: &str, part_bytes: u64, parts: u32) -> Manifest {
    let addresses: Vec<String> = (1..=parts).map(|n| format!("{address}{}", part_path(n))).collect();
    Manifest {
        schema: SCHEMA,
        number: 1,
        valid_seconds: 3600,
        part_bytes,
        uploads_at_once: 2,
        parts: PartAddresses::new(1, &addresses).expect("a template"),
        objects: Object::ALL.iter().map(|o| (*o, format!("{address}/{}", o.file_name()))).collect(),
        next: None,
        format: Format::Lime,
        bytes_per_second: None,
    }
}

fn serve(bucket: &Bucket, path: &str, manifest: &Manifest) {
    bucket.served.lock().unwrap().insert(path.to_owned(), serde_json::to_vec(manifest).expect("JSON"));
}

/// Runs an acquisition, and gives the summary that the bucket received.
fn run(host: &FakeHost, bucket: &Bucket, address: &str, manifest: &Manifest) -> Summary {
    serve(bucket, "/manifest", manifest);
    let network = Network::new(None).expect("a network").with_patience(Duration::from_secs(3));
    let said = acquire(&Host::new(&host.0), &network, &format!("{address}/manifest")).expect("a summary");
    let received = bucket.object(Object::Summary).expect("it arrived");
    assert_eq!(serde_json::from_slice::<Summary>(&received).expect("JSON"), said);
    said
}

/// Memory of a few parts in two ranges.
const RANGES: [Range<u64>; 2] = [0x1000..0x4_0000, 0x10_0000..0x18_1234];
const PART: u64 = 0x1_0000;

#[test]
fn the_whole_memory_arrives_with_what_is_needed_to_read_it() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 50));
    assert_eq!((summary.taken, summary.stream.complete, &summary.reason), (Taken::Memory, true, &None));
    assert!(bucket.image() == image, "the image arrived as it was");
    assert_eq!(summary.stream.sha256, hex(&Sha256::digest(&image)));
    assert_eq!((summary.stream.bytes, summary.gap_bytes), (image.len() as u64, 0));
    assert_eq!(summary.memory_bytes, RANGES.iter().map(|r| r.end - r.start).sum::<u64>());
    let mut walk = Walk::new(image.len() as u64);
    while !walk.is_over() {
        let at = usize::try_from(walk.at()).expect("small");
        walk.take(&image[at..at + 32]).expect("a header");
    }
    assert_eq!(walk.records().expect("records"), RANGES);
    for object in Object::ALL.into_iter().filter(|o| *o != Object::Vmcoreinfo) {
        let body = bucket.object(object).unwrap_or_else(|| panic!("{object:?}"));
        if object != Object::Summary {
            assert_eq!(summary.objects[&object].sha256, hex(&Sha256::digest(&body)), "{object:?}");
        }
    }
    let kernel = &summary.kernel;
    assert_eq!((kernel.release.as_str(), kernel.lockdown.as_deref()), ("6.1.0-test", Some("integrity")));
    assert_eq!((kernel.has_btf, kernel.text_address), (true, Some(0xffff_ffff_9a00_0000)));
    assert!(summary.errors.iter().any(|e| e.contains("vmcoreinfo")), "what is not there is said: {:?}", summary.errors);
}

/// S3 refuses `x-amz-` headers that are not signed; the local bucket would not.
#[test]
fn nothing_is_sent_that_is_not_signed() {
    let host = FakeHost::new();
    host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    run(&host, &bucket, &address, &manifest(&address, PART, 50));
    let headers = bucket.headers.lock().unwrap();
    let puts: Vec<_> = headers.iter().filter(|(line, _)| line.starts_with("PUT")).collect();
    assert!(puts.len() > 15);
    for (line, headers) in puts {
        assert!(!headers.keys().any(|name| name.starts_with("x-amz-")), "{line}: {headers:?}");
        assert!(!headers.contains_key("authorization"), "{line}");
        assert!(headers.contains_key("content-md5") && headers.contains_key("content-length"), "{line}");
        // The parts are many, and a try whose answer was lost comes again; an object is created once.
        assert_eq!(
            headers.get("if-none-match").map(String::as_str),
            (!line.contains("partNumber")).then_some("*"),
            "{line}"
        );
    }
}

#[test]
fn the_state_goes_before_the_memory_and_the_summary_is_last() {
    let host = FakeHost::new();
    host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    run(&host, &bucket, &address, &manifest(&address, PART, 50));
    let headers = bucket.headers.lock().unwrap();
    let at = |part: &str| headers.iter().position(|(line, _)| line.contains(part)).unwrap_or_else(|| panic!("{part}"));
    assert!(at("started.json") < at("state.jsonl") && at("state.jsonl") < at("partNumber=1&"));
    assert_eq!(at("summary.json"), headers.len() - 1);
}

#[test]
fn a_part_that_fails_once_is_sent_again() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    bucket.fault("partNumber=2&", Fault::Status(500), 1);
    bucket.fault("partNumber=3&", Fault::HangUp, 1);
    bucket.fault("partNumber=5&", Fault::Status(503), 2);
    bucket.fault("state.jsonl", Fault::HangUp, 1);
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 50));
    assert!(summary.stream.complete && bucket.image() == image);
    assert_eq!(summary.stream.retries, 4);
}

#[test]
fn a_part_that_is_refused_for_good_ends_the_stream_and_keeps_what_was_sent() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    bucket.fault("partNumber=4&", Fault::Status(403), u32::MAX);
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 50));
    assert_eq!((summary.taken, summary.stream.complete), (Taken::Memory, false));
    let reason = summary.reason.expect("a reason");
    assert!(reason.starts_with("part 4: status 403"), "{reason}");
    assert!(summary.errors.iter().any(|e| e.contains("part 4") && e.contains("expired")), "{:?}", summary.errors);
    let received = bucket.image();
    assert_eq!(received.len() as u64, 3 * PART);
    assert!(image.starts_with(&received));
    assert_eq!(summary.stream.parts[2].sha256, hex(&Sha256::digest(&received)), "what arrived has a hash of its own");
    assert!(bucket.object(Object::Files).is_some(), "the steps after it are taken all the same");
    let parts = bucket.stored.lock().unwrap().keys().filter(|k| k.contains("partNumber")).count();
    assert!(parts < 8, "the reader stopped instead of going on to the end: {parts}");
}

#[test]
fn addresses_that_ran_out_are_replaced_by_the_next_manifest() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    bucket.fault("X-Amz-Signature=s3", Fault::Status(403), u32::MAX);
    let mut first = manifest(&address, PART, 50);
    first.next = Some(format!("{address}/next"));
    let mut next = manifest(&address, PART, 50);
    next.number = 2;
    let addresses: Vec<String> = (3..=50).map(|n| format!("{address}{}", part_path(n).replace("=s", "=new"))).collect();
    next.parts = PartAddresses::new(3, &addresses).expect("a template");
    serve(&bucket, "/next", &next);
    let summary = run(&host, &bucket, &address, &first);
    assert!(summary.stream.complete, "{summary:?}");
    let stored = bucket.stored.lock().unwrap();
    let new = |n: u32| stored.get(&part_path(n).replace("=s", "=new")).or_else(|| stored.get(&part_path(n)));
    let whole: Vec<u8> = (1..).map_while(|n| new(n).cloned()).collect::<Vec<_>>().concat();
    assert!(whole == image);
}

#[test]
fn a_manifest_with_too_few_parts_is_named_and_what_fits_is_sent() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 3));
    assert!(!summary.stream.complete);
    assert!(summary.reason.expect("a reason").contains("addresses for 3 parts"));
    assert!(image.starts_with(&bucket.image()) && bucket.image().len() as u64 == 3 * PART);
}

#[test]
fn memory_that_the_kernel_does_not_map_is_a_gap() {
    let host = FakeHost::new();
    host.memory(&[0x1000..0x3000, 0x8000..0x9000]);
    host.put("proc/iomem", b"00001000-00003bff : System RAM\n00008000-00008fff : System RAM\n");
    let (bucket, address) = Bucket::start();
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 5));
    assert_eq!(summary.gaps, [Gap { start: 0x3000, end: 0x3C00, why: GapKind::NotMapped }]);
    assert_eq!((summary.gap_bytes, summary.memory_bytes, summary.stream.bytes), (0xC00, 0x3C00, 0x3000 + 64));
    assert!(summary.stream.complete);
}

/// Found by the property below: the look whether anything can be read asked for a whole page.
#[test]
fn memory_smaller_than_a_page_arrives() {
    let host = FakeHost::new();
    let image = host.memory(&[0x1001..0x1002]);
    let (bucket, address) = Bucket::start();
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 5));
    assert!(summary.taken == Taken::Memory && bucket.image() == image);
}

/// A kcore that ends early: every page that is not there is a gap, and the image keeps its size.
#[test]
fn memory_that_cannot_be_read_is_zeros_and_a_gap() {
    let host = FakeHost::new();
    let image = host.memory(&[0x1000..0x9000]);
    let path = host.0.join("proc/kcore");
    let kcore = std::fs::read(&path).expect("kcore");
    std::fs::write(&path, &kcore[..64 + 56 + 0x3000]).expect("cut");
    let (bucket, address) = Bucket::start();
    let summary = run(&host, &bucket, &address, &manifest(&address, PART, 5));
    assert_eq!(summary.gaps, [Gap { start: 0x4000, end: 0x9000, why: GapKind::Unreadable }]);
    let received = bucket.image();
    assert!(received.len() == image.len() && received[..32 + 0x3000] == image[..32 + 0x3000]);
    assert!(received[32 + 0x3000..].iter().all(|byte| *byte == 0));
}

/// Whatever is wrong with kcore, the memory of the processes is taken instead, and the reason is named.
#[test]
fn where_the_memory_is_refused_process_memory_is_taken() {
    let table: [(&[u8], &str); 4] = [
        (b"", "/proc/kcore"),
        (b"MZ, which is no ELF file, but long enough to be read as the header of one ............", "no ELF file"),
        (b"\x7fELF\x02\x01", "/proc/kcore"),
        (&[0xFF; 5000], "no ELF file"),
    ];
    for (kcore, part) in table {
        let host = FakeHost::new();
        host.memory(&RANGES);
        host.put("proc/kcore", kcore);
        host.put("proc/77/smaps", b"1000-3000 rw-p 00000000 00:00 0\nRss: 8 kB\n");
        host.put("proc/77/mem", &[0x5A; 0x3000]);
        host.put("proc/77/exe", b"a deleted program");
        let (bucket, address) = Bucket::start();
        let summary = run(&host, &bucket, &address, &manifest(&address, PART, 5));
        assert_eq!((summary.taken, summary.processes, summary.stream.complete), (Taken::ProcessMemory, 1, true));
        assert!(summary.reason.as_deref().is_some_and(|r| r.contains(part)), "{:?}", summary.reason);
        let archive = bucket.image();
        let holds = |needle: &[u8]| archive.windows(needle.len()).any(|w| w == needle);
        assert!(holds(b"77/exe") && holds(b"a deleted program") && holds(b"77/1000-3000") && holds(&[0x5A; 0x2000]));
        assert_eq!(archive.len() % 512, 0);
    }
}

#[test]
fn a_bandwidth_limit_is_kept() {
    let host = FakeHost::new();
    let image = host.memory(&RANGES);
    let (bucket, address) = Bucket::start();
    let mut slow = manifest(&address, PART, 50);
    slow.bytes_per_second = Some(image.len() as u64 * 2);
    let summary = run(&host, &bucket, &address, &slow);
    assert!(summary.milliseconds >= 490, "half a second at least, and it took {} ms", summary.milliseconds);
}

#[test]
fn a_manifest_that_cannot_be_used_is_an_error_that_says_why() {
    let host = FakeHost::new();
    let (bucket, address) = Bucket::start();
    let network = Network::new(None).expect("a network").with_patience(Duration::from_millis(300));
    let go = |path: &str| {
        let error = acquire(&Host::new(&host.0), &network, &format!("{address}{path}")).expect_err("no manifest");
        error.to_string()
    };
    assert!(go("/nothing").contains("status 403"));
    let served = |path: &str, change: fn(&mut Manifest)| {
        let mut changed = manifest(&address, PART, 2);
        change(&mut changed);
        serve(&bucket, path, &changed);
    };
    served("/schema", |m| m.schema = 9);
    assert!(go("/schema").contains("layout 9"));
    served("/size", |m| m.part_bytes = u64::MAX);
    assert!(go("/size").contains("parts of"));
    served("/threads", |m| m.uploads_at_once = 0);
    assert!(go("/threads").contains("uploads at once"));
    let clear: Vec<String> = vec!["http://example.com/image?partNumber=1&X-Amz-Signature=s".to_owned()];
    let mut elsewhere = manifest(&address, PART, 2);
    elsewhere.parts = PartAddresses::new(1, &clear).expect("a template");
    serve(&bucket, "/elsewhere", &elsewhere);
    assert!(go("/elsewhere").contains("without TLS"));
    bucket.served.lock().unwrap().insert("/json".to_owned(), b"{".to_vec());
    assert!(go("/json").contains("cannot be read"));
    assert!(
        acquire(&Host::new(&host.0), &network, "http://example.com/m")
            .expect_err("clear")
            .to_string()
            .contains("without TLS")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever the memory looks like and however it is cut, what arrives is what was there.
    #[test]
    fn any_memory_arrives(
        steps in proptest::collection::vec((0_u64..0x8000, 1_u64..0x8000), 1..6),
        part in 0x1000_u64..0x9000,
    ) {
        let mut at = 0x1000;
        let ranges: Vec<Range<u64>> = steps.into_iter().map(|(gap, length)| {
            let start = at + gap + 1;
            at = start + length;
            start..at
        }).collect();
        let host = FakeHost::new();
        let image = host.memory(&ranges);
        let (bucket, address) = Bucket::start();
        let summary = run(&host, &bucket, &address, &manifest(&address, part, 100));
        prop_assert!(bucket.image() == image);
        prop_assert!(summary.stream.complete);
    }
}
