//! Doing: one AWS write for each action, all of them in this file, so that what Stasis can change is read
//! in one place. What to do was decided elsewhere.

use crate::casefile::Created;
use crate::observe::group_name;
use crate::{Cloud, CloudError};
use aws_sdk_ec2::operation::RequestId as _;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, CopyTagsFromSource, EbsInstanceBlockDeviceSpecification, Filter,
    InstanceBlockDeviceMappingSpecification, InstanceSpecification, IpPermission, IpRange, Ipv6Range, PrefixListId,
    ResourceType, TagSpecification, UserIdGroupPair,
};
use aws_sdk_elasticloadbalancingv2::types::TargetDescription;
use stasis_model::action::{Action, Device, Target};
use stasis_model::case::Case;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::facts::{Allows, Peer};
use stasis_model::ids::{GroupId, InstanceId, InterfaceId, VpcId};
use stasis_model::stage::Outcome;
use stasis_model::tags::{self, Tag};

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

    /// AWS says that it was so already.
    fn already(mut self) -> Self {
        self.outcome = Outcome::AlreadySo;
        self
    }
}

impl Cloud {
    /// Performs one action of a case.
    ///
    /// # Errors
    /// What AWS answered, where it did not do it.
    pub async fn perform(&self, case: &Case, action: &Action) -> Result<Performed, CloudError> {
        match action {
            Action::EnableTerminationProtection { instance } => self.enable_termination_protection(instance).await,
            Action::EnableStopProtection { instance } => self.enable_stop_protection(instance).await,
            Action::StopOnShutdown { instance } => self.stop_on_shutdown(instance).await,
            Action::KeepVolumes { instance, devices } => self.keep_volumes(instance, devices).await,
            Action::Tag { resources, tags } => self.tag(resources, tags).await,
            Action::LowerMinimumSize { group, to, .. } => self.lower_minimum_size(group, *to).await,
            Action::DetachFromScalingGroup { group, instance } => self.detach(group, instance).await,
            Action::DeregisterTargets { target_group, targets } => self.deregister_targets(target_group, targets).await,
            Action::DeregisterFromClassicLoadBalancer { load_balancer, instance } => {
                self.deregister_classic(load_balancer, instance).await
            }
            Action::CreateQuarantineGroup { vpc, tags } => self.create_quarantine_group(vpc, tags).await,
            Action::RevokeRules { group, egress, rules, .. } => self.revoke_rules(group, *egress, rules).await,
            Action::AllowEgress { group, allows } => self.allow_egress(group, allows).await,
            Action::Quarantine { interface, group, .. } => self.quarantine(interface, group).await,
            Action::SendCommand { instance, document, output_prefix, delivery_seconds } => {
                self.send_command(case, instance, document, output_prefix, *delivery_seconds).await
            }
            Action::KeepCommandOutput { instance, command_id, step } => {
                self.keep_command_output(case, instance, command_id, step).await
            }
            Action::CreateSnapshots { instance, description, tags } => {
                self.create_snapshots(instance, description, tags).await
            }
        }
    }

