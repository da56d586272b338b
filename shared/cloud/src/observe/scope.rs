//! What else a compromise may reach: where flows are logged, which buckets the instance's role may do harm to, and what
//! Access Analyzer knows of the role. Only reads.

use crate::{Cloud, CloudError, client};
use aws_sdk_accessanalyzer::types::{AnalyzerStatus, Criterion};
use aws_sdk_ec2::types::Filter;
use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use aws_sdk_s3::types::{BucketVersioningStatus, MfaDeleteStatus};
use futures::future::{join_all, join3};
use stasis_model::action::arn_name;
use stasis_model::baseline::Observed;
use stasis_model::case::Case;
use stasis_model::facts::{Analyzed, FlowLog, Reach, ReachedBucket, ScopeFacts};
use stasis_model::ids::Region;
use stasis_model::policy::Playbook;
use stasis_model::tags;
use std::collections::{BTreeMap, BTreeSet};

const FLOW_LOGS: &str = "ec2:DescribeFlowLogs";
const BUCKETS: &str = "s3:ListAllMyBuckets";
const VERSIONING: &str = "s3:GetBucketVersioning";
const SIMULATE: &str = "iam:SimulatePrincipalPolicy";
const ANALYZERS: &str = "access-analyzer:ListAnalyzers";
const FINDINGS: &str = "access-analyzer:ListFindings";
/// How many buckets of an account are looked at: more would take longer than the function has.
const BUCKETS_MOST: usize = 200;
/// How many a simulation is about.
const BUCKETS_AT_ONCE: usize = 25;
/// How many findings about the role are kept.
const FINDINGS_MOST: usize = 50;
/// What destroys data in a bucket.
const HARMFUL: [&str; 3] = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"];

impl Cloud {
    /// What scope reads of a case.
    pub async fn scope_facts(&self, case: &Case) -> ScopeFacts {
        let asks = |playbook: Playbook| case.decided.playbooks.contains(&playbook);
        let not_asked = || "not asked for by the policy".to_owned();
        let flow_logs = async {
            match asks(Playbook::CoinMiner) {
                true => self.flow_logs(case).await.into(),
                false => Observed::Unknown(not_asked()),
            }
        };
        let about_role = asks(Playbook::Ransomware) || asks(Playbook::Exfiltration);
        let role: Observed<Option<String>> = match &case.baseline.instance.instance_profile {
            _ if !about_role => Observed::Unknown(not_asked()),
            None => Observed::Known(None),
            Some(profile) => self.profile(arn_name(profile)).await.map(|found| found.and_then(|p| p.role_arn)).into(),
        };
        let arn = role.known().and_then(Option::as_deref);
        let buckets = async {
            match arn.filter(|_| asks(Playbook::Ransomware)) {
                Some(role) => self.reach(case, role).await.into(),
                None => Observed::Unknown(not_asked()),
            }
        };
        let analyzed = async {
            match arn.filter(|_| asks(Playbook::Exfiltration)) {
                Some(role) => self.analyzed(role).await.into(),
                None => Observed::Unknown(not_asked()),
            }
        };
        let (flow_logs, buckets, analyzed) = join3(flow_logs, buckets, analyzed).await;
        ScopeFacts { flow_logs, role, buckets, analyzed }
    }

    async fn flow_logs(&self, case: &Case) -> Result<Vec<FlowLog>, CloudError> {
        let interfaces = &case.baseline.instance.interfaces;
        let places: BTreeSet<String> = interfaces
            .iter()
            .flat_map(|i| [i.interface_id.to_string(), i.subnet_id.clone(), i.vpc_id.to_string()])
            .collect();
        let filter = Filter::builder().name("resource-id").set_values(Some(places.into_iter().collect())).build();
        self.flow_logs_where(case, filter).await
    }

    /// The flow logs that were made for a case.
    pub(crate) async fn flow_logs_of(&self, case: &Case) -> Result<BTreeSet<String>, CloudError> {
        let filter = Filter::builder().name(format!("tag:{}", tags::CASE)).values(case.case_id.as_str()).build();
        let found = self.flow_logs_where(case, filter).await?;
        Ok(found.into_iter().filter(|log| log.ours).map(|log| log.id).collect())
    }

