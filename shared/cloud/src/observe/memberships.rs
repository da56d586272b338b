//! What sends traffic to the instance or may replace it: its scaling group and load balancers.

use crate::{Cloud, CloudError};
use aws_sdk_autoscaling::types::{AutoScalingGroup, AutoScalingInstanceDetails};
use aws_sdk_ec2::types::Vpc;
use aws_sdk_elasticloadbalancing::types::LoadBalancerDescription;
use aws_sdk_elasticloadbalancingv2::types::{TargetGroup, TargetHealthDescription, TargetTypeEnum};
use futures::StreamExt as _;
use futures::future::{join_all, join3};
use ipnet::IpNet;
use stasis_model::baseline::{Instance, Observed, ScalingMembership, ScalingSizes, TargetRegistration};
use stasis_model::facts::DetachFacts;
use stasis_model::ids::InstanceId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SCALING_INSTANCES: &str = "autoscaling:DescribeAutoScalingInstances";
const SCALING_GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
const TARGET_GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";
const TARGET_HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";
const VPCS: &str = "ec2:DescribeVpcs";
const CLASSIC: &str = "elasticloadbalancing:DescribeLoadBalancers";
/// How many target groups are asked at the same time: fast, and no storm on the account's request rate.
const TARGET_GROUPS_AT_ONCE: usize = 16;

/// How long the search through target groups may keep the network open. What is not asked by then is asked again
/// once it is cut; the scaling group's own target groups are always asked.
const SEARCH_LIMIT: Duration = Duration::from_secs(3);

/// What was found in target groups.
#[derive(Debug, Default)]
pub(crate) struct Search {
    found: Vec<TargetRegistration>,
    unasked: usize,
}