    async fn enable_termination_protection(&self, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .disable_api_termination(AttributeBooleanValue::builder().value(true).build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn enable_stop_protection(&self, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .disable_api_stop(AttributeBooleanValue::builder().value(true).build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn stop_on_shutdown(&self, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .ec2
            .modify_instance_attribute()
            .instance_id(instance.as_str())
            .instance_initiated_shutdown_behavior(AttributeValue::builder().value("stop").build())
            .send()
            .await
            .map_err(|error| modify_failed(instance, &error))?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn keep_volumes(&self, instance: &InstanceId, devices: &[Device]) -> Result<Performed, CloudError> {
        let mappings = devices
            .iter()
            .map(|device| {
                let ebs = EbsInstanceBlockDeviceSpecification::builder()
                    .volume_id(device.volume_id.as_str())
                    .delete_on_termination(false)
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

    async fn lower_minimum_size(&self, group: &str, to: i32) -> Result<Performed, CloudError> {
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
    async fn detach(&self, group: &str, instance: &InstanceId) -> Result<Performed, CloudError> {
        let answer = self
            .autoscaling
            .detach_instances()
            .auto_scaling_group_name(group)
            .instance_ids(instance.as_str())
            .should_decrement_desired_capacity(true)
            .send()
            .await
            .map_err(|error| {
                CloudError::from_sdk("autoscaling:DetachInstances", format!("{instance} from {group}"), &error)
            })?;
        Ok(Performed::applied(answer.request_id()))
    }

    async fn deregister_targets(&self, target_group: &str, targets: &[Target]) -> Result<Performed, CloudError> {
        let targets = targets
            .iter()
            .map(|target| {
                TargetDescription::builder()
                    .id(&target.id)
                    .set_port(target.port)
                    .set_availability_zone(target.availability_zone.clone())
                    .build()
            })
            .collect();
        let answer = self
            .elbv2
            .deregister_targets()
            .target_group_arn(target_group)
            .set_targets(Some(targets))
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

    async fn create_quarantine_group(&self, vpc: &VpcId, tags: &[Tag]) -> Result<Performed, CloudError> {
        let sent = self
            .ec2
            .create_security_group()
            .group_name(group_name(vpc))
            .description("Stasis: holds compromised instances; nothing comes in")
            .vpc_id(vpc.as_str())
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::SecurityGroup)
                    .set_tags(Some(ec2_tags(tags)))
                    .build(),
            )
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Performed::applied(answer.request_id())),
            Err(error) => {
                let error = CloudError::from_sdk("ec2:CreateSecurityGroup", vpc.as_str(), &error);
                if !error.is_conflict() {
                    return Err(error);
                }
                self.existing_quarantine_group(vpc).await
            }
        }
    }

    /// A group of the name is there already: another case made it at this moment. One without our tag is
    /// somebody else's, and is not touched.
    async fn existing_quarantine_group(&self, vpc: &VpcId) -> Result<Performed, CloudError> {
        let operation = "ec2:DescribeSecurityGroups";
        let answer = self
            .ec2
            .describe_security_groups()
            .filters(Filter::builder().name("vpc-id").values(vpc.as_str()).build())
            .filters(Filter::builder().name("group-name").values(group_name(vpc)).build())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(operation, vpc.as_str(), &error))?;
        let group = answer.security_groups().first().ok_or_else(|| {
            CloudError::unusable(operation, vpc.as_str(), "the group that exists is not shown yet").not_visible_yet()
        })?;
        let ours = |t: &aws_sdk_ec2::types::Tag| {
            t.key() == Some(tags::QUARANTINE) && t.value() == Some(tags::QUARANTINE_VALUE)
        };
        if group.tags().iter().any(ours) {
            return Ok(Performed::applied(answer.request_id()).already());
        }
        let id = group.group_id().unwrap_or_default();
        let remedy = format!(
            "{id} has the quarantine group's name and not its tag, so it is not used; delete it, or tag it {}={}",
            tags::QUARANTINE,
            tags::QUARANTINE_VALUE
        );
        Err(CloudError::unusable(operation, vpc.as_str(), remedy))
    }

    async fn revoke_rules(&self, group: &GroupId, egress: bool, rules: &[String]) -> Result<Performed, CloudError> {
        let rules = Some(rules.to_vec());
        let id = group.as_str();
        let sent = if egress {
            let call = self.ec2.revoke_security_group_egress().group_id(id).set_security_group_rule_ids(rules);
            let answer = call.send().await;
            answer
                .map(|answer| answer.request_id().map(str::to_owned))
                .map_err(|error| CloudError::from_sdk("ec2:RevokeSecurityGroupEgress", id, &error))
        } else {
            let call = self.ec2.revoke_security_group_ingress().group_id(id).set_security_group_rule_ids(rules);
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

    async fn quarantine(&self, interface: &InterfaceId, group: &GroupId) -> Result<Performed, CloudError> {
        let operation = "ec2:ModifyNetworkInterfaceAttribute";
        let answer = self
            .ec2
            .modify_network_interface_attribute()
            .network_interface_id(interface.as_str())
            .groups(group.as_str())
            .send()
            .await
            .map_err(|error| match CloudError::from_sdk(operation, interface.as_str(), &error) {
                new_group if new_group.code == "InvalidGroup.NotFound" => new_group.not_visible_yet(),
                error => error,
            })?;
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
        description: &str,
        tags: &[Tag],
    ) -> Result<Performed, CloudError> {
        let operation = "ec2:CreateSnapshots";
        let call = self
            .ec2
            .create_snapshots()
            .instance_specification(InstanceSpecification::builder().instance_id(instance.as_str()).build())
            .description(description)
            .tag_specifications(
                TagSpecification::builder()
                    .resource_type(ResourceType::Snapshot)
                    .set_tags(Some(ec2_tags(tags)))
                    .build(),
            );
        let mut notes = Vec::new();
        let mut sent = call.clone().copy_tags_from_source(CopyTagsFromSource::Volume).send().await;
        // EC2 may refuse a tag key that stands both on the volume and in the call; a snapshot without the
        // volume's own tags is worth more than none.
        if let Err(error) = &sent
            && CloudError::from_sdk(operation, instance.as_str(), error).code.starts_with("InvalidParameter")
        {
            notes
                .push("EC2 refused to copy the volumes' own tags; they are still on the volumes themselves".to_owned());
            sent = call.send().await;
        }
        let answer = sent.map_err(|error| CloudError::from_sdk(operation, instance.as_str(), &error))?;
        let evidence = answer
            .snapshots()
            .iter()
            .filter_map(|snapshot| {
                Some(Evidence {
                    kind: EvidenceKind::Snapshot,
                    id: snapshot.snapshot_id()?.to_owned(),
                    description: format!("snapshot of {}", snapshot.volume_id().unwrap_or("a volume")),
                    location: None,
                    sha256: None,
                    size: None,
                })
            })
            .collect();
        let mut performed = Performed::applied(answer.request_id()).with(evidence);
        performed.notes = notes;
        Ok(performed)
    }
}

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

fn ec2_tags(tags: &[Tag]) -> Vec<aws_sdk_ec2::types::Tag> {
    tags.iter().map(|tag| aws_sdk_ec2::types::Tag::builder().key(&tag.key).value(&tag.value).build()).collect()
}

fn permission(allows: &Allows) -> IpPermission {
    let permission =
        IpPermission::builder().ip_protocol(&allows.protocol).from_port(allows.from_port).to_port(allows.to_port);
    let why = "Stasis: Systems Manager";
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
