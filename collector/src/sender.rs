//! Sends parts and objects to their presigned addresses, by a few threads, each part again and again while there is
//! hope. Sends no `x-amz-` header that is not signed: S3 refuses those. `Content-MD5` is none, S3 compares it, and a
//! bucket with Object Lock demands it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html#object-lock-put-object>).

use crate::error::CollectorError;
use crate::stream::{NO_RAW, Parts, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use stasis_acquisition::manifest::{self, Format, Manifest, Object, SCHEMA};
use stasis_acquisition::summary::Sent;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender as Channel, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// How long a host may take to answer at all.
const CONNECT: Duration = Duration::from_secs(10);
/// The slowest link on which a part still gets through, in bytes a second.
const SLOWEST: u64 = 128 << 10;
/// How long a part is sent again and again. A quarantine that cuts open connections takes seconds; a throttled
/// bucket may take minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How often the next manifest is asked for, once the present one is old.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How much of an answer is kept for the summary.
const MOST_ANSWER: usize = 300;

/// How the network is used.
#[derive(Debug, Clone)]
pub struct Network {
    agent: Agent,
    patience: Duration,
}

impl Network {
    /// By TLS with roots of its own: those built in, or the ones given as PEM, for endpoints of a private authority.
    /// Never the host's: they belong to whoever holds the host. No proxy, no redirection.
    ///
    /// # Errors
    /// Where the PEM holds no certificate.
    pub fn new(roots: Option<&[u8]>) -> Result<Self, CollectorError> {
        let roots = match roots {
            None => RootCerts::WebPki,
            Some(pem) => {
                let found: Vec<Certificate<'static>> = parse_pem(pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if found.is_empty() {
                    return Err(CollectorError::Manifest("the file of roots holds no certificate".to_owned()));
                }
                RootCerts::new_with_certs(&found)
            }
        };
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("stasis-collector/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().into(), patience: PATIENCE })
    }

    /// The same, giving up after another time.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Fetches a manifest.
    ///
    /// # Errors
    /// Where there is none, or one that cannot be used.
    pub fn manifest(&self, address: &str) -> Result<Manifest, CollectorError> {
        crate::address::check(address)?;
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let why = match self.agent.get(address).call() {
                Ok(mut answer) if answer.status().is_success() => {
                    let body = answer.body_mut().with_config().limit(manifest::MOST_BYTES).read_to_vec();
                    let body = body.map_err(|error| CollectorError::Manifest(error.to_string()))?;
                    return usable(&body);
                }
                Ok(mut answer) => {
                    let status = answer.status().as_u16();
                    let said = answer_text(&mut answer);
                    if is_final(status) {
                        return Err(CollectorError::Manifest(format!("status {status}: {said}")));
                    }
                    format!("status {status}: {said}")
                }
                Err(error) if is_about_trust(&error) => return Err(CollectorError::Manifest(error.to_string())),
                Err(error) => error.to_string(),
            };
            tries += 1;
            if begun.elapsed() > self.patience.min(Duration::from_secs(60)) {
                return Err(CollectorError::Manifest(format!("{why}, after {tries} tries")));
            }
            crate::pace::wait(pause(tries));
        }
    }

    /// Sends a body once.
    fn put(&self, address: &str, body: &[u8], create_only: bool) -> Result<(), Refusal> {
        let limit = Duration::from_secs(60 + body.len() as u64 / SLOWEST);
        let request = self.agent.put(address).config().timeout_send_body(Some(limit)).build();
        let request = request.header("content-md5", STANDARD.encode(Md5::digest(body)));
        // This header is part of the signature of an object's address: it is the condition under which it is good.
        let request = if create_only { request.header("if-none-match", "*") } else { request };
        match request.send(body) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                Err(Refusal {
                    why: format!("status {status}: {}", answer_text(&mut answer)),
                    status: Some(status),
                    last: false,
                })
            }
            Err(error) => Err(Refusal { last: is_about_trust(&error), why: error.to_string(), status: None }),
        }
    }

    /// Sends an object. One that is there already was sent by a try whose answer was lost: nobody else has the
    /// address, and it is good for one creation only.
    ///
    /// # Errors
    /// Where it was not accepted.
    fn object(&self, address: &str, body: &[u8]) -> Result<(), String> {
        crate::address::check(address).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let refusal = match self.put(address, body, true) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            if refusal.status == Some(412) && tries > 0 {
                return Ok(());
            }
            tries += 1;
            if refusal.is_final() || begun.elapsed() > self.patience {
                return Err(refusal.why);
            }
            crate::pace::wait(pause(tries));
        }
    }
}

