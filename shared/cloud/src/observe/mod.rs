//! Reading: what AWS says now, as facts of ours. Never writes. Everything that comes in pages is read to
//! the last page.

mod agent;
mod evidence;
mod instance;
mod memberships;
mod network;

use crate::{Cloud, CloudError};
use futures::future::{join, join3, join5};
pub(crate) use network::group_name;
use stasis_model::baseline::{Agent, Baseline, Instance, Observed};
use stasis_model::case::Case;
use stasis_model::facts::{CaptureFacts, PreserveFacts, ProtectFacts, QuarantineFacts, VerifyFacts};
use stasis_model::ids::{AccountId, InstanceId};
use stasis_model::{SCHEMA, now};

impl Cloud {
    /// Everything about an instance from before it is touched, and the account that owns it. Only the
    /// instance itself must be readable; whatever else is not is recorded as unknown.
    ///
    /// # Errors
    /// Where the instance cannot be described, or there is none.
    pub async fn baseline(&self, id: &InstanceId) -> Result<(Baseline, AccountId), CloudError> {
        let observed_at = now();
        let (described, protection, agent) = join3(self.instance(id), self.protection(id), self.agent(id)).await;
        let (instance, owner) = described?;
        let (memberships, tags) = join(self.memberships(id, &instance), self.tags(&instance.resources(id))).await;
        let baseline = Baseline {
            schema: SCHEMA,
            observed_at,
            instance,
            protection: protection.into(),
            scaling: memberships.scaling,
            targets: memberships.targets,
            classic_load_balancers: memberships.classic_load_balancers,
            tags: tags.into(),
            agent: agent.into(),
        };
        Ok((baseline, owner))
    }

    /// What protect reads. Where the instance cannot be described again, the baseline stands in for it:
    /// protecting what was there a moment ago is better than protecting nothing.
    pub async fn protect_facts(&self, case: &Case) -> ProtectFacts {
        let id = &case.instance.instance_id;
        let (described, protection, tags) =
            join3(self.instance(id), self.protection(id), self.tags(&case.baseline.instance.resources(id))).await;
        let instance = described.map_or_else(|_| case.baseline.instance.clone(), |(instance, _)| instance);
        ProtectFacts { instance, protection: protection.into(), tags: tags.into() }
    }

    /// What quarantine reads.
    pub async fn quarantine_facts(&self, case: &Case) -> QuarantineFacts {
        let interfaces: Observed<_> = self.interfaces(&case.instance.instance_id).await.into();
        let known = interfaces.known().unwrap_or(&case.baseline.instance.interfaces);
        let vpcs = self.vpcs(known).await;
        QuarantineFacts { interfaces, vpcs }
    }

    /// What capture reads.
    ///
    /// # Errors
    /// Where Systems Manager's command history cannot be read: sending again without knowing would run twice.
    pub async fn capture_facts(&self, case: &Case, comment: &str) -> Result<CaptureFacts, CloudError> {
        let (agent, command) = join(self.agent(&case.instance.instance_id), self.command(case, comment)).await;
        let agent: Observed<Option<Agent>> = agent.into();
        if matches!(agent, Observed::Known(None)) {
            return Ok(CaptureFacts { agent, command: None });
        }
        Ok(CaptureFacts { agent, command: command? })
    }

    /// What preserve reads. Where the instance cannot be described again, the baseline stands in for it.
    ///
    /// # Errors
    /// Where snapshots cannot be described: a second set would be made without knowing of the first.
    pub async fn preserve_facts(&self, case: &Case) -> Result<PreserveFacts, CloudError> {
        let (described, snapshots) = join(self.instance(&case.instance.instance_id), self.snapshots(case)).await;
        let instance = described.map_or_else(|_| case.baseline.instance.clone(), |(instance, _)| instance);
        Ok(PreserveFacts { instance, snapshots: snapshots? })
    }

    /// What verify reads: everything again.
    pub async fn verify_facts(&self, case: &Case, comment: &str) -> VerifyFacts {
        let id = &case.instance.instance_id;
        let described = self.instance(id).await.map(|(instance, _)| instance);
        let instance: Observed<Instance> = described.into();
        let known = instance.known().unwrap_or(&case.baseline.instance);
        let resources = known.resources(id);
        let ((protection, tags), memberships, quarantine, (command, volatile), (snapshots, bucket)) = join5(
            join(self.protection(id), self.tags(&resources)),
            self.memberships(id, known),
            self.quarantine_facts(case),
            join(self.command(case, comment), self.volatile(case)),
            join(self.snapshots(case), self.bucket_facts()),
        )
        .await;
        let recorded = match &command {
            Ok(Some(command)) => self.is_in_cloudtrail(case, &command.command_id).await.map(Some).into(),
            Ok(None) => Observed::Known(None),
            Err(error) => Observed::Unknown(error.to_string()),
        };
        VerifyFacts {
            now: now(),
            instance,
            protection: protection.into(),
            tags: tags.into(),
            memberships,
            quarantine,
            command: command.into(),
            recorded,
            snapshots: snapshots.into(),
            volatile: volatile.into(),
            bucket: bucket.into(),
        }
    }
}

/// A time of the SDK as ours.
fn time(at: &aws_smithy_types::DateTime) -> Option<stasis_model::Timestamp> {
    chrono::DateTime::from_timestamp_millis(at.to_millis().ok()?)
}
