//! A planted instance, and its state as the AWS APIs tell it.

use crate::local::local;
use aws_sdk_ec2::types::{Filter, InstanceAttributeName, SecurityGroupRule, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct Suspect {
    pub(crate) id: String,
    pub(crate) planted: Value,
}

/// Operations that change something at AWS. A test that says "nothing was changed" means none of these.
const READS: [&str; 6] = ["Describe", "Get", "List", "Lookup", "Head", "Simulate"];

impl Suspect {
    pub(crate) fn plant(options: &Value) -> Self {
        let planted = local().plant(options);
        Self { id: planted["instanceId"].as_str().expect("an instance").to_owned(), planted }
    }

    /// The SDK's settings for a service in the instance's account and region.
    async fn config(&self, service: &str) -> aws_config::SdkConfig {
        let region = aws_config::Region::new(self.text("region").to_owned());
        local().config_of(service, self.text("account")).await.to_builder().region(region).build()
    }

    async fn ec2(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.config("EC2").await)
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.planted[key].as_str().unwrap_or_else(|| panic!("{key}: {}", self.planted))
    }

    pub(crate) fn interfaces(&self) -> Vec<String> {
        self.planted["networkInterfaceIds"]
            .as_array()
            .expect("interfaces")
            .iter()
            .map(|v| v.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Termination protection, stop protection, shutdown behaviour.
    pub(crate) async fn protection(&self) -> (bool, bool, String) {
        let ec2 = self.ec2().await;
        let attribute = async |name: InstanceAttributeName| {
            ec2.describe_instance_attribute().instance_id(&self.id).attribute(name).send().await.expect("the attribute")
        };
        let termination = attribute(InstanceAttributeName::DisableApiTermination).await;
        let stop = attribute(InstanceAttributeName::DisableApiStop).await;
        let shutdown = attribute(InstanceAttributeName::InstanceInitiatedShutdownBehavior).await;
        (
            termination.disable_api_termination().and_then(|v| v.value()).unwrap_or(false),
            stop.disable_api_stop().and_then(|v| v.value()).unwrap_or(false),
            shutdown.instance_initiated_shutdown_behavior().and_then(|v| v.value()).unwrap_or_default().to_owned(),
        )
    }

    async fn described(&self) -> aws_sdk_ec2::types::Instance {
        let answer = self.ec2().await.describe_instances().instance_ids(&self.id).send().await.expect("the instance");
        answer.reservations()[0].instances()[0].clone()
    }

    pub(crate) async fn state(&self) -> String {
        self.described().await.state().and_then(|s| s.name()).map(|n| n.as_str().to_owned()).unwrap_or_default()
    }

    pub(crate) async fn delete_on_termination(&self) -> Vec<bool> {
        let instance = self.described().await;
        instance.block_device_mappings().iter().filter_map(|m| m.ebs()?.delete_on_termination()).collect()
    }

    pub(crate) async fn tags_of(&self, resource: &str) -> BTreeMap<String, String> {
        let filter = Filter::builder().name("resource-id").values(resource).build();
        let answer = self.ec2().await.describe_tags().filters(filter).send().await.expect("tags");
        answer
            .tags()
            .iter()
            .map(|t| (t.key().unwrap_or_default().to_owned(), t.value().unwrap_or_default().to_owned()))
            .collect()
    }

    /// The groups of each interface.
    pub(crate) async fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let filter = Filter::builder().name("attachment.instance-id").values(&self.id).build();
        let answer = self.ec2().await.describe_network_interfaces().filters(filter).send().await.expect("interfaces");
        answer
            .network_interfaces()
            .iter()
            .map(|i| {
                let groups = i.groups().iter().filter_map(|g| g.group_id().map(str::to_owned)).collect();
                (i.network_interface_id().unwrap_or_default().to_owned(), groups)
            })
            .collect()
    }

    /// The quarantine group of the instance's VPC, by its name.
    pub(crate) async fn quarantine_group(&self) -> Option<String> {
        self.group_of(self.text("vpcId"), "quarantine").await
    }

    /// The pass-through group of the instance's VPC, by its name.
    pub(crate) async fn pass_through_group(&self) -> Option<String> {
        self.group_of(self.text("vpcId"), "pass-through").await
    }

    /// The group of Stasis in a VPC, by its name.
    pub(crate) async fn group_of(&self, vpc: &str, role: &str) -> Option<String> {
        self.group_named(&format!("stasis-{role}-{vpc}")).await
    }

    /// The group of a name.
    pub(crate) async fn group_named(&self, name: &str) -> Option<String> {
        let answer = self
            .ec2()
            .await
            .describe_security_groups()
            .filters(Filter::builder().name("group-name").values(name).build())
            .send()
            .await
            .expect("groups");
        assert!(answer.security_groups().len() <= 1, "one group of a role per VPC");
        answer.security_groups().first().and_then(|g| g.group_id().map(str::to_owned))
    }

    pub(crate) async fn is_quarantined(&self) -> bool {
        let Some(group) = self.quarantine_group().await else { return false };
        let groups = self.groups().await;
        !groups.is_empty() && groups.values().all(|g| *g == [group.clone()])
    }

    pub(crate) async fn rules(&self, group: &str) -> Vec<SecurityGroupRule> {
        let filter = Filter::builder().name("group-id").values(group).build();
        let answer = self.ec2().await.describe_security_group_rules().filters(filter).send().await.expect("rules");
        answer.security_group_rules().to_vec()
    }

    /// Name of the scaling group that the instance is in.
    pub(crate) async fn scaling_group(&self) -> Option<String> {
        let client = aws_sdk_autoscaling::Client::new(&self.config("AUTO_SCALING").await);
        let answer = client.describe_auto_scaling_instances().instance_ids(&self.id).send().await.expect("memberships");
        answer.auto_scaling_instances().first().and_then(|i| i.auto_scaling_group_name().map(str::to_owned))
    }

    /// Minimum, desired and present size of the scaling group that it was planted in.
    pub(crate) async fn scaling_sizes(&self) -> (i32, i32, usize) {
        let client = aws_sdk_autoscaling::Client::new(&self.config("AUTO_SCALING").await);
        let name = self.text("autoScalingGroup");
        let answer =
            client.describe_auto_scaling_groups().auto_scaling_group_names(name).send().await.expect("the group");
        let group = &answer.auto_scaling_groups()[0];
        (group.min_size().unwrap_or(-1), group.desired_capacity().unwrap_or(-1), group.instances().len())
    }

    /// Registrations in its target groups, by id or address, that still take traffic.
    pub(crate) async fn serving_targets(&self) -> usize {
        let client = aws_sdk_elasticloadbalancingv2::Client::new(&self.config("ELASTIC_LOAD_BALANCING_V2").await);
        let mine = [self.id.as_str(), self.text("privateIpAddress")];
        let mut serving = 0;
        for group in self.planted["targetGroups"].as_array().expect("target groups") {
            let arn = group["arn"].as_str().expect("an ARN");
            let answer = client.describe_target_health().target_group_arn(arn).send().await.expect("health");
            serving += answer
                .target_health_descriptions()
                .iter()
                .filter(|h| h.target().and_then(|t| t.id()).is_some_and(|id| mine.contains(&id)))
                .filter(|h| h.target_health().and_then(|t| t.state()).is_none_or(|s| s.as_str() != "draining"))
                .count();
        }
        serving
    }

    /// Classic load balancers that it is behind.
    pub(crate) async fn classic_load_balancers(&self) -> usize {
        let client = aws_sdk_elasticloadbalancing::Client::new(&self.config("ELASTIC_LOAD_BALANCING").await);
        let answer = client.describe_load_balancers().send().await.expect("load balancers");
        let holds = |lb: &&aws_sdk_elasticloadbalancing::types::LoadBalancerDescription| {
            lb.instances().iter().any(|i| i.instance_id() == Some(self.id.as_str()))
        };
        answer.load_balancer_descriptions().iter().filter(holds).count()
    }

    /// Every snapshot of the planted volumes, whoever made it.
    pub(crate) async fn snapshots(&self) -> Vec<Snapshot> {
        let volumes =
            self.planted["volumeIds"].as_array().expect("volumes").iter().filter_map(|v| v.as_str().map(str::to_owned));
        let filter = Filter::builder().name("volume-id").set_values(Some(volumes.collect())).build();
        let answer =
            self.ec2().await.describe_snapshots().owner_ids("self").filters(filter).send().await.expect("snapshots");
        answer.snapshots().to_vec()
    }

    /// Writes that AWS was asked for and that name the instance, an interface or a volume of it.
    pub(crate) fn writes(&self) -> Vec<String> {
        let volumes =
            self.planted["volumeIds"].as_array().expect("volumes").iter().filter_map(|v| v.as_str().map(str::to_owned));
        let mut names = vec![self.id.clone()];
        names.extend(self.interfaces());
        names.extend(volumes);
        let requests = names.iter().flat_map(|name| local().requests(name));
        // What EC2 was only asked about is no write.
        let meant = requests.filter(|(_, parameters)| parameters["DryRun"] != "true");
        let mut writes: Vec<String> = meant.map(|(operation, _)| operation).collect();
        writes.retain(|operation| !READS.iter().any(|read| operation.starts_with(read)));
        writes
    }

    /// Another instance beside it, in the same subnet.
    pub(crate) async fn neighbour(&self) -> String {
        let instance = self.described().await;
        let call = self.ec2().await.run_instances().image_id(instance.image_id().expect("an image"));
        let call = call.subnet_id(instance.subnet_id().expect("a subnet")).min_count(1).max_count(1);
        let answer = call.security_group_ids(self.text("productionGroupId")).send().await.expect("started");
        answer.instances()[0].instance_id().expect("an id").to_owned()
    }

    /// Triage's case, with another policy: what the stages are called with, one by one.
    pub(crate) async fn case_with(&self, policy: &[(&str, Value)]) -> Value {
        let triaged = local().invoke("triage", &serde_json::json!({"instanceId": self.id})).await.expect("triage");
        let mut case = triaged["cases"][0].clone();
        for (key, value) in policy {
            case["policy"][*key] = value.clone();
        }
        case
    }

    /// The case of a run that goes on, as soon as it is opened.
    pub(crate) async fn case_once_opened(&self) -> String {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
        for _ in 0..300 {
            looks.tick().await;
            let claims = local().keys("open/").await;
            if let Some(claim) = claims.iter().find(|key| key.ends_with(&format!("/{}.json", self.id))) {
                let case = local().json(claim).await["caseId"].as_str().expect("a case").to_owned();
                if local().keys(&format!("cases/{case}/case.json")).await.len() == 1 {
                    return case;
                }
            }
        }
        panic!("no case was opened for {}", self.id);
    }

    /// Whether the claim of an open case is there.
    pub(crate) async fn is_claimed(&self) -> bool {
        local().keys("open/").await.iter().any(|key| key.ends_with(&format!("/{}.json", self.id)))
    }

    /// The ids of every case of the instance.
    pub(crate) async fn cases(&self) -> Vec<String> {
        let mut cases = Vec::new();
        for key in local().keys("cases/").await.iter().filter(|key| key.ends_with("/case.json")) {
            // Others' tests tamper with cases: one that is no JSON is not this instance's.
            let case: Value = serde_json::from_slice(&local().object(key).await).unwrap_or_default();
            if case["instance"]["instanceId"] == self.id.as_str() {
                cases.push(case["caseId"].as_str().unwrap_or_default().to_owned());
            }
        }
        cases
    }
}

/// The checks of an answer, by name.
pub(crate) fn checklist(output: &Value) -> BTreeMap<String, String> {
    output["instances"][0]["checklist"]
        .as_array()
        .expect("a checklist")
        .iter()
        .map(|c| {
            (c["name"].as_str().unwrap_or_default().to_owned(), c["status"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

/// The status of a stage in an answer.
pub(crate) fn stage<'a>(output: &'a Value, name: &str) -> &'a str {
    output["instances"][0]["stages"][name]["status"].as_str().unwrap_or("none")
}
