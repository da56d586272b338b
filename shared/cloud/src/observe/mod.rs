//! Reading: what AWS says now, as facts of ours. Never writes. Everything that comes in pages is read to
//! the last page.

mod agent;
mod baseline;
mod bucket;
mod credentials;
mod custody;
mod disks;
mod evidence;
mod instance;
mod memberships;
mod memory;
mod network;
pub mod progress;
mod ready;
mod release;
mod scope;

use crate::{Cloud, CloudError};
pub use baseline::FirstLook;
use chrono::TimeDelta;
use futures::future::{join, join3, join4, join5};
pub(crate) use network::{group_name, group_name_of_case, is_ours, rule_allows};
pub use release::Former;
use stasis_model::baseline::{Agent, Instance, Interface, Observed};
use stasis_model::case::{Case, RemoteAddresses};
use stasis_model::custody::is_command_waited_for;
use stasis_model::facts::{CaptureFacts, DetachFacts, NetworkAcl, ProtectFacts, QuarantineFacts, VerifyFacts};
use stasis_model::ids::{GroupId, VpcId};
use stasis_model::now;
use stasis_model::open_cases::HeldFacts;
use stasis_model::stage::{Stage, StageStatus};
use std::collections::BTreeSet;

/// For how long what triage found is taken to be so still, in seconds.
const FRESH_SECONDS: i64 = 60;

/// Whether triage of this very run has just read everything and nothing was changed since: reading it again would
/// only keep the instance unprotected for longer. Setting a protection that is on already does no harm.
fn is_first_look_fresh(case: &Case) -> bool {
    let triaged = case.stages.get(&Stage::Triage).and_then(|outcome| outcome.finished_at);
    triaged.is_some_and(|at| now() - at < TimeDelta::seconds(FRESH_SECONDS))
        && now() - case.baseline.observed_at < TimeDelta::seconds(FRESH_SECONDS)
        && !case.stages.contains_key(&Stage::Protect)
}

/// Whether no stage that does anything is waited for any more.
fn is_all_done(case: &Case) -> bool {
    let others = |stage: &Stage| !matches!(stage, Stage::Verify | Stage::Report);
    let waits = case.stages.iter().any(|(stage, said)| others(stage) && said.status == StageStatus::Waiting);
    !waits && case.stages.keys().any(|stage| *stage == Stage::Preserve)
}

impl Cloud {
    /// What protect reads. Where the instance cannot be described again, the baseline stands in for it:
    /// protecting what was there a moment ago is better than protecting nothing.
    pub async fn protect_facts(&self, case: &Case) -> ProtectFacts {
        let id = &case.instance.instance_id;
        let baseline = &case.baseline;
        if is_first_look_fresh(case) {
            return ProtectFacts {
                instance: baseline.instance.clone(),
                protection: baseline.protection.clone(),
                tags: baseline.tags.clone(),
            };
        }
        let (described, protection, tags) =
            join3(self.instance(id), self.protection(id), self.tags(&case.baseline.instance.resources(id))).await;
        let instance = described.map_or_else(|_| case.baseline.instance.clone(), |(instance, _)| instance);
        ProtectFacts { instance, protection: protection.into(), tags: tags.into() }
    }

    /// What detach reads. Memberships that triage found a moment ago are asked again and no others: the search
    /// through an account's target groups takes time that the network stays open. Once it is cut, all are searched.
    pub async fn detach_facts(&self, case: &Case) -> DetachFacts {
        let id = &case.instance.instance_id;
        let baseline = &case.baseline;
        let cut_off = case.stages.contains_key(&Stage::Quarantine);
        let fresh = now() - baseline.observed_at < TimeDelta::seconds(FRESH_SECONDS);
        match (&baseline.scaling, &baseline.targets, &baseline.classic_load_balancers) {
            (Observed::Known(scaling), Observed::Known(targets), Observed::Known(classic)) if fresh && !cut_off => {
                let known = self.known_memberships(id, scaling.as_ref(), targets, classic).await;
                DetachFacts { targets_unasked: baseline.targets_unasked, ..known }
            }
            _ => self.memberships(id, &baseline.instance, !cut_off).await,
        }
    }

    /// What quarantine reads, all at the same time.
    pub async fn quarantine_facts(&self, case: &Case) -> QuarantineFacts {
        let (facts, acls) = join(self.network_facts(case), self.acls_to_change(case)).await;
        QuarantineFacts { acls: acls.into(), ..facts }
    }

