//! The baseline: the facts about an instance from before Stasis touched anything. Written once per case
//! and never again, because a second reading would record the half-contained state as the original one.

use crate::Timestamp;
use crate::ids::{GroupId, InstanceId, InterfaceId, VolumeId, VpcId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tags by resource id.
pub type TagsByResource = BTreeMap<String, BTreeMap<String, String>>;

/// A fact that was read, or why it could not be. One read that fails must not stop the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Observed<T> {
    /// What AWS said.
    Known(T),
    /// Why it is not known.
    Unknown(String),
}

impl<T> Observed<T> {
    /// The fact, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Unknown(_) => None,
        }
    }

    /// A known fact, changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Self::Known(fact) => Observed::Known(change(fact)),
            Self::Unknown(why) => Observed::Unknown(why),
        }
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Observed<T> {
    fn from(read: Result<T, E>) -> Self {
        match read {
            Ok(fact) => Self::Known(fact),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// The instance itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// EC2's state name, such as `running`.
    pub state: String,
    /// Instance type.
    pub instance_type: String,
    /// Image it was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// EC2's platform details, such as `Linux/UNIX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<Timestamp>,
    /// Whether it is a Spot Instance: those know no termination or stop protection.
    pub spot: bool,
    /// Its VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<VpcId>,
    /// Its availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// ARN of its instance profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// Device name of the root volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_device: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its EBS volumes, by device name.
    pub volumes: Vec<Volume>,
    /// Its network interfaces, by device index.
    pub interfaces: Vec<Interface>,
}

impl Instance {
    /// Whether it is terminated, or about to be: then there is nothing left to hold.
    pub fn is_gone(&self) -> bool {
        matches!(self.state.as_str(), "terminated" | "shutting-down")
    }

    /// The `Name` tag, where there is one. Foreign text: escape it wherever it goes.
    pub fn name(&self) -> Option<&str> {
        self.tags.get("Name").map(String::as_str)
    }

    /// The ids of everything of it that carries a case's tags: itself, its volumes, its interfaces.
    pub fn resources(&self, id: &InstanceId) -> Vec<String> {
        let mut ids = vec![id.to_string()];
        ids.extend(self.volumes.iter().map(|v| v.volume_id.to_string()));
        ids.extend(self.interfaces.iter().map(|i| i.interface_id.to_string()));
        ids
    }
}

/// An attached EBS volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The volume.
    pub volume_id: VolumeId,
    /// The device name it is attached as.
    pub device: String,
    /// Whether it would be deleted with the instance.
    pub delete_on_termination: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The interface.
    pub interface_id: InterfaceId,
    /// Its place on the instance.
    pub device_index: i32,
    /// The VPC it is in; with multi-VPC interfaces not always the instance's.
    pub vpc_id: VpcId,
    /// Its subnet.
    pub subnet_id: String,
    /// Its security groups.
    pub groups: Vec<GroupId>,
    /// Every private IPv4 and IPv6 address.
    pub addresses: Vec<String>,
    /// Its public IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_address: Option<String>,
    /// The source/destination check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<bool>,
}

/// What keeps the instance from being stopped or terminated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protection {
    /// `DisableApiTermination`: true means protected.
    pub termination: bool,
    /// `DisableApiStop`: true means protected.
    pub stop: bool,
    /// `InstanceInitiatedShutdownBehavior`: `stop` or `terminate`.
    pub shutdown_behavior: String,
}

/// Membership in an Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingMembership {
    /// The group.
    pub group: String,
    /// The instance's state in it, such as `InService`.
    pub lifecycle_state: String,
    /// Whether the group may not choose it when it shrinks.
    pub protected_from_scale_in: bool,
    /// The group's sizes; none where they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<ScalingSizes>,
}

/// The sizes of an Auto Scaling group, in instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingSizes {
    /// The least it keeps.
    pub min: i32,
    /// The most it allows.
    pub max: i32,
    /// What it aims for.
    pub desired: i32,
}

/// A registration in a target group of an Application, Network or Gateway Load Balancer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRegistration {
    /// The target group.
    pub target_group: String,
    /// The target: the instance id, or one of its addresses.
    pub target: String,
    /// The port it is registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// The availability zone it is registered with, for addresses outside the VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// The load balancer's word on it, such as `healthy` or `draining`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

impl TargetRegistration {
    /// Whether it is already on its way out.
    pub fn is_leaving(&self) -> bool {
        self.health.as_deref() == Some("draining")
    }
}

/// What Systems Manager knows of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub ping_status: String,
    /// `Linux`, `Windows` or `MacOS`.
    pub platform_type: String,
    /// Name of the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_name: Option<String>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Agent {
    /// Whether Run Command reaches it.
    pub fn is_online(&self) -> bool {
        self.ping_status == "Online"
    }
}

/// Everything from before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// Layout of this document.
    pub schema: u32,
    /// When it was read.
    pub observed_at: Timestamp,
    /// The instance, its volumes and interfaces.
    pub instance: Instance,
    /// Its protection.
    pub protection: Observed<Protection>,
    /// Its Auto Scaling group.
    pub scaling: Observed<Option<ScalingMembership>>,
    /// Its registrations in target groups.
    pub targets: Observed<Vec<TargetRegistration>>,
    /// Target groups that were not asked within the time that containment may wait for.
    #[serde(default)]
    pub targets_unasked: usize,
    /// The classic load balancers it is behind.
    pub classic_load_balancers: Observed<Vec<String>>,
    /// The tags of instance, volumes and interfaces, by resource id: ours may replace one of the same key.
    pub tags: Observed<TagsByResource>,
    /// The agent; none where Systems Manager does not manage the instance.
    pub agent: Observed<Option<Agent>>,
}
