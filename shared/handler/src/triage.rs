//! Triage: from an input to an open case.
//!
//! Two create-only writes decide between two runs for the same instance. The claim settles which case it is;
//! the case itself, written once baseline and finding are safe, settles which run works on it. A run that
//! dies between the two leaves a claim that the next one takes up, and nothing touched.

use crate::HandlerError;
use crate::joining::{Joined, join as join_case};
use crate::notify::publish;
use crate::settings::Settings;
use crate::stage::{case_span, keep_first_report, keep_report};
use crate::telemetry;
use crate::ticket::tell;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join, join_all, join3};
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use stasis_cloud::casefile::Created;
use stasis_cloud::policy::Parameter;
use stasis_cloud::{Cloud, CloudError};
use stasis_decide::policy::{self, Subject};
use stasis_decide::ticket::Progress;
use stasis_decide::{report, sha256, ticket, triage};
use stasis_model::baseline::{Baseline, Observed};
use stasis_model::case::{Case, Claim, Decided, InstanceRef, Mode, Policy, claim_key, prefix};
use stasis_model::error::InputError;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::ids::{CaseId, Ticket};
use stasis_model::outcome::{RunResult, RunStatus, TriageAnswer};
use stasis_model::policy::{Decision, PolicyDocument, TicketBy};
use stasis_model::stage::{Failure, Stage, StageReport, StageStatus};
use stasis_model::trigger::{Request, Source, Trigger};
use stasis_model::{SCHEMA, Timestamp, now};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// The input together with the execution that it came to, as the state machine sends them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    execution: String,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// The execution of a call by hand.
pub(crate) const BY_HAND: &str = "by-hand";

/// Containment waits no longer than this for people to be told that a case is open.
const PATIENCE_TO_TELL: Duration = Duration::from_secs(1);

/// For so long the policy is read again where it cannot be read for a passing reason.
const PATIENCE_FOR_POLICY: Duration = Duration::from_secs(3);
/// How long one read of it may take.
const PATIENCE_WITH_A_READ: Duration = Duration::from_secs(2);
/// How long between two.
const POLICY_AGAIN: Duration = Duration::from_millis(250);

/// Answers one call of triage.
pub async fn answer(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    payload: &RawValue,
) -> Result<TriageAnswer, Diagnostic> {
    let (execution, input) = open_envelope(payload);
    let answer = decide(cloud, settings, topic, &execution, input).await;
    // What opens a case is counted when its run reports.
    let ended = match &answer {
        Ok(TriageAnswer::Open { ended, .. }) => ended.as_slice(),
        Ok(TriageAnswer::End { output } | TriageAnswer::Divide { output, .. }) => std::slice::from_ref(output),
        Err(_) => &[],
    };
    for result in ended {
        telemetry::tell(&telemetry::of_run(result.case_id.as_ref(), result.status, now()));
    }
    answer.map_err(Diagnostic::from)
}

/// The execution and its input, byte for byte; a call by hand comes without envelope.
fn open_envelope(payload: &RawValue) -> (String, &RawValue) {
    match serde_json::from_str::<Envelope<'_>>(payload.get()) {
        Ok(envelope) => (envelope.execution, envelope.input),
        Err(_) => (BY_HAND.to_owned(), payload),
    }
}

/// What a part of an input carries beside it, in bytes.
const PART_MOST: usize = 1 << 10;
/// The longest input, in bytes: what EventBridge delivers and an execution carries
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
const INPUT_MOST: usize = 256 << 10;

