//! What readiness is told by: the running instances of a place, everything about one of them, and what IAM says that the
//! functions may do. Only reads.

use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::Filter;
use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType};
use futures::StreamExt as _;
use futures::future::{join_all, join5};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, Claim, claim_key};
use stasis_model::facts::BucketFacts;
use stasis_model::ids::{CaseId, GroupId, InstanceId, VpcId};
use stasis_model::memory::MemoryFacts;
use stasis_model::ready::{Allowed, Needed, ReadyFacts};
use std::collections::BTreeSet;

const INSTANCES: &str = "ec2:DescribeInstances";
const DOCUMENT: &str = "ssm:DescribeDocument";
const SIMULATE: &str = "iam:SimulatePrincipalPolicy";
/// How many instances EC2 names at a time.
const PAGE: i32 = 100;
/// How many simulations go out at once: IAM takes few.
const SIMULATIONS: usize = 4;

impl Cloud {
    /// A page of the running instances, and the token of the next page.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn running_instances(
        &self,
        next: Option<String>,
    ) -> Result<(Vec<InstanceId>, Option<String>), CloudError> {
        let answer = self
            .ec2
            .describe_instances()
            .filters(Filter::builder().name("instance-state-name").values("running").build())
            .max_results(PAGE)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(INSTANCES, "the running instances", &error))?;
        let found =
            answer.reservations().iter().flat_map(|r| r.instances()).filter_map(|i| i.instance_id()?.parse().ok());
        Ok((found.collect(), answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned)))
    }

    /// Everything about an instance beside its baseline, for a case that is only supposed. `policy` names the inline policy
    /// that revoke would write.
    pub async fn ready_facts(&self, case: &Case, policy: &str) -> ReadyFacts {
        let vpcs: BTreeSet<VpcId> = case.baseline.instance.interfaces.iter().map(|i| i.vpc_id.clone()).collect();
        let (vpcs, preserve, machine, revoke, claim) = join5(
            self.vpcs(case, &vpcs),
            self.preserve_facts(case),
            self.machine(case),
            self.revoke_facts(case, policy),
            self.open_case(case),
        )
        .await;
        let groups: BTreeSet<GroupId> = vpcs
            .values()
            .filter_map(|vpc| vpc.endpoints.known())
            .flat_map(|endpoints| endpoints.services.values().flatten().cloned())
            .collect();
        ReadyFacts {
            endpoint_groups: self.inbound(&groups).await.into(),
            vpcs,
            preserve: preserve.into(),
            memory: MemoryFacts::unbegun(case.baseline.agent.clone(), machine.into()),
            revoke,
            claim: claim.into(),
            bucket_region: self.home.region.clone(),
        }
    }

    async fn open_case(&self, case: &Case) -> Result<Option<CaseId>, CloudError> {
        let claim: Option<Claim> = self.fetch_json(&claim_key(&case.instance)).await?;
        Ok(claim.map(|claim| claim.case_id))
    }

    /// How the evidence bucket keeps what is in it, or why that could not be read.
    pub async fn evidence_bucket(&self) -> Observed<BucketFacts> {
        self.bucket_facts().await.into()
    }

    /// Of these Command documents, those that are there and can be sent.
    ///
    /// # Errors
    /// Where Systems Manager does not say.
    pub async fn documents(&self, names: &[&str]) -> Result<BTreeSet<String>, CloudError> {
        let asked = join_all(names.iter().map(|name| self.ssm.describe_document().name(*name).send())).await;
        let mut there = BTreeSet::new();
        for (name, answer) in names.iter().zip(asked) {
            match answer {
                Ok(answer) => {
                    let active = answer.document().and_then(|d| d.status()).is_none_or(|s| s.as_str() == "Active");
                    there.extend(active.then(|| (*name).to_owned()));
                }
                Err(error) => match CloudError::from_sdk(DOCUMENT, *name, &error) {
                    gone if gone.code == "InvalidDocument" || gone.is_not_found() => {}
                    error => return Err(error),
                },
            }
        }
        Ok(there)
    }

    /// What IAM says that roles may do, each by its ARN; conditions that ask for a case's tag are told one.
    pub async fn simulated(&self, case: &Case, asked: Vec<(String, Needed)>) -> Vec<(Needed, Observed<Allowed>)> {
        futures::stream::iter(asked)
            .map(|(role, needed)| async move {
                let allowed = self.may(case, &role, &needed).await.into();
                (needed, allowed)
            })
            .buffered(SIMULATIONS)
            .collect()
            .await
    }

    async fn may(&self, case: &Case, role: &str, needed: &Needed) -> Result<Allowed, CloudError> {
        let fail = |error: String| CloudError::unusable(SIMULATE, role, error);
        let tag = ContextEntry::builder()
            .context_key_name(format!("aws:ResourceTag/{}", stasis_model::tags::CASE))
            .context_key_values(case.case_id.as_str())
            .context_key_type(ContextKeyTypeEnum::String)
            .build();
        let answer = self
            .iam
            .simulate_principal_policy()
            .policy_source_arn(role)
            .action_names(needed.action)
            .resource_arns(&needed.resource)
            .context_entries(tag)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SIMULATE, role, &error))?;
        let result = answer.evaluation_results().first().ok_or_else(|| fail("it holds no answer".to_owned()))?;
        if *result.eval_decision() == PolicyEvaluationDecisionType::Allowed {
            return Ok(Allowed::Yes);
        }
        let missing: Vec<String> = result.missing_context_values().to_vec();
        if *result.eval_decision() == PolicyEvaluationDecisionType::ImplicitDeny && !missing.is_empty() {
            return Ok(Allowed::Depends(missing));
        }
        let outside = |allowed: Option<bool>| allowed == Some(false);
        let by = if outside(result.organizations_decision_detail().map(|d| d.allowed_by_organizations())) {
            "a service control policy of the organisation"
        } else if outside(result.permissions_boundary_decision_detail().map(|d| d.allowed_by_permissions_boundary())) {
            "the permissions boundary of its role"
        } else if *result.eval_decision() == PolicyEvaluationDecisionType::ExplicitDeny {
            "a statement of its role that denies it"
        } else {
            "its role, which does not allow it"
        };
        Ok(Allowed::No(by.to_owned()))
    }
}
