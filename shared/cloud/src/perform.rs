//! Doing: one AWS write for each action, all of them in this file, so that what Stasis can change is read
//! in one place. What to do was decided elsewhere.

use crate::casefile::Created;
use crate::observe::{group_name, group_name_of_case, is_ours, rule_allows};
use crate::presign::{Wanted, manifest_key};
use crate::{Cloud, CloudError};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ec2::operation::RequestId as _;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, CopyTagsFromSource, EbsInstanceBlockDeviceSpecification, Filter,
    FlowLogsResourceType, IamInstanceProfileSpecification, InstanceBlockDeviceMappingSpecification,
    InstanceSpecification, IpPermission, IpRange, Ipv6Range, LockMode, LogDestinationType, OperationType, PrefixListId,
    ResourceType, RuleAction, SecurityGroupRule, SnapshotAttributeName, TagSpecification, TrafficType,
    UnsuccessfulItem, UserIdGroupPair,
};
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::SecondsFormat;
use stasis_model::Timestamp;
use stasis_model::action::{AclEntry, Action, Device, Target};
use stasis_model::case::Case;
use stasis_model::custody::{self, Custody};
use stasis_model::disks::{self, Place};
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::{Allows, Peer};
use stasis_model::ids::{AccountId, CaseId, GroupId, InstanceId, InterfaceId, Region, SnapshotId, VolumeId, VpcId};
use stasis_model::memory::{Acquisition, FOLDER, WindowsTool, outcome_name};
use stasis_model::stage::Outcome;
use stasis_model::tags::{self, Tag};
use std::time::{Duration, Instant};

/// S3 may take minutes to complete a large upload
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>): nearly as long as the function has.
const COMPLETION_LIMIT: Duration = Duration::from_secs(90);

/// How long a call may take that is not repeated.
const ONE_TRY: Duration = Duration::from_secs(25);

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    /// Applied, or so already.
    pub outcome: Outcome,
    /// AWS' id of the request.
    pub request_id: Option<String>,
    /// The evidence that it made.
    pub evidence: Vec<Evidence>,
    /// What the reader of the report should know.
    pub notes: Vec<String>,
}