async fn decide(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    execution: &str,
    input: &RawValue,
) -> Result<TriageAnswer, HandlerError> {
    let size = input.get().len();
    if size > INPUT_MOST {
        let problem = format!("is {size} bytes long, more than the {INPUT_MOST} that an execution carries");
        return Err(InputError::invalid("input", problem).into());
    }
    let value: Value = serde_json::from_str(input.get())
        .map_err(|error| InputError::invalid("input", format!("is not JSON: {error}")))?;
    let (requests, skipped) = match Trigger::read(&value, &settings.request_sources)? {
        Trigger::Ignore(reason) => return Ok(end(RunStatus::Ignored, reason)),
        Trigger::Act { requests, skipped } => (requests, skipped),
        Trigger::Divide { instances, .. } if size + PART_MOST > INPUT_MOST => {
            let problem = format!(
                "names {instances} instances, more than one run takes, and is with {size} bytes too long to be handed to a run for each part: start a run for each instance with {{\"instanceId\": \"i-…\"}}"
            );
            return Err(InputError::invalid("input", problem).into());
        }
        Trigger::Divide { instances, parts } => return Ok(triage::divide(execution, instances, &parts)),
    };
    let received = if value.get("skip").is_some() { event_of_part(input) } else { input };
    // Read beside the first look at the instances, and once for all of them.
    let policy = policy_in_force(cloud.clone(), settings.clone()).boxed().shared();
    let run = Run { settings, topic, execution, received, policy };
    if let [request] = requests.as_slice()
        && skipped.is_empty()
    {
        return one(cloud, &run, request).await;
    }
    // Each for itself: what is wrong with one instance keeps no other from being contained.
    let answers = join_all(requests.iter().map(|request| one(cloud, &run, request))).await;
    let (mut cases, mut ended, mut failed) = (Vec::new(), Vec::new(), None);
    for (request, answer) in requests.iter().zip(answers) {
        match answer {
            Ok(TriageAnswer::Open { cases: opened, .. }) => cases.extend(opened),
            Ok(TriageAnswer::End { output } | TriageAnswer::Divide { output, .. }) => ended.push(output),
            Err(error) => {
                let reason = format!("no case was opened for {}: {error}", request.instance);
                tracing::error!(error = error.name(), instance = %request.instance, "no case");
                ended.push(RunResult::without_case(RunStatus::Partial, reason));
                failed = failed.or(Some(error));
            }
        }
    }
    match failed {
        // A retry finds the cases that were opened, and opens the others.
        Some(error) if cases.is_empty() || error.is_retryable() => return Err(error),
        _ => {}
    }
    ended.extend(skipped.into_iter().map(|reason| RunResult::without_case(RunStatus::Ignored, reason)));
    if cases.is_empty() {
        return Ok(TriageAnswer::End { output: together(&ended) });
    }
    Ok(TriageAnswer::Open { cases, ended })
}

/// The event that an input is about a part of.
fn event_of_part(input: &RawValue) -> &RawValue {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    serde_json::from_str::<Part<'_>>(input.get()).map_or(input, |part| part.event)
}

/// Several answers of which none opened a case, as one.
fn together(ended: &[RunResult]) -> RunResult {
    let reasons: Vec<&str> = ended.iter().map(|result| result.reason.as_str()).collect();
    let duplicate = ended.iter().find(|result| result.status == RunStatus::Duplicate);
    let status = if duplicate.is_some() { RunStatus::Duplicate } else { RunStatus::Ignored };
    RunResult {
        case_id: duplicate.and_then(|result| result.case_id.clone()),
        ticket: duplicate.and_then(|result| result.ticket.clone()),
        evidence: duplicate.and_then(|result| result.evidence.clone()),
        ..RunResult::without_case(status, reasons.join("; "))
    }
}

/// EC2 knows no such instance where it was said to be. A finding may be about one that EC2 has forgotten by now; a request
/// about none is a mistake.
fn absent(request: &Request, error: CloudError) -> Result<TriageAnswer, HandlerError> {
    match request.source {
        Source::Request => Err(error.into()),
        Source::Finding { .. } => Ok(end(
            RunStatus::Ignored,
            format!("instance {} does not exist any more: there is nothing left to contain", request.instance),
        )),
    }
}

/// The policy that counts, and how it came to that.
#[derive(Debug)]
struct InForce {
    document: PolicyDocument,
    words: String,
    failure: Option<Failure>,
}

/// What the answers of one run have in common.
struct Run<'a> {
    settings: &'a Settings,
    topic: &'a str,
    execution: &'a str,
    /// What came in, byte for byte.
    received: &'a RawValue,
    policy: Shared<BoxFuture<'static, Arc<InForce>>>,
}

