//! The network around the instance: the groups of Stasis in its VPCs, where Systems Manager is reached, and the
//! network ACLs of its subnets.

use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::{
    Filter, IpPermission, NetworkAclEntry as Ec2Entry, RuleAction, SecurityGroup, SecurityGroupRule, VpcEndpoint,
    VpcEndpointType,
};
use futures::future::{join_all, join3};
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::facts::{Allows, Endpoints, NetworkAcl, NetworkAclEntry, Peer, QuarantineGroup, Rule, VpcFacts};
use stasis_model::ids::{CaseId, GroupId, InstanceId, VpcId};
use stasis_model::tags;
use std::collections::{BTreeMap, BTreeSet};

const GROUPS: &str = "ec2:DescribeSecurityGroups";
const ENDPOINTS: &str = "ec2:DescribeVpcEndpoints";
const PREFIX_LISTS: &str = "ec2:DescribeManagedPrefixLists";
const ACLS: &str = "ec2:DescribeNetworkAcls";
/// The endpoints that an agent needs; `ec2messages` only by older ones
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-create-vpc.html>).
const SERVICES: [&str; 3] = ["ssm", "ssmmessages", "ec2messages"];

impl Cloud {
    /// The facts of each VPC, as a case has them; three calls at the same time, however many VPCs there are.
    pub(crate) async fn vpcs(&self, case: &Case, vpcs: &BTreeSet<VpcId>) -> BTreeMap<VpcId, VpcFacts> {
        if vpcs.is_empty() {
            return BTreeMap::new();
        }
        let (groups, endpoints, list) =
            join3(self.our_groups(vpcs), self.vpc_endpoints(vpcs), self.s3_prefix_list()).await;
        let group = |vpc: &VpcId, role| match &groups {
            Ok(groups) => of_case(groups, vpc, role, &case.case_id).into(),
            Err(error) => Observed::Unknown(error.to_string()),
        };
        let facts = |vpc: &VpcId| VpcFacts {
            group: group(vpc, tags::QUARANTINE_VALUE),
            pass_through: group(vpc, tags::PASS_THROUGH_VALUE),
            endpoints: match &endpoints {
                Ok(endpoints) => endpoints_of(endpoints, vpc, &list).into(),
                Err(error) => Observed::Unknown(error.to_string()),
            },
        };
        vpcs.iter().map(|vpc| (vpc.clone(), facts(vpc))).collect()
    }

    /// Whether each interface of an instance is in a quarantine group of Stasis and no other, and that group lets nothing in.
    ///
    /// # Errors
    /// Where the instance or the groups cannot be described.
    pub async fn is_in_quarantine(&self, id: &InstanceId) -> Result<bool, CloudError> {
        let (instance, _) = self.instance(id).await?;
        let vpcs: BTreeSet<VpcId> = instance.interfaces.iter().map(|i| i.vpc_id.clone()).collect();
        if vpcs.is_empty() {
            return Ok(true);
        }
        let groups = self.our_groups(&vpcs).await?;
        for interface in &instance.interfaces {
            let mut holds = false;
            for group in groups.iter().filter(|g| is_ours(g, &interface.vpc_id, tags::QUARANTINE_VALUE)) {
                let group = quarantine_group(group, &interface.vpc_id)?;
                holds |= interface.groups == [group.group_id.clone()] && group.rules.iter().all(|rule| rule.egress);
            }
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The groups that carry our tag.
    async fn our_groups(&self, vpcs: &BTreeSet<VpcId>) -> Result<Vec<SecurityGroup>, CloudError> {
        self.ec2
            .describe_security_groups()
            .filters(vpc_filter(vpcs))
            .filters(
                Filter::builder()
                    .name(format!("tag:{}", tags::QUARANTINE))
                    .values(tags::QUARANTINE_VALUE)
                    .values(tags::PASS_THROUGH_VALUE)
                    .build(),
            )
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(GROUPS, subject(vpcs), &error))
    }

    async fn vpc_endpoints(&self, vpcs: &BTreeSet<VpcId>) -> Result<Vec<VpcEndpoint>, CloudError> {
        self.ec2
            .describe_vpc_endpoints()
            .filters(vpc_filter(vpcs))
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(ENDPOINTS, subject(vpcs), &error))
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

    /// What each of these groups lets in; one that does not exist is left out.
    pub(crate) async fn inbound(
        &self,
        groups: &BTreeSet<GroupId>,
    ) -> Result<BTreeMap<GroupId, Vec<Allows>>, CloudError> {
        let found = self.groups_of_ids(groups).await?;
        Ok(found
            .iter()
            .filter_map(|g| {
                let rules = g.ip_permissions().iter().flat_map(allowed).collect();
                Some((g.group_id()?.parse().ok()?, rules))
            })
            .collect())
    }

    /// Of these groups, those that exist.
    pub(crate) async fn existing(&self, groups: &BTreeSet<GroupId>) -> Result<BTreeSet<GroupId>, CloudError> {
        let found = self.groups_of_ids(groups).await?;
        Ok(found.iter().filter_map(|g| g.group_id()?.parse().ok()).collect())
    }

    /// By filter: an id of a group that is gone is no error then.
    async fn groups_of_ids(&self, groups: &BTreeSet<GroupId>) -> Result<Vec<SecurityGroup>, CloudError> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let shown = ids.join(", ");
        self.ec2
            .describe_security_groups()
            .filters(Filter::builder().name("group-id").set_values(Some(ids)).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(GROUPS, shown, &error))
    }