    async fn flow_logs_where(&self, case: &Case, filter: Filter) -> Result<Vec<FlowLog>, CloudError> {
        let pages = self.ec2.describe_flow_logs().filter(filter).into_paginator().items().send();
        let found: Vec<aws_sdk_ec2::types::FlowLog> = pages
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(FLOW_LOGS, case.instance.instance_id.as_str(), &error))?;
        let read = |log: aws_sdk_ec2::types::FlowLog| {
            let is_case = |tag: &aws_sdk_ec2::types::Tag| {
                tag.key() == Some(tags::CASE) && tag.value() == Some(case.case_id.as_str())
            };
            Some(FlowLog {
                ours: log.tags().iter().any(is_case),
                delivers: log.flow_log_status() == Some("ACTIVE") && log.deliver_logs_status() != Some("FAILED"),
                destination: log
                    .log_group_name()
                    .or(log.log_destination())
                    .unwrap_or("nowhere that is known")
                    .to_owned(),
                traffic: log.traffic_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
                resource: log.resource_id?,
                id: log.flow_log_id?,
            })
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    async fn reach(&self, case: &Case, role: &str) -> Result<Reach, CloudError> {
        let pages = client!(aws_sdk_s3, &self.there, self.traces_there)
            .list_buckets()
            .max_buckets(1000)
            .into_paginator()
            .items()
            .send();
        let all: Vec<aws_sdk_s3::types::Bucket> =
            pages.try_collect().await.map_err(|error| CloudError::from_sdk(BUCKETS, role, &error))?;
        let total = all.len();
        let regions: BTreeMap<String, Region> = all
            .into_iter()
            .take(BUCKETS_MOST)
            .filter_map(|b| {
                let region = b.bucket_region.and_then(|region| region.parse().ok());
                Some((b.name?, region.unwrap_or_else(|| self.region.clone())))
            })
            .collect();
        let names: Vec<&String> = regions.keys().collect();
        let partition = case.instance.region.partition();
        let simulated =
            join_all(names.chunks(BUCKETS_AT_ONCE).map(|names| self.simulate(role, partition, names))).await;
        let mut harmful: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for allowed in simulated {
            for (bucket, action) in allowed? {
                harmful.entry(bucket).or_default().push(action);
            }
        }
        let settings =
            join_all(harmful.keys().map(|bucket| self.versioning(bucket, regions.get(bucket).unwrap_or(&self.region))))
                .await;
        let buckets = harmful.into_iter().zip(settings).map(|((name, actions), setting)| {
            let (versioned, mfa_delete) = match setting {
                Ok((versioned, mfa_delete)) => (Observed::Known(versioned), mfa_delete),
                Err(error) => (Observed::Unknown(error.to_string()), false),
            };
            ReachedBucket { name, actions, versioned, mfa_delete }
        });
        Ok(Reach { buckets: buckets.collect(), asked: regions.len(), unasked: total - regions.len() })
    }

    /// Which of the harmful actions the role's own policies allow in which bucket. Policies of buckets and organisations
    /// are not asked.
    async fn simulate(
        &self,
        role: &str,
        partition: &str,
        buckets: &[&String],
    ) -> Result<Vec<(String, String)>, CloudError> {
        let arns = buckets.iter().map(|bucket| format!("arn:{partition}:s3:::{bucket}/*")).collect();
        let pages = self
            .iam
            .simulate_principal_policy()
            .policy_source_arn(role)
            .set_action_names(Some(HARMFUL.map(str::to_owned).to_vec()))
            .set_resource_arns(Some(arns))
            .into_paginator()
            .items()
            .send();
        let results = pages.try_collect().await.map_err(|error| CloudError::from_sdk(SIMULATE, role, &error))?;
        let bucket_of =
            |arn: &str| arn.rsplit(":::").next().and_then(|rest| rest.strip_suffix("/*")).map(str::to_owned);
        let mut allowed = BTreeSet::new();
        for result in &results {
            let action = result.eval_action_name();
            // One result for each resource, or one that lists them all.
            for of in result.resource_specific_results() {
                if *of.eval_resource_decision() == PolicyEvaluationDecisionType::Allowed {
                    allowed.extend(bucket_of(of.eval_resource_name()).map(|bucket| (bucket, action.to_owned())));
                }
            }
            if *result.eval_decision() == PolicyEvaluationDecisionType::Allowed
                && result.resource_specific_results().is_empty()
                && let Some(bucket) = result.eval_resource_name().and_then(bucket_of)
            {
                allowed.insert((bucket, action.to_owned()));
            }
        }
        Ok(allowed.into_iter().collect())
    }

    async fn versioning(&self, bucket: &str, region: &Region) -> Result<(bool, bool), CloudError> {
        let config = aws_sdk_s3::config::Builder::from(&self.there)
            .region(aws_sdk_s3::config::Region::new(region.as_str().to_owned()))
            .interceptor(self.traces_there.clone());
        let answer = aws_sdk_s3::Client::from_conf(config.build())
            .get_bucket_versioning()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(VERSIONING, bucket, &error))?;
        Ok((
            answer.status() == Some(&BucketVersioningStatus::Enabled),
            answer.mfa_delete() == Some(&MfaDeleteStatus::Enabled),
        ))
    }

    async fn analyzed(&self, role: &str) -> Result<Analyzed, CloudError> {
        let analyzer = client!(aws_sdk_accessanalyzer, &self.there, self.traces_there);
        let listed: Vec<aws_sdk_accessanalyzer::types::AnalyzerSummary> = analyzer
            .list_analyzers()
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(ANALYZERS, role, &error))?;
        let mut all = Analyzed::default();
        for found in listed.iter().filter(|found| *found.status() == AnalyzerStatus::Active) {
            let eq = |value: &str| Criterion::builder().eq(value).build();
            let findings: Vec<aws_sdk_accessanalyzer::types::FindingSummaryV2> = analyzer
                .list_findings_v2()
                .analyzer_arn(found.arn())
                .filter("resource", eq(role))
                .filter("status", eq("ACTIVE"))
                .into_paginator()
                .items()
                .send()
                .try_collect()
                .await
                .map_err(|error| CloudError::from_sdk(FINDINGS, role, &error))?;
            all.analyzers.push(found.name().to_owned());
            all.findings.extend(findings.iter().take(FINDINGS_MOST).map(|finding| {
                let kind = finding.finding_type().map_or("a finding", |kind| kind.as_str());
                format!("{kind} {} of analyzer {}", finding.id(), found.name())
            }));
        }
        Ok(all)
    }
}