/// Reads the policy. One that cannot be used keeps nothing from being decided: the built-in one counts then, and that is said.
async fn policy_in_force(cloud: Cloud, settings: Settings) -> Arc<InForce> {
    let built_in = |words: String, failure: Option<Failure>| {
        Arc::new(InForce { document: settings.built_in.clone(), words, failure })
    };
    let Some(name) = &settings.policy_parameter else { return built_in("the built-in policy".to_owned(), None) };
    let problem = match parameter_in_time(&cloud, name).await {
        Ok(None) => return built_in(format!("the built-in policy, for there is no parameter {name}"), None),
        Ok(Some(parameter)) => match PolicyDocument::read(&parameter.value) {
            Ok(document) => {
                let words = format!("{name}, version {}", parameter.version);
                return Arc::new(InForce { document, words, failure: None });
            }
            Err(error) => format!("{name}, version {}, is invalid: {error}", parameter.version),
        },
        Err(error) => format!("{name} could not be read: {error}"),
    };
    tracing::error!(%problem, "the built-in policy counts instead");
    let failure = Failure::lasting(policy::UNUSABLE, format!("the built-in policy was used, because {problem}"));
    built_in(format!("the built-in policy, because {problem}"), Some(failure))
}

/// Reads the parameter, again while it cannot be read for a passing reason: a moment's throttling must not change what is
/// decided about a compromised instance.
#[expect(clippy::disallowed_methods, reason = "there is no case yet that the state machine could wait with")]
async fn parameter_in_time(cloud: &Cloud, name: &str) -> Result<Option<Parameter>, CloudError> {
    let begun = Instant::now();
    loop {
        let read = tokio::time::timeout(PATIENCE_WITH_A_READ, cloud.parameter(name)).await;
        let read = read
            .unwrap_or_else(|_| Err(CloudError::new("ssm:GetParameter", name, "TimedOut", "no answer in time", None)));
        match read {
            Err(error) if error.is_retryable() && begun.elapsed() + POLICY_AGAIN < PATIENCE_FOR_POLICY => {
                tracing::warn!(code = %error.code, "the policy is read again");
                tokio::time::sleep(POLICY_AGAIN).await;
            }
            read => return read,
        }
    }
}

/// One instance: its case, or why there is none.
async fn one(cloud: &Cloud, run: &Run<'_>, request: &Request) -> Result<TriageAnswer, HandlerError> {
    let started_at = now();
    let home = cloud.home();
    let region = request.region.clone().unwrap_or_else(|| home.region.clone());
    let account = request.account.clone().unwrap_or_else(|| home.account.clone());
    let instance = InstanceRef { instance_id: request.instance.clone(), account, region };
    let proposed = triage::case_id(&instance, run.execution, started_at)?;
    let cloud = cloud.beside(&instance.account, &instance.region, Stage::Triage, &proposed).await?;
    let (look, in_force) = join(cloud.first_look(&request.instance), run.policy.clone()).await;
    let look = match look {
        Ok(look) => look,
        Err(error) if error.is_not_found() => return absent(request, error),
        Err(error) => return Err(error.into()),
    };
    if let Some(reason) = triage::unusable(request, &look.instance, &look.owner) {
        // An instance that is gone is everyday news in a finding, and a mistake in a request.
        return match request.source {
            Source::Finding { .. } => Ok(end(RunStatus::Ignored, reason)),
            Source::Request => Err(HandlerError::NotFound(reason)),
        };
    }
    // EC2 says whose it is.
    let instance = InstanceRef { account: look.owner.clone(), ..instance };
    let mut settings = run.settings.policy.clone();
    let subject = Subject { request, place: &instance, instance: &look.instance, now: started_at };
    let mut decided = policy::decide(&in_force.document, &subject, &mut settings);
    decided.policy.clone_from(&in_force.words);
    let opener = Opener { cloud: &cloud, run, request, in_force: &in_force, decided, settings, started_at };
    let Some(mode) = triage::mode(request.mode, opener.decided.decision) else {
        return opener.no_case(&instance, look.instance.name()).await;
    };
    let claiming = async {
        if triage::claims(mode) {
            claim(&cloud, &instance, proposed.clone(), run.execution, started_at).await
        } else {
            Ok(proposed.clone())
        }
    };
    let (case_id, baseline) = join(claiming, cloud.baseline(&request.instance, look)).await;
    let case_id = case_id?;
    // A claim of a moment ago is for a case that nobody has written yet.
    let is_new = case_id == proposed;
    opener.open(case_id, is_new, mode, instance, baseline).await
}

