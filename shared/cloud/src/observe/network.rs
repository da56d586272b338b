//! The network around the instance: the quarantine group of a VPC, and where Systems Manager is reached.

use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::{Filter, SecurityGroup, SecurityGroupRule, VpcEndpoint, VpcEndpointType};
use futures::future::{join, join_all};
use stasis_model::baseline::Interface;
use stasis_model::facts::{Allows, Endpoints, Peer, QuarantineGroup, Rule, VpcFacts};
use stasis_model::ids::VpcId;
use stasis_model::tags;
use std::collections::{BTreeMap, BTreeSet};

const GROUPS: &str = "ec2:DescribeSecurityGroups";
const RULES: &str = "ec2:DescribeSecurityGroupRules";
const ENDPOINTS: &str = "ec2:DescribeVpcEndpoints";
const PREFIX_LISTS: &str = "ec2:DescribeManagedPrefixLists";
/// The endpoints that an agent needs; `ec2messages` only by older ones
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-create-vpc.html>).
const SERVICES: [&str; 3] = ["ssm", "ssmmessages", "ec2messages"];

impl Cloud {
    /// The facts of each VPC that an interface is in.
    pub(crate) async fn vpcs(&self, interfaces: &[Interface]) -> BTreeMap<VpcId, VpcFacts> {
        let vpcs: BTreeSet<&VpcId> = interfaces.iter().map(|i| &i.vpc_id).collect();
        let facts = join_all(vpcs.into_iter().map(async |vpc| {
            let (group, endpoints) = join(self.quarantine_group(vpc), self.endpoints(vpc)).await;
            (vpc.clone(), VpcFacts { group: group.into(), endpoints: endpoints.into() })
        }))
        .await;
        facts.into_iter().collect()
    }

    async fn quarantine_group(&self, vpc: &VpcId) -> Result<Option<QuarantineGroup>, CloudError> {
        let groups: Vec<SecurityGroup> = self
            .ec2
            .describe_security_groups()
            .filters(Filter::builder().name("vpc-id").values(vpc.as_str()).build())
            .filters(Filter::builder().name(format!("tag:{}", tags::QUARANTINE)).values(tags::QUARANTINE_VALUE).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(GROUPS, vpc.as_str(), &error))?;
        // The name is ours too: a tag alone, set on a group of someone else's, must not have us rewrite it.
        let name = group_name(vpc);
        let Some(id) =
            groups.iter().filter(|g| g.group_name() == Some(name.as_str())).filter_map(|g| g.group_id()).min()
        else {
            return Ok(None);
        };
        let rules: Vec<SecurityGroupRule> = self
            .ec2
            .describe_security_group_rules()
            .filters(Filter::builder().name("group-id").values(id).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(RULES, id, &error))?;
        let group_id = id.parse().map_err(|error: stasis_model::error::InputError| {
            CloudError::unusable(GROUPS, vpc.as_str(), error.to_string())
        })?;
        let rules = rules
            .iter()
            .map(|r| rule(r).ok_or_else(|| CloudError::unusable(RULES, id, "a rule has no id")))
            .collect::<Result<_, _>>()?;
        Ok(Some(QuarantineGroup { group_id, rules }))
    }

    async fn endpoints(&self, vpc: &VpcId) -> Result<Endpoints, CloudError> {
        let endpoints: Vec<VpcEndpoint> = self
            .ec2
            .describe_vpc_endpoints()
            .filters(Filter::builder().name("vpc-id").values(vpc.as_str()).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(ENDPOINTS, vpc.as_str(), &error))?;
        let mut found = Endpoints::default();
        let mut has_s3_gateway = false;
        for endpoint in
            endpoints.iter().filter(|e| e.state().is_none_or(|s| s.as_str().eq_ignore_ascii_case("available")))
        {
            let service = endpoint.service_name().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
            match endpoint.vpc_endpoint_type() {
                Some(VpcEndpointType::Gateway) if service == "s3" => has_s3_gateway = true,
                Some(VpcEndpointType::Interface) if SERVICES.contains(&service) => {
                    let groups = endpoint.groups().iter().filter_map(|g| g.group_id()?.parse().ok()).collect();
                    found.services.insert(service.to_owned(), groups);
                }
                _ => {}
            }
        }
        if has_s3_gateway {
            found.s3_prefix_list = self.s3_prefix_list().await?;
        }
        Ok(found)
    }

    async fn s3_prefix_list(&self) -> Result<Option<String>, CloudError> {
        let name = format!("com.amazonaws.{}.s3", self.region);
        let answer = self
            .ec2
            .describe_managed_prefix_lists()
            .filters(Filter::builder().name("prefix-list-name").values(&name).build())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PREFIX_LISTS, name.as_str(), &error))?;
        let list = answer.prefix_lists().iter().find(|list| list.prefix_list_name() == Some(name.as_str()));
        Ok(list.and_then(|list| list.prefix_list_id()).map(str::to_owned))
    }
}

/// The name of the quarantine group: one per VPC, so that AWS itself refuses a second.
pub(crate) fn group_name(vpc: &VpcId) -> String {
    format!("stasis-quarantine-{vpc}")
}

fn rule(from: &SecurityGroupRule) -> Option<Rule> {
    let peer = if let Some(cidr) = from.cidr_ipv4() {
        Peer::Cidr4(cidr.to_owned())
    } else if let Some(cidr) = from.cidr_ipv6() {
        Peer::Cidr6(cidr.to_owned())
    } else if let Some(group) = from.referenced_group_info().and_then(|g| g.group_id()) {
        group.parse().map_or_else(|_| Peer::Other(group.to_owned()), Peer::Group)
    } else if let Some(list) = from.prefix_list_id() {
        Peer::PrefixList(list.to_owned())
    } else {
        Peer::Other("unknown".to_owned())
    };
    Some(Rule {
        rule_id: from.security_group_rule_id()?.to_owned(),
        egress: from.is_egress().unwrap_or(false),
        allows: Allows {
            protocol: from.ip_protocol().unwrap_or("-1").to_owned(),
            from_port: from.from_port().unwrap_or(-1),
            to_port: from.to_port().unwrap_or(-1),
            peer,
        },
    })
}
