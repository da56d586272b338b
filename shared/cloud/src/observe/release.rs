//! What release reads: everything that may have to be put back, as it is now, and the record of what was done.

use crate::{Cloud, CloudError};
use futures::future::{join, join3, join5};
use stasis_model::action::{Action, arn_name};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, Claim, Credentials, RemoteAddresses, claim_key};
use stasis_model::facts::{NetworkAcl, ReleaseFacts};
use stasis_model::ids::{CaseId, GroupId, VpcId};
use stasis_model::stage::{Outcome, Stage, StageReport, StageStatus};
use stasis_model::{Timestamp, now};
use std::collections::BTreeSet;

/// What release knows from the case file and need not decide itself: what it may have to put back where.
#[derive(Debug, Clone, Default)]
pub struct Former {
    /// Target groups that the instance was registered with.
    pub target_groups: BTreeSet<String>,
    /// The targets it was registered as.
    pub targets: BTreeSet<String>,
    /// Classic load balancers it was behind.
    pub classic_load_balancers: Vec<String>,
}

impl Cloud {
    /// Every stage report of a case, oldest first, with the key of each and its hash.
    ///
    /// # Errors
    /// Where the case file cannot be read.
    pub async fn stage_reports(&self, case: &CaseId) -> Result<Vec<(String, String, StageReport)>, CloudError> {
        let folder = format!("{}stages/", stasis_model::case::prefix(case));
        let keys = self.list(&folder).await?;
        let fetched = futures::future::join_all(keys.iter().map(|o| self.fetch(&o.key))).await;
        let mut reports = Vec::new();
        for (listed, fetched) in keys.into_iter().zip(fetched) {
            let Some(fetched) = fetched? else { continue };
            let report: StageReport = serde_json::from_slice(&fetched.body).map_err(|error| {
                CloudError::unusable("s3:GetObject", listed.key.as_str(), format!("it cannot be read: {error}"))
            })?;
            reports.push((listed.key, fetched.sha256, report));
        }
        reports.sort_by_key(|(_, _, r)| (r.started_at, r.stage, r.attempt));
        Ok(reports)
    }

    /// What release reads; `policy` is the name of our policy on a role.
    ///
    /// # Errors
    /// Where the case file or the instance cannot be read.
    pub async fn release_facts(
        &self,
        case: &Case,
        policy: &str,
        former: impl FnOnce(&[Action]) -> Former,
    ) -> Result<ReleaseFacts, CloudError> {
        let id = &case.instance.instance_id;
        let (reports, described, interfaces) =
            join3(self.stage_reports(&case.case_id), self.instance(id), self.interfaces(id)).await;
        let reports: Vec<StageReport> = reports?.into_iter().map(|(_, _, report)| report).collect();
        let (instance, _) = described?;
        let interfaces: Observed<Vec<_>> = interfaces.into();
        let done = done(&reports);
        let former = former(&done);
        let resources = case.baseline.instance.resources(id);
        let vpcs: BTreeSet<VpcId> = case
            .baseline
            .instance
            .interfaces
            .iter()
            .chain(interfaces.known().into_iter().flatten())
            .map(|i| i.vpc_id.clone())
            .collect();
        let group = case.baseline.scaling.known().and_then(Option::as_ref).map(|m| m.group.as_str());
        let (
            (protection, tags, claim),
            (vpcs, former_groups, (acls, flow_logs)),
            (scaling, scaling_group),
            (targets, classic),
            (association, revocations, snapshots),
        ) = join5(
            join3(self.protection(id), self.tags(&resources), self.fetch_json::<Claim>(&claim_key_of(case))),
            join3(
                self.vpcs(case, &vpcs),
                self.existing(&groups_before(case, &done)),
                join(self.acls_to_restore(case, &done), self.flow_logs_to_end(case, &done)),
            ),
            join(self.scaling(id), async {
                match group {
                    Some(group) => self.scaling_sizes(group).await,
                    None => Ok(None),
                }
            }),
            join(
                self.registrations_in(&former.target_groups, &former.targets),
                self.classic_by_name(id, &former.classic_load_balancers),
            ),
            join3(self.profile_association(id), self.revocations(case, &done, policy), self.snapshots(case)),
        )
        .await;
        let (targets, gone_target_groups) = match targets {
            Ok((found, gone)) => (Observed::Known(found), gone),
            Err(error) => (Observed::Unknown(error.to_string()), BTreeSet::new()),
        };
        let mut our_groups = Observed::Known(BTreeSet::new());
        for group in vpcs.values().flat_map(|vpc| [&vpc.group, &vpc.pass_through]) {
            match (group, &mut our_groups) {
                (Observed::Known(Some(group)), Observed::Known(all)) => {
                    all.insert(group.group_id.clone());
                }
                (Observed::Unknown(why), all) => *all = Observed::Unknown(why.clone()),
                _ => {}
            }
        }
        Ok(ReleaseFacts {
            now: now(),
            waiting_since: waiting_since(&reports),
            done,
            instance,
            protection: protection.into(),
            tags: tags.into(),
            interfaces,
            our_groups,
            former_groups: former_groups.into(),
            scaling: scaling.map(|found| found.map(|s| s.membership)).into(),
            scaling_group: scaling_group.into(),
            targets,
            gone_target_groups,
            classic_load_balancers: classic.into(),
            association: association.into(),
            revocations: revocations.into(),
            acls: acls.into(),
            flow_logs: flow_logs.into(),
            snapshots: snapshots.into(),
            claim: claim.map(|claim| claim.map(|c| c.case_id)).into(),
        })
    }

