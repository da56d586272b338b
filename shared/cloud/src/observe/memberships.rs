//! What sends traffic to the instance or may replace it: its scaling group and load balancers.

use crate::{Cloud, CloudError};
use aws_sdk_elasticloadbalancingv2::types::{TargetGroup, TargetHealthDescription, TargetTypeEnum};
use futures::StreamExt as _;
use futures::future::join3;
use stasis_model::baseline::{Instance, ScalingMembership, ScalingSizes, TargetRegistration};
use stasis_model::facts::DetachFacts;
use stasis_model::ids::InstanceId;
use std::collections::BTreeSet;

const SCALING_INSTANCES: &str = "autoscaling:DescribeAutoScalingInstances";
const SCALING_GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
const TARGET_GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";
const TARGET_HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";
const CLASSIC: &str = "elasticloadbalancing:DescribeLoadBalancers";
/// How many target groups are asked at the same time: fast, and no storm on the account's request rate.
const TARGET_GROUPS_AT_ONCE: usize = 16;

impl Cloud {
    /// Scaling group, target groups and classic load balancers, each known or not by itself.
    pub async fn memberships(&self, id: &InstanceId, instance: &Instance) -> DetachFacts {
        let (scaling, targets, classic) =
            join3(self.scaling(id), self.targets(id, instance), self.classic_load_balancers(id)).await;
        DetachFacts { scaling: scaling.into(), targets: targets.into(), classic_load_balancers: classic.into() }
    }

    async fn scaling(&self, id: &InstanceId) -> Result<Option<ScalingMembership>, CloudError> {
        let answer = self
            .autoscaling
            .describe_auto_scaling_instances()
            .instance_ids(id.as_str())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SCALING_INSTANCES, id.as_str(), &error))?;
        let Some(found) = answer.auto_scaling_instances().iter().find(|i| i.instance_id() == Some(id.as_str())) else {
            return Ok(None);
        };
        let group = found
            .auto_scaling_group_name()
            .ok_or_else(|| CloudError::unusable(SCALING_INSTANCES, id.as_str(), "it names no group"))?
            .to_owned();
        let sizes = self.scaling_sizes(&group).await?;
        Ok(Some(ScalingMembership {
            group,
            lifecycle_state: found.lifecycle_state().unwrap_or("unknown").to_owned(),
            protected_from_scale_in: found.protected_from_scale_in().unwrap_or(false),
            sizes,
        }))
    }

    async fn scaling_sizes(&self, group: &str) -> Result<Option<ScalingSizes>, CloudError> {
        let answer = self
            .autoscaling
            .describe_auto_scaling_groups()
            .auto_scaling_group_names(group)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SCALING_GROUPS, group, &error))?;
        Ok(answer.auto_scaling_groups().first().and_then(|g| {
            Some(ScalingSizes { min: g.min_size()?, max: g.max_size()?, desired: g.desired_capacity()? })
        }))
    }

    /// Registrations of the instance by id, and of its addresses.
    async fn targets(&self, id: &InstanceId, instance: &Instance) -> Result<Vec<TargetRegistration>, CloudError> {
        let groups: Vec<TargetGroup> = self
            .elbv2
            .describe_target_groups()
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(TARGET_GROUPS, id.as_str(), &error))?;
        let mut mine: BTreeSet<&str> =
            instance.interfaces.iter().flat_map(|i| &i.addresses).map(String::as_str).collect();
        mine.insert(id.as_str());
        let arns: Vec<String> = groups
            .iter()
            .filter(|group| may_hold(group, instance))
            .filter_map(|group| group.target_group_arn().map(str::to_owned))
            .collect();
        let mut answers = futures::stream::iter(arns)
            .map(async |arn| self.target_health(arn).await)
            .buffer_unordered(TARGET_GROUPS_AT_ONCE);
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            let (arn, health) = answer?;
            found.extend(
                health.iter().filter_map(|h| registration(&arn, h)).filter(|r| mine.contains(r.target.as_str())),
            );
        }
        found.sort();
        Ok(found)
    }

    async fn target_health(&self, arn: String) -> Result<(String, Vec<TargetHealthDescription>), CloudError> {
        match self.elbv2.describe_target_health().target_group_arn(&arn).send().await {
            Ok(answer) => Ok((arn, answer.target_health_descriptions().to_vec())),
            Err(error) => match CloudError::from_sdk(TARGET_HEALTH, arn.as_str(), &error) {
                // Deleted since it was listed: the instance is not in it.
                gone if gone.code == "TargetGroupNotFound" || gone.is_not_found() => Ok((arn, Vec::new())),
                error => Err(error),
            },
        }
    }

    async fn classic_load_balancers(&self, id: &InstanceId) -> Result<Vec<String>, CloudError> {
        let all: Vec<aws_sdk_elasticloadbalancing::types::LoadBalancerDescription> = self
            .elb
            .describe_load_balancers()
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(CLASSIC, id.as_str(), &error))?;
        Ok(all
            .iter()
            .filter(|lb| lb.instances().iter().any(|i| i.instance_id() == Some(id.as_str())))
            .filter_map(|lb| lb.load_balancer_name().map(str::to_owned))
            .collect())
    }
}

/// Whether the group can hold the instance at all. A group of instances is bound to their VPC; one of
/// addresses may reach into another VPC by peering, so it is always asked.
fn may_hold(group: &TargetGroup, instance: &Instance) -> bool {
    match group.target_type() {
        Some(TargetTypeEnum::Instance) => {
            let vpcs = instance.interfaces.iter().map(|i| i.vpc_id.as_str());
            group.vpc_id().is_none_or(|vpc| instance.interfaces.is_empty() || vpcs.into_iter().any(|mine| mine == vpc))
        }
        Some(TargetTypeEnum::Lambda | TargetTypeEnum::Alb) => false,
        _ => true,
    }
}

fn registration(arn: &str, health: &TargetHealthDescription) -> Option<TargetRegistration> {
    let target = health.target()?;
    Some(TargetRegistration {
        target_group: arn.to_owned(),
        target: target.id()?.to_owned(),
        port: target.port(),
        availability_zone: target.availability_zone().map(str::to_owned),
        health: health.target_health().and_then(|h| h.state()).map(|s| s.as_str().to_owned()),
    })
}