/// Why something was not accepted.
struct Refusal {
    why: String,
    status: Option<u16>,
    last: bool,
}

impl Refusal {
    fn is_final(&self) -> bool {
        self.last || self.status.is_some_and(is_final)
    }
}

/// Whether trying again cannot help.
fn is_final(status: u16) -> bool {
    (300..500).contains(&status) && status != 408 && status != 429
}

/// Whether the other side is not who it must be: nothing is sent there, now or later.
fn is_about_trust(error: &ureq::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("InvalidCertificate") || text.contains("UnknownIssuer")
}

fn pause(tries: u32) -> Duration {
    LONGEST_WAIT.min(Duration::from_millis(200_u64.saturating_mul(1 << tries.min(10))))
}

/// The beginning of an answer, without what is not printable.
fn answer_text(answer: &mut ureq::http::Response<ureq::Body>) -> String {
    let body = answer.body_mut().with_config().limit(16 << 10).read_to_vec().unwrap_or_default();
    String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(MOST_ANSWER).collect()
}

/// A manifest that can be used.
fn usable(body: &[u8]) -> Result<Manifest, CollectorError> {
    let manifest: Manifest = serde_json::from_slice(body)
        .map_err(|error| CollectorError::Manifest(format!("it cannot be read: {error}")))?;
    if manifest.schema != SCHEMA {
        return Err(CollectorError::Manifest(format!(
            "it has layout {}, this collector knows {SCHEMA}",
            manifest.schema
        )));
    }
    if !(1 << 10..=5 << 30).contains(&manifest.part_bytes) {
        return Err(CollectorError::Manifest(format!("parts of {} bytes", manifest.part_bytes)));
    }
    if !(1..=16).contains(&manifest.uploads_at_once) {
        return Err(CollectorError::Manifest(format!("{} uploads at once", manifest.uploads_at_once)));
    }
    if manifest.format == Format::Raw {
        return Err(CollectorError::Manifest(NO_RAW.to_owned()));
    }
    let first = manifest.parts.of(manifest.parts.first).unwrap_or_default();
    crate::address::check(&first)?;
    Ok(manifest)
}

/// The addresses in use, replaced by the next manifest's when they grow old.
struct Addresses {
    network: Network,
    manifest: Manifest,
    read: Instant,
    asked: Instant,
}

impl Addresses {
    /// The address of a part. Looks for the next manifest when three quarters of this one's time are over, or when
    /// an address was `refused`.
    fn of(&mut self, number: u32, refused: bool) -> Option<String> {
        let age = self.read.elapsed();
        let old = age > Duration::from_secs(self.manifest.valid_seconds).mul_f64(0.75);
        if (old || refused || self.manifest.parts.of(number).is_none()) && (refused || self.asked.elapsed() > ASK_AGAIN)
        {
            self.asked = Instant::now();
            if let Some(next) = self.manifest.next.clone()
                && let Ok(found) = self.network.clone().with_patience(Duration::ZERO).manifest(&next)
                && found.number > self.manifest.number
                && found.part_bytes == self.manifest.part_bytes
            {
                self.manifest = found;
                self.read = Instant::now();
            }
        }
        self.manifest.parts.of(number)
    }
}

/// Where a thread finds its work and leaves its results.
struct Shared {
    network: Network,
    addresses: Mutex<Addresses>,
    work: Mutex<Receiver<(u32, Vec<u8>)>>,
    failure: Mutex<Option<CollectorError>>,
    retries: AtomicU32,
}

/// Sends parts by a few threads. [`finish`](Self::finish) waits for them.
pub struct PartSender {
    shared: Arc<Shared>,
    work: Option<SyncSender<(u32, Vec<u8>)>>,
    empty: Receiver<Vec<u8>>,
    threads: Vec<JoinHandle<()>>,
    unmade: usize,
    capacity: usize,
}