    /// Network ACLs by id; one that does not exist is left out.
    pub(crate) async fn acls_of_ids(&self, ids: &BTreeSet<String>) -> Result<Vec<NetworkAcl>, CloudError> {
        let described =
            join_all(ids.iter().map(
                async |id| match self.ec2.describe_network_acls().network_acl_ids(id).send().await {
                    Ok(answer) => Ok(answer.network_acls().iter().filter_map(network_acl).collect()),
                    Err(error) => match CloudError::from_sdk(ACLS, id.as_str(), &error) {
                        gone if gone.is_not_found() => Ok(Vec::new()),
                        error => Err(error),
                    },
                },
            ))
            .await;
        let described: Result<Vec<Vec<NetworkAcl>>, CloudError> = described.into_iter().collect();
        Ok(described?.into_iter().flatten().collect())
    }

    /// The network ACLs of subnets.
    pub(crate) async fn acls_of_subnets(&self, subnets: &BTreeSet<String>) -> Result<Vec<NetworkAcl>, CloudError> {
        if subnets.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<String> = subnets.iter().cloned().collect();
        let shown = values.join(", ");
        let acls: Vec<aws_sdk_ec2::types::NetworkAcl> = self
            .ec2
            .describe_network_acls()
            .filters(Filter::builder().name("association.subnet-id").set_values(Some(values)).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(ACLS, shown, &error))?;
        Ok(acls.iter().filter_map(network_acl).collect())
    }
}

fn network_acl(from: &aws_sdk_ec2::types::NetworkAcl) -> Option<NetworkAcl> {
    let entries = from.entries().iter().map(acl_entry).collect();
    Some(NetworkAcl { id: from.network_acl_id()?.to_owned(), entries })
}

fn acl_entry(from: &Ec2Entry) -> NetworkAclEntry {
    NetworkAclEntry {
        rule_number: from.rule_number().unwrap_or_default(),
        egress: from.egress().unwrap_or(false),
        deny: from.rule_action() == Some(&RuleAction::Deny),
        protocol: from.protocol().unwrap_or("-1").to_owned(),
        cidr: from.cidr_block().or(from.ipv6_cidr_block()).unwrap_or_default().to_owned(),
    }
}

fn subject(vpcs: &BTreeSet<VpcId>) -> String {
    vpcs.iter().map(VpcId::as_str).collect::<Vec<_>>().join(", ")
}

fn vpc_filter(vpcs: &BTreeSet<VpcId>) -> Filter {
    let ids = vpcs.iter().map(ToString::to_string).collect();
    Filter::builder().name("vpc-id").set_values(Some(ids)).build()
}

/// Whether a group is one of ours in a VPC. Its name must be ours too: a tag alone, set on a group of someone else's, must not
/// have us rewrite it.
pub(crate) fn is_ours(group: &SecurityGroup, vpc: &VpcId, role: &str) -> bool {
    let name = group_name(vpc, role);
    let named = group
        .group_name()
        .and_then(|found| found.strip_prefix(name.as_str()))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(OF_A_CASE));
    let tagged = group.tags().iter().any(|t| t.key() == Some(tags::QUARANTINE) && t.value() == Some(role));
    group.vpc_id() == Some(vpc.as_str()) && named && tagged
}

/// The group of a role that a case goes by: its own, once it had to make one, and else the common one. Another case's is never
/// used, so that no two look at each other's.
fn of_case(
    groups: &[SecurityGroup],
    vpc: &VpcId,
    role: &str,
    case: &CaseId,
) -> Result<Option<QuarantineGroup>, CloudError> {
    let named = |name: &str| groups.iter().find(|g| is_ours(g, vpc, role) && g.group_name() == Some(name));
    let group = named(&group_name_of_case(vpc, role, case)).or_else(|| named(&group_name(vpc, role)));
    group.map(|group| quarantine_group(group, vpc)).transpose()
}

