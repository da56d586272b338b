//! Rehearsing: asks EC2 whether it would do something, without its being done. Every request of a rehearsal carries
//! `DryRun=true`, put in where requests leave, so that no call can be forgotten
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html>).

use crate::{Cloud, CloudError};
use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_types::body::SdkBody;
use futures::future::join_all;
use stasis_model::action::Action;
use stasis_model::case::Case;

/// EC2's word for "I would have done it".
const WOULD_DO: &str = "DryRunOperation";

/// Puts the parameter into each request.
#[derive(Debug)]
struct DryRun;

impl Intercept for DryRun {
    fn name(&self) -> &'static str {
        "DryRun"
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = request.body().bytes().ok_or("a rehearsal sends no stream")?;
        let asked = [body, b"&DryRun=true"].concat();
        request.headers_mut().insert("content-length", asked.len().to_string());
        *request.body_mut() = SdkBody::from(asked);
        Ok(())
    }
}

/// Whether an action is EC2's alone, one that knows `DryRun`. The others are not rehearsed: no other service can be asked.
fn can_be_rehearsed(action: &Action) -> bool {
    matches!(
        action,
        Action::EnableTerminationProtection { .. }
            | Action::EnableStopProtection { .. }
            | Action::StopOnShutdown { .. }
            | Action::KeepVolumes { .. }
            | Action::Tag { .. }
            | Action::CreateQuarantineGroup { .. }
            | Action::CreatePassThroughGroup { .. }
            | Action::RevokeRules { .. }
            | Action::AllowEgress { .. }
            | Action::OpenPassThroughGroup { .. }
            | Action::ClosePassThroughGroup { .. }
            | Action::Quarantine { .. }
            | Action::DenyAddress { .. }
            | Action::CreateSnapshots { .. }
            | Action::CreateSnapshot { .. }
            | Action::CreateFlowLogs { .. }
    )
}

impl Cloud {
    /// Why EC2 would refuse each of these actions; none where it would do it, where nobody can be asked, or where the answer
    /// would be another one a moment later.
    pub async fn refusals(&self, case: &Case, actions: impl Iterator<Item = &Action>) -> Vec<Option<CloudError>> {
        let config = self.ec2.config().to_builder().interceptor(DryRun).build();
        let rehearsing = Self { ec2: aws_sdk_ec2::Client::from_conf(config), ..self.clone() };
        let asked = actions.map(|action| async {
            if !can_be_rehearsed(action) {
                return None;
            }
            let error = rehearsing.perform(case, action).await.err()?;
            (error.code != WOULD_DO && !error.is_retryable()).then_some(error)
        });
        join_all(asked).await
    }
}
