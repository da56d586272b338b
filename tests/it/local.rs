//! The local AWS of this test run: started once, on free ports, ended with the process that started it.

use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// How long an execution may take before it counts as hung. The slowest takes some seconds, and many times that on a
/// busy machine.
const PATIENCE: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(150);

pub(crate) struct Local {
    variables: HashMap<String, String>,
    directory: PathBuf,
    // Its standard input is the thread that it hangs on: when this process ends, however it ends, so does it.
    _serve: Child,
}

/// What an execution came to.
#[derive(Debug)]
pub(crate) enum Ended {
    Succeeded(Value),
    Failed { error: String, cause: String },
}

impl Ended {
    pub(crate) fn output(self) -> Value {
        match self {
            Self::Succeeded(output) => output,
            Self::Failed { error, cause } => panic!("the execution failed: {error}: {cause}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test run is told by make where things are")]
fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

fn root() -> PathBuf {
    // As the test runs, not as it was built: a target folder that several checkouts share keeps the first's path.
    Path::new(&told("CARGO_MANIFEST_DIR")).join("..")
}

/// What the notification topic has sent so far; the queue gives each message to one reader only.
static MESSAGES: tokio::sync::Mutex<Vec<String>> = tokio::sync::Mutex::const_new(Vec::new());
/// The queue that is subscribed to the topic.
const QUEUE: &str = "told";

pub(crate) fn local() -> &'static Local {
    static LOCAL: OnceLock<Local> = OnceLock::new();
    LOCAL.get_or_init(|| {
        let local = Local::start();
        // A runtime of its own: that of a test ends with the test.
        let begin = |local: Local| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(local.prepare());
            local
        };
        std::thread::scope(|scope| scope.spawn(|| begin(local)).join()).expect("the local AWS is prepared")
    })
}

