//! The hands of Stasis: the only crate that talks to AWS.
//!
//! [`observe`] reads facts into our types, [`perform`] does one action, [`casefile`] keeps the case in the
//! evidence bucket. Nothing here decides what is to be done. Calls that would stop an instance or delete
//! evidence are forbidden by clippy.toml.

pub mod casefile;
mod cases;
mod destination;
pub mod error;
pub mod execution;
mod invoke;
pub mod notify;
pub mod observe;
pub mod perform;
pub mod policy;
mod presign;
mod rehearse;
mod sign;
mod spoke;
pub mod stack;
pub mod ticket;
mod traces;
pub mod versions;

pub use error::CloudError;
pub use spoke::spoke_role;
pub use traces::Traces;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use stasis_model::evidence::Writer;
use stasis_model::ids::{AccountId, Region};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Where Stasis itself is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its account.
    pub account: AccountId,
    /// Its region.
    pub region: Region,
    /// The evidence bucket.
    pub bucket: String,
    /// What the roles of other accounts and regions ask for before they are assumed
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>).
    pub external_id: String,
}

impl Home {
    /// Whether an instance is where the functions' own roles may act. What they may do is limited to their account and region;
    /// everywhere else a role of the place is assumed.
    pub fn is(&self, account: &AccountId, region: &Region) -> bool {
        self.account == *account && self.region == *region
    }
}

/// What the clients of all places have in common.
#[derive(Debug, Clone)]
struct Process {
    /// As what it writes into the bucket, asked once.
    writer: Arc<OnceCell<Writer>>,
    sessions: spoke::Sessions,
    traces: Traces,
}

/// A client of a service, whose calls are told to X-Ray.
macro_rules! client {
    ($service:ident, $settings:expr, $traces:expr) => {
        $service::Client::from_conf($service::config::Builder::from($settings).interceptor($traces.clone()).build())
    };
}
pub(crate) use client;

/// The clients of the place of an instance, and those of home.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// The settings at home.
    config: SdkConfig,
    /// Those beside the instance.
    there: SdkConfig,
    home: Home,
    region: Region,
    process: Process,
    /// Where calls beside the instance are told to.
    traces_there: Traces,
    autoscaling: aws_sdk_autoscaling::Client,
    cloudtrail: aws_sdk_cloudtrail::Client,
    ec2: aws_sdk_ec2::Client,
    events: aws_sdk_eventbridge::Client,
    elb: aws_sdk_elasticloadbalancing::Client,
    elbv2: aws_sdk_elasticloadbalancingv2::Client,
    iam: aws_sdk_iam::Client,
    kms: aws_sdk_kms::Client,
    kms_at_home: aws_sdk_kms::Client,
    sfn: aws_sdk_sfn::Client,
    ssm: aws_sdk_ssm::Client,
    ssm_at_home: aws_sdk_ssm::Client,
    s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    sts: aws_sdk_sts::Client,
}

/// The SDK's settings: a call that hangs must not eat the function's whole time. The name goes into the user agent
/// of every call, so that ours stand apart from an attacker's in CloudTrail, and each function's from another's.
pub async fn sdk_config(name: &str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(25))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts);
    if let Ok(name) = AppName::new(name.to_owned()) {
        loader = loader.app_name(name);
    }
    loader.load().await
}

/// The SDK's settings for a person: by profile and region as they name them, or as the AWS CLI would take them.
pub async fn analyst_config(profile: Option<&str>, region: Option<&str>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts);
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(aws_config::Region::new(region.to_owned()));
    }
    if let Ok(name) = AppName::new("stasis-cli") {
        loader = loader.app_name(name);
    }
    loader.load().await
}

impl Cloud {
    /// The clients of home, whose calls are told to `traces`.
    pub fn new(config: &SdkConfig, home: Home, traces: Traces) -> Self {
        let region = home.region.clone();
        let process = Process { writer: Arc::default(), sessions: spoke::Sessions::default(), traces: traces.clone() };
        Self::of(config, config, home, &region, process, traces)
    }

    /// The clients of another account or region, with the settings `there`.
    pub(crate) fn of_place(&self, account: &AccountId, there: &SdkConfig, region: &Region) -> Self {
        let traces = self.process.traces.in_account(account);
        Self::of(&self.config, there, self.home.clone(), region, self.process.clone(), traces)
    }

    fn of(
        config: &SdkConfig,
        there: &SdkConfig,
        home: Home,
        region: &Region,
        process: Process,
        traces_there: Traces,
    ) -> Self {
        let in_region = |config: &SdkConfig, region: &Region| {
            config.to_builder().region(aws_config::Region::new(region.as_str().to_owned())).build()
        };
        let (here, there) = (in_region(config, &home.region), in_region(there, region));
        let (told_here, told_there) = (&process.traces, &traces_there);
        Self {
            config: config.clone(),
            region: region.clone(),
            autoscaling: client!(aws_sdk_autoscaling, &there, told_there),
            cloudtrail: client!(aws_sdk_cloudtrail, &there, told_there),
            ec2: client!(aws_sdk_ec2, &there, told_there),
            events: client!(aws_sdk_eventbridge, &here, told_here),
            elb: client!(aws_sdk_elasticloadbalancing, &there, told_there),
            elbv2: client!(aws_sdk_elasticloadbalancingv2, &there, told_there),
            iam: client!(aws_sdk_iam, &there, told_there),
            kms: client!(aws_sdk_kms, &there, told_there),
            kms_at_home: client!(aws_sdk_kms, &here, told_here),
            sfn: client!(aws_sdk_sfn, &here, told_here),
            ssm: client!(aws_sdk_ssm, &there, told_there),
            ssm_at_home: client!(aws_sdk_ssm, &here, told_here),
            s3: client!(aws_sdk_s3, &here, told_here),
            sns: client!(aws_sdk_sns, &here, told_here),
            sts: client!(aws_sdk_sts, &here, told_here),
            process,
            traces_there,
            there,
            home,
        }
    }

    /// The clients of another region at home; bucket and topic stay where they are.
    #[must_use]
    pub fn in_region(&self, region: &Region) -> Self {
        if *region == self.region {
            return self.clone();
        }
        let (process, traces) = (self.process.clone(), self.process.traces.clone());
        Self::of(&self.config, &self.config, self.home.clone(), region, process, traces)
    }

    /// Another invocation of the function begins, with this tracing header.
    pub fn begin_trace(&self, header: Option<&str>) {
        self.process.traces.begin(header);
    }

    /// Where Stasis itself is.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The evidence bucket.
    pub fn bucket(&self) -> &str {
        &self.home.bucket
    }
}