    /// What prepare and verify read of it: they have nothing to do with network ACLs, and no right to read them. The VPCs
    /// are known from the baseline.
    pub async fn network_facts(&self, case: &Case) -> QuarantineFacts {
        let before = &case.baseline.instance.interfaces;
        let vpcs: BTreeSet<VpcId> = before.iter().map(|i| i.vpc_id.clone()).collect();
        let (interfaces, known) = join(self.interfaces(&case.instance.instance_id), self.vpcs(case, &vpcs)).await;
        let interfaces: Observed<Vec<Interface>> = interfaces.into();
        let mut vpcs = known;
        // An interface attached since may be in another VPC.
        let now = interfaces.known().into_iter().flatten().map(|i| &i.vpc_id);
        let others: BTreeSet<VpcId> = now.filter(|vpc| !vpcs.contains_key(*vpc)).cloned().collect();
        vpcs.extend(self.vpcs(case, &others).await);
        QuarantineFacts { interfaces, vpcs, acls: Observed::Unknown("they were not asked for".to_owned()) }
    }

    async fn acls_to_change(&self, case: &Case) -> Result<Vec<NetworkAcl>, CloudError> {
        if case.policy.remote_addresses == RemoteAddresses::Leave || case.remote_addresses.is_empty() {
            return Ok(Vec::new());
        }
        self.acls_of_subnets(&case.baseline.instance.interfaces.iter().map(|i| i.subnet_id.clone()).collect()).await
    }

    /// What is asked about the instance of an open case: whether it is held. None where EC2 knows no such instance any more.
    ///
    /// # Errors
    /// Where the instance cannot be described for a passing reason.
    pub async fn held_facts(&self, case: &Case) -> Result<Option<HeldFacts>, CloudError> {
        let id = &case.instance.instance_id;
        let (described, protection, network) =
            join3(self.instance(id), self.protection(id), self.network_facts(case)).await;
        match described {
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_retryable() => return Err(error),
            _ => {}
        }
        let instance = described.map(|(instance, _)| instance);
        Ok(Some(HeldFacts { instance: instance.into(), protection: protection.into(), network }))
    }

    /// What capture reads.
    ///
    /// # Errors
    /// Where Systems Manager's command history cannot be read: sending again without knowing would run twice.
    pub async fn capture_facts(&self, case: &Case, comment: &str) -> Result<CaptureFacts, CloudError> {
        let (agent, command) =
            join(self.agent(&case.instance.instance_id), self.command(case, &case.policy.capture_document, comment))
                .await;
        let agent: Observed<Option<Agent>> = agent.into();
        if matches!(agent, Observed::Known(None)) {
            return Ok(CaptureFacts { agent, command: None });
        }
        Ok(CaptureFacts { agent, command: command? })
    }

    /// What verify reads: everything again.
    pub async fn verify_facts(&self, case: &Case, comment: &str) -> VerifyFacts {
        let id = &case.instance.instance_id;
        let described = self.instance(id).await.map(|(instance, _)| instance);
        let instance: Observed<Instance> = described.into();
        let known = instance.known().unwrap_or(&case.baseline.instance);
        let resources = known.resources(id);
        let ((protection, tags), memberships, quarantine, (command, volatile), (snapshots, copies, bucket, memory)) =
            join5(
                join(self.protection(id), self.tags(&resources)),
                self.memberships(id, known, false),
                self.network_facts(case),
                join(self.command(case, &case.policy.capture_document, comment), self.volatile(case)),
                join4(self.kept_snapshots(case), self.copies(case), self.bucket_facts(), self.acquisition(case)),
            )
            .await;
        let endpoint_groups: BTreeSet<GroupId> = quarantine
            .vpcs
            .values()
            .filter_map(|vpc| vpc.endpoints.known())
            .flat_map(|endpoints| endpoints.services.values().flatten().cloned())
            .collect();
        let endpoint_groups = self.inbound(&endpoint_groups).await.into();
        let recorded = match &command {
            Ok(Some(command)) => self.is_in_cloudtrail(case, &command.command_id).await.map(Some).into(),
            Ok(None) => Observed::Known(None),
            Err(error) => Observed::Unknown(error.to_string()),
        };
        let (command, now) = (Observed::from(command), now());
        let ran = command.known().and_then(Option::as_ref);
        let custody = match is_all_done(case) && !is_command_waited_for(case, ran, &recorded, now) {
            true => self.custody(case).await.map(Some).into(),
            false => Observed::Known(None),
        };
        VerifyFacts {
            now,
            instance,
            protection: protection.into(),
            tags: tags.into(),
            memberships,
            quarantine,
            endpoint_groups,
            command,
            recorded,
            custody,
            snapshots: snapshots.into(),
            copies: copies.into(),
            volatile: volatile.into(),
            memory: memory.into(),
            bucket: bucket.into(),
        }
    }
}

/// A time of the SDK as ours.
fn time(at: &aws_smithy_types::DateTime) -> Option<stasis_model::Timestamp> {
    chrono::DateTime::from_timestamp_millis(at.to_millis().ok()?)
}
