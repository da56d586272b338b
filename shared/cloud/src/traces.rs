//! Tells X-Ray of each call to AWS: service, operation, Region, how long it took and how it ended, under the trace of the
//! invocation. Never what was asked or answered. Each call is one datagram to Lambda's X-Ray daemon, which nobody waits for:
//! a trace that is lost is lost, and never a reason to stop
//! (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>).

use aws_config::Region;
use aws_sdk_ec2::config::interceptors::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use serde_json::{Value, json};
use stasis_model::ids::AccountId;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

/// What stands before each document
/// (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-daemon>).
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\n";
/// Under which names services answer with the id of a request.
const REQUEST_IDS: [&str; 2] = ["x-amzn-requestid", "x-amz-request-id"];
const TOO_MANY_REQUESTS: u16 = 429;

/// Where calls are told to; the default tells nobody.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    shared: Arc<Shared>,
    /// The account that is called, where it is not the function's own.
    account: Option<AccountId>,
}

#[derive(Debug, Default)]
struct Shared {
    daemon: Option<UdpSocket>,
    current: RwLock<Option<Trace>>,
    names: RandomState,
    told: AtomicU64,
}

/// The segment that a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trace {
    id: String,
    segment: String,
}

impl Trace {
    /// The tracing header of an invocation, `Root=…;Parent=…;Sampled=1`; none where the invocation is not sampled
    /// (<https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>).
    fn of_header(header: &str) -> Option<Self> {
        let field = |name: &str| {
            let of_name =
                |part: &str| part.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned());
            header.split(';').find_map(of_name).filter(|value| !value.is_empty())
        };
        (field("Sampled")? == "1").then_some(())?;
        Some(Self { id: field("Root")?, segment: field("Parent")? })
    }
}

/// When a call began, and of which invocation it is: a call that outlives its invocation stays with it.
#[derive(Debug)]
struct Begun {
    at: SystemTime,
    trace: Trace,
}

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

/// How a call ended.
struct Ended<'a> {
    at: SystemTime,
    failed: bool,
    status: Option<u16>,
    request: Option<&'a str>,
    attempts: u32,
}

impl Traces {
    /// To the daemon at an address, which Lambda names in `AWS_XRAY_DAEMON_ADDRESS`. One that cannot be reached is logged, and
    /// nobody is told then.
    pub fn to_daemon(address: &str) -> Self {
        let daemon = connected(address).inspect_err(
            |error| tracing::warn!(address, %error, "no traces of calls: the X-Ray daemon cannot be reached"),
        );
        Self { shared: Arc::new(Shared { daemon: daemon.ok(), ..Shared::default() }), account: None }
    }

    /// Another invocation begins, with this tracing header.
    pub fn begin(&self, header: Option<&str>) {
        let trace = header.and_then(Trace::of_header);
        *self.shared.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = trace;
    }

    /// The same for calls to another account.
    pub(crate) fn in_account(&self, account: &AccountId) -> Self {
        Self { shared: self.shared.clone(), account: Some(account.clone()) }
    }

    fn current(&self) -> Option<Trace> {
        self.shared.daemon.as_ref()?;
        self.shared.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The 16 hexadecimal digits of a new subsegment.
    fn name(&self) -> String {
        format!("{:016x}", self.shared.names.hash_one(self.shared.told.fetch_add(1, Ordering::Relaxed)))
    }

    fn tell(&self, document: &Value) {
        let Some(daemon) = &self.shared.daemon else { return };
        if let Err(error) = daemon.send(format!("{HEADER}{document}").as_bytes()) {
            tracing::debug!(%error, "a call was not told to X-Ray");
        }
    }
}

fn connected(address: &str) -> io::Result<UdpSocket> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let any = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    Ok(socket)
}

impl Intercept for Traces {
    fn name(&self) -> &'static str {
        "Traces"
    }

    fn read_before_execution(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(trace) = self.current() {
            config.interceptor_state().store_put(Begun { at: SystemTime::now(), trace });
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(begun), Some(operation)) = (config.load::<Begun>(), config.load::<Metadata>()) else {
            return Ok(());
        };
        let response = context.response();
        let ended = Ended {
            at: SystemTime::now(),
            failed: context.output_or_error().is_none_or(|answer| answer.is_err()),
            status: response.map(|response| response.status().as_u16()),
            request: response.and_then(|response| REQUEST_IDS.iter().find_map(|name| response.headers().get(*name))),
            attempts: config.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts),
        };
        let region = config.load::<Region>().map(Region::as_ref);
        self.tell(&subsegment(&self.name(), operation, begun, &ended, region, self.account.as_ref()));
        Ok(())
    }
}