/// A group with its rules.
fn quarantine_group(group: &SecurityGroup, vpc: &VpcId) -> Result<QuarantineGroup, CloudError> {
    let group_id = group.group_id().unwrap_or_default().parse().map_err(|error: stasis_model::error::InputError| {
        CloudError::unusable(GROUPS, vpc.as_str(), error.to_string())
    })?;
    let rules = |permissions: &[IpPermission], egress| -> Vec<Rule> {
        permissions.iter().flat_map(allowed).map(|allows| Rule { egress, allows }).collect()
    };
    let mut all = rules(group.ip_permissions(), false);
    all.extend(rules(group.ip_permissions_egress(), true));
    Ok(QuarantineGroup { group_id, rules: all })
}

fn endpoints_of(
    endpoints: &[VpcEndpoint],
    vpc: &VpcId,
    s3_prefix_list: &Result<Option<String>, CloudError>,
) -> Result<Endpoints, CloudError> {
    let available = |e: &&VpcEndpoint| e.state().is_none_or(|s| s.as_str().eq_ignore_ascii_case("available"));
    let mut found = Endpoints::default();
    for endpoint in endpoints.iter().filter(|e| e.vpc_id() == Some(vpc.as_str())).filter(available) {
        let service = endpoint.service_name().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
        match endpoint.vpc_endpoint_type() {
            Some(VpcEndpointType::Gateway) if service == "s3" => found.s3_prefix_list = s3_prefix_list.clone()?,
            Some(VpcEndpointType::Interface) if SERVICES.contains(&service) => {
                let groups = endpoint.groups().iter().filter_map(|g| g.group_id()?.parse().ok()).collect();
                found.services.insert(service.to_owned(), groups);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The name of our group of a role: one per VPC, so that AWS itself refuses a second.
pub(crate) fn group_name(vpc: &VpcId, role: &str) -> String {
    format!("stasis-{role}-{vpc}")
}

/// How the name of a case's own group goes on after the common one: case ids begin so.
const OF_A_CASE: &str = "-case-";

/// The name that a case gives to a group whose common name somebody else has taken: nobody knows it before there is the case.
pub(crate) fn group_name_of_case(vpc: &VpcId, role: &str, case: &CaseId) -> String {
    format!("{}-{case}", group_name(vpc, role))
}

/// What a permission lets through, one for each peer of it.
fn allowed(from: &IpPermission) -> Vec<Allows> {
    let mut peers: Vec<Peer> = Vec::new();
    peers.extend(from.ip_ranges().iter().filter_map(|r| r.cidr_ip()).map(|c| Peer::Cidr4(c.to_owned())));
    peers.extend(from.ipv6_ranges().iter().filter_map(|r| r.cidr_ipv6()).map(|c| Peer::Cidr6(c.to_owned())));
    peers.extend(from.user_id_group_pairs().iter().filter_map(|g| g.group_id()).map(group_peer));
    peers.extend(
        from.prefix_list_ids().iter().filter_map(|l| l.prefix_list_id()).map(|l| Peer::PrefixList(l.to_owned())),
    );
    if peers.is_empty() {
        peers.push(Peer::Other("unknown".to_owned()));
    }
    peers
        .into_iter()
        .map(|peer| Allows {
            protocol: from.ip_protocol().unwrap_or("-1").to_owned(),
            from_port: from.from_port().unwrap_or(-1),
            to_port: from.to_port().unwrap_or(-1),
            peer,
        })
        .collect()
}

fn group_peer(id: &str) -> Peer {
    id.parse().map_or_else(|_| Peer::Other(id.to_owned()), Peer::Group)
}

/// What a rule lets through: the same in EC2's other form, which has an id for each rule.
pub(crate) fn rule_allows(from: &SecurityGroupRule) -> Allows {
    let peer = if let Some(cidr) = from.cidr_ipv4() {
        Peer::Cidr4(cidr.to_owned())
    } else if let Some(cidr) = from.cidr_ipv6() {
        Peer::Cidr6(cidr.to_owned())
    } else if let Some(group) = from.referenced_group_info().and_then(|g| g.group_id()) {
        group_peer(group)
    } else if let Some(list) = from.prefix_list_id() {
        Peer::PrefixList(list.to_owned())
    } else {
        Peer::Other("unknown".to_owned())
    };
    Allows {
        protocol: from.ip_protocol().unwrap_or("-1").to_owned(),
        from_port: from.from_port().unwrap_or(-1),
        to_port: from.to_port().unwrap_or(-1),
        peer,
    }
}
