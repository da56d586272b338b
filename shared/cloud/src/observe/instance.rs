//! The instance: what EC2 says of it, of its volumes, interfaces, protection and tags.

use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::{
    Filter, InstanceAttributeName, InstanceLifecycleType, InstanceNetworkInterface, NetworkInterface,
};
use futures::future::join3;
use stasis_model::baseline::{Instance, Interface, Protection, TagsByResource, Volume};
use stasis_model::error::InputError;
use stasis_model::ids::{AccountId, InstanceId};
use std::collections::BTreeMap;

const DESCRIBE: &str = "ec2:DescribeInstances";
const ATTRIBUTE: &str = "ec2:DescribeInstanceAttribute";
const INTERFACES: &str = "ec2:DescribeNetworkInterfaces";
const TAGS: &str = "ec2:DescribeTags";
/// How many ids a filter takes (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>).
const FILTER_VALUES: usize = 200;

impl Cloud {
    /// The instance and the account that owns it.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) async fn instance(&self, id: &InstanceId) -> Result<(Instance, AccountId), CloudError> {
        let fail = |message: &str| CloudError::unusable(DESCRIBE, id.as_str(), message);
        let answer = self
            .ec2
            .describe_instances()
            .instance_ids(id.as_str())
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(DESCRIBE, id.as_str(), &error))?;
        let reservation = answer
            .reservations()
            .iter()
            .find(|r| r.instances().iter().any(|i| i.instance_id() == Some(id.as_str())))
            .ok_or_else(|| {
                CloudError::new(DESCRIBE, id.as_str(), "InvalidInstanceID.NotFound", "no such instance", None)
            })?;
        let owner = reservation
            .owner_id()
            .ok_or_else(|| fail("it names no owner"))?
            .parse()
            .map_err(|error: InputError| fail(&error.to_string()))?;
        let instance = reservation
            .instances()
            .iter()
            .find(|i| i.instance_id() == Some(id.as_str()))
            .ok_or_else(|| fail("it does not hold the instance"))?;
        let instance = convert(instance).map_err(|error| fail(&error.to_string()))?;
        Ok((instance, owner))
    }

    /// Whether the instance is still there.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub async fn exists(&self, id: &InstanceId) -> Result<bool, CloudError> {
        match self.instance(id).await {
            Ok((instance, _)) => Ok(!instance.is_gone()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Its protection: three attributes, which DescribeInstances does not show.
    pub(crate) async fn protection(&self, id: &InstanceId) -> Result<Protection, CloudError> {
        let attribute = async |name: InstanceAttributeName| {
            self.ec2
                .describe_instance_attribute()
                .instance_id(id.as_str())
                .attribute(name)
                .send()
                .await
                .map_err(|error| CloudError::from_sdk(ATTRIBUTE, id.as_str(), &error))
        };
        let (termination, stop, shutdown) = join3(
            attribute(InstanceAttributeName::DisableApiTermination),
            attribute(InstanceAttributeName::DisableApiStop),
            attribute(InstanceAttributeName::InstanceInitiatedShutdownBehavior),
        )
        .await;
        let on = |value: Option<&aws_sdk_ec2::types::AttributeBooleanValue>, name: &str| {
            value
                .and_then(|v| v.value())
                .ok_or_else(|| CloudError::unusable(ATTRIBUTE, id.as_str(), format!("it does not hold {name}")))
        };
        Ok(Protection {
            termination: on(termination?.disable_api_termination(), "disableApiTermination")?,
            stop: on(stop?.disable_api_stop(), "disableApiStop")?,
            shutdown_behavior: shutdown?
                .instance_initiated_shutdown_behavior()
                .and_then(|v| v.value())
                .unwrap_or("stop")
                .to_owned(),
        })
    }

    /// Every interface that is attached to the instance.
    pub(crate) async fn interfaces(&self, id: &InstanceId) -> Result<Vec<Interface>, CloudError> {
        let interfaces: Vec<NetworkInterface> = self
            .ec2
            .describe_network_interfaces()
            .filters(Filter::builder().name("attachment.instance-id").values(id.as_str()).build())
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(INTERFACES, id.as_str(), &error))?;
        let mut interfaces = interfaces
            .iter()
            .map(convert_interface)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CloudError::unusable(INTERFACES, id.as_str(), error.to_string()))?;
        interfaces.sort_by_key(|i| i.device_index);
        Ok(interfaces)
    }

    /// The tags of these resources.
    pub(crate) async fn tags(&self, resources: &[String]) -> Result<TagsByResource, CloudError> {
        let subject = resources.first().cloned().unwrap_or_default();
        let mut found = TagsByResource::new();
        for some in resources.chunks(FILTER_VALUES) {
            let tags: Vec<aws_sdk_ec2::types::TagDescription> = self
                .ec2
                .describe_tags()
                .filters(Filter::builder().name("resource-id").set_values(Some(some.to_vec())).build())
                .into_paginator()
                .items()
                .send()
                .try_collect()
                .await
                .map_err(|error| CloudError::from_sdk(TAGS, subject.as_str(), &error))?;
            for tag in tags {
                if let (Some(resource), Some(key)) = (tag.resource_id(), tag.key()) {
                    let value = tag.value().unwrap_or_default().to_owned();
                    found.entry(resource.to_owned()).or_default().insert(key.to_owned(), value);
                }
            }
        }
        Ok(found)
    }
}