fn end(status: RunStatus, reason: String) -> TriageAnswer {
    tracing::info!(%status, "no case");
    TriageAnswer::End { output: RunResult::without_case(status, reason) }
}

/// Claims the instance, and gives the case that the claim is for: ours, or the one that was there first.
async fn claim(
    cloud: &Cloud,
    instance: &InstanceRef,
    proposed: CaseId,
    execution: &str,
    now: Timestamp,
) -> Result<CaseId, HandlerError> {
    let key = claim_key(instance);
    let claim = Claim {
        schema: SCHEMA,
        case_id: proposed.clone(),
        instance: instance.clone(),
        execution: execution.to_owned(),
        claimed_at: now,
    };
    match cloud.create(&key, "application/json", json(&claim)?).await? {
        Created::Yes { .. } => Ok(proposed),
        Created::Exists => {
            let there: Claim = cloud.fetch_json(&key).await?.ok_or_else(|| {
                HandlerError::Cloud(CloudError::new(
                    "s3:GetObject",
                    key.as_str(),
                    "Unavailable",
                    "the claim was closed at this moment",
                    None,
                ))
            })?;
            Ok(there.case_id)
        }
    }
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, HandlerError> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| HandlerError::Bug(format!("a document cannot be written as JSON: {error}")))
}

/// A ticket, where it is kept up to date, and what kept it from being opened.
type OpenedTicket = (Ticket, Option<TicketBy>, Vec<Failure>);

/// Everything that opening a case needs.
struct Opener<'a> {
    cloud: &'a Cloud,
    run: &'a Run<'a>,
    request: &'a Request,
    in_force: &'a InForce,
    decided: Decided,
    settings: Policy,
    started_at: Timestamp,
}