impl Performed {
    fn applied(request_id: Option<&str>) -> Self {
        Self {
            outcome: Outcome::Applied,
            request_id: request_id.map(str::to_owned),
            evidence: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn with(mut self, evidence: Vec<Evidence>) -> Self {
        self.evidence = evidence;
        self
    }

    fn noting(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// AWS says that it was so already.
    fn already(mut self) -> Self {
        self.outcome = Outcome::AlreadySo;
        self
    }
}

/// What became of a group that was to be made.
enum Made {
    /// It is there.
    Ours(Performed),
    /// A group of somebody else, by its id, has the name.
    TakenBy(String),
}

impl Cloud {
    /// Performs one action of a case.
    ///
    /// # Errors
    /// What AWS answered, where it did not do it.
    pub async fn perform(&self, case: &Case, action: &Action) -> Result<Performed, CloudError> {
        match action {
            Action::EnableTerminationProtection { instance } => self.termination_protection(instance, true).await,
            Action::EnableStopProtection { instance } => self.stop_protection(instance, true).await,
            Action::StopOnShutdown { instance } => self.shutdown_behavior(instance, "stop").await,
            Action::KeepVolumes { instance, devices } => self.delete_on_termination(instance, devices, false).await,
            Action::Tag { resources, tags } => self.tag(resources, tags).await,
            Action::LowerMinimumSize { group, to, .. } | Action::RestoreMinimumSize { group, to, .. } => {
                self.set_minimum_size(group, *to).await
            }
            Action::DetachFromScalingGroup { group, instance, decrement } => {
                self.detach(group, instance, *decrement).await
            }
            Action::DeregisterTargets { target_group, targets } => self.deregister_targets(target_group, targets).await,
            Action::DeregisterFromClassicLoadBalancer { load_balancer, instance } => {
                self.deregister_classic(load_balancer, instance).await
            }
            Action::CreateQuarantineGroup { vpc, tags } => {
                self.create_group(
                    &case.case_id,
                    vpc,
                    tags::QUARANTINE_VALUE,
                    "Stasis: holds compromised instances; nothing comes in",
                    tags,
                )
                .await
            }
            Action::CreatePassThroughGroup { vpc, tags } => {
                let purpose = "Stasis: open for a moment while interfaces pass through it; otherwise without rules";
                self.create_group(&case.case_id, vpc, tags::PASS_THROUGH_VALUE, purpose, tags).await
            }
            Action::RevokeRules { group, egress, allows } | Action::ClosePassThroughGroup { group, egress, allows } => {
                self.revoke_rules(group, *egress, allows).await
            }
            Action::AllowEgress { group, allows } | Action::OpenPassThroughGroup { group, egress: true, allows } => {
                self.allow_egress(group, allows).await
            }
            Action::OpenPassThroughGroup { group, egress: false, allows } => self.allow_ingress(group, allows).await,
            Action::Quarantine { interface, group, via, from } => {
                self.quarantine(interface, group, via.as_ref(), from).await
            }
            Action::DenyAddress { entry } => self.deny_address(entry).await,
            Action::AllowAddress { entry } => self.allow_address(entry).await,
            Action::ReplaceInstanceProfile { association, to, .. } => self.replace_profile(association, to).await,
            Action::RevokeSessions { role, policy, issued_before } => {
                self.revoke_sessions(role, policy, *issued_before).await
            }
            Action::RestoreSessions { role, policy } => self.restore_sessions(role, policy).await,
            Action::RestoreGroups { interface, groups, .. } => self.set_groups(interface, groups).await,
            Action::RegisterTargets { target_group, targets } => self.register_targets(target_group, targets).await,
            Action::RegisterWithClassicLoadBalancer { load_balancer, instance } => {
                self.register_classic(load_balancer, instance).await
            }
            Action::AttachToScalingGroup { group, instance } => self.attach(group, instance).await,
            Action::EnterStandby { group, instance } => self.enter_standby(group, instance).await,
            Action::ProtectFromScaleIn { group, instance } => self.protect_from_scale_in(group, instance).await,
            Action::DisableTerminationProtection { instance } => self.termination_protection(instance, false).await,
            Action::DisableStopProtection { instance } => self.stop_protection(instance, false).await,
            Action::RestoreShutdownBehavior { instance, behavior } => self.shutdown_behavior(instance, behavior).await,
            Action::RestoreDeleteOnTermination { instance, devices } => {
                self.delete_on_termination(instance, devices, true).await
            }
            Action::RestoreTags { resources, tags } => self.tag(resources, tags).await,
            Action::MarkReleased { instance } => {
                self.tag(&[instance.to_string()], &[Tag::new(tags::STATUS, tags::RELEASED)]).await
            }
            Action::CloseClaim { key } => self.close_claim(key).await,
            Action::SendCommand { instance, document, output_prefix, delivery_seconds } => {
                self.send_command(case, instance, document, output_prefix, *delivery_seconds).await
            }
            Action::KeepCommandOutput { instance, command_id, step } => {
                self.keep_command_output(case, instance, command_id, step).await
            }
            Action::KeepConsole { instance, screenshot: false } => self.keep_console_output(case, instance).await,
            Action::KeepConsole { instance, screenshot: true } => self.keep_console_screenshot(case, instance).await,
            Action::BeginUpload { key, .. } => self.begin_upload(key).await,
            Action::WriteManifest {
                number, key, upload_id, first_part, parts, part_bytes, uploads_at_once, ..
            } => {
                let wanted = Wanted {
                    number: *number,
                    key,
                    upload_id,
                    first_part: *first_part,
                    parts: *parts,
                    part_bytes: *part_bytes,
                    uploads_at_once: *uploads_at_once,
                };
                self.write_manifest(case, wanted).await
            }
            Action::AcquireMemory { instance, document, collector, windows_tool, delivery_seconds, manifest } => {
                let begins = (collector.as_str(), *manifest);
                self.acquire_memory(case, instance, document, begins, windows_tool.as_ref(), *delivery_seconds).await
            }
            Action::CompleteUpload { key, upload_id, parts, bytes, crc64nvme, .. } => {
                self.complete_upload(key, upload_id, *parts, *bytes, crc64nvme.as_deref()).await
            }
            Action::KeepAcquisition { acquisition, .. } => self.keep_acquisition(case, acquisition).await,
            Action::KeepCustody { custody, .. } => self.keep_custody(case, custody).await,
            Action::CreateSnapshots { instance, without, without_root, description, tags } => {
                let copied = may_copy_tags(case);
                self.create_snapshots(instance, without, *without_root, copied, description, tags).await
            }
            Action::CreateSnapshot { volume, description, tags } => {
                self.create_snapshot(volume, description, tags).await
            }
            Action::CreateFlowLogs { interfaces, log_group, role, tags } => {
                self.create_flow_logs(case, interfaces, log_group, role, tags).await
            }
            Action::DeleteFlowLog { flow_log } => self.delete_flow_log(flow_log).await,
            Action::LockSnapshot { snapshot, place, mode, days } => {
                self.lock_snapshot(case, snapshot, place, *mode, *days).await
            }
            Action::CopySnapshot { snapshot, encrypted, from, place, key, description, tags } => {
                let copy = Copy { encrypted: *encrypted, from, place, key, description, tags };
                self.copy_snapshot(case, snapshot, copy).await
            }
            Action::ShareSnapshot { snapshot, account } => self.share(snapshot, account, OperationType::Add).await,
            Action::UnshareSnapshot { snapshot, account } => self.share(snapshot, account, OperationType::Remove).await,
        }
    }

    async fn termination_protection(&self, instance: &InstanceId, on: bool) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .disable_api_termination(AttributeBooleanValue::builder().value(on).build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn stop_protection(&self, instance: &InstanceId, on: bool) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .disable_api_stop(AttributeBooleanValue::builder().value(on).build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn shutdown_behavior(&self, instance: &InstanceId, behavior: &str) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .instance_initiated_shutdown_behavior(AttributeValue::builder().value(behavior).build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn delete_on_termination(
        &self,
        instance: &InstanceId,
        devices: &[Device],
        delete: bool,
    ) -> Result<Performed, CloudError> {
        let mappings = devices
            .iter()
            .map(|device| {
                let ebs = EbsInstanceBlockDeviceSpecification::builder()
                    .volume_id(device.volume_id.as_str())
                    .delete_on_termination(delete)
                    .build();
                InstanceBlockDeviceMappingSpecification::builder().device_name(&device.device).ebs(ebs).build()
            })
            .collect();
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .set_block_device_mappings(Some(mappings))
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn tag(&self, resources: &[String], tags: &[Tag]) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .create_tags()
            .set_resources(Some(resources.to_vec()))
            .set_tags(Some(ec2_tags(tags)))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:CreateTags", resources.join(", "), &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn set_minimum_size(&self, group: &str, to: i32) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .update_auto_scaling_group()
            .auto_scaling_group_name(group)
            .min_size(to)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("autoscaling:UpdateAutoScalingGroup", group, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    /// AWS' acceptance is enough to go on: a detaching instance is no longer terminated by the group.
    async fn detach(&self, group: &str, instance: &InstanceId, decrement: bool) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .detach_instances()
            .auto_scaling_group_name(group)
            .instance_ids(instance.as_str())
            .should_decrement_desired_capacity(decrement)
            .send()
            .await
            .map_err(|error| {
                CloudError::from_sdk("autoscaling:DetachInstances", format!("{instance} from {group}"), &error)
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn deregister_targets(&self, target_group: &str, targets: &[Target]) -> Result<Performed, CloudError> {
        let answer = self
            .elbv2
            .deregister_targets()
            .target_group_arn(target_group)
            .set_targets(Some(target_descriptions(targets)))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("elasticloadbalancing:DeregisterTargets", target_group, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn deregister_classic(&self, load_balancer: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let operation = "elasticloadbalancing:DeregisterInstancesFromLoadBalancer";
        let member = aws_sdk_elasticloadbalancing::types::Instance::builder().instance_id(instance.as_str()).build();
        let answer = self
            .elb
            .deregister_instances_from_load_balancer()
            .load_balancer_name(load_balancer)
            .instances(member)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, load_balancer, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    /// Our group of a role in a VPC. Where somebody else has taken its name, a name of the case's own is used: a name that
    /// anybody may take must not keep an instance from being cut off.
    async fn create_group(
        &self,
        case: &CaseId,
        vpc: &VpcId,
        role: &str,
        purpose: &str,
        tags: &[Tag],
    ) -> Result<Performed, CloudError> {
        let name = group_name(vpc, role);
        let taken_by = match self.create_named_group(vpc, role, &name, purpose, tags).await? {
            Made::Ours(done) => return Ok(done),
            Made::TakenBy(group) => group,
        };
        let of_case = group_name_of_case(vpc, role, case);
        match self.create_named_group(vpc, role, &of_case, purpose, tags).await? {
            Made::Ours(done) => Ok(done.noting(format!(
                "{taken_by} has the name {name} and not the tag {}={role}, so it was not used: the group is {of_case}",
                tags::QUARANTINE
            ))),
            Made::TakenBy(other) => {
                let remedy = format!(
                    "{taken_by} and {other} have the names of the {role} group and not its tag, so they are not used; delete them, or tag one {}={role}",
                    tags::QUARANTINE
                );
                Err(CloudError::unusable("ec2:CreateSecurityGroup", vpc.as_str(), remedy))
            }
        }
    }

    async fn create_named_group(
        &self,
        vpc: &VpcId,
        role: &str,
        name: &str,
        purpose: &str,
        tags: &[Tag],
    ) -> Result<Made, CloudError> {
        let sent = self
            .ec2
            .create_security_group()
            .group_name(name)
            .description(purpose)
            .vpc_id(vpc.as_str())
            .tag_specifications(tag_specification(ResourceType::SecurityGroup, tags))
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Made::Ours(Performed::applied(answer.request_id()))),
            Err(error) => {
                let error = CloudError::from_sdk("ec2:CreateSecurityGroup", vpc.as_str(), &error);
                if !error.is_conflict() {
                    return Err(error);
                }
                self.existing_group(vpc, role, name).await
            }
        }
    }

    /// A group of the name is there already: another case made it at this moment. One without our tag is
    /// somebody else's, and is not touched.
    async fn existing_group(&self, vpc: &VpcId, role: &str, name: &str) -> Result<Made, CloudError> {
        let operation = "ec2:DescribeSecurityGroups";
        let answer = self
            .ec2
            .describe_security_groups()
            .filters(Filter::builder().name("vpc-id").values(vpc.as_str()).build())
            .filters(Filter::builder().name("group-name").values(name).build())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, vpc.as_str(), &error))?;
        let group = answer.security_groups().first().ok_or_else(|| {
            CloudError::unusable(operation, vpc.as_str(), "the group that exists is not shown yet").not_visible_yet()
        })?;
        if is_ours(group, vpc, role) {
            return Ok(Made::Ours(Performed::applied(answer.request_id()).already()));
        }
        Ok(Made::TakenBy(group.group_id().unwrap_or_default().to_owned()))
    }

    /// By the rules' ids: a revocation that names a rule by what it allows and misses is no error to EC2
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupEgress.html>).
    async fn revoke_rules(&self, group: &GroupId, egress: bool, allows: &[Allows]) -> Result<Performed, CloudError> {
        let id = group.as_str();
        let described: Vec<SecurityGroupRule> = self
            .ec2
            .describe_security_group_rules()
            .filters(Filter::builder().name("group-id").values(id).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:DescribeSecurityGroupRules", id, &error))?;
        let rules: Vec<String> = described
            .iter()
            .filter(|rule| rule.is_egress().unwrap_or(false) == egress && allows.contains(&rule_allows(rule)))
            .filter_map(|rule| rule.security_group_rule_id().map(str::to_owned))
            .collect();
        if rules.is_empty() {
            return Ok(Performed::applied(None).already());
        }
        let sent = if egress {
            let call = self.ec2.revoke_security_group_egress().group_id(id).set_security_group_rule_ids(Some(rules));
            let answer = call.send().await;
            answer
                .map(|answer| answer.request_id().map(str::to_owned))
                .map_err(|error| CloudError::from_sdk("ec2:RevokeSecurityGroupEgress", id, &error))
        } else {
            let call = self.ec2.revoke_security_group_ingress().group_id(id).set_security_group_rule_ids(Some(rules));
            let answer = call.send().await;
            answer
                .map(|answer| answer.request_id().map(str::to_owned))
                .map_err(|error| CloudError::from_sdk("ec2:RevokeSecurityGroupIngress", id, &error))
        };
        match sent {
            Ok(request_id) => Ok(Performed::applied(request_id.as_deref())),
            // Gone already: another case converges the group too, or EC2 still showed it.
            Err(error) if error.is_not_found() => Ok(Performed::applied(None).already()),
            Err(error) => Err(error),
        }
    }

    async fn allow_egress(&self, group: &GroupId, allows: &[Allows]) -> Result<Performed, CloudError> {
        let operation = "ec2:AuthorizeSecurityGroupEgress";
        let sent = self
            .ec2
            .authorize_security_group_egress()
            .group_id(group.as_str())
            .set_ip_permissions(Some(allows.iter().map(permission).collect()))
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Performed::applied(answer.request_id())),
            Err(error) => match CloudError::from_sdk(operation, group.as_str(), &error) {
                same if same.is_conflict() => Ok(Performed::applied(error.request_id()).already()),
                error => Err(error),
            },
        }
    }

    async fn allow_ingress(&self, group: &GroupId, allows: &[Allows]) -> Result<Performed, CloudError> {
        let operation = "ec2:AuthorizeSecurityGroupIngress";
        let sent = self
            .ec2
            .authorize_security_group_ingress()
            .group_id(group.as_str())
            .set_ip_permissions(Some(allows.iter().map(permission).collect()))
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Performed::applied(answer.request_id())),
            Err(error) => match CloudError::from_sdk(operation, group.as_str(), &error) {
                same if same.is_conflict() => Ok(Performed::applied(error.request_id()).already()),
                error => Err(error),
            },
        }
    }

    /// Into quarantine. On the way through the pass-through group the interface stands open, so the second call
    /// follows the first at once, whatever came of it, and is tried again before anything else; where it is refused
    /// for good the interface gets its own groups back, rather than stay open.
    async fn quarantine(
        &self,
        interface: &InterfaceId,
        group: &GroupId,
        via: Option<&GroupId>,
        from: &[GroupId],
    ) -> Result<Performed, CloudError> {
        let into = std::slice::from_ref(group);
        let Some(via) = via else { return self.set_groups(interface, into).await };
        let begun = Instant::now();
        let opened = self.set_groups(interface, std::slice::from_ref(via)).await;
        let mut closed = self.set_groups(interface, into).await;
        for _ in 1..CLOSING_TRIES {
            if closed.is_ok() {
                break;
            }
            closed = self.set_groups(interface, into).await;
        }
        let window = begun.elapsed().as_millis();
        match (closed, opened) {
            (Ok(closed), Ok(_)) => Ok(closed.noting(format!(
                "{interface} stood open for at most {window} ms while it passed through {via}"
            ))),
            (Ok(closed), Err(error)) => Ok(closed.noting(format!(
                "{interface} did not pass through {via}, so connections that were open and tracked may go on until they time out: {error}"
            ))),
            (Err(error), Err(_)) => Err(error),
            (Err(error), Ok(_)) => match self.set_groups(interface, from).await {
                Ok(_) => Err(error.adding("; it has its own groups back and is not cut off")),
                Err(_) => Err(error.adding("; IT STANDS OPEN in the pass-through group: move it by hand at once")),
            },
        }
    }

    async fn set_groups(&self, interface: &InterfaceId, groups: &[GroupId]) -> Result<Performed, CloudError> {
        let operation = "ec2:ModifyNetworkInterfaceAttribute";
        let answer = self
            .ec2
            .modify_network_interface_attribute()
            .network_interface_id(interface.as_str())
            .set_groups(Some(groups.iter().map(ToString::to_string).collect()))
            .send()
            .await
            .map_err(|error| match CloudError::from_sdk(operation, interface.as_str(), &error) {
                new_group if new_group.code == "InvalidGroup.NotFound" => new_group.not_visible_yet(),
                error => error,
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn deny_address(&self, entry: &AclEntry) -> Result<Performed, CloudError> {
        let call = self
            .ec2
            .create_network_acl_entry()
            .network_acl_id(&entry.network_acl)
            .rule_number(entry.rule_number)
            .egress(entry.egress)
            .protocol("-1")
            .rule_action(RuleAction::Deny);
        let call =
            if entry.cidr.contains(':') { call.ipv6_cidr_block(&entry.cidr) } else { call.cidr_block(&entry.cidr) };
        let answer = call
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:CreateNetworkAclEntry", entry.network_acl.as_str(), &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn allow_address(&self, entry: &AclEntry) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .delete_network_acl_entry()
            .network_acl_id(&entry.network_acl)
            .rule_number(entry.rule_number)
            .egress(entry.egress)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:DeleteNetworkAclEntry", entry.network_acl.as_str(), &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn replace_profile(&self, association: &str, to: &str) -> Result<Performed, CloudError> {
        let operation = "ec2:ReplaceIamInstanceProfileAssociation";
        let answer = self
            .ec2
            .replace_iam_instance_profile_association()
            .association_id(association)
            .iam_instance_profile(IamInstanceProfileSpecification::builder().arn(to).build())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, association, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    /// The policy that the IAM console's "Revoke active sessions" makes
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html>).
    async fn revoke_sessions(
        &self,
        role: &str,
        policy: &str,
        issued_before: Timestamp,
    ) -> Result<Performed, CloudError> {
        let document = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:TokenIssueTime": issued_before.to_rfc3339_opts(SecondsFormat::Millis, true)}},
            }],
        });
        let answer = self
            .iam
            .put_role_policy()
            .role_name(role)
            .policy_name(policy)
            .policy_document(document.to_string())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("iam:PutRolePolicy", role, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn restore_sessions(&self, role: &str, policy: &str) -> Result<Performed, CloudError> {
        match self.iam.delete_role_policy().role_name(role).policy_name(policy).send().await {
            Ok(answer) => Ok(Performed::applied(answer.request_id())),
            Err(error) => match CloudError::from_sdk("iam:DeleteRolePolicy", role, &error) {
                gone if gone.code == "NoSuchEntity" => Ok(Performed::applied(None).already()),
                error => Err(error),
            },
        }
    }

    async fn register_targets(&self, target_group: &str, targets: &[Target]) -> Result<Performed, CloudError> {
        let answer = self
            .elbv2
            .register_targets()
            .target_group_arn(target_group)
            .set_targets(Some(target_descriptions(targets)))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("elasticloadbalancing:RegisterTargets", target_group, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn register_classic(&self, load_balancer: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let operation = "elasticloadbalancing:RegisterInstancesWithLoadBalancer";
        let member = aws_sdk_elasticloadbalancing::types::Instance::builder().instance_id(instance.as_str()).build();
        let answer = self
            .elb
            .register_instances_with_load_balancer()
            .load_balancer_name(load_balancer)
            .instances(member)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, load_balancer, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn attach(&self, group: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .attach_instances()
            .auto_scaling_group_name(group)
            .instance_ids(instance.as_str())
            .send()
            .await
            .map_err(|error| {
                CloudError::from_sdk("autoscaling:AttachInstances", format!("{instance} to {group}"), &error)
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn enter_standby(&self, group: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .enter_standby()
            .auto_scaling_group_name(group)
            .instance_ids(instance.as_str())
            .should_decrement_desired_capacity(true)
            .send()
            .await
            .map_err(|error| {
                CloudError::from_sdk("autoscaling:EnterStandby", format!("{instance} in {group}"), &error)
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn protect_from_scale_in(&self, group: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .set_instance_protection()
            .auto_scaling_group_name(group)
            .instance_ids(instance.as_str())
            .protected_from_scale_in(true)
            .send()
            .await
            .map_err(|error| {
                CloudError::from_sdk("autoscaling:SetInstanceProtection", format!("{instance} in {group}"), &error)
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    /// Hides the claim behind a delete marker. Its versions, like everything in the bucket, stay under Object Lock.
    async fn close_claim(&self, key: &str) -> Result<Performed, CloudError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a claim is no evidence, and without a version id nothing is deleted"
        )]
        let sent = self.s3.delete_object().bucket(self.bucket()).key(key).send().await;
        let answer = sent.map_err(|error| CloudError::from_sdk("s3:DeleteObject", key, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn send_command(
        &self,
        case: &Case,
        instance: &InstanceId,
        document: &str,
        output_prefix: &str,
        delivery_seconds: i32,
    ) -> Result<Performed, CloudError> {
        let operation = "ssm:SendCommand";
        let answer = self
            .ssm
            .send_command()
            .document_name(document)
            .instance_ids(instance.as_str())
            .comment(format!("stasis {}", case.case_id))
            .timeout_seconds(delivery_seconds)
            .output_s3_bucket_name(self.bucket())
            .output_s3_key_prefix(output_prefix)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?;
        let id = answer
            .command()
            .and_then(|c| c.command_id())
            .ok_or_else(|| CloudError::unusable(operation, instance.as_str(), "it names no command"))?;
        let evidence = Evidence {
            kind: EvidenceKind::Command,
            id: id.to_owned(),
            description: format!("Run Command {document}"),
            location: Some(format!("s3://{}/{output_prefix}/{id}/", self.bucket())),
            sha256: None,
            size: None,
        };
        Ok(Performed::applied(answer.request_id()).with(vec![evidence]))
    }

    async fn keep_console_output(&self, case: &Case, instance: &InstanceId) -> Result<Performed, CloudError> {
        let operation = "ec2:GetConsoleOutput";
        let ask = |latest: Option<bool>| {
            self.ec2.get_console_output().instance_id(instance.as_str()).set_latest(latest).send()
        };
        // The latest is there on Nitro only; elsewhere what was printed up to the last boot has to do.
        let answer = match ask(Some(true)).await {
            Ok(answer) => answer,
            Err(_) => ask(None).await.map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?,
        };
        let printed = decoded(operation, instance, answer.output())?;
        self.keep_console(case, "output.txt", "text/plain; charset=utf-8", printed).await
    }

    async fn keep_console_screenshot(&self, case: &Case, instance: &InstanceId) -> Result<Performed, CloudError> {
        let operation = "ec2:GetConsoleScreenshot";
        let sent = self.ec2.get_console_screenshot().instance_id(instance.as_str()).send().await;
        let answer = sent.map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?;
        let picture = decoded(operation, instance, answer.image_data())?;
        self.keep_console(case, "screenshot.jpg", "image/jpeg", picture).await
    }

    async fn keep_console(
        &self,
        case: &Case,
        name: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Performed, CloudError> {
        let key = format!("{}console/{name}", case.prefix());
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let described = |sha256: Option<String>| Evidence {
            kind: EvidenceKind::Object,
            id: key.clone(),
            description: "the instance's console, as EC2 has it".to_owned(),
            location: Some(format!("s3://{}/{key}", self.bucket())),
            sha256,
            size: Some(size),
        };
        match self.create(&key, content_type, body).await? {
            Created::Yes { sha256, request_id } => {
                Ok(Performed::applied(request_id.as_deref()).with(vec![described(Some(sha256))]))
            }
            Created::Exists => Ok(Performed::applied(None).with(vec![described(None)]).already()),
        }
    }

    async fn begin_upload(&self, key: &str) -> Result<Performed, CloudError> {
        // Without an algorithm S3 takes CRC-64/NVME of its own accord and asks no checksum of each part
        // (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
        let answer = self
            .s3
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(key)
            .content_type("application/octet-stream")
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("s3:CreateMultipartUpload", key, &error))?;
        Ok(Performed::applied(aws_sdk_s3::operation::RequestId::request_id(&answer)))
    }

    async fn write_manifest(&self, case: &Case, wanted: Wanted<'_>) -> Result<Performed, CloudError> {
        let key = manifest_key(case, wanted.number);
        let manifest = self.manifest(case, wanted).await?;
        let body = serde_json::to_vec(&manifest)
            .map_err(|error| CloudError::unusable("s3:PutObject", key.as_str(), error.to_string()))?;
        match self.create(&key, "application/json", body).await? {
            Created::Yes { request_id, .. } => Ok(Performed::applied(request_id.as_deref())),
            Created::Exists => Ok(Performed::applied(None).already()),
        }
    }

    /// The parameters are addresses that are good for an hour: they are in the command and nowhere else of ours.
    async fn acquire_memory(
        &self,
        case: &Case,
        instance: &InstanceId,
        document: &str,
        (collector, number): (&str, u32),
        windows_tool: Option<&WindowsTool>,
        delivery_seconds: i32,
    ) -> Result<Performed, CloudError> {
        let operation = "ssm:SendCommand";
        let (fetch, manifest) = self.collector_addresses(case, collector, number).await?;
        let command = self
            .ssm
            .send_command()
            .document_name(document)
            .instance_ids(instance.as_str())
            .comment(format!("stasis memory {}", case.case_id))
            .timeout_seconds(delivery_seconds)
            .parameters("CollectorUrl", vec![fetch])
            .parameters("CollectorSha256", vec![collector.to_owned()])
            .parameters("ManifestUrl", vec![manifest]);
        let command = match windows_tool {
            Some(tool) => command
                .parameters("ToolArguments", vec![tool.arguments.clone()])
                .parameters("ToolOutput", vec![tool.output.to_string()]),
            None => command,
        };
        let answer =
            command.send().await.map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?;
        let id = answer
            .command()
            .and_then(|c| c.command_id())
            .ok_or_else(|| CloudError::unusable(operation, instance.as_str(), "it names no command"))?;
        let evidence = Evidence {
            kind: EvidenceKind::Command,
            id: id.to_owned(),
            description: format!("Run Command {document}"),
            location: None,
            sha256: None,
            size: None,
        };
        Ok(Performed::applied(answer.request_id()).with(vec![evidence]))
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: u32,
        bytes: u64,
        crc64nvme: Option<&str>,
    ) -> Result<Performed, CloudError> {
        let operation = "s3:CompleteMultipartUpload";
        let listed = self.parts(key, upload_id).await?;
        let wanted = usize::try_from(parts).unwrap_or(usize::MAX);
        let made = listed.iter().take(wanted).map(|part| {
            CompletedPart::builder()
                .set_part_number(part.part_number())
                .set_e_tag(part.e_tag().map(str::to_owned))
                .build()
        });
        let upload = CompletedMultipartUpload::builder().set_parts(Some(made.collect())).build();
        let patient = TimeoutConfig::builder()
            .operation_attempt_timeout(COMPLETION_LIMIT)
            .operation_timeout(COMPLETION_LIMIT)
            .build();
        let answer = self
            .s3
            .complete_multipart_upload()
            .bucket(self.bucket())
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(upload)
            .mpu_object_size(i64::try_from(bytes).unwrap_or(i64::MAX))
            .set_checksum_crc64_nvme(crc64nvme.map(str::to_owned))
            .set_checksum_type(crc64nvme.map(|_| ChecksumType::FullObject))
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(patient))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, key, &error))?;
        Ok(Performed::applied(aws_sdk_s3::operation::RequestId::request_id(&answer)))
    }

    async fn keep_acquisition(&self, case: &Case, acquisition: &Acquisition) -> Result<Performed, CloudError> {
        let key = format!("{}{FOLDER}{}", case.prefix(), outcome_name(acquisition.takeover));
        let body = serde_json::to_vec_pretty(acquisition)
            .map_err(|error| CloudError::unusable("s3:PutObject", key.as_str(), error.to_string()))?;
        match self.create(&key, "application/json", body).await? {
            Created::Yes { request_id, .. } => Ok(Performed::applied(request_id.as_deref())),
            Created::Exists => Ok(Performed::applied(None).already()),
        }
    }

    async fn keep_custody(&self, case: &Case, custody: &Custody) -> Result<Performed, CloudError> {
        let key = format!("{}{}{}.json", case.prefix(), custody::FOLDER, custody.read_at.format("%Y%m%dT%H%M%S%3fZ"));
        let body = serde_json::to_vec_pretty(custody)
            .map_err(|error| CloudError::unusable("s3:PutObject", key.as_str(), error.to_string()))?;
        let size = u64::try_from(body.len()).ok();
        match self.create(&key, "application/json", body).await? {
            Created::Yes { sha256, request_id } => Ok(Performed::applied(request_id.as_deref()).with(vec![Evidence {
                kind: EvidenceKind::Object,
                location: Some(format!("s3://{}/{key}", self.bucket())),
                id: key,
                description: "who did what, as CloudTrail shows it".to_owned(),
                sha256: Some(sha256),
                size,
            }])),
            Created::Exists => Ok(Performed::applied(None).already()),
        }
    }

    async fn keep_command_output(
        &self,
        case: &Case,
        instance: &InstanceId,
        command_id: &str,
        step: &str,
    ) -> Result<Performed, CloudError> {
        let operation = "ssm:GetCommandInvocation";
        let answer = self
            .ssm
            .get_command_invocation()
            .command_id(command_id)
            .instance_id(instance.as_str())
            .plugin_name(step)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, format!("{command_id} {step}"), &error))?;
        let printed = answer.standard_output_content().unwrap_or_default();
        let errors = answer.standard_error_content().unwrap_or_default();
        let mut body = printed.to_owned();
        if !errors.is_empty() {
            body.push_str("\n--- standard error ---\n");
            body.push_str(errors);
        }
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let key = format!("{}volatile/{step}.txt", case.prefix());
        let location = Some(format!("s3://{}/{key}", self.bucket()));
        let described = |sha256: Option<String>| Evidence {
            kind: EvidenceKind::Object,
            id: key.clone(),
            description: format!("what {step} printed"),
            location: location.clone(),
            sha256,
            size: Some(size),
        };
        let mut performed = match self.create(&key, "text/plain; charset=utf-8", body.into_bytes()).await? {
            Created::Yes { sha256, request_id } => {
                Performed::applied(request_id.as_deref()).with(vec![described(Some(sha256))])
            }
            Created::Exists => {
                let there = self.fetch(&key).await?;
                Performed::applied(None).already().with(vec![described(there.map(|f| f.sha256))])
            }
        };
        if printed.chars().count() >= OUTPUT_MOST {
            performed.notes.push(format!(
                "{step} printed more than the {OUTPUT_MOST} characters that Systems Manager keeps; the whole is what the agent itself put under {}volatile/run-command/, if its role may",
                case.prefix()
            ));
        }
        Ok(performed)
    }

    async fn create_snapshots(
        &self,
        instance: &InstanceId,
        without: &[VolumeId],
        without_root: bool,
        copied: bool,
        description: &str,
        tags: &[Tag],
    ) -> Result<Performed, CloudError> {
        let operation = "ec2:CreateSnapshots";
        let excluded = without.iter().map(|id| id.as_str().to_owned()).collect();
        let volumes = InstanceSpecification::builder()
            .instance_id(instance.as_str())
            .set_exclude_boot_volume(without_root.then_some(true))
            .set_exclude_data_volume_ids(Some(excluded).filter(|ids: &Vec<String>| !ids.is_empty()));
        let call = self
            .ec2
            .create_snapshots()
            .instance_specification(volumes.build())
            .description(description)
            .tag_specifications(tag_specification(ResourceType::Snapshot, tags));
        let mut notes = Vec::new();
        let mut sent = if copied {
            call.clone()
                .copy_tags_from_source(CopyTagsFromSource::Volume)
                .customize()
                .config_override(once())
                .send()
                .await
        } else {
            notes.push("a volume carries tags by which Stasis knows its own, or its tags could not be read: no tag of the volumes was copied".to_owned());
            call.clone().customize().config_override(once()).send().await
        };
        // EC2 may refuse a tag key that stands both on the volume and in the call; a snapshot without the
        // volume's own tags is worth more than none.
        if let Err(error) = &sent
            && CloudError::from_sdk(operation, instance.as_str(), error).code.starts_with("InvalidParameter")
        {
            notes
                .push("EC2 refused to copy the volumes' own tags; they are still on the volumes themselves".to_owned());
            sent = call.customize().config_override(once()).send().await;
        }
        let answer = sent.map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?;
        let evidence = answer
            .snapshots()
            .iter()
            .filter_map(|snapshot| {
                let of = format!("snapshot of {}", snapshot.volume_id().unwrap_or("a volume"));
                Some(snapshot_evidence(snapshot.snapshot_id()?, of))
            })
            .collect();
        let mut performed = Performed::applied(answer.request_id()).with(evidence);
        performed.notes = notes;
        Ok(performed)
    }

    async fn create_snapshot(
        &self,
        volume: &VolumeId,
        description: &str,
        tags: &[Tag],
    ) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .create_snapshot()
            .volume_id(volume.as_str())
            .description(description)
            .tag_specifications(tag_specification(ResourceType::Snapshot, tags))
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:CreateSnapshot", volume.as_str(), &error))?;
        let made = answer.snapshot_id().map(|id| snapshot_evidence(id, format!("snapshot of {volume}")));
        Ok(Performed::applied(answer.request_id()).with(made.into_iter().collect()))
    }

    /// Flow logs of interfaces. EC2 answers 200 also where it made none.
    async fn create_flow_logs(
        &self,
        case: &Case,
        interfaces: &[InterfaceId],
        log_group: &str,
        role: &str,
        tags: &[Tag],
    ) -> Result<Performed, CloudError> {
        const CREATE: &str = "ec2:CreateFlowLogs";
        let subject = interfaces.iter().map(|interface| interface.as_str()).collect::<Vec<_>>().join(", ");
        let answer = self
            .ec2
            .create_flow_logs()
            .client_token(case.case_id.as_str())
            .resource_type(FlowLogsResourceType::NetworkInterface)
            .set_resource_ids(Some(interfaces.iter().map(ToString::to_string).collect()))
            .traffic_type(TrafficType::All)
            .log_destination_type(LogDestinationType::CloudWatchLogs)
            .log_group_name(log_group)
            .deliver_logs_permission_arn(role)
            .max_aggregation_interval(60)
            .tag_specifications(tag_specification(ResourceType::VpcFlowLog, tags))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(CREATE, subject.as_str(), &error))?;
        unsuccessful(CREATE, &subject, answer.unsuccessful())?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn delete_flow_log(&self, flow_log: &str) -> Result<Performed, CloudError> {
        const DELETE: &str = "ec2:DeleteFlowLogs";
        let answer = self
            .ec2
            .delete_flow_logs()
            .flow_log_ids(flow_log)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(DELETE, flow_log, &error))?;
        let performed = Performed::applied(answer.request_id());
        match unsuccessful(DELETE, flow_log, answer.unsuccessful()) {
            Ok(()) => Ok(performed),
            Err(error) if error.code == "InvalidFlowLogId.NotFound" => Ok(performed.already()),
            Err(error) => Err(error),
        }
    }

    /// Without a cooling-off period: in compliance mode the lock holds at once, and governance mode has none
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockSnapshot.html>).
    async fn lock_snapshot(
        &self,
        case: &Case,
        snapshot: &SnapshotId,
        place: &Place,
        mode: disks::LockMode,
        days: i32,
    ) -> Result<Performed, CloudError> {
        let mode = match mode {
            disks::LockMode::Governance => LockMode::Governance,
            disks::LockMode::Compliance => LockMode::Compliance,
            disks::LockMode::None => return Ok(Performed::applied(None).already()),
        };
        let answer = self
            .ec2_in(case, place)
            .await?
            .ec2
            .lock_snapshot()
            .snapshot_id(snapshot.as_str())
            .lock_mode(mode)
            .lock_duration(days)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:LockSnapshot", snapshot.as_str(), &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    /// Asked for in the place of the copy. EC2 looks at the keys only later: that it accepts says little.
    async fn copy_snapshot(&self, case: &Case, snapshot: &SnapshotId, copy: Copy<'_>) -> Result<Performed, CloudError> {
        let Copy { encrypted, from, place, key, description, tags } = copy;
        let elsewhere = self.ec2_in(case, place).await?;
        let mut call = elsewhere
            .ec2
            .copy_snapshot()
            .source_snapshot_id(snapshot.as_str())
            .source_region(from.as_str())
            .encrypted(true)
            .kms_key_id(key)
            .description(description)
            .tag_specifications(tag_specification(ResourceType::Snapshot, tags));
        if encrypted && from != &place.region {
            let signed = elsewhere.signed_copy(snapshot.as_str(), from, &place.region, key)?;
            call = call.destination_region(place.region.as_str()).presigned_url(signed);
        }
        let sent = call.customize().config_override(once()).send().await;
        let answer = sent.map_err(|error| CloudError::from_sdk("ec2:CopySnapshot", snapshot.as_str(), &error))?;
        let made = answer.snapshot_id().map(|id| Evidence {
            location: Some(place.to_string()),
            ..snapshot_evidence(id, format!("copy of {snapshot}"))
        });
        Ok(Performed::applied(answer.request_id()).with(made.into_iter().collect()))
    }

    async fn share(
        &self,
        snapshot: &SnapshotId,
        account: &AccountId,
        how: OperationType,
    ) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_snapshot_attribute()
            .snapshot_id(snapshot.as_str())
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .operation_type(how)
            .user_ids(account.as_str())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk("ec2:ModifySnapshotAttribute", snapshot.as_str(), &error))?;
        Ok(Performed::applied(answer.request_id()))
    }
}

/// How a copy is to be made.
struct Copy<'a> {
    encrypted: bool,
    from: &'a Region,
    place: &'a Place,
    key: &'a str,
    description: &'a str,
    tags: &'a [Tag],
}

/// For calls that know no token which makes it safe to repeat them: one try, with all the time there is. What came of it
/// where no answer comes is seen at the next look.
fn once() -> aws_sdk_ec2::config::Builder {
    let limit = TimeoutConfig::builder().operation_attempt_timeout(ONE_TRY).operation_timeout(ONE_TRY).build();
    aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled()).timeout_config(limit)
}

/// Whether the volumes' own tags may go on their snapshots: not where one is among them by which a copy is known, which
/// somebody may have set so that a snapshot is not found again.
fn may_copy_tags(case: &Case) -> bool {
    let ours = [tags::COPY_OF, tags::COPIED_FROM, tags::VOLUME, tags::TAKEN_ALONE];
    let volumes = &case.baseline.instance.volumes;
    case.baseline.tags.known().is_some_and(|known| {
        let of_volumes = volumes.iter().filter_map(|volume| known.get(volume.volume_id.as_str()));
        !of_volumes.flat_map(|tags| tags.keys()).any(|key| ours.contains(&key.as_str()))
    })
}

fn tag_specification(resource: ResourceType, tags: &[Tag]) -> TagSpecification {
    TagSpecification::builder().resource_type(resource).set_tags(Some(ec2_tags(tags))).build()
}

/// What EC2 did not do of a call that it answered with 200.
fn unsuccessful(operation: &'static str, subject: &str, items: &[UnsuccessfulItem]) -> Result<(), CloudError> {
    match items.iter().find_map(|item| item.error()) {
        Some(error) => {
            let (code, message) = (error.code().unwrap_or("Unsuccessful"), error.message().unwrap_or_default());
            Err(CloudError::new(operation, subject, code, message, None))
        }
        None => Ok(()),
    }
}

fn snapshot_evidence(id: &str, description: String) -> Evidence {
    let kind = EvidenceKind::Snapshot;
    Evidence { kind, id: id.to_owned(), description, location: None, sha256: None, size: None }
}

/// How often an interface that stands open is tried to be closed before it gets its own groups back.
const CLOSING_TRIES: u32 = 3;

/// How much of a step's output Systems Manager shows, in characters
/// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html>).
const OUTPUT_MOST: usize = 24_000;

fn modify_failed<R>(
    instance: &InstanceId,
    error: &aws_smithy_runtime_api::client::result::SdkError<
        aws_sdk_ec2::operation::modify_instance_attribute::ModifyInstanceAttributeError,
        R,
    >,
) -> CloudError
where
    R: std::fmt::Debug + crate::error::HttpStatus,
{
    CloudError::from_sdk("ec2:ModifyInstanceAttribute", instance.as_str(), error)
}

fn target_descriptions(targets: &[Target]) -> Vec<TargetDescription> {
    let described = targets.iter().map(|target| {
        TargetDescription::builder()
            .id(&target.id)
            .set_port(target.port)
            .set_availability_zone(target.availability_zone.clone())
            .build()
    });
    described.collect()
}

fn ec2_tags(tags: &[Tag]) -> Vec<aws_sdk_ec2::types::Tag> {
    tags.iter().map(|tag| aws_sdk_ec2::types::Tag::builder().key(&tag.key).value(&tag.value).build()).collect()
}

fn permission(allows: &Allows) -> IpPermission {
    let permission =
        IpPermission::builder().ip_protocol(&allows.protocol).from_port(allows.from_port).to_port(allows.to_port);
    let why = "Stasis";
    match &allows.peer {
        Peer::Cidr4(range) => permission.ip_ranges(IpRange::builder().cidr_ip(range).description(why).build()),
        Peer::Cidr6(range) => permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(range).description(why).build()),
        Peer::Group(group) => {
            permission.user_id_group_pairs(UserIdGroupPair::builder().group_id(group.as_str()).description(why).build())
        }
        Peer::PrefixList(list) => {
            permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(list).description(why).build())
        }
        // Never planned; an empty permission is refused by EC2 rather than guessed at.
        Peer::Other(_) => permission,
    }
    .build()
}

/// What EC2 gives in base64; nothing where it has nothing.
fn decoded(operation: &'static str, instance: &InstanceId, text: Option<&str>) -> Result<Vec<u8>, CloudError> {
    STANDARD
        .decode(text.unwrap_or_default())
        .map_err(|error| CloudError::unusable(operation, instance.as_str(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_config::{BehaviorVersion, Region as SdkRegion};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// What the local S3 does not look at is asserted on the request: the checksum of the whole image, its size, and
    /// the parts by number, however the listing was sorted.
    #[tokio::test]
    async fn an_upload_is_completed_with_the_checksum_of_the_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.expect("a connection");
                let mut request = vec![0_u8; 64 << 10];
                let mut read = 0;
                while !String::from_utf8_lossy(&request[..read]).contains("\r\n\r\n")
                    || String::from_utf8_lossy(&request[..read]).starts_with("POST")
                        && !String::from_utf8_lossy(&request[..read]).contains("</CompleteMultipartUpload>")
                {
                    read += stream.read(&mut request[read..]).expect("a request");
                }
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let body = if text.starts_with("GET") {
                    let part = |n: u32| {
                        format!("<Part><PartNumber>{n}</PartNumber><ETag>\"e{n}\"</ETag><Size>5</Size></Part>")
                    };
                    format!("<ListPartsResult>{}{}{}</ListPartsResult>", part(3), part(1), part(2))
                } else {
                    "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>".to_owned()
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).expect("answered");
                sender.send(text).expect("kept");
            }
        });
        let credentials = aws_sdk_s3::config::Credentials::new("a", "b", None, None, "test");
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(SdkRegion::new("eu-central-1"))
            .endpoint_url(endpoint)
            .credentials_provider(credentials)
            .load()
            .await;
        let home = crate::Home {
            account: "111122223333".parse().expect("an account"),
            region: "eu-central-1".parse().expect("a region"),
            bucket: "evidence".to_owned(),
            external_id: "stasis-111122223333".to_owned(),
        };
        let cloud = Cloud::new(&config, home, crate::Traces::default());
        cloud.complete_upload("k", "u", 2, 10, Some("AAAAAAAAAAA=")).await.expect("completed");
        let _listed = requests.recv().expect("a listing");
        let completed = requests.recv().expect("a completion").to_lowercase();
        for part in [
            "x-amz-checksum-crc64nvme: aaaaaaaaaaa=",
            "x-amz-checksum-type: full_object",
            "x-amz-mp-object-size: 10",
            "<partnumber>1</partnumber>",
            "<partnumber>2</partnumber>",
        ] {
            assert!(completed.contains(part), "{part}: {completed}");
        }
        assert!(!completed.contains("<partnumber>3</partnumber>"));
    }
}