/// The document of a call.
fn subsegment(
    name: &str,
    operation: &Metadata,
    begun: &Begun,
    ended: &Ended<'_>,
    region: Option<&str>,
    account: Option<&AccountId>,
) -> Value {
    let mut document = json!({
        "id": name,
        "trace_id": begun.trace.id,
        "parent_id": begun.trace.segment,
        "type": "subsegment",
        "namespace": "aws",
        "name": operation.service(),
        "start_time": seconds(begun.at),
        "end_time": seconds(ended.at),
        "aws": {"operation": operation.name(), "retries": ended.attempts.saturating_sub(1)},
    });
    if let Some(aws) = document.get_mut("aws").and_then(Value::as_object_mut) {
        let told = [("region", region), ("request_id", ended.request), ("account_id", account.map(AccountId::as_str))];
        aws.extend(told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))));
    }
    if let Some(fields) = document.as_object_mut() {
        if let Some(status) = ended.status {
            fields.insert("http".to_owned(), json!({"response": {"status": status}}));
        }
        for kind in kinds(ended) {
            fields.insert((*kind).to_owned(), Value::Bool(true));
        }
    }
    document
}

/// As what X-Ray counts an end: the caller's error is `error`, too many calls are `throttle` beside it, all else is `fault`.
fn kinds(ended: &Ended<'_>) -> &'static [&'static str] {
    match (ended.failed, ended.status) {
        (false, _) => &[],
        (true, Some(TOO_MANY_REQUESTS)) => &["error", "throttle"],
        (true, Some(400..=499)) => &["error"],
        (true, _) => &["fault"],
    }
}

/// Seconds since 1970, with the fraction.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_OF_LAMBDA: &str =
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:0";

    #[test]
    fn only_what_is_sampled_has_a_trace() {
        let trace = Trace::of_header(HEADER_OF_LAMBDA).expect("a trace");
        assert_eq!(trace.id, "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(trace.segment, "53995c3f42cd8ad8");
        for none in [
            "",
            "Root=1-a-b;Parent=c;Sampled=0",
            "Root=1-a-b;Parent=c",
            "Root=1-a-b;Sampled=1",
            "Root=;Parent=c;Sampled=1",
        ] {
            assert_eq!(Trace::of_header(none), None, "{none}");
        }
    }

    #[test]
    fn a_call_is_told_by_how_it_ended_and_not_by_what_was_in_it() {
        let begun = Begun {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            trace: Trace::of_header(HEADER_OF_LAMBDA).expect("a trace"),
        };
        let operation = Metadata::new("DescribeInstances", "EC2");
        let account = "222233334444".parse().expect("an account");
        let told = |failed, status| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1750);
            let ended = Ended { at, failed, status, request: Some("r-1"), attempts: 3 };
            subsegment("00000000000000ff", &operation, &begun, &ended, Some("eu-central-1"), Some(&account))
        };
        assert_eq!(
            told(false, Some(200)),
            json!({
                "id": "00000000000000ff",
                "trace_id": "1-5759e988-bd862e3fe1be46a994272793",
                "parent_id": "53995c3f42cd8ad8",
                "type": "subsegment",
                "namespace": "aws",
                "name": "EC2",
                "start_time": 1.5,
                "end_time": 1.75,
                "aws": {
                    "operation": "DescribeInstances",
                    "retries": 2,
                    "region": "eu-central-1",
                    "request_id": "r-1",
                    "account_id": "222233334444",
                },
                "http": {"response": {"status": 200}},
            })
        );
        for (status, error, throttle, fault) in [
            (Some(403), true, false, false),
            (Some(429), true, true, false),
            (Some(503), false, false, true),
            // S3 may fail with 200, and a call may end without an answer.
            (Some(200), false, false, true),
            (None, false, false, true),
        ] {
            let document = told(true, status);
            for (name, so) in [("error", error), ("throttle", throttle), ("fault", fault)] {
                assert_eq!(document.get(name).is_some(), so, "{status:?} {name}");
            }
            assert_eq!(document.get("http").is_some(), status.is_some());
        }
    }

    #[test]
    fn a_daemon_that_cannot_be_reached_is_no_reason_to_stop() {
        for nowhere in ["", "daemon", "127.0.0.1", "tcp:127.0.0.1:2000 udp:127.0.0.1:2000"] {
            let traces = Traces::to_daemon(nowhere);
            traces.begin(Some(HEADER_OF_LAMBDA));
            assert_eq!(traces.current(), None, "{nowhere}");
        }
    }

    #[test]
    fn names_are_of_sixteen_digits_and_differ() {
        let traces = Traces::default();
        let (one, other) = (traces.name(), traces.name());
        assert_ne!(one, other);
        assert!(one.len() == 16 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    }
}