impl Opener<'_> {
    async fn open(
        &self,
        case_id: CaseId,
        is_new: bool,
        mode: Mode,
        instance: InstanceRef,
        baseline: Baseline,
    ) -> Result<TriageAnswer, HandlerError> {
        let folder = prefix(&case_id);
        let case_key = format!("{folder}case.json");
        if !is_new && let Some(case) = self.cloud.case(&case_id).await? {
            return self.joined(&instance, case).await;
        }
        let (baseline, finding, ticket) =
            join3(self.keep_baseline(&folder, baseline), self.keep_input(&folder), self.ticket(&case_id, &instance))
                .await;
        let (baseline, finding) = (baseline?, finding?);
        let (ticket, ticket_by, mut failures) = ticket?;
        failures.extend(self.in_force.failure.clone());
        let opening = triage::Opening {
            case_id,
            ticket,
            ticket_by,
            mode,
            execution: self.run.execution.to_owned(),
            instance,
            bucket: self.cloud.bucket().to_owned(),
            decided: self.decided.clone(),
            policy: self.settings.clone(),
            baseline,
            now: self.started_at,
        };
        let mut case = triage::open(self.request, opening);
        let report = self.report(&case, failures, finding);
        let body = json(&case)?;
        // Whoever works on the case writes its first report; a second writer finds it there, as it finds the case.
        // Who has claimed the instance in this call opens the case, and tells people at the same time: containment waits for it.
        let (written, outcome, ()) = join3(
            self.cloud.create(&case_key, "application/json", body),
            keep_first_report(self.cloud, report).instrument(case_span(&case, Stage::Triage)),
            async {
                if is_new {
                    self.tell_of_opening(&case).await;
                }
            },
        )
        .await;
        if written? == Created::Exists {
            let there = self.cloud.case(&case.case_id).await?;
            let there =
                there.ok_or_else(|| HandlerError::EvidenceAtRisk(format!("{case_key} exists and cannot be read")))?;
            return self.joined(&case.instance, there).await;
        }
        case.stages.insert(Stage::Triage, outcome?);
        if !is_new {
            self.tell_of_opening(&case).await;
        }
        Ok(TriageAnswer::Open { cases: vec![case], ended: Vec::new() })
    }

    /// Tells people and tickets; an OpsItem knows of its opening. A dry run tells nobody, and where people are asked, the
    /// question tells them.
    async fn tell_of_opening(&self, case: &Case) {
        if case.is_dry_run() {
            return;
        }
        let people = async {
            if case.decided.decision == Decision::Ask && case.mode == Mode::Contain {
                return Ok(());
            }
            let notice = report::notice_of_opening(case, &self.run.settings.home.region);
            publish(self.cloud, self.run.topic, &notice).await
        };
        let ticket = async {
            match &case.ticket_by {
                Some(TicketBy::Event { .. }) => {
                    tell(self.cloud, case, Progress::Opened, &triage::decision_in_words(&case.decided)).await
                }
                _ => Ok(()),
            }
        };
        match tokio::time::timeout(PATIENCE_TO_TELL, join(people, ticket)).await {
            Ok((people, ticket)) => {
                for error in [people.err(), ticket.err()].into_iter().flatten() {
                    tracing::error!(%error, "not everybody was told that the case is open");
                }
            }
            Err(_) => tracing::error!("it took too long to tell that the case is open: containment goes on"),
        }
    }

    /// No case is opened: the finding joins the one that is open, or people are told of it, or neither.
    async fn no_case(&self, instance: &InstanceRef, name: Option<&str>) -> Result<TriageAnswer, HandlerError> {
        if let Some(claim) = self.cloud.fetch_json::<Claim>(&claim_key(instance)).await?
            && let Some(case) = self.cloud.case(&claim.case_id).await?
        {
            return self.joined(instance, case).await;
        }
        let mut reason = triage::no_case(&self.decided, &instance.instance_id);
        if self.decided.decision == Decision::Notify {
            let folder = format!("notified/{}/{}/{}/", instance.account, instance.region, instance.instance_id);
            // GuardDuty sends a finding again as long as it goes on; people are told once. Told first and kept then: rather
            // twice than never, where something fails between the two.
            if self.cloud.fetch(&self.input_key(&folder)).await?.is_none() {
                let notice = report::notice_of_finding(&self.request.source, instance, name, &self.decided);
                publish(self.cloud, self.run.topic, &notice).await?;
            } else {
                reason = format!("{reason}; people were told of this finding before");
            }
            self.keep_input(&folder).await?;
        }
        Ok(end(RunStatus::Ignored, reason))
    }

    /// The case is there already: ours from a former try, another run's, or one that this run is to take over.
    async fn joined(&self, instance: &InstanceRef, case: Case) -> Result<TriageAnswer, HandlerError> {
        if case.instance != *instance {
            return Err(HandlerError::EvidenceAtRisk(format!(
                "the claim of {} names case {}, which is of {}: somebody else wrote that claim ({}); nothing was done, so put a delete marker on it and start again",
                instance.instance_id,
                case.case_id,
                case.instance.instance_id,
                claim_key(instance)
            )));
        }
        let is_asked = self.request.source == Source::Request;
        let tools = self.settings.memory.tools();
        let joined = join_case(self.cloud, case, self.run.execution, &self.decided, is_asked, &tools).await?;
        let (case, said) = match joined {
            Joined::Ours { case, is_new: false } => {
                return Ok(TriageAnswer::Open { cases: vec![*case], ended: Vec::new() });
            }
            Joined::Ours { case, is_new: true } => return self.taken_over(*case).await,
            Joined::Theirs { case, said } => (*case, said),
        };
        self.keep_input(&case.prefix()).await?;
        let mut output = RunResult::without_case(RunStatus::Duplicate, triage::joins(&case, said.as_deref()));
        output.evidence = Some(format!("s3://{}/{}", case.bucket, case.prefix()));
        output.case_id = Some(case.case_id);
        output.ticket = Some(case.ticket);
        Ok(TriageAnswer::End { output })
    }

    /// Goes on with a case that another run had opened.
    async fn taken_over(&self, mut case: Case) -> Result<TriageAnswer, HandlerError> {
        let finding = self.keep_input(&case.prefix()).await?;
        let mut report = self.report(&case, self.in_force.failure.clone().into_iter().collect(), finding);
        if let Some(over) = &case.taken_over {
            report.attempt = over.number + 1;
            report.summary = format!("case {} taken over: {}", case.case_id, over.why);
            let from = over.from.as_deref().unwrap_or("nobody");
            report.notes.insert(0, format!("taken over from {from}, because {}", over.why));
        }
        let outcome = keep_report(self.cloud, report).instrument(case_span(&case, Stage::Triage)).await?;
        case.stages.insert(Stage::Triage, outcome);
        self.tell_of_opening(&case).await;
        Ok(TriageAnswer::Open { cases: vec![case], ended: Vec::new() })
    }

    /// Writes the baseline, or takes the one that a former try wrote: the first reading is the true one.
    async fn keep_baseline(&self, folder: &str, baseline: Baseline) -> Result<Baseline, HandlerError> {
        let key = format!("{folder}baseline.json");
        match self.cloud.create(&key, "application/json", json(&baseline)?).await? {
            Created::Yes { .. } => Ok(baseline),
            Created::Exists => self
                .cloud
                .fetch_json(&key)
                .await?
                .ok_or_else(|| HandlerError::EvidenceAtRisk(format!("{key} exists and cannot be read"))),
        }
    }

    /// Where what came in is kept in a folder, if nothing else lies there.
    fn input_key(&self, folder: &str) -> String {
        let id = match &self.request.source {
            Source::Finding { id: Some(id), .. } => file_name(id),
            Source::Finding { id: None, .. } => format!("finding-{}", self.input_mark()),
            Source::Request => format!("request-{}", self.input_mark()),
        };
        format!("{folder}findings/{id}.json")
    }

    /// A short mark of what came in, which differs for other content.
    fn input_mark(&self) -> String {
        sha256(self.run.received.get().as_bytes()).chars().take(8).collect()
    }

    /// Keeps what came in byte for byte. A later finding of the same id and other content is kept beside it.
    async fn keep_input(&self, folder: &str) -> Result<Evidence, HandlerError> {
        let body = self.run.received.get().as_bytes().to_vec();
        let hash = sha256(&body);
        let mut key = self.input_key(folder);
        if self.cloud.create(&key, "application/json", body.clone()).await? == Created::Exists {
            let same = self.cloud.fetch(&key).await?.is_some_and(|there| there.sha256 == hash);
            if !same {
                key = format!("{}-{}.json", key.trim_end_matches(".json"), self.input_mark());
                self.cloud.create(&key, "application/json", body.clone()).await?;
            }
        }
        Ok(Evidence {
            kind: EvidenceKind::Object,
            location: Some(format!("s3://{}/{key}", self.cloud.bucket())),
            id: key,
            description: "what started the case, as it was received".to_owned(),
            sha256: Some(hash),
            size: u64::try_from(body.len()).ok(),
        })
    }

    /// The ticket, where it is kept up to date, and why there is none of its own, if so. No ticket is no reason to let an
    /// attacker go on.
    async fn ticket(&self, case_id: &CaseId, instance: &InstanceRef) -> Result<OpenedTicket, HandlerError> {
        let by = self.in_force.document.ticket.clone().unwrap_or(TicketBy::OpsItem {});
        let is_heard = matches!(by, TicketBy::Event { .. });
        if let Some(ticket) = &self.request.ticket {
            return Ok((ticket.clone(), is_heard.then_some(by), Vec::new()));
        }
        let fallback = triage::fallback_ticket(case_id)?;
        if self.request.mode == Mode::DryRun {
            return Ok((fallback, None, Vec::new()));
        }
        if is_heard {
            return Ok((fallback, Some(by), Vec::new()));
        }
        let source = &self.request.source;
        let data = ticket::data_at_opening(case_id, instance, source, self.cloud.bucket());
        match self.cloud.open_ops_item(case_id, instance, ticket::level(source), data).await {
            Ok(ticket) => Ok((ticket, Some(by), Vec::new())),
            Err(error) => Ok((fallback, None, vec![error.failure()])),
        }
    }

    fn report(&self, case: &Case, failures: Vec<Failure>, finding: Evidence) -> StageReport {
        let mut notes = Vec::new();
        if failures.iter().any(|failure| failure.code != policy::UNUSABLE) {
            notes.push(format!("no ticket could be opened; the case id {} stands in for it", case.case_id));
        }
        notes.push(triage::decision_in_words(&case.decided));
        notes.extend(case.decided.notes.clone());
        notes.extend(triage::node(&case.baseline.instance));
        match &case.baseline.agent {
            Observed::Known(None) => {
                notes.push("Systems Manager does not manage the instance: no volatile data will be captured".to_owned())
            }
            Observed::Known(Some(agent)) if !agent.is_online() => {
                notes.push(format!("the instance's agent is {}: no volatile data can be captured", agent.ping_status));
            }
            Observed::Known(Some(_)) => {}
            Observed::Unknown(why) => notes.push(format!("whether there is an agent could not be read: {why}")),
        }
        for (what, unknown) in [
            ("its protection", unknown(&case.baseline.protection)),
            ("its Auto Scaling group", unknown(&case.baseline.scaling)),
            ("its target groups", unknown(&case.baseline.targets)),
            ("its classic load balancers", unknown(&case.baseline.classic_load_balancers)),
            ("its tags", unknown(&case.baseline.tags)),
        ] {
            if let Some(why) = unknown {
                notes.push(format!(
                    "{what} could not be read before it was touched, so there is no former state to go back to: {why}"
                ));
            }
        }
        let status = match (case.is_dry_run(), failures.is_empty()) {
            (true, _) => StageStatus::Planned,
            (false, true) => StageStatus::Done,
            (false, false) => StageStatus::Incomplete,
        };
        StageReport {
            schema: SCHEMA,
            case_id: case.case_id.clone(),
            stage: Stage::Triage,
            attempt: 1,
            status,
            started_at: self.started_at,
            finished_at: now(),
            wait_seconds: None,
            summary: format!("case {} opened under ticket {}", case.case_id, case.ticket),
            previous: None,
            actions: Vec::new(),
            failures,
            evidence: vec![finding],
            checks: Vec::new(),
            notes,
            answer: None,
        }
    }
}

