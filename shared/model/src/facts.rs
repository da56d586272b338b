//! The facts that a stage reads before it plans: what AWS says now, in our words. Which facts a stage
//! reads is its `observe`; what follows from them is its `plan`.

use crate::Timestamp;
use crate::action::Action;
use crate::baseline::{
    Agent, Instance, Interface, Observed, Protection, ScalingMembership, ScalingSizes, TagsByResource,
    TargetRegistration,
};
use crate::custody::Custody;
use crate::disks::Snapshot;
use crate::ids::{CaseId, GroupId, InstanceId, VpcId};
use crate::memory::Acquisition;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What protect reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectFacts {
    /// The instance with its volumes and interfaces.
    pub instance: Instance,
    /// Its protection.
    pub protection: Observed<Protection>,
    /// The tags of instance, volumes and interfaces.
    pub tags: Observed<TagsByResource>,
}

/// What detach reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachFacts {
    /// The scaling group.
    pub scaling: Observed<Option<ScalingMembership>>,
    /// The target groups.
    pub targets: Observed<Vec<TargetRegistration>>,
    /// Target groups that were not asked, because it would have kept the network open for too long.
    pub targets_unasked: usize,
    /// The classic load balancers.
    pub classic_load_balancers: Observed<Vec<String>>,
}

/// What quarantine reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineFacts {
    /// The interfaces as they are now.
    pub interfaces: Observed<Vec<Interface>>,
    /// By VPC: its quarantine group, and where Systems Manager is reached.
    pub vpcs: BTreeMap<VpcId, VpcFacts>,
    /// The network ACLs of its subnets; read only where the policy changes them.
    pub acls: Observed<Vec<NetworkAcl>>,
}

/// The network ACL of a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAcl {
    /// The network ACL.
    pub id: String,
    /// Its entries, both directions.
    pub entries: Vec<NetworkAclEntry>,
}

/// An entry of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAclEntry {
    /// Its number.
    pub rule_number: i32,
    /// Whether it is about what goes out (or else in).
    pub egress: bool,
    /// Whether it denies.
    pub deny: bool,
    /// `-1` for all.
    pub protocol: String,
    /// The range it is about.
    pub cidr: String,
}

/// What is known of one VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcFacts {
    /// Its quarantine group, where one exists.
    pub group: Observed<Option<QuarantineGroup>>,
    /// Its pass-through group, where one exists.
    pub pass_through: Observed<Option<QuarantineGroup>>,
    /// Its endpoints.
    pub endpoints: Observed<Endpoints>,
}

/// The quarantine group of a VPC, or its pass-through group, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineGroup {
    /// The group.
    pub group_id: GroupId,
    /// Its rules, both directions.
    pub rules: Vec<Rule>,
}

/// A security group rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether it lets out (or else in).
    pub egress: bool,
    /// What it lets through.
    pub allows: Allows,
}

/// What a rule lets through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allows {
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
    pub protocol: String,
    /// First port; -1 for all.
    pub from_port: i32,
    /// Last port; -1 for all.
    pub to_port: i32,
    /// The other side.
    pub peer: Peer,
}

/// The other side of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Peer {
    /// IPv4 range.
    Cidr4(String),
    /// IPv6 range.
    Cidr6(String),
    /// Members of a security group.
    Group(GroupId),
    /// Managed prefix list.
    PrefixList(String),
    /// Something that this version does not know; never what we want.
    Other(String),
}

impl std::fmt::Display for Allows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ports = match (self.from_port, self.to_port) {
            (-1, _) | (0, 65535) => "all ports".to_owned(),
            (from, to) if from == to => from.to_string(),
            (from, to) => format!("{from}-{to}"),
        };
        let protocol = if self.protocol == "-1" { "any protocol" } else { self.protocol.as_str() };
        let peer = match &self.peer {
            Peer::Cidr4(text) | Peer::Cidr6(text) | Peer::PrefixList(text) | Peer::Other(text) => text.as_str(),
            Peer::Group(group) => group.as_str(),
        };
        write!(out, "{protocol} {ports} {peer}")
    }
}

/// Where Systems Manager and S3 are reached inside a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// Security groups of the interface endpoints of `ssm`, `ssmmessages` and `ec2messages`, by service.
    pub services: BTreeMap<String, Vec<GroupId>>,
    /// The prefix list of S3, where the VPC has a gateway endpoint for it.
    pub s3_prefix_list: Option<String>,
}