/// Tags as a map.
pub(super) fn tag_map(tags: &[aws_sdk_ec2::types::Tag]) -> BTreeMap<String, String> {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// A field that EC2 always fills in for an attached thing.
fn required<'a>(value: Option<&'a str>, key: &str) -> Result<&'a str, InputError> {
    value.ok_or_else(|| InputError::invalid(key, "is missing in EC2's answer"))
}

fn convert(from: &aws_sdk_ec2::types::Instance) -> Result<Instance, InputError> {
    let mut volumes = Vec::new();
    for mapping in from.block_device_mappings() {
        let Some(ebs) = mapping.ebs() else { continue };
        volumes.push(Volume {
            volume_id: required(ebs.volume_id(), "volumeId")?.parse()?,
            device: required(mapping.device_name(), "deviceName")?.to_owned(),
            delete_on_termination: ebs.delete_on_termination().unwrap_or(false),
        });
    }
    volumes.sort_by(|a, b| a.device.cmp(&b.device));
    let mut interfaces =
        from.network_interfaces().iter().map(convert_attached).collect::<Result<Vec<_>, InputError>>()?;
    interfaces.sort_by_key(|i| i.device_index);
    Ok(Instance {
        state: from.state().and_then(|s| s.name()).map_or("unknown", |name| name.as_str()).to_owned(),
        instance_type: from.instance_type().map_or("unknown", |t| t.as_str()).to_owned(),
        image_id: from.image_id().map(str::to_owned),
        platform: from.platform_details().or_else(|| from.platform().map(|_| "Windows")).map(str::to_owned),
        launched_at: from.launch_time().and_then(time),
        spot: from.instance_lifecycle() == Some(&InstanceLifecycleType::Spot),
        vpc_id: from.vpc_id().map(str::parse).transpose()?,
        availability_zone: from.placement().and_then(|p| p.availability_zone()).map(str::to_owned),
        instance_profile: from.iam_instance_profile().and_then(|p| p.arn()).map(str::to_owned),
        root_device: from.root_device_name().map(str::to_owned),
        tags: tag_map(from.tags()),
        volumes,
        interfaces,
    })
}

/// The two forms in which EC2 describes an interface have the same fields and no type in common.
macro_rules! convert_as {
    ($name:ident, $form:ty) => {
        fn $name(from: &$form) -> Result<Interface, InputError> {
            let ipv4 = from.private_ip_addresses().iter().filter_map(|a| a.private_ip_address());
            let ipv6 = from.ipv6_addresses().iter().filter_map(|a| a.ipv6_address());
            Ok(Interface {
                interface_id: required(from.network_interface_id(), "networkInterfaceId")?.parse()?,
                device_index: from.attachment().and_then(|a| a.device_index()).unwrap_or_default(),
                vpc_id: required(from.vpc_id(), "vpcId")?.parse()?,
                subnet_id: from.subnet_id().unwrap_or_default().to_owned(),
                groups: from.groups().iter().filter_map(|g| g.group_id()).map(str::parse).collect::<Result<_, _>>()?,
                addresses: ipv4.chain(ipv6).map(str::to_owned).collect(),
                public_address: from.association().and_then(|a| a.public_ip()).map(str::to_owned),
                source_dest_check: from.source_dest_check(),
            })
        }
    };
}
convert_as!(convert_attached, InstanceNetworkInterface);
convert_as!(convert_interface, NetworkInterface);
