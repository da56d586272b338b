//! The baseline: everything about an instance from before it is touched, in two looks. The second asks what the
//! first has found; nothing else waits for it.

use super::memberships::candidates;
use crate::{Cloud, CloudError};
use aws_sdk_autoscaling::types::AutoScalingInstanceDetails;
use aws_sdk_elasticloadbalancingv2::types::TargetGroup;
use futures::future::{join, join_all, join3};
use stasis_model::baseline::{Agent, Baseline, Instance, Observed, Protection};
use stasis_model::ids::{AccountId, InstanceId};
use stasis_model::{SCHEMA, Timestamp, now};

/// Up to this many target groups are asked without knowing which of them are the scaling group's own.
const FEW_TARGET_GROUPS: usize = 64;

/// What can be asked with the instance's id alone.
#[derive(Debug)]
pub struct FirstLook {
    /// The instance.
    pub instance: Instance,
    /// The account that owns it.
    pub owner: AccountId,
    at: Timestamp,
    protection: Observed<Protection>,
    agent: Observed<Option<Agent>>,
    scaling: Result<Option<AutoScalingInstanceDetails>, CloudError>,
    target_groups: Result<Option<Vec<TargetGroup>>, CloudError>,
    classic_load_balancers: Observed<Vec<String>>,
}

impl Cloud {
    /// The first look at an instance. Only the instance itself must be readable; whatever else is not is recorded
    /// as unknown.
    ///
    /// # Errors
    /// Where the instance cannot be described, or there is none.
    pub async fn first_look(&self, id: &InstanceId) -> Result<FirstLook, CloudError> {
        let at = now();
        let ((described, protection), agent, (scaling, target_groups, classic)) = join3(
            join(self.instance(id), self.protection(id)),
            self.agent(id),
            join3(self.scaling_instance(id), self.target_groups(id, true), self.classic_load_balancers(id)),
        )
        .await;
        let (instance, owner) = described?;
        Ok(FirstLook {
            instance,
            owner,
            at,
            protection: protection.into(),
            agent: agent.into(),
            scaling,
            target_groups,
            classic_load_balancers: classic.into(),
        })
    }

    /// The whole baseline, by a second look.
    pub async fn baseline(&self, id: &InstanceId, look: FirstLook) -> Baseline {
        let instance = &look.instance;
        let few = match &look.target_groups {
            Ok(Some(groups)) => candidates(groups, instance).len() <= FEW_TARGET_GROUPS,
            Ok(None) => false,
            Err(_) => true,
        };
        let found = look.scaling.as_ref().ok().and_then(Option::as_ref);
        let scaling = async {
            let details = join_all(found.map(|found| self.in_scaling_group(id, found))).await;
            details.into_iter().next().transpose()
        };
        let (tags, (scaling, (targets, targets_unasked))) = join(self.tags(&instance.resources(id)), async {
            if few {
                join(scaling, self.targets(id, instance, look.target_groups, &[], true)).await
            } else {
                // The scaling group's own first, so that the limit cannot leave those out.
                let scaling = scaling.await;
                let own = scaling.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], |s| &s.target_groups);
                let targets = self.targets(id, instance, look.target_groups, own, true).await;
                (scaling, targets)
            }
        })
        .await;
        let scaling = match look.scaling {
            Err(error) => Observed::Unknown(error.to_string()),
            Ok(_) => scaling.map(|found| found.map(|s| s.membership)).into(),
        };
        Baseline {
            schema: SCHEMA,
            observed_at: look.at,
            protection: look.protection,
            scaling,
            targets,
            targets_unasked,
            classic_load_balancers: look.classic_load_balancers,
            tags: tags.into(),
            agent: look.agent,
            instance: look.instance,
        }
    }
}