/// What capture reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFacts {
    /// What Systems Manager knows of the instance; none where it does not manage it.
    pub agent: Observed<Option<Agent>>,
    /// Our command, where one was sent for this case.
    pub command: Option<Command>,
}

/// A Run Command invocation on the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub command_id: String,
    /// Systems Manager's status, such as `InProgress` or `Success`.
    pub status: String,
    /// Whether Systems Manager says that it did not get it to the agent.
    pub undelivered: bool,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Its steps.
    pub steps: Vec<CommandStep>,
}

impl Command {
    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "Pending" | "InProgress" | "Delayed" | "Cancelling")
    }

    /// Whether nothing says that an agent ever began with it. That AWS calls a delivery timed out comes late: after the time
    /// for its delivery and that for its steps
    /// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html>).
    pub fn never_began(&self) -> bool {
        let waits = matches!(self.status.as_str(), "Pending" | "Delayed");
        let is_untouched = self.steps.iter().all(|step| step.status == "Pending");
        (self.undelivered || (waits && is_untouched)) && !self.steps.iter().any(|step| step.has_output)
    }

    /// Whether a run of the case has to look to it: not one that never began, and that was to be delivered before the run
    /// began, so that no agent begins with it any more.
    pub fn counts_for(&self, case: &crate::case::Case, delivery_seconds: i32) -> bool {
        let delivered_by = self.requested_at + chrono::TimeDelta::seconds(i64::from(delivery_seconds) + 60);
        !self.never_began() || delivered_by >= case.worked_on_since()
    }
}

/// One step of a command document on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandStep {
    /// The step's name in the document.
    pub name: String,
    /// Its status.
    pub status: String,
    /// Exit code of its script.
    pub response_code: i32,
    /// Whether it printed anything.
    pub has_output: bool,
    /// The beginning of what it printed. From the host: to be cut and escaped before anybody reads it.
    pub said: String,
}

/// What revoke reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeFacts {
    /// What gives the instance its role; none where it has none.
    pub association: Observed<Option<ProfileAssociation>>,
    /// Name of the role in the profile that the instance had before; none where the profile holds none.
    pub role: Observed<Option<String>>,
    /// The other instances of this region that have the role.
    pub shared_with: Observed<Vec<InstanceId>>,
    /// ARN of the quarantine profile; none where it is not deployed.
    pub quarantine_profile: Observed<Option<String>>,
    /// Whether our policy is on the role.
    pub revoked: Observed<bool>,
}

/// The association of an instance profile with an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileAssociation {
    /// Its id.
    pub id: String,
    /// ARN of the instance profile.
    pub profile: String,
}

/// What scope reads; of what the case's playbooks do not ask for, nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeFacts {
    /// The flow logs of the interfaces, their subnets and VPCs.
    pub flow_logs: Observed<Vec<FlowLog>>,
    /// ARN of the instance's role; none where it has none.
    pub role: Observed<Option<String>>,
    /// The buckets whose objects the role may overwrite or delete.
    pub buckets: Observed<Reach>,
    /// What Access Analyzer knows of the role.
    pub analyzed: Observed<Analyzed>,
}

/// A flow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLog {
    /// Its id.
    pub id: String,
    /// The interface, subnet or VPC that it is of.
    pub resource: String,
    /// `ALL`, `ACCEPT` or `REJECT`.
    pub traffic: String,
    /// Whether it delivers.
    pub delivers: bool,
    /// Where to: a log group's name, or an ARN.
    pub destination: String,
    /// Whether it was made for this case.
    pub ours: bool,
}

/// The buckets that a role may do harm to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The buckets.
    pub buckets: Vec<ReachedBucket>,
    /// How many buckets of the account were looked at.
    pub asked: usize,
    /// How many there are besides, which were not.
    pub unasked: usize,
}

/// A bucket whose objects a role may overwrite or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedBucket {
    /// Its name.
    pub name: String,
    /// What the role may do, such as `s3:DeleteObject`.
    pub actions: Vec<String>,
    /// Whether versioning is on.
    pub versioned: Observed<bool>,
    /// Whether versions are deleted with a second factor only.
    pub mfa_delete: bool,
}

/// What Access Analyzer knows of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Analyzed {
    /// The analyzers of the account in the instance's region.
    pub analyzers: Vec<String>,
    /// Their active findings about the role, each in a line.
    pub findings: Vec<String>,
}

