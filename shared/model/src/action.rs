//! The actions: everything that Stasis can change in an account, one AWS write each. There is no action
//! that stops, reboots or terminates an instance or deletes evidence, so no plan can hold one.

use crate::facts::Allows;
use crate::ids::{GroupId, InstanceId, InterfaceId, VolumeId, VpcId};
use crate::tags::Tag;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A device whose volume must outlive the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Device name, such as `/dev/xvda`.
    pub device: String,
    /// The volume attached as it.
    pub volume_id: VolumeId,
}

/// A target as a target group knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Instance id or address.
    pub id: String,
    /// Port; must be repeated to deregister just this registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Availability zone, for an address outside the VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// `DisableApiTermination=true`. (`false` would switch the protection off.)
    EnableTerminationProtection {
        /// The instance.
        instance: InstanceId,
    },
    /// `DisableApiStop=true`.
    EnableStopProtection {
        /// The instance.
        instance: InstanceId,
    },
    /// `InstanceInitiatedShutdownBehavior=stop`: a shutdown from inside must not terminate.
    StopOnShutdown {
        /// The instance.
        instance: InstanceId,
    },
    /// `DeleteOnTermination=false`.
    KeepVolumes {
        /// The instance.
        instance: InstanceId,
        /// Its devices that would lose their volume.
        devices: Vec<Device>,
    },
    /// Tags resources.
    Tag {
        /// Ids of instance, volumes and interfaces.
        resources: Vec<String>,
        /// The tags.
        tags: Vec<Tag>,
    },
    /// Makes room for a detachment: AWS refuses one that would go below the minimum.
    LowerMinimumSize {
        /// The scaling group.
        group: String,
        /// The minimum before.
        from: i32,
        /// The minimum after.
        to: i32,
    },
    /// Takes the instance out of its scaling group, which shrinks by one and starts no replacement.
    DetachFromScalingGroup {
        /// The scaling group.
        group: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Takes targets out of a target group.
    DeregisterTargets {
        /// ARN of the target group.
        target_group: String,
        /// The targets.
        targets: Vec<Target>,
    },
    /// Takes the instance out of a classic load balancer.
    DeregisterFromClassicLoadBalancer {
        /// Name of the load balancer.
        load_balancer: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Makes the quarantine group of a VPC. AWS gives it an allow-all egress rule: converge it before use.
    CreateQuarantineGroup {
        /// The VPC.
        vpc: VpcId,
        /// Its tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Takes rules off the quarantine group.
    RevokeRules {
        /// The quarantine group.
        group: GroupId,
        /// Whether the rules let out (or else in).
        egress: bool,
        /// Ids of the rules.
        rules: Vec<String>,
        /// What they let through, for the record.
        allows: Vec<Allows>,
    },
    /// Adds an egress rule to the quarantine group.
    AllowEgress {
        /// The quarantine group.
        group: GroupId,
        /// What to let out.
        allows: Vec<Allows>,
    },
    /// Puts a network interface into the quarantine group and nothing else.
    Quarantine {
        /// The interface.
        interface: InterfaceId,
        /// The quarantine group of its VPC.
        group: GroupId,
        /// The groups it had.
        from: Vec<GroupId>,
    },
    /// Has the agent read volatile data by Stasis' own Command document.
    SendCommand {
        /// The instance.
        instance: InstanceId,
        /// The document.
        document: String,
        /// Where in the evidence bucket the agent puts its output.
        output_prefix: String,
        /// How long delivery may take, in seconds.
        delivery_seconds: i32,
    },
    /// Copies what a step printed, as Systems Manager has it, into the case file: the agent's own upload
    /// needs a permission that the instance's role may lack.
    KeepCommandOutput {
        /// The instance.
        instance: InstanceId,
        /// The command.
        command_id: String,
        /// The step.
        step: String,
    },
    /// Snapshots every EBS volume of the instance at one point in time.
    CreateSnapshots {
        /// The instance.
        instance: InstanceId,
        /// What the snapshots say of themselves.
        description: String,
        /// Their tags, set in the call itself.
        tags: Vec<Tag>,
    },
}

impl Action {
    /// What the action is done to.
    pub fn target(&self) -> String {
        match self {
            Self::EnableTerminationProtection { instance }
            | Self::EnableStopProtection { instance }
            | Self::StopOnShutdown { instance }
            | Self::KeepVolumes { instance, .. }
            | Self::DetachFromScalingGroup { instance, .. }
            | Self::DeregisterFromClassicLoadBalancer { instance, .. }
            | Self::SendCommand { instance, .. }
            | Self::KeepCommandOutput { instance, .. }
            | Self::CreateSnapshots { instance, .. } => instance.to_string(),
            Self::Tag { resources, .. } => resources.join(", "),
            Self::LowerMinimumSize { group, .. } => group.clone(),
            Self::DeregisterTargets { target_group, .. } => target_group.clone(),
            Self::CreateQuarantineGroup { vpc, .. } => vpc.to_string(),
            Self::RevokeRules { group, .. } | Self::AllowEgress { group, .. } => group.to_string(),
            Self::Quarantine { interface, .. } => interface.to_string(),
        }
    }

    /// The IAM actions that performing it needs
    /// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html> and its like;
    /// tags inside a create call need `ec2:CreateTags` too).
    pub fn permissions(&self) -> &'static [&'static str] {
        match self {
            Self::EnableTerminationProtection { .. }
            | Self::EnableStopProtection { .. }
            | Self::StopOnShutdown { .. }
            | Self::KeepVolumes { .. } => &["ec2:ModifyInstanceAttribute"],
            Self::Tag { .. } => &["ec2:CreateTags"],
            Self::LowerMinimumSize { .. } => &["autoscaling:UpdateAutoScalingGroup"],
            Self::DetachFromScalingGroup { .. } => &["autoscaling:DetachInstances"],
            Self::DeregisterTargets { .. } => &["elasticloadbalancing:DeregisterTargets"],
            Self::DeregisterFromClassicLoadBalancer { .. } => {
                &["elasticloadbalancing:DeregisterInstancesFromLoadBalancer"]
            }
            Self::CreateQuarantineGroup { .. } => &["ec2:CreateSecurityGroup", "ec2:CreateTags"],
            Self::RevokeRules { egress: true, .. } => &["ec2:RevokeSecurityGroupEgress"],
            Self::RevokeRules { egress: false, .. } => &["ec2:RevokeSecurityGroupIngress"],
            Self::AllowEgress { .. } => &["ec2:AuthorizeSecurityGroupEgress"],
            Self::Quarantine { .. } => &["ec2:ModifyNetworkInterfaceAttribute"],
            Self::SendCommand { .. } => &["ssm:SendCommand"],
            Self::KeepCommandOutput { .. } => &["ssm:GetCommandInvocation", "s3:PutObject"],
            Self::CreateSnapshots { .. } => &["ec2:CreateSnapshots", "ec2:CreateTags"],
        }
    }
}

/// The action in plain words, for someone who does not know AWS' names for it.
impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnableTerminationProtection { .. } => write!(out, "turn termination protection on"),
            Self::EnableStopProtection { .. } => write!(out, "turn stop protection on"),
            Self::StopOnShutdown { .. } => write!(out, "make a shutdown from inside stop, not terminate"),
            Self::KeepVolumes { devices, .. } => {
                let names: Vec<String> = devices.iter().map(|d| format!("{} ({})", d.volume_id, d.device)).collect();
                write!(out, "keep {} if the instance is ever terminated", names.join(", "))
            }
            Self::Tag { resources, .. } => write!(out, "tag {} as evidence", resources.join(", ")),
            Self::LowerMinimumSize { group, from, to } => {
                write!(
                    out,
                    "lower the minimum size of scaling group {group} from {from} to {to}, to allow the detachment"
                )
            }
            Self::DetachFromScalingGroup { group, .. } => {
                write!(out, "detach from scaling group {group}, which shrinks by one")
            }
            Self::DeregisterTargets { target_group, targets } => {
                let names: Vec<String> = targets
                    .iter()
                    .map(|t| t.port.map_or_else(|| t.id.clone(), |port| format!("{}:{port}", t.id)))
                    .collect();
                write!(out, "deregister {} from target group {}", names.join(", "), target_group_name(target_group))
            }
            Self::DeregisterFromClassicLoadBalancer { load_balancer, .. } => {
                write!(out, "deregister from classic load balancer {load_balancer}")
            }
            Self::CreateQuarantineGroup { vpc, .. } => write!(out, "make the quarantine group of {vpc}"),
            Self::RevokeRules { group, egress, allows, .. } => {
                let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
                let way = if *egress { "out" } else { "in" };
                write!(out, "take from quarantine group {group} what it lets {way}: {}", rules.join("; "))
            }
            Self::AllowEgress { group, allows } => {
                let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
                write!(out, "let quarantine group {group} reach Systems Manager: {}", rules.join("; "))
            }
            Self::Quarantine { interface, group, from } => {
                let from: Vec<&str> = from.iter().map(GroupId::as_str).collect();
                write!(out, "move interface {interface} from {} to quarantine group {group}", from.join(", "))
            }
            Self::SendCommand { document, .. } => write!(out, "have the agent read volatile data ({document})"),
            Self::KeepCommandOutput { step, .. } => write!(out, "keep what {step} printed"),
            Self::CreateSnapshots { .. } => write!(out, "snapshot every EBS volume at one point in time"),
        }
    }
}

/// The name in the ARN of a target group; the ARN itself where it is of another form.
pub fn target_group_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}
