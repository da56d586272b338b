//! The way into another account or region: a session of the role there that is for one stage in one region. What each of those
//! roles may do is what the stage's own role may do at home.

use crate::{Cloud, CloudError};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use stasis_model::ids::{AccountId, CaseId, Region};
use stasis_model::stage::Stage;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

const ASSUME: &str = "sts:AssumeRole";
/// Nothing takes longer that is done with one session.
const SESSION_SECONDS: i32 = 900;
/// A session that is to be used again must last for a whole call.
const LEFT_AT_LEAST: Duration = Duration::from_secs(300);

/// ARN of the role that a stage, or readiness, has in another account or region.
pub fn spoke_role(account: &AccountId, region: &Region, name: &str) -> String {
    format!("arn:{}:iam::{account}:role/stasis-spoke-{name}-{region}", region.partition())
}

/// Sessions that this process holds, by role and case.
pub(crate) type Sessions = Arc<Mutex<HashMap<(String, CaseId), (Credentials, SystemTime)>>>;

impl Cloud {
    /// The clients for an instance: at home, or in another account or region by the role that `stage` has there. Its session is
    /// named after the case, so that CloudTrail there names the case on each call.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn beside(
        &self,
        account: &AccountId,
        region: &Region,
        stage: Stage,
        case: &CaseId,
    ) -> Result<Self, CloudError> {
        self.beside_as(account, region, stage.name(), case).await
    }

    /// The same for readiness, which is no stage of a case and has a role of its own there. The case is only supposed.
    ///
    /// # Errors
    /// Where the role cannot be assumed.
    pub async fn beside_for_readiness(
        &self,
        account: &AccountId,
        region: &Region,
        case: &CaseId,
    ) -> Result<Self, CloudError> {
        self.beside_as(account, region, "ready", case).await
    }

    async fn beside_as(
        &self,
        account: &AccountId,
        region: &Region,
        role: &str,
        case: &CaseId,
    ) -> Result<Self, CloudError> {
        if self.home.is(account, region) {
            return Ok(self.clone());
        }
        let role = spoke_role(account, region, role);
        let credentials = self.spoke_session(&role, case).await.map_err(|error| {
            let (home, at) = (&self.home.account, &self.home.region);
            // There the roles are made by these, and the profile belongs to the account.
            let own = match account == home {
                true => format!(", HubRegion={at} and ProfileRegion={at}"),
                false => String::new(),
            };
            let message = format!(
                "{}; so nothing was done in account {account}, {region}: deploy infra/member.yaml there, with HubAccount={home}{own}",
                error.message
            );
            CloudError::new(ASSUME, error.subject, &error.code, message, None)
        })?;
        let there = self.config.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        Ok(self.of_place(account, &there, region))
    }

    async fn spoke_session(&self, role: &str, case: &CaseId) -> Result<Credentials, CloudError> {
        let now = SystemTime::now();
        let mut sessions = self.process.sessions.lock().await;
        sessions.retain(|_, (_, ends)| *ends > now + LEFT_AT_LEAST);
        let name = (role.to_owned(), case.clone());
        if let Some((credentials, _)) = sessions.get(&name) {
            return Ok(credentials.clone());
        }
        let credentials = self.session(role, case, Some(&self.home.external_id)).await?;
        let seconds = u64::try_from(SESSION_SECONDS).unwrap_or_default();
        sessions.insert(name, (credentials.clone(), now + Duration::from_secs(seconds)));
        Ok(credentials)
    }

    /// A session of a role, named after the case.
    pub(crate) async fn session(
        &self,
        role: &str,
        case: &CaseId,
        external_id: Option<&str>,
    ) -> Result<Credentials, CloudError> {
        let answer = self
            .sts
            .assume_role()
            .role_arn(role)
            .role_session_name(case.as_str())
            .set_external_id(external_id.map(str::to_owned))
            .duration_seconds(SESSION_SECONDS)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(ASSUME, role, &error))?;
        let given =
            answer.credentials().ok_or_else(|| CloudError::unusable(ASSUME, role, "it gives no credentials"))?;
        Ok(Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "assumed",
        ))
    }
}
