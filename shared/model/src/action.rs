//! The actions: everything that Stasis can change in an account, one AWS write each. There is no action
//! that stops, reboots or terminates an instance or deletes evidence, so no plan can hold one.

use crate::Timestamp;
use crate::custody::Custody;
use crate::disks::{LockMode, Place};
use crate::facts::Allows;
use crate::ids::{AccountId, GroupId, InstanceId, InterfaceId, SnapshotId, VolumeId, VpcId};
use crate::memory::{Acquisition, WindowsTool};
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
    /// Takes the instance out of its scaling group.
    DetachFromScalingGroup {
        /// The scaling group.
        group: String,
        /// The instance.
        instance: InstanceId,
        /// Whether the group shrinks by one (or else starts a replacement where it lacks one).
        decrement: bool,
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
    /// Makes the pass-through group of a VPC, which has no rule except while interfaces pass through it.
    CreatePassThroughGroup {
        /// The VPC.
        vpc: VpcId,
        /// Its tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Opens the pass-through group to everything, so that connections become untracked in it.
    OpenPassThroughGroup {
        /// The pass-through group.
        group: GroupId,
        /// Whether it is opened outwards (or else inwards).
        egress: bool,
        /// What it lets through.
        allows: Vec<Allows>,
    },
    /// Takes the rules of the pass-through group away again.
    ClosePassThroughGroup {
        /// The pass-through group.
        group: GroupId,
        /// Whether the rules let out (or else in).
        egress: bool,
        /// What they let through.
        allows: Vec<Allows>,
    },
    /// Takes rules off the quarantine group.
    RevokeRules {
        /// The quarantine group.
        group: GroupId,
        /// Whether the rules let out (or else in).
        egress: bool,
        /// What they let through.
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
        /// The pass-through group that it is put into just before, so that no connection stays tracked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<GroupId>,
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
    /// Keeps what EC2 itself has of the instance's console: all that there is where no agent answers.
    KeepConsole {
        /// The instance.
        instance: InstanceId,
        /// A picture of it (or else what was printed).
        screenshot: bool,
    },
    /// Begins the upload of the memory image.
    BeginUpload {
        /// The instance.
        instance: InstanceId,
        /// Where the image will be.
        key: String,
    },
    /// Writes a manifest: presigned addresses of the parts of that upload and of a few objects, for the collector.
    WriteManifest {
        /// The instance.
        instance: InstanceId,
        /// Its number, from 1.
        number: u32,
        /// Where the image will be.
        key: String,
        /// The upload.
        upload_id: String,
        /// The number of the first part that is signed.
        first_part: u32,
        /// How many parts are signed.
        parts: u32,
        /// The size of a part, in bytes.
        part_bytes: u64,
        /// How many parts may be on their way at the same time.
        uploads_at_once: u8,
    },
    /// Has the agent run the collector.
    AcquireMemory {
        /// The instance.
        instance: InstanceId,
        /// The document.
        document: String,
        /// SHA-256 of the collector; on Windows of the operator's memory tool.
        collector: String,
        /// How that tool is called; none where the collector runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        windows_tool: Option<WindowsTool>,
        /// How long delivery may take, in seconds.
        delivery_seconds: i32,
        /// The number of the manifest that the collector begins with.
        #[serde(default = "first")]
        manifest: u32,
    },
    /// Makes the object of the parts that arrived.
    CompleteUpload {
        /// The instance.
        instance: InstanceId,
        /// Where the image will be.
        key: String,
        /// The upload.
        upload_id: String,
        /// How many parts, from the first on.
        parts: u32,
        /// How many bytes they have together.
        bytes: u64,
        /// The checksum that S3 compares, where one is known.
        crc64nvme: Option<String>,
    },
    /// Writes down what came of the acquisition.
    KeepAcquisition {
        /// The instance.
        instance: InstanceId,
        /// What came of it.
        acquisition: Box<Acquisition>,
    },
    /// Writes down who did what, as CloudTrail shows it.
    KeepCustody {
        /// The instance.
        instance: InstanceId,
        /// What CloudTrail shows.
        custody: Box<Custody>,
    },
    /// Switches flow logs on for interfaces, all traffic, into a log group.
    CreateFlowLogs {
        /// The interfaces.
        interfaces: Vec<InterfaceId>,
        /// Name of the log group.
        log_group: String,
        /// ARN of the role that delivers.
        role: String,
        /// Their tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Switches a flow log of ours off. What it has delivered stays.
    DeleteFlowLog {
        /// The flow log.
        flow_log: String,
    },
    /// Snapshots every EBS volume of the instance at one point in time.
    CreateSnapshots {
        /// The instance.
        instance: InstanceId,
        /// Data volumes that cannot be snapshotted and would have EC2 refuse all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        without: Vec<VolumeId>,
        /// Whether the root volume is left out for the same reason.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        without_root: bool,
        /// What the snapshots say of themselves.
        description: String,
        /// Their tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Snapshots one volume by itself.
    CreateSnapshot {
        /// The volume.
        volume: VolumeId,
        /// What the snapshot says of itself.
        description: String,
        /// Its tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Locks a snapshot, so that it cannot be deleted.
    LockSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Where it is.
        place: Place,
        /// How.
        mode: LockMode,
        /// For how many days.
        days: i32,
    },
    /// Copies a snapshot, encrypted with a key of ours.
    CopySnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Whether it is encrypted itself.
        encrypted: bool,
        /// The region it is in.
        from: crate::ids::Region,
        /// Where the copy goes.
        place: Place,
        /// The key there.
        key: String,
        /// What the copy says of itself.
        description: String,
        /// Its tags, set in the call itself.
        tags: Vec<Tag>,
    },
    /// Lets another account copy a snapshot.
    ShareSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The account.
        account: AccountId,
    },
    /// Takes that back.
    UnshareSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The account.
        account: AccountId,
    },
    /// Adds an entry to a network ACL that denies an address, for the whole subnet.
    DenyAddress {
        /// The entry.
        #[serde(flatten)]
        entry: AclEntry,
    },
    /// Puts another instance profile in place of the instance's, in one call.
    ReplaceInstanceProfile {
        /// The instance.
        instance: InstanceId,
        /// Id of the association.
        association: String,
        /// ARN of the profile before.
        from: String,
        /// ARN of the profile after.
        to: String,
    },
    /// Denies everything to the sessions of a role that were issued before a time, by an inline policy.
    RevokeSessions {
        /// The role.
        role: String,
        /// Name of the policy.
        policy: String,
        /// Sessions older than this are denied.
        issued_before: Timestamp,
    },
    /// Release: gives an interface the groups that it had.
    RestoreGroups {
        /// The interface.
        interface: InterfaceId,
        /// The groups.
        groups: Vec<GroupId>,
        /// The groups that it has now.
        from: Vec<GroupId>,
    },
    /// Release: takes our entry out of a network ACL.
    AllowAddress {
        /// The entry.
        #[serde(flatten)]
        entry: AclEntry,
    },
    /// Release: takes our inline policy off the role.
    RestoreSessions {
        /// The role.
        role: String,
        /// Name of the policy.
        policy: String,
    },
    /// Release: registers targets again, with the ports they had.
    RegisterTargets {
        /// ARN of the target group.
        target_group: String,
        /// The targets.
        targets: Vec<Target>,
    },
    /// Release: registers the instance with a classic load balancer again.
    RegisterWithClassicLoadBalancer {
        /// Name of the load balancer.
        load_balancer: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Release: puts the instance back into its scaling group, which grows by one.
    AttachToScalingGroup {
        /// The scaling group.
        group: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Release: gives the scaling group its minimum back.
    RestoreMinimumSize {
        /// The scaling group.
        group: String,
        /// The minimum now.
        from: i32,
        /// The minimum before.
        to: i32,
    },
    /// Release: puts the instance back into standby, where it was.
    EnterStandby {
        /// The scaling group.
        group: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Release: protects the instance from scale-in, as it was.
    ProtectFromScaleIn {
        /// The scaling group.
        group: String,
        /// The instance.
        instance: InstanceId,
    },
    /// Release: `DisableApiTermination=false`, as it was.
    DisableTerminationProtection {
        /// The instance.
        instance: InstanceId,
    },
    /// Release: `DisableApiStop=false`, as it was.
    DisableStopProtection {
        /// The instance.
        instance: InstanceId,
    },
    /// Release: `InstanceInitiatedShutdownBehavior` as it was.
    RestoreShutdownBehavior {
        /// The instance.
        instance: InstanceId,
        /// `stop` or `terminate`.
        behavior: String,
    },
    /// Release: `DeleteOnTermination=true`, as it was.
    RestoreDeleteOnTermination {
        /// The instance.
        instance: InstanceId,
        /// Its devices.
        devices: Vec<Device>,
    },
    /// Release: gives tags their former values, where ours had replaced them.
    RestoreTags {
        /// The resources.
        resources: Vec<String>,
        /// The tags.
        tags: Vec<Tag>,
    },
    /// Release: says on the instance that it is released.
    MarkReleased {
        /// The instance.
        instance: InstanceId,
    },
    /// Release: closes the claim, so that a new finding opens a new case. The claim's version is kept.
    CloseClaim {
        /// Key of the claim in the evidence bucket.
        key: String,
    },
}

/// An entry of a network ACL that denies one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AclEntry {
    /// The network ACL.
    pub network_acl: String,
    /// Its number: the lowest number that matches decides.
    pub rule_number: i32,
    /// Whether it is about what goes out (or else in).
    pub egress: bool,
    /// The address, as a range of one.
    pub cidr: String,
}

impl fmt::Display for AclEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.egress { "to" } else { "from" };
        write!(out, "everything {way} {} in network ACL {} (entry {})", self.cidr, self.network_acl, self.rule_number)
    }
}

impl Action {
    /// Where it is done, where that need not be beside the instance.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::LockSnapshot { place, .. } | Self::CopySnapshot { place, .. } => Some(place),
            _ => None,
        }
    }

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
            | Self::KeepConsole { instance, .. }
            | Self::BeginUpload { instance, .. }
            | Self::WriteManifest { instance, .. }
            | Self::AcquireMemory { instance, .. }
            | Self::CompleteUpload { instance, .. }
            | Self::KeepAcquisition { instance, .. }
            | Self::KeepCustody { instance, .. }
            | Self::CreateSnapshots { instance, .. }
            | Self::ReplaceInstanceProfile { instance, .. }
            | Self::RegisterWithClassicLoadBalancer { instance, .. }
            | Self::AttachToScalingGroup { instance, .. }
            | Self::EnterStandby { instance, .. }
            | Self::ProtectFromScaleIn { instance, .. }
            | Self::DisableTerminationProtection { instance }
            | Self::DisableStopProtection { instance }
            | Self::RestoreShutdownBehavior { instance, .. }
            | Self::RestoreDeleteOnTermination { instance, .. }
            | Self::MarkReleased { instance } => instance.to_string(),
            Self::Tag { resources, .. } | Self::RestoreTags { resources, .. } => resources.join(", "),
            Self::LowerMinimumSize { group, .. } | Self::RestoreMinimumSize { group, .. } => group.clone(),
            Self::DeregisterTargets { target_group, .. } | Self::RegisterTargets { target_group, .. } => {
                target_group.clone()
            }
            Self::CreateQuarantineGroup { vpc, .. } | Self::CreatePassThroughGroup { vpc, .. } => vpc.to_string(),
            Self::RevokeRules { group, .. }
            | Self::AllowEgress { group, .. }
            | Self::OpenPassThroughGroup { group, .. }
            | Self::ClosePassThroughGroup { group, .. } => group.to_string(),
            Self::Quarantine { interface, .. } | Self::RestoreGroups { interface, .. } => interface.to_string(),
            Self::CreateFlowLogs { interfaces, .. } => {
                interfaces.iter().map(|interface| interface.as_str()).collect::<Vec<_>>().join(", ")
            }
            Self::DeleteFlowLog { flow_log } => flow_log.clone(),
            Self::CreateSnapshot { volume, .. } => volume.to_string(),
            Self::LockSnapshot { snapshot, .. }
            | Self::CopySnapshot { snapshot, .. }
            | Self::ShareSnapshot { snapshot, .. }
            | Self::UnshareSnapshot { snapshot, .. } => snapshot.to_string(),
            Self::DenyAddress { entry } | Self::AllowAddress { entry } => entry.network_acl.clone(),
            Self::RevokeSessions { role, .. } | Self::RestoreSessions { role, .. } => role.clone(),
            Self::CloseClaim { key } => key.clone(),
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
            | Self::KeepVolumes { .. }
            | Self::DisableTerminationProtection { .. }
            | Self::DisableStopProtection { .. }
            | Self::RestoreShutdownBehavior { .. }
            | Self::RestoreDeleteOnTermination { .. } => &["ec2:ModifyInstanceAttribute"],
            Self::Tag { .. } | Self::RestoreTags { .. } | Self::MarkReleased { .. } => &["ec2:CreateTags"],
            Self::LowerMinimumSize { .. } | Self::RestoreMinimumSize { .. } => &["autoscaling:UpdateAutoScalingGroup"],
            Self::AttachToScalingGroup { .. } => &["autoscaling:AttachInstances"],
            Self::EnterStandby { .. } => &["autoscaling:EnterStandby"],
            Self::ProtectFromScaleIn { .. } => &["autoscaling:SetInstanceProtection"],
            Self::RegisterTargets { .. } => &["elasticloadbalancing:RegisterTargets"],
            Self::RegisterWithClassicLoadBalancer { .. } => &["elasticloadbalancing:RegisterInstancesWithLoadBalancer"],
            Self::DenyAddress { .. } => &["ec2:CreateNetworkAclEntry"],
            Self::AllowAddress { .. } => &["ec2:DeleteNetworkAclEntry"],
            // Whoever replaces a profile passes its role on.
            Self::ReplaceInstanceProfile { .. } => &["ec2:ReplaceIamInstanceProfileAssociation", "iam:PassRole"],
            Self::RevokeSessions { .. } => &["iam:PutRolePolicy"],
            Self::RestoreSessions { .. } => &["iam:DeleteRolePolicy"],
            Self::CloseClaim { .. } => &["s3:DeleteObject"],
            Self::DetachFromScalingGroup { .. } => &["autoscaling:DetachInstances"],
            Self::DeregisterTargets { .. } => &["elasticloadbalancing:DeregisterTargets"],
            Self::DeregisterFromClassicLoadBalancer { .. } => {
                &["elasticloadbalancing:DeregisterInstancesFromLoadBalancer"]
            }
            Self::CreateQuarantineGroup { .. } | Self::CreatePassThroughGroup { .. } => {
                &["ec2:CreateSecurityGroup", "ec2:CreateTags"]
            }
            Self::RevokeRules { egress: true, .. } | Self::ClosePassThroughGroup { egress: true, .. } => {
                &["ec2:DescribeSecurityGroupRules", "ec2:RevokeSecurityGroupEgress"]
            }
            Self::RevokeRules { egress: false, .. } | Self::ClosePassThroughGroup { egress: false, .. } => {
                &["ec2:DescribeSecurityGroupRules", "ec2:RevokeSecurityGroupIngress"]
            }
            Self::AllowEgress { .. } | Self::OpenPassThroughGroup { egress: true, .. } => {
                &["ec2:AuthorizeSecurityGroupEgress"]
            }
            Self::OpenPassThroughGroup { egress: false, .. } => &["ec2:AuthorizeSecurityGroupIngress"],
            Self::Quarantine { .. } | Self::RestoreGroups { .. } => &["ec2:ModifyNetworkInterfaceAttribute"],
            Self::SendCommand { .. } => &["ssm:SendCommand"],
            Self::KeepCommandOutput { .. } => &["ssm:GetCommandInvocation", "s3:PutObject"],
            Self::KeepConsole { screenshot: true, .. } => &["ec2:GetConsoleScreenshot", "s3:PutObject"],
            Self::KeepConsole { screenshot: false, .. } => &["ec2:GetConsoleOutput", "s3:PutObject"],
            Self::BeginUpload { .. } | Self::KeepAcquisition { .. } | Self::KeepCustody { .. } => &["s3:PutObject"],
            Self::WriteManifest { .. } => &["sts:AssumeRole", "s3:PutObject"],
            Self::AcquireMemory { .. } => &["sts:AssumeRole", "ssm:SendCommand"],
            Self::CompleteUpload { .. } => &["s3:ListMultipartUploadParts", "s3:PutObject"],
            Self::CreateSnapshots { .. } => &["ec2:CreateSnapshots", "ec2:CreateTags"],
            Self::CreateSnapshot { .. } => &["ec2:CreateSnapshot", "ec2:CreateTags"],
            Self::CreateFlowLogs { .. } => &["ec2:CreateFlowLogs", "ec2:CreateTags", "iam:PassRole"],
            Self::DeleteFlowLog { .. } => &["ec2:DeleteFlowLogs"],
            Self::LockSnapshot { .. } => &["ec2:LockSnapshot"],
            // Encrypting again makes EBS a grant on both keys.
            Self::CopySnapshot { .. } => &[
                "ec2:CopySnapshot",
                "ec2:CreateTags",
                "kms:CreateGrant",
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:GenerateDataKeyWithoutPlaintext",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
            ],
            Self::ShareSnapshot { .. } | Self::UnshareSnapshot { .. } => &["ec2:ModifySnapshotAttribute"],
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
            Self::DetachFromScalingGroup { group, decrement: true, .. } => {
                write!(out, "detach from scaling group {group}, which shrinks by one")
            }
            Self::DetachFromScalingGroup { group, decrement: false, .. } => {
                write!(out, "detach from scaling group {group}, which keeps its size")
            }
            Self::DeregisterTargets { target_group, targets } => {
                write!(
                    out,
                    "deregister {} from target group {}",
                    targets_in_words(targets),
                    target_group_name(target_group)
                )
            }
            Self::DeregisterFromClassicLoadBalancer { load_balancer, .. } => {
                write!(out, "deregister from classic load balancer {load_balancer}")
            }
            Self::CreateQuarantineGroup { vpc, .. } => write!(out, "make the quarantine group of {vpc}"),
            Self::CreatePassThroughGroup { vpc, .. } => write!(out, "make the pass-through group of {vpc}"),
            Self::OpenPassThroughGroup { group, egress, .. } => {
                write!(out, "open pass-through group {group} {}", if *egress { "outwards" } else { "inwards" })
            }
            Self::ClosePassThroughGroup { group, egress, .. } => {
                write!(out, "close pass-through group {group} {}", if *egress { "outwards" } else { "inwards" })
            }
            Self::RevokeRules { group, egress, allows } => {
                let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
                let way = if *egress { "out" } else { "in" };
                write!(out, "take from quarantine group {group} what it lets {way}: {}", rules.join("; "))
            }
            Self::AllowEgress { group, allows } => {
                let rules: Vec<String> = allows.iter().map(ToString::to_string).collect();
                write!(out, "let quarantine group {group} reach Systems Manager: {}", rules.join("; "))
            }
            Self::Quarantine { interface, group, via, from } => {
                write!(out, "move interface {interface} from {} to quarantine group {group}", groups_in_words(from))?;
                match via {
                    Some(via) => write!(out, " by way of {via}, so that open connections are cut"),
                    None => Ok(()),
                }
            }
            Self::SendCommand { document, .. } => write!(out, "have the agent read volatile data ({document})"),
            Self::KeepCommandOutput { step, .. } => write!(out, "keep what {step} printed"),
            Self::KeepConsole { screenshot: true, .. } => write!(out, "keep a picture of the console"),
            Self::KeepConsole { screenshot: false, .. } => write!(out, "keep what the console printed"),
            Self::BeginUpload { .. } => write!(out, "begin the upload of the memory image"),
            Self::WriteManifest { number, parts, part_bytes, .. } => {
                write!(out, "write manifest {number}: addresses for {parts} parts of {} MiB", part_bytes >> 20)
            }
            Self::AcquireMemory { document, windows_tool: Some(_), .. } => {
                write!(out, "have the agent run the memory tool for Windows ({document})")
            }
            Self::AcquireMemory { document, .. } => write!(out, "have the agent run the collector ({document})"),
            Self::CompleteUpload { parts, bytes, .. } => {
                write!(out, "make the image of {parts} parts, {bytes} bytes")
            }
            Self::KeepCustody { custody, .. } => {
                write!(out, "write down the {} acts that CloudTrail shows", custody.acts.len())
            }
            Self::KeepAcquisition { acquisition, .. } => write!(out, "write down the outcome: {}", acquisition.status),
            Self::CreateSnapshots { without, without_root, .. } => {
                let root = without_root.then_some("the root volume");
                let names: Vec<&str> = root.into_iter().chain(without.iter().map(VolumeId::as_str)).collect();
                let but = if names.is_empty() { String::new() } else { format!(" but {}", names.join(", ")) };
                write!(out, "snapshot every EBS volume{but} at one point in time")
            }
            Self::CreateFlowLogs { log_group, .. } => {
                write!(out, "switch flow logs on, of all traffic, into log group {log_group}")
            }
            Self::DeleteFlowLog { .. } => write!(out, "switch this flow log of ours off"),
            Self::CreateSnapshot { .. } => write!(out, "snapshot this volume by itself"),
            Self::LockSnapshot { mode, days, place, .. } => {
                write!(out, "lock in {mode} mode for {days} days ({place})")
            }
            Self::CopySnapshot { place, key, .. } => write!(out, "copy to {place}, encrypted with {key}"),
            Self::ShareSnapshot { account, .. } => write!(out, "let account {account} copy it"),
            Self::UnshareSnapshot { account, .. } => write!(out, "stop sharing it with account {account}"),
            Self::DenyAddress { entry } => write!(out, "deny {entry}, for the whole subnet"),
            Self::ReplaceInstanceProfile { from, to, .. } => {
                write!(out, "replace instance profile {} by {}", arn_name(from), arn_name(to))
            }
            Self::RevokeSessions { role, issued_before, .. } => {
                write!(out, "deny everything to sessions of role {role} issued before {}", issued_before.to_rfc3339())
            }
            Self::RestoreGroups { interface, groups, from } => write!(
                out,
                "give interface {interface} its groups {} back in place of {}",
                groups_in_words(groups),
                groups_in_words(from)
            ),
            Self::AllowAddress { entry } => write!(out, "no longer deny {entry}"),
            Self::RestoreSessions { role, policy } => write!(out, "take policy {policy} off role {role}"),
            Self::RegisterTargets { target_group, targets } => {
                write!(
                    out,
                    "register {} with target group {}",
                    targets_in_words(targets),
                    target_group_name(target_group)
                )
            }
            Self::RegisterWithClassicLoadBalancer { load_balancer, .. } => {
                write!(out, "register with classic load balancer {load_balancer}")
            }
            Self::AttachToScalingGroup { group, .. } => {
                write!(out, "attach to scaling group {group}, which grows by one")
            }
            Self::RestoreMinimumSize { group, from, to } => {
                write!(out, "raise the minimum size of scaling group {group} from {from} back to {to}")
            }
            Self::EnterStandby { group, .. } => write!(out, "put back into standby in scaling group {group}"),
            Self::ProtectFromScaleIn { group, .. } => {
                write!(out, "protect from scale-in of scaling group {group} again")
            }
            Self::DisableTerminationProtection { .. } => write!(out, "turn termination protection off again"),
            Self::DisableStopProtection { .. } => write!(out, "turn stop protection off again"),
            Self::RestoreShutdownBehavior { behavior, .. } => {
                write!(out, "make a shutdown from inside {behavior} again")
            }
            Self::RestoreDeleteOnTermination { devices, .. } => {
                let names: Vec<String> = devices.iter().map(|d| format!("{} ({})", d.volume_id, d.device)).collect();
                write!(out, "let {} go with the instance again", names.join(", "))
            }
            Self::RestoreTags { resources, tags } => {
                let tags: Vec<String> = tags.iter().map(|t| format!("{}={}", t.key, t.value)).collect();
                write!(out, "give {} its former tag {} back", resources.join(", "), tags.join(", "))
            }
            Self::MarkReleased { .. } => write!(out, "tag the instance as released"),
            Self::CloseClaim { .. } => write!(out, "close the case: a new finding opens a new one"),
        }
    }
}

/// Of actions that were written down before there was a choice.
fn first() -> u32 {
    1
}

fn targets_in_words(targets: &[Target]) -> String {
    let names: Vec<String> =
        targets.iter().map(|t| t.port.map_or_else(|| t.id.clone(), |port| format!("{}:{port}", t.id))).collect();
    names.join(", ")
}

fn groups_in_words(groups: &[GroupId]) -> String {
    let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    names.join(", ")
}

/// The name at the end of an ARN; the ARN itself where it is of another form.
pub fn arn_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The name in the ARN of a target group; the ARN itself where it is of another form.
pub fn target_group_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}