impl Local {
    fn start() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("local-{}", std::process::id()));
        let mut serve = Command::new(told("PYTHON"))
            .arg(root().join("tests/local"))
            .args(["serve", "--wait-scale", "0.01"])
            .arg("--dir")
            .arg(&directory)
            .arg("--binaries")
            .arg(told("STASIS_BINARIES"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut said = String::new();
        BufReader::new(serve.stdout.take().expect("its output")).read_line(&mut said).expect("readable");
        if said.trim() != "ready" {
            let mut why = String::new();
            serve.stderr.take().expect("its errors").read_to_string(&mut why).expect("readable");
            panic!("the local AWS did not start: {said}{why}");
        }
        let variables = std::fs::read_to_string(directory.join("env"))
            .expect("its variables")
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        Self { variables, directory, _serve: serve }
    }

    /// What the tests need besides the stack: the policy document, and an ear at the topic.
    async fn prepare(&self) {
        self.put_parameter("/stasis/policy", include_str!("policy.json")).await;
        let sqs = aws_sdk_sqs::Client::new(&self.config("SQS").await);
        let queue = sqs.create_queue().queue_name(QUEUE).send().await.expect("a queue");
        let attributes = sqs
            .get_queue_attributes()
            .queue_url(queue.queue_url().expect("its URL"))
            .attribute_names(aws_sdk_sqs::types::QueueAttributeName::QueueArn)
            .send()
            .await
            .expect("its attributes");
        let arn = attributes.attributes().and_then(|a| a.values().next()).expect("its ARN").clone();
        let sns = aws_sdk_sns::Client::new(&self.config("SNS").await);
        let topic = self.variable("STASIS_NOTIFICATION_TOPIC_ARN");
        sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(&arn).send().await.expect("subscribed");
        // Events about cases come to the same queue.
        let events = aws_sdk_eventbridge::Client::new(&self.config("EVENTBRIDGE").await);
        let pattern = json!({"source": ["stasis"]}).to_string();
        events.put_rule().name("told").event_pattern(pattern).send().await.expect("a rule");
        let target = aws_sdk_eventbridge::types::Target::builder().id("told").arn(&arn).build().expect("a target");
        events.put_targets().rule("told").targets(target).send().await.expect("its target");
    }

    pub(crate) async fn put_parameter(&self, name: &str, value: &str) {
        let ssm = aws_sdk_ssm::Client::new(&self.config("SSM").await);
        let kind = aws_sdk_ssm::types::ParameterType::String;
        ssm.put_parameter().name(name).value(value).r#type(kind).overwrite(true).send().await.expect("the parameter");
    }

    /// The messages of the notification topic so far that hold a text, oldest first.
    pub(crate) async fn messages(&self, contains: &str) -> Vec<String> {
        let sqs = aws_sdk_sqs::Client::new(&self.config("SQS").await);
        let url = sqs.get_queue_url().queue_name(QUEUE).send().await.expect("the queue");
        let url = url.queue_url().expect("its URL").to_owned();
        let mut messages = MESSAGES.lock().await;
        loop {
            let got = sqs.receive_message().queue_url(&url).max_number_of_messages(10).send().await.expect("received");
            for message in got.messages() {
                let body: Value = serde_json::from_str(message.body().expect("a body")).expect("JSON");
                let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
                messages.push(match body.get("detail") {
                    Some(detail) => format!("event {}\n{detail}", text("detail-type")),
                    None => format!("{}\n{}", text("Subject"), text("Message")),
                });
                let receipt = message.receipt_handle().expect("a receipt");
                sqs.delete_message().queue_url(&url).receipt_handle(receipt).send().await.expect("deleted");
            }
            if got.messages().is_empty() {
                break;
            }
        }
        messages.iter().filter(|message| message.contains(contains)).cloned().collect()
    }

    /// A function like that of a stage, with other variables in its environment.
    pub(crate) async fn function_like(&self, stage: &str, variables: &[(&str, &str)]) -> String {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let name = format!("other-{stage}-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let lambda = aws_sdk_lambda::Client::new(&self.config("LAMBDA").await);
        let known = lambda.get_function_configuration().function_name(format!("stasis-{stage}")).send().await;
        let known = known.expect("the function");
        let mut environment = known.environment().and_then(|e| e.variables()).cloned().unwrap_or_default();
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let code = aws_sdk_lambda::types::FunctionCode::builder()
            .s3_bucket("stasis-local-code")
            .s3_key(format!("functions/{stage}.zip"))
            .build();
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(environment)).build();
        lambda
            .create_function()
            .function_name(&name)
            .runtime(aws_sdk_lambda::types::Runtime::from("provided.al2023"))
            .handler("bootstrap")
            .role(known.role().expect("a role"))
            .timeout(60)
            .code(code)
            .environment(environment)
            .send()
            .await
            .expect("a function like it");
        name
    }

    /// The analyst's command line with the variables of the local AWS and these.
    pub(crate) fn command_line(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(Path::new(&told("STASIS_BINARIES")).join("stasis"));
        command.args(arguments).env_clear().envs(&self.variables).stdin(Stdio::null());
        for (name, value) in variables {
            match value.is_empty() {
                true => command.env_remove(name),
                false => command.env(name, value),
            };
        }
        command
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("{name} is not among the variables"))
    }

    pub(crate) fn bucket(&self) -> &str {
        self.variable("STASIS_EVIDENCE_BUCKET")
    }

    /// The SDK's settings for a service, at the endpoint that the local AWS has for it.
    pub(crate) async fn config(&self, service: &str) -> aws_config::SdkConfig {
        self.config_of(service, self.variable("AWS_ACCESS_KEY_ID")).await
    }

    /// The same in another account, which the local AWS knows by the access key.
    pub(crate) async fn config_of(&self, service: &str, account: &str) -> aws_config::SdkConfig {
        let own = format!("AWS_ENDPOINT_URL_{service}");
        let endpoint = self.variables.get(&own).map_or_else(|| self.variable("AWS_ENDPOINT_URL"), String::as_str);
        aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .region(aws_config::Region::new(self.variable("AWS_REGION").to_owned()))
            .credentials_provider(aws_sdk_ec2::config::Credentials::new(
                account,
                self.variable("AWS_SECRET_ACCESS_KEY"),
                None,
                None,
                "local",
            ))
            .endpoint_url(endpoint)
            .load()
            .await
    }

    pub(crate) async fn ec2(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.config("EC2").await)
    }

    pub(crate) async fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::new(&self.config("S3").await)
    }

    /// Plants an instance and what is around it; `options` are those of tests/local/plant.py.
    pub(crate) fn plant(&self, options: &Value) -> Value {
        let output = Command::new(told("PYTHON"))
            .arg(root().join("tests/local"))
            .arg("plant")
            .arg("--dir")
            .arg(&self.directory)
            .arg("--options")
            .arg(options.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("python runs");
        assert!(output.status.success(), "plant: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("plant answers in JSON")
    }

    /// Everything that the AWS APIs say of a planted instance and of what is around it.
    pub(crate) fn describe(&self, planted: &Value) -> Value {
        let output = Command::new(told("PYTHON"))
            .arg(root().join("tests/local"))
            .arg("describe")
            .arg("--dir")
            .arg(&self.directory)
            .arg("--planted")
            .arg(planted.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("python runs");
        assert!(output.status.success(), "describe: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("describe answers in JSON")
    }

    /// Starts `stasis-release` as the console does, and waits for its end.
    pub(crate) async fn release(&self, input: &Value) -> Ended {
        let arn = self.execute("STASIS_RELEASE_STATE_MACHINE_ARN", input).await;
        self.end_of(&arn).await
    }

    /// Starts `stasis-contain` as the console does, and waits for its end.
    pub(crate) async fn contain(&self, input: &Value) -> Ended {
        let arn = self.start_contain(input).await;
        self.end_of(&arn).await
    }

    pub(crate) async fn start_contain(&self, input: &Value) -> String {
        self.execute("STASIS_CONTAIN_STATE_MACHINE_ARN", input).await
    }

    async fn execute(&self, machine: &str, input: &Value) -> String {
        self.start_execution(self.variable(machine), input).await
    }

    /// A state machine like `stasis-contain`, under another name and with something else in its definition.
    pub(crate) async fn copy_of_contain(&self, mark: &str, from: &str, to: &str) -> String {
        let sfn = aws_sdk_sfn::Client::new(&self.config("SFN").await);
        let arn = self.variable("STASIS_CONTAIN_STATE_MACHINE_ARN");
        let original = sfn.describe_state_machine().state_machine_arn(arn).send().await.expect("stasis-contain");
        let definition = original.definition().replace(from, to);
        assert_ne!(definition, original.definition());
        let copy = sfn.create_state_machine().name(format!("copy-{mark}")).role_arn(original.role_arn());
        copy.definition(definition).send().await.expect("a copy").state_machine_arn().to_owned()
    }

    /// Starts an execution of the state machine with this ARN.
    pub(crate) async fn start_execution(&self, machine: &str, input: &Value) -> String {
        let sfn = aws_sdk_sfn::Client::new(&self.config("SFN").await);
        sfn.start_execution()
            .state_machine_arn(machine)
            .input(input.to_string())
            .send()
            .await
            .expect("the execution starts")
            .execution_arn()
            .to_owned()
    }

    pub(crate) async fn end_of(&self, execution: &str) -> Ended {
        let sfn = aws_sdk_sfn::Client::new(&self.config("SFN").await);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let waiting = async {
            loop {
                looks.tick().await;
                let seen = sfn.describe_execution().execution_arn(execution).send().await.expect("it is described");
                match seen.status() {
                    ExecutionStatus::Running => {}
                    ExecutionStatus::Succeeded => {
                        return Ended::Succeeded(
                            serde_json::from_str(seen.output().expect("an output")).expect("JSON"),
                        );
                    }
                    _ => {
                        return Ended::Failed {
                            error: seen.error().unwrap_or_default().to_owned(),
                            cause: seen.cause().unwrap_or_default().to_owned(),
                        };
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the execution ends")
    }

    /// Sends an event through EventBridge and waits for the end of the execution that its rule starts.
    pub(crate) async fn send_event(&self, source: &str, detail_type: &str, detail: &Value, mark: &str) -> Ended {
        let events = aws_sdk_eventbridge::Client::new(&self.config("EVENTBRIDGE").await);
        let entry = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder()
            .source(source)
            .detail_type(detail_type)
            .detail(detail.to_string())
            .build();
        let answer = events.put_events().entries(entry).send().await.expect("the event is taken");
        assert_eq!(answer.failed_entry_count(), 0, "{answer:?}");
        let execution = self.execution_with(mark).await;
        self.end_of(&execution).await
    }

    /// The execution whose input holds a text that no other input holds.
    async fn execution_with(&self, mark: &str) -> String {
        let sfn = aws_sdk_sfn::Client::new(&self.config("SFN").await);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let waiting = async {
            loop {
                looks.tick().await;
                let machine = self.variable("STASIS_CONTAIN_STATE_MACHINE_ARN");
                let listed = sfn.list_executions().state_machine_arn(machine).send().await.expect("executions");
                for execution in listed.executions() {
                    let arn = execution.execution_arn();
                    let seen = sfn.describe_execution().execution_arn(arn).send().await.expect("it is described");
                    if seen.input().is_some_and(|input| input.contains(mark)) {
                        return arn.to_owned();
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the rule starts an execution")
    }

    /// Calls one function by itself, as `cargo lambda invoke` does. An error is its name and message.
    pub(crate) async fn invoke(&self, stage: &str, input: &Value) -> Result<Value, (String, String)> {
        self.invoke_by_name(&format!("stasis-{stage}"), input).await
    }

    /// The same, by the function's name.
    pub(crate) async fn invoke_by_name(&self, name: &str, input: &Value) -> Result<Value, (String, String)> {
        let lambda = aws_sdk_lambda::Client::new(&self.config("LAMBDA").await);
        let answer = lambda
            .invoke()
            .function_name(name)
            .payload(aws_smithy_types::Blob::new(input.to_string()))
            .send()
            .await
            .expect("the function is called");
        let payload = answer.payload().expect("a payload").as_ref();
        let value: Value = serde_json::from_slice(payload).expect("JSON");
        if answer.function_error().is_none() {
            return Ok(value);
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Err((text("errorType"), text("errorMessage")))
    }

    /// Makes requests fail whose body holds `contains`: so tests that run at the same time do not meet.
    pub(crate) fn fault(&self, service: &str, operation: &str, contains: &str, code: &str, status: u16) {
        self.set_fault(&json!({"service": service, "operation": operation, "contains": contains, "code": code,
            "message": "made to fail by a test", "status": status}));
    }

    /// The same, for the first `times` such requests only.
    pub(crate) fn fault_times(
        &self,
        service: &str,
        operation: &str,
        contains: &str,
        code: &str,
        status: u16,
        times: u32,
    ) {
        self.set_fault(&json!({"service": service, "operation": operation, "contains": contains, "code": code,
            "message": "made to fail by a test", "status": status, "times": times}));
    }

    /// Takes the faults of requests back that hold `contains`.
    pub(crate) fn mend(&self, contains: &str) {
        let url = format!("{}/local/faults?contains={contains}", self.variable("STASIS_LOCAL_CONTROL"));
        ureq::delete(&url).call().expect("the faults are gone");
    }

    /// Makes the first such request wait before it is answered.
    pub(crate) fn fault_delay(&self, service: &str, operation: &str, contains: &str, seconds: f64) {
        self.set_fault(&json!({"service": service, "operation": operation, "contains": contains, "code": null, "delaySeconds": seconds, "times": 1}));
    }

    /// Waits until a request has met the fault of this operation that names `contains`.
    pub(crate) async fn fault_met(&self, operation: &str, contains: &str) {
        let url = format!("{}/local/faults", self.variable("STASIS_LOCAL_CONTROL"));
        let is_met = || {
            let text = ureq::get(&url).call().expect("the faults").body_mut().read_to_string().expect("text");
            let faults: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            let mine = |fault: &&Value| fault["operation"] == operation && fault["contains"] == contains;
            faults.iter().find(mine).is_some_and(|fault| fault["used"] != 0)
        };
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let waiting = async {
            while !is_met() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("a request meets the fault");
    }

    fn set_fault(&self, fault: &Value) {
        let url = format!("{}/local/faults", self.variable("STASIS_LOCAL_CONTROL"));
        ureq::post(&url).send(fault.to_string()).expect("the fault is set");
    }

    /// The requests that AWS was sent and that name something, oldest first: (operation, parameters).
    pub(crate) fn requests(&self, contains: &str) -> Vec<(String, Value)> {
        let url = format!("{}/local/requests?contains={contains}", self.variable("STASIS_LOCAL_CONTROL"));
        let text = ureq::get(&url).call().expect("the record").body_mut().read_to_string().expect("text");
        let recorded: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        recorded
            .iter()
            .map(|r| (r["operation"].as_str().unwrap_or_default().to_owned(), r["parameters"].clone()))
            .collect()
    }

    /// The same with the time of each.
    pub(crate) fn timed_requests(&self, contains: &str) -> Vec<(String, String)> {
        let url = format!("{}/local/requests?contains={contains}", self.variable("STASIS_LOCAL_CONTROL"));
        let text = ureq::get(&url).call().expect("the record").body_mut().read_to_string().expect("text");
        let recorded: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let timed = recorded.iter().map(|r| {
            let text = |key: &str| r[key].as_str().expect("a text").to_owned();
            (text("operation"), text("time"))
        });
        timed.collect()
    }

    /// How often an operation that names something was granted.
    pub(crate) fn granted(&self, operation: &str, contains: &str) -> usize {
        let control = self.variable("STASIS_LOCAL_CONTROL");
        let url = format!("{control}/local/requests?contains={contains}&operation={operation}");
        let text = ureq::get(&url).call().expect("the record").body_mut().read_to_string().expect("text");
        let recorded: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        recorded.iter().filter(|r| r["status"] == 200).count()
    }

    /// Every object below a prefix of the evidence bucket.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let pages = self.s3().await.list_objects_v2().bucket(self.bucket()).prefix(prefix).into_paginator().send();
        let pages: Vec<_> = pages.try_collect().await.expect("listed");
        pages.iter().flat_map(|page| page.contents()).filter_map(|o| o.key().map(str::to_owned)).collect()
    }

    pub(crate) async fn object(&self, key: &str) -> Vec<u8> {
        let answer = self.s3().await.get_object().bucket(self.bucket()).key(key).send().await;
        let answer = answer.unwrap_or_else(|_| panic!("{key} is in the bucket"));
        answer.body.collect().await.expect("its content").to_vec()
    }

    pub(crate) async fn json(&self, key: &str) -> Value {
        serde_json::from_slice(&self.object(key).await).expect("JSON")
    }
}