impl std::fmt::Debug for PartSender {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PartSender").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartSender {
    /// Begins, with the threads that the manifest allows.
    pub fn new(network: &Network, manifest: &Manifest) -> Self {
        let threads = usize::from(manifest.uploads_at_once);
        // No queue: a part is handed to a thread that is free, so that there are never more buffers than that and one.
        let (work, parts) = sync_channel(0);
        let (returned, empty) = channel();
        let now = Instant::now();
        let addresses = Addresses { network: network.clone(), manifest: manifest.clone(), read: now, asked: now };
        let shared = Arc::new(Shared {
            network: network.clone(),
            addresses: Mutex::new(addresses),
            work: Mutex::new(parts),
            failure: Mutex::new(None),
            retries: AtomicU32::new(0),
        });
        let threads = (0..threads)
            .map(|_| {
                let (shared, returned) = (Arc::clone(&shared), returned.clone());
                std::thread::spawn(move || send_parts(&shared, &returned))
            })
            .collect();
        Self {
            shared,
            work: Some(work),
            empty,
            threads,
            unmade: usize::from(manifest.uploads_at_once) + 1,
            capacity: usize::try_from(manifest.part_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Waits until every part is through, and gives how often one was sent again.
    ///
    /// # Errors
    /// The first part that was not accepted.
    pub fn finish(&mut self) -> Result<u32, CollectorError> {
        self.work = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                lock(&self.shared.failure).get_or_insert(CollectorError::Send {
                    what: "a part".to_owned(),
                    why: "its thread ended of itself".to_owned(),
                });
            }
        }
        match lock(&self.shared.failure).take() {
            Some(failure) => Err(failure),
            None => Ok(self.retries()),
        }
    }

    /// How often a part was sent again.
    pub fn retries(&self) -> u32 {
        self.shared.retries.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> Option<CollectorError> {
        lock(&self.shared.failure).as_ref().map(|failure| CollectorError::Send {
            what: "the stream".to_owned(),
            why: format!("ended because of {failure}"),
        })
    }
}

impl Parts for PartSender {
    fn buffer(&mut self) -> Result<Vec<u8>, CollectorError> {
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        if let Ok(buffer) = self.empty.try_recv() {
            return Ok(buffer);
        }
        if self.unmade > 0 {
            self.unmade -= 1;
            return Ok(Vec::with_capacity(self.capacity));
        }
        self.empty.recv().map_err(|_| self.stopped().unwrap_or(CollectorError::TooFewParts(0)))
    }

    fn take(&mut self, number: u32, part: Vec<u8>) -> Result<(), CollectorError> {
        if let Some(stopped) = self.stopped() {
            return Err(stopped);
        }
        let sent = self.work.as_ref().map(|work| work.send((number, part)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.stopped().unwrap_or(CollectorError::TooFewParts(number.saturating_sub(1)))),
        }
    }
}

impl Drop for PartSender {
    fn drop(&mut self) {
        self.work = None;
    }
}

/// What a thread does: takes parts until there are no more. After a failure parts are taken and dropped, so that
/// nobody waits for ever.
fn send_parts(shared: &Shared, returned: &Channel<Vec<u8>>) {
    loop {
        let next = lock(&shared.work).recv();
        let Ok((number, mut part)) = next else { return };
        let failed = lock(&shared.failure).is_some();
        if !failed && let Err(error) = send_part(shared, number, &part) {
            lock(&shared.failure).get_or_insert(error);
        }
        part.clear();
        if returned.send(part).is_err() {
            return;
        }
    }
}

fn send_part(shared: &Shared, number: u32, part: &[u8]) -> Result<(), CollectorError> {
    let begun = Instant::now();
    let mut tries = 0;
    let mut refused = false;
    loop {
        let (address, known) = {
            let mut addresses = lock(&shared.addresses);
            (addresses.of(number, refused), addresses.manifest.number)
        };
        let address = address.ok_or(CollectorError::TooFewParts(number.saturating_sub(1)))?;
        let refusal = match shared.network.put(&address, part, false) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        tries += 1;
        let failure =
            || CollectorError::Send { what: format!("part {number}"), why: format!("{} (try {tries})", refusal.why) };
        // An address that ran out: there may be a newer one.
        if refusal.status == Some(403) && !refused {
            refused = true;
            let mut addresses = lock(&shared.addresses);
            let newer = addresses.of(number, true).is_some() && addresses.manifest.number > known;
            if newer {
                continue;
            }
            return Err(failure());
        }
        if refusal.is_final() || begun.elapsed() > shared.network.patience {
            return Err(failure());
        }
        shared.retries.fetch_add(1, Ordering::Relaxed);
        crate::pace::wait(pause(tries));
    }
}

/// Sends the small objects of a manifest.
#[derive(Debug)]
pub struct ObjectSender<'a> {
    network: &'a Network,
    manifest: &'a Manifest,
}

impl<'a> ObjectSender<'a> {
    /// For the objects of this manifest.
    pub fn new(network: &'a Network, manifest: &'a Manifest) -> Self {
        Self { network, manifest }
    }

    /// Sends an object, and says what was sent and whether it arrived.
    pub fn send(&self, object: Object, body: &[u8]) -> Sent {
        let error = match self.manifest.objects.get(&object) {
            None => Some("the manifest has no address for it".to_owned()),
            Some(address) => self.network.object(address, body).err(),
        };
        Sent { bytes: body.len() as u64, sha256: hex(&Sha256::digest(body)), error }
    }
}