/// What release reads: everything that may have to be put back, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// When it was read.
    pub now: Timestamp,
    /// What was done in the case, oldest first; failed attempts included.
    pub done: Vec<Action>,
    /// Since when release waits without a break, where it does.
    pub waiting_since: Option<Timestamp>,
    /// The instance.
    pub instance: Instance,
    /// Its protection.
    pub protection: Observed<Protection>,
    /// The tags of instance, volumes and interfaces.
    pub tags: Observed<TagsByResource>,
    /// The interfaces.
    pub interfaces: Observed<Vec<Interface>>,
    /// The quarantine and pass-through groups of its VPCs.
    pub our_groups: Observed<BTreeSet<GroupId>>,
    /// Of the groups that it had before, those that still exist.
    pub former_groups: Observed<BTreeSet<GroupId>>,
    /// The scaling group it is in.
    pub scaling: Observed<Option<ScalingMembership>>,
    /// The sizes of the scaling group that it was in; none where the group is gone.
    pub scaling_group: Observed<Option<ScalingSizes>>,
    /// Its registrations in the target groups that it was taken out of.
    pub targets: Observed<Vec<TargetRegistration>>,
    /// Of those target groups, the ones that are gone.
    pub gone_target_groups: BTreeSet<String>,
    /// Of the classic load balancers that it was taken out of, those that still exist, and whether it is in them.
    pub classic_load_balancers: Observed<BTreeMap<String, bool>>,
    /// Its instance profile.
    pub association: Observed<Option<ProfileAssociation>>,
    /// Of our policies, those that are still on their role: role and policy.
    pub revocations: Observed<BTreeSet<(String, String)>>,
    /// The network ACLs in which we denied addresses.
    pub acls: Observed<Vec<NetworkAcl>>,
    /// The flow logs that were made for the case.
    pub flow_logs: Observed<BTreeSet<String>>,
    /// The snapshots of the case.
    pub snapshots: Observed<Vec<Snapshot>>,
    /// The case that is open for the instance.
    pub claim: Observed<Option<CaseId>>,
}

/// How the evidence bucket keeps what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketFacts {
    /// Whether versioning is enabled.
    pub versioned: bool,
    /// Object Lock's default mode and days, where it is on: `GOVERNANCE` or `COMPLIANCE`.
    pub lock: Option<(String, i32)>,
    /// The algorithm that objects are encrypted with by default, such as `aws:kms`; none where none is set.
    pub encryption: Observed<Option<String>>,
    /// Which of the four blocks of public access are on.
    pub public_access: Observed<PublicAccessBlock>,
    /// Whether its policy denies every request that comes without TLS.
    pub tls_only: Observed<bool>,
    /// The buckets that it is replicated to, by ARN; empty where it is not.
    pub replicated_to: Observed<Vec<String>>,
}

/// The four blocks of public access of a bucket
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublicAccessBlock {
    /// New public ACLs are refused.
    pub block_acls: bool,
    /// Public ACLs count for nothing.
    pub ignore_acls: bool,
    /// New public policies are refused.
    pub block_policy: bool,
    /// A public policy opens the bucket to nobody outside.
    pub restrict_buckets: bool,
}

/// An object in the evidence bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What verify reads: everything again, from AWS, trusting no stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFacts {
    /// When it was read.
    pub now: Timestamp,
    /// The instance.
    pub instance: Observed<Instance>,
    /// Its protection.
    pub protection: Observed<Protection>,
    /// The tags of instance, volumes and interfaces.
    pub tags: Observed<TagsByResource>,
    /// Scaling group and load balancers.
    pub memberships: DetachFacts,
    /// Interfaces and quarantine groups.
    pub quarantine: QuarantineFacts,
    /// Of the endpoints' security groups: what each lets in.
    pub endpoint_groups: Observed<BTreeMap<GroupId, Vec<Allows>>>,
    /// Our command.
    pub command: Observed<Option<Command>>,
    /// Whether CloudTrail holds the SendCommand of our command; none where there is no command.
    pub recorded: Observed<Option<bool>>,
    /// What CloudTrail shows of the case; none while a stage that does something is waited for.
    pub custody: Observed<Option<Custody>>,
    /// The snapshots of the case beside the instance, copies included.
    pub snapshots: Observed<Vec<Snapshot>>,
    /// The copies of the case in the destination; none where there is no destination.
    pub copies: Observed<Vec<Snapshot>>,
    /// What the volatile folder of the case holds.
    pub volatile: Observed<Vec<StoredObject>>,
    /// What came of the acquisition of memory; none where it has not ended.
    pub memory: Observed<Option<Acquisition>>,
    /// The evidence bucket.
    pub bucket: Observed<BucketFacts>,
}