    /// Of our policies, those that are still on their role.
    async fn revocations(
        &self,
        case: &Case,
        done: &[Action],
        policy: &str,
    ) -> Result<BTreeSet<(String, String)>, CloudError> {
        let recorded = done.iter().filter_map(|action| match action {
            Action::RevokeSessions { role, policy, .. } => Some((role.clone(), policy.clone())),
            _ => None,
        });
        let mut candidates: BTreeSet<(String, String)> = recorded.collect();
        // Its record may be lost with the function that made it.
        if case.policy.credentials == Credentials::Revoke
            && let Some(profile) = &case.baseline.instance.instance_profile
            && let Some(role) = self.role_of(arn_name(profile)).await?
        {
            candidates.insert((role, policy.to_owned()));
        }
        let mut found = BTreeSet::new();
        for (role, policy) in candidates {
            if self.has_policy(&role, &policy).await? {
                found.insert((role, policy));
            }
        }
        Ok(found)
    }

    /// The flow logs of the case, where it asked for some.
    async fn flow_logs_to_end(&self, case: &Case, done: &[Action]) -> Result<BTreeSet<String>, CloudError> {
        match done.iter().any(|action| matches!(action, Action::CreateFlowLogs { .. })) {
            true => self.flow_logs_of(case).await,
            false => Ok(BTreeSet::new()),
        }
    }

    async fn acls_to_restore(&self, case: &Case, done: &[Action]) -> Result<Vec<NetworkAcl>, CloudError> {
        let mut acls = self.acls_of_ids(&acls_of(done)).await?;
        if case.policy.remote_addresses == RemoteAddresses::Deny {
            let subnets = case.baseline.instance.interfaces.iter().map(|i| i.subnet_id.clone()).collect();
            acls.extend(self.acls_of_subnets(&subnets).await?);
            acls.sort_by(|a, b| a.id.cmp(&b.id));
            acls.dedup_by(|a, b| a.id == b.id);
        }
        Ok(acls)
    }
}

fn claim_key_of(case: &Case) -> String {
    claim_key(&case.instance)
}

/// What containment was asked to do. A failed attempt counts: AWS may have done it and its answer been lost.
fn done(reports: &[StageReport]) -> Vec<Action> {
    let containment = reports.iter().filter(|r| r.stage != Stage::Release);
    let records = containment.flat_map(|r| &r.actions).filter(|record| record.outcome != Outcome::Planned);
    records.map(|record| record.action.clone()).collect()
}

/// When the unbroken run of waiting release reports began that the newest one is part of.
fn waiting_since(reports: &[StageReport]) -> Option<Timestamp> {
    let releases = reports.iter().filter(|r| r.stage == Stage::Release).rev();
    releases.take_while(|r| r.status == StageStatus::Waiting).map(|r| r.started_at).last()
}

fn groups_before(case: &Case, done: &[Action]) -> BTreeSet<GroupId> {
    let baseline = case.baseline.instance.interfaces.iter().flat_map(|i| i.groups.iter().cloned());
    let moved = done.iter().flat_map(|action| match action {
        Action::Quarantine { from, .. } => from.clone(),
        _ => Vec::new(),
    });
    baseline.chain(moved).collect()
}

fn acls_of(done: &[Action]) -> BTreeSet<String> {
    let entries = done.iter().filter_map(|action| match action {
        Action::DenyAddress { entry } => Some(entry.network_acl.clone()),
        _ => None,
    });
    entries.collect()
}