impl Cloud {
    /// Scaling group, target groups and classic load balancers, each known or not by itself. With a limit, the
    /// search through target groups ends after it, and what is left to ask is said.
    pub(crate) async fn memberships(&self, id: &InstanceId, instance: &Instance, limited: bool) -> DetachFacts {
        let (scaling, groups, classic) =
            join3(self.scaling(id), self.target_groups(id, limited), self.classic_load_balancers(id)).await;
        let own = scaling.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], |found| &found.target_groups);
        let (targets, targets_unasked) = self.targets(id, instance, groups, own, limited).await;
        DetachFacts {
            scaling: scaling.map(|found| found.map(|f| f.membership)).into(),
            targets,
            targets_unasked,
            classic_load_balancers: classic.into(),
        }
    }

    /// The same for memberships that were found a moment ago: only those are asked again, all at the same time.
    pub(crate) async fn known_memberships(
        &self,
        id: &InstanceId,
        scaling: Option<&ScalingMembership>,
        targets: &[TargetRegistration],
        classic: &[String],
    ) -> DetachFacts {
        let arns: BTreeSet<&str> = targets.iter().map(|t| t.target_group.as_str()).collect();
        let mine: BTreeSet<&str> = targets.iter().map(|t| t.target.as_str()).collect();
        let again = async {
            match scaling {
                Some(known) => self.scaling_of_group(&known.group, id).await,
                None => self.scaling(id).await,
            }
        };
        let (scaling, health, classic) = join3(
            again,
            join_all(arns.iter().map(|arn| self.target_health((*arn).to_owned()))),
            self.classic_holding(id, classic),
        )
        .await;
        let health: Result<Vec<_>, CloudError> = health.into_iter().collect();
        DetachFacts {
            scaling: scaling.map(|found| found.map(|f| f.membership)).into(),
            targets: health.map(|health| registrations(&health, &mine)).into(),
            targets_unasked: 0,
            classic_load_balancers: classic.into(),
        }
    }

    pub(crate) async fn scaling(&self, id: &InstanceId) -> Result<Option<InScalingGroup>, CloudError> {
        match self.scaling_instance(id).await? {
            Some(found) => self.in_scaling_group(id, &found).await.map(Some),
            None => Ok(None),
        }
    }

    /// What Auto Scaling says of the instance, where it is in a group.
    pub(crate) async fn scaling_instance(
        &self,
        id: &InstanceId,
    ) -> Result<Option<AutoScalingInstanceDetails>, CloudError> {
        let answer = self
            .autoscaling
            .describe_auto_scaling_instances()
            .instance_ids(id.as_str())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SCALING_INSTANCES, id.as_str(), &error))?;
        Ok(answer.auto_scaling_instances().iter().find(|i| i.instance_id() == Some(id.as_str())).cloned())
    }

    /// The membership, with the group's sizes.
    pub(crate) async fn in_scaling_group(
        &self,
        id: &InstanceId,
        found: &AutoScalingInstanceDetails,
    ) -> Result<InScalingGroup, CloudError> {
        let group = found
            .auto_scaling_group_name()
            .ok_or_else(|| CloudError::unusable(SCALING_INSTANCES, id.as_str(), "it names no group"))?
            .to_owned();
        let described = self.scaling_group(&group).await?;
        Ok(InScalingGroup {
            target_groups: described.as_ref().map(|g| g.target_group_arns().to_vec()).unwrap_or_default(),
            membership: ScalingMembership {
                group,
                lifecycle_state: found.lifecycle_state().unwrap_or("unknown").to_owned(),
                protected_from_scale_in: found.protected_from_scale_in().unwrap_or(false),
                sizes: described.as_ref().and_then(sizes),
            },
        })
    }

    /// The membership in a group that is known by name, from the group's own list.
    async fn scaling_of_group(&self, group: &str, id: &InstanceId) -> Result<Option<InScalingGroup>, CloudError> {
        let described = self.scaling_group(group).await?;
        Ok(described.as_ref().and_then(|g| {
            let member = g.instances().iter().find(|i| i.instance_id() == Some(id.as_str()))?;
            Some(InScalingGroup {
                target_groups: g.target_group_arns().to_vec(),
                membership: ScalingMembership {
                    group: group.to_owned(),
                    lifecycle_state: member.lifecycle_state().map_or("unknown", |s| s.as_str()).to_owned(),
                    protected_from_scale_in: member.protected_from_scale_in().unwrap_or(false),
                    sizes: sizes(g),
                },
            })
        }))
    }

    async fn scaling_group(&self, group: &str) -> Result<Option<AutoScalingGroup>, CloudError> {
        let answer = self
            .autoscaling
            .describe_auto_scaling_groups()
            .auto_scaling_group_names(group)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SCALING_GROUPS, group, &error))?;
        Ok(answer.auto_scaling_groups().first().cloned())
    }

    /// The sizes of a scaling group; none where it does not exist.
    pub(crate) async fn scaling_sizes(&self, group: &str) -> Result<Option<ScalingSizes>, CloudError> {
        Ok(self.scaling_group(group).await?.as_ref().and_then(sizes))
    }

    /// Every target group of the region; none where the limit was over before the last page.
    pub(crate) async fn target_groups(
        &self,
        id: &InstanceId,
        limited: bool,
    ) -> Result<Option<Vec<TargetGroup>>, CloudError> {
        let listing = self.elbv2.describe_target_groups().into_paginator().items().send().try_collect();
        let listed = if limited {
            match tokio::time::timeout(SEARCH_LIMIT, listing).await {
                Ok(listed) => listed,
                Err(_) => return Ok(None),
            }
        } else {
            listing.await
        };
        listed.map(Some).map_err(|error| CloudError::from_sdk(TARGET_GROUPS, id.as_str(), &error))
    }

    /// The registrations, and how many target groups were not asked. Where they could not even be listed in time,
    /// the scaling group's own are asked.
    pub(crate) async fn targets(
        &self,
        id: &InstanceId,
        instance: &Instance,
        groups: Result<Option<Vec<TargetGroup>>, CloudError>,
        own: &[String],
        limited: bool,
    ) -> (Observed<Vec<TargetRegistration>>, usize) {
        let (candidates, unlisted) = match groups {
            Ok(Some(groups)) => (candidates(&groups, instance), 0),
            Ok(None) => (own.iter().cloned().map(Candidate::own).collect(), 1),
            Err(error) => return (Observed::Unknown(error.to_string()), 0),
        };
        match self.search(id, instance, candidates, own, limited).await {
            Ok(search) => (Observed::Known(search.found), search.unasked + unlisted),
            Err(error) => (Observed::Unknown(error.to_string()), 0),
        }
    }

    /// Registrations of the instance by id, and of its addresses. The scaling group's own target groups come first.
    async fn search(
        &self,
        id: &InstanceId,
        instance: &Instance,
        mut candidates: Vec<Candidate>,
        own: &[String],
        limited: bool,
    ) -> Result<Search, CloudError> {
        let mut mine: BTreeSet<&str> =
            instance.interfaces.iter().flat_map(|i| &i.addresses).map(String::as_str).collect();
        mine.insert(id.as_str());
        candidates.sort_by_key(|candidate| !own.contains(&candidate.arn));
        let mut search = Search { found: Vec::new(), unasked: candidates.len() };
        let first = candidates.iter().filter(|candidate| own.contains(&candidate.arn)).count();
        let mut elsewhere: Vec<(String, TargetRegistration)> = Vec::new();
        let mut answers = futures::stream::iter(candidates)
            .map(async |candidate| (self.target_health(candidate.arn).await, candidate.other_vpc))
            .buffered(TARGET_GROUPS_AT_ONCE);
        let begun = Instant::now();
        let mut asked = 0;
        loop {
            let left = SEARCH_LIMIT.saturating_sub(begun.elapsed());
            let next = if limited && asked >= first {
                match tokio::time::timeout(left, answers.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                }
            } else {
                answers.next().await
            };
            let Some((answer, other_vpc)) = next else { break };
            let found = registrations(&[answer?], &mine);
            match other_vpc {
                Some(vpc) => elsewhere.extend(found.into_iter().map(|registration| (vpc.clone(), registration))),
                None => search.found.extend(found),
            }
            asked += 1;
            search.unasked -= 1;
        }
        search.found.extend(self.reached_from(elsewhere).await?);
        search.found.sort();
        Ok(search)
    }

    /// Of registrations of an address in the target group of another VPC, those that can mean the instance: where
    /// that VPC has the address itself, it is another host of the same address, and not to be touched.
    async fn reached_from(
        &self,
        elsewhere: Vec<(String, TargetRegistration)>,
    ) -> Result<Vec<TargetRegistration>, CloudError> {
        let vpcs: BTreeSet<&str> = elsewhere.iter().map(|(vpc, _)| vpc.as_str()).collect();
        if vpcs.is_empty() {
            return Ok(Vec::new());
        }
        let ids = vpcs.iter().map(|vpc| (*vpc).to_owned()).collect();
        let answer =
            self.ec2.describe_vpcs().set_vpc_ids(Some(ids)).send().await.map_err(|error| {
                CloudError::from_sdk(VPCS, vpcs.iter().copied().collect::<Vec<_>>().join(", "), &error)
            })?;
        let ranges: BTreeMap<&str, Vec<IpNet>> =
            answer.vpcs().iter().filter_map(|vpc| Some((vpc.vpc_id()?, ranges(vpc)))).collect();
        Ok(elsewhere
            .into_iter()
            .filter(|(vpc, registration)| !has_address(ranges.get(vpc.as_str()), &registration.target))
            .map(|(_, registration)| registration)
            .collect())
    }

    /// The registrations in these target groups of these targets, and which of the groups are gone.
    pub(crate) async fn registrations_in(
        &self,
        groups: &BTreeSet<String>,
        mine: &BTreeSet<String>,
    ) -> Result<(Vec<TargetRegistration>, BTreeSet<String>), CloudError> {
        let answers = futures::stream::iter(groups.iter().cloned())
            .map(async |arn| {
                let known = self.target_health_or_gone(&arn).await?;
                Ok::<_, CloudError>((arn, known))
            })
            .buffer_unordered(TARGET_GROUPS_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mine: BTreeSet<&str> = mine.iter().map(String::as_str).collect();
        let (mut found, mut gone) = (Vec::new(), BTreeSet::new());
        for answer in answers {
            match answer? {
                (arn, Some(health)) => found.extend(registrations(&[(arn, health)], &mine)),
                (arn, None) => {
                    gone.insert(arn);
                }
            }
        }
        found.sort();
        Ok((found, gone))
    }

    async fn target_health(&self, arn: String) -> Result<(String, Vec<TargetHealthDescription>), CloudError> {
        // Deleted since it was listed: the instance is not in it.
        let health = self.target_health_or_gone(&arn).await?.unwrap_or_default();
        Ok((arn, health))
    }

    async fn target_health_or_gone(&self, arn: &str) -> Result<Option<Vec<TargetHealthDescription>>, CloudError> {
        match self.elbv2.describe_target_health().target_group_arn(arn).send().await {
            Ok(answer) => Ok(Some(answer.target_health_descriptions().to_vec())),
            Err(error) => match CloudError::from_sdk(TARGET_HEALTH, arn, &error) {
                gone if gone.code == "TargetGroupNotFound" || gone.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(crate) async fn classic_load_balancers(&self, id: &InstanceId) -> Result<Vec<String>, CloudError> {
        let all = self.all_classic(id).await?;
        Ok(all.iter().filter(|lb| holds(lb, id)).filter_map(|lb| lb.load_balancer_name().map(str::to_owned)).collect())
    }

    /// Of these classic load balancers, those that hold the instance.
    async fn classic_holding(&self, id: &InstanceId, names: &[String]) -> Result<Vec<String>, CloudError> {
        let known = self.classic_by_name(id, names).await?;
        Ok(known.into_iter().filter_map(|(name, holds)| holds.then_some(name)).collect())
    }

    /// Of these classic load balancers, those that exist, and whether each holds the instance.
    pub(crate) async fn classic_by_name(
        &self,
        id: &InstanceId,
        names: &[String],
    ) -> Result<BTreeMap<String, bool>, CloudError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sent = self.elb.describe_load_balancers().set_load_balancer_names(Some(names.to_vec())).send().await;
        let described = match sent {
            Ok(answer) => answer.load_balancer_descriptions().to_vec(),
            // One that is gone makes the whole question fail: then all are listed.
            Err(error) => match CloudError::from_sdk(CLASSIC, names.join(", "), &error) {
                gone if gone.code == "LoadBalancerNotFound" || gone.is_not_found() => self.all_classic(id).await?,
                error => return Err(error),
            },
        };
        Ok(described
            .iter()
            .filter_map(|lb| Some((lb.load_balancer_name()?.to_owned(), holds(lb, id))))
            .filter(|(name, _)| names.contains(name))
            .collect())
    }

    async fn all_classic(&self, id: &InstanceId) -> Result<Vec<LoadBalancerDescription>, CloudError> {
        self.elb
            .describe_load_balancers()
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(CLASSIC, id.as_str(), &error))
    }
}

/// A membership, and the target groups that the scaling group itself registers with.
#[derive(Debug)]
pub(crate) struct InScalingGroup {
    pub(crate) membership: ScalingMembership,
    pub(crate) target_groups: Vec<String>,
}

fn holds(balancer: &LoadBalancerDescription, id: &InstanceId) -> bool {
    balancer.instances().iter().any(|i| i.instance_id() == Some(id.as_str()))
}

fn sizes(group: &AutoScalingGroup) -> Option<ScalingSizes> {
    Some(ScalingSizes { min: group.min_size()?, max: group.max_size()?, desired: group.desired_capacity()? })
}

fn registrations(health: &[(String, Vec<TargetHealthDescription>)], mine: &BTreeSet<&str>) -> Vec<TargetRegistration> {
    let all = health.iter().flat_map(|(arn, health)| health.iter().filter_map(|h| registration(arn, h)));
    all.filter(|r| mine.contains(r.target.as_str())).collect()
}

/// A target group that is worth asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    arn: String,
    /// Its VPC, where the instance is not in it.
    other_vpc: Option<String>,
}