fn unknown<T>(fact: &Observed<T>) -> Option<&str> {
    match fact {
        Observed::Known(_) => None,
        Observed::Unknown(why) => Some(why),
    }
}

/// A foreign id as a file name: what is not a letter, a digit, `-` or `_` becomes `_`, and it stays short.
fn file_name(id: &str) -> String {
    let name: String =
        id.chars().take(100).map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if name.is_empty() { "finding".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_stays_as_it_was_to_the_byte() {
        let input = "{ \"instanceId\" :\t\"i-0a1b2c3d\",\n \"reason\": \"\\u00e4 <&>\" , \"n\": 1.0 }";
        let enveloped = format!("{{\"execution\": \"arn:x\", \"input\": {input}}}");
        for (payload, execution) in [(enveloped.as_str(), "arn:x"), (input, BY_HAND)] {
            let payload: Box<RawValue> = serde_json::from_str(payload).expect("JSON");
            let (from, kept) = open_envelope(&payload);
            assert_eq!((from.as_str(), kept.get()), (execution, input));
        }
    }

    #[test]
    fn a_foreign_id_never_leaves_its_folder() {
        assert_eq!(file_name("../../open/x"), "______open_x");
        assert_eq!(file_name(""), "finding");
        assert_eq!(file_name("96b1f0a1c3e4"), "96b1f0a1c3e4");
        assert!(file_name(&"a".repeat(5000)).len() == 100);
    }
}
