//! The porch of every function: settings, telemetry, errors under the names that the state machine knows,
//! and the one way in which a stage works: observe, plan, perform, report.

pub mod approval;
pub mod error;
mod joining;
mod notify;
mod open_cases;
pub mod ready;
pub mod release;
pub mod report;
mod seal;
pub mod settings;
pub mod stage;
mod telemetry;
mod ticket;
pub mod triage;

pub use error::HandlerError;
pub use stage::Work;

use lambda_runtime::{Diagnostic, LambdaEvent, run, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use settings::Settings;
use stasis_cloud::{Cloud, Traces};

/// Serves a stage that observes, plans and performs, until the runtime ends the process.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve<W: Work>(work: W) -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let (settings, cloud, work) = (&settings, &cloud, &work);
    serve_each(cloud, async |event: LambdaEvent<Value>| {
        Box::pin(stage::answer(work, cloud, settings, event.payload)).await
    })
    .await
}

/// Serves triage.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve_triage() -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let topic = settings.topic()?.to_owned();
    let (settings, cloud, topic) = (&settings, &cloud, topic.as_str());
    serve_each(cloud, async |event: LambdaEvent<Box<RawValue>>| {
        Box::pin(triage::answer(cloud, settings, topic, &event.payload)).await
    })
    .await
}

/// Serves the approval.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve_approval() -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let topic = settings.topic()?.to_owned();
    let (settings, cloud, topic) = (&settings, &cloud, topic.as_str());
    serve_each(cloud, async |event: LambdaEvent<Value>| {
        Box::pin(approval::answer(cloud, settings, topic, event.payload)).await
    })
    .await
}

/// Serves the report.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve_report() -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let topic = settings.topic()?.to_owned();
    let (settings, cloud, topic) = (&settings, &cloud, topic.as_str());
    serve_each(cloud, async |event: LambdaEvent<Value>| {
        Box::pin(report::answer(cloud, settings, topic, event.payload)).await
    })
    .await
}

/// Serves the release.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve_release() -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let (settings, cloud) = (&settings, &cloud);
    serve_each(cloud, async |event: LambdaEvent<Value>| Box::pin(release::answer(cloud, settings, event.payload)).await)
        .await
}

/// Serves readiness.
///
/// # Errors
/// Where the settings are incomplete, or the runtime fails.
pub async fn serve_ready() -> Result<(), lambda_runtime::Error> {
    let (settings, cloud) = start().await?;
    let topic = settings.topic()?.to_owned();
    let roles = settings.roles()?;
    let (settings, cloud, topic, roles) = (&settings, &cloud, topic.as_str(), &roles);
    serve_each(cloud, async |event: LambdaEvent<Value>| {
        let deadline = stasis_model::Timestamp::from(event.context.deadline());
        Box::pin(ready::answer(cloud, settings, topic, roles, event.payload, deadline)).await
    })
    .await
}

/// Serves events one after another; each is an invocation with a trace of its own.
async fn serve_each<P, A>(
    cloud: &Cloud,
    answer: impl AsyncFn(LambdaEvent<P>) -> Result<A, Diagnostic>,
) -> Result<(), lambda_runtime::Error>
where
    P: DeserializeOwned,
    A: Serialize,
{
    let answer = &answer;
    run(service_fn(async |event: LambdaEvent<P>| {
        cloud.begin_trace(event.context.xray_trace_id.as_deref());
        answer(event).await
    }))
    .await
}

/// Everything that is done once per process.
async fn start() -> Result<(Settings, Cloud), lambda_runtime::Error> {
    telemetry::init();
    let settings = Settings::from_env()?;
    let config = stasis_cloud::sdk_config(&settings.function).await;
    let traces = settings.xray_daemon.as_deref().map(Traces::to_daemon).unwrap_or_default();
    let cloud = Cloud::new(&config, settings.home.clone(), traces);
    // Asked beside the work, so that the first write need not wait for it.
    let asks = cloud.clone();
    tokio::spawn(async move {
        asks.writer().await;
    });
    Ok((settings, cloud))
}