impl Candidate {
    /// One that the instance's scaling group registers with: what it holds of the instance's is the instance's.
    fn own(arn: String) -> Self {
        Self { arn, other_vpc: None }
    }
}

/// The ranges of a VPC, IPv4 and IPv6.
fn ranges(vpc: &Vpc) -> Vec<IpNet> {
    let first = vpc.cidr_block().into_iter();
    let more = vpc.cidr_block_association_set().iter().filter_map(|a| a.cidr_block());
    let six = vpc.ipv6_cidr_block_association_set().iter().filter_map(|a| a.ipv6_cidr_block());
    first.chain(more).chain(six).filter_map(|range| range.parse().ok()).collect()
}

fn has_address(ranges: Option<&Vec<IpNet>>, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&address)))
}

/// The target groups that are worth asking.
pub(crate) fn candidates(groups: &[TargetGroup], instance: &Instance) -> Vec<Candidate> {
    let mine: BTreeSet<&str> = instance.interfaces.iter().map(|i| i.vpc_id.as_str()).collect();
    let other = |group: &TargetGroup| {
        let vpc = group.vpc_id().filter(|vpc| !mine.is_empty() && !mine.contains(vpc))?;
        Some(vpc.to_owned())
    };
    let worth = groups.iter().filter(|group| may_hold(group, instance));
    worth.filter_map(|g| Some(Candidate { arn: g.target_group_arn()?.to_owned(), other_vpc: other(g) })).collect()
}

/// Whether the group can hold the instance at all. A group of instances is bound to their VPC; one of
/// addresses may reach into another VPC by peering, so it is always asked, but VPCs of the same range are common:
/// see [`Cloud::reached_from`].
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
