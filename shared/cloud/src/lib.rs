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
pub mod versions;

pub use error::CloudError;
pub use spoke::spoke_role;

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
    /// What the roles of other accounts ask for before they are assumed
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>).
    pub external_id: String,
}

/// The clients of the place of an instance, and those of home.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// The settings at home.
    config: SdkConfig,
    /// Those beside the instance.
    there: SdkConfig,
    home: Home,
    region: Region,
    sessions: spoke::Sessions,
    /// As what this process writes into the bucket, asked once.
    writer: Arc<OnceCell<Writer>>,
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
    /// The clients of home.
    pub fn new(config: &SdkConfig, home: Home) -> Self {
        let region = home.region.clone();
        Self::of(config, config, home, &region, spoke::Sessions::default(), Arc::default())
    }

    /// The clients of a place, with the settings `there`.
    pub(crate) fn of_place(at_home: &Self, there: &SdkConfig, region: &Region) -> Self {
        let (sessions, writer) = (at_home.sessions.clone(), at_home.writer.clone());
        Self::of(&at_home.config, there, at_home.home.clone(), region, sessions, writer)
    }

    fn of(
        config: &SdkConfig,
        there: &SdkConfig,
        home: Home,
        region: &Region,
        sessions: spoke::Sessions,
        writer: Arc<OnceCell<Writer>>,
    ) -> Self {
        let in_region = |config: &SdkConfig, region: &Region| {
            config.to_builder().region(aws_config::Region::new(region.as_str().to_owned())).build()
        };
        let (here, there) = (in_region(config, &home.region), in_region(there, region));
        Self {
            config: config.clone(),
            region: region.clone(),
            sessions,
            writer,
            autoscaling: aws_sdk_autoscaling::Client::new(&there),
            cloudtrail: aws_sdk_cloudtrail::Client::new(&there),
            ec2: aws_sdk_ec2::Client::new(&there),
            events: aws_sdk_eventbridge::Client::new(&here),
            elb: aws_sdk_elasticloadbalancing::Client::new(&there),
            elbv2: aws_sdk_elasticloadbalancingv2::Client::new(&there),
            iam: aws_sdk_iam::Client::new(&there),
            kms: aws_sdk_kms::Client::new(&there),
            kms_at_home: aws_sdk_kms::Client::new(&here),
            sfn: aws_sdk_sfn::Client::new(&here),
            ssm: aws_sdk_ssm::Client::new(&there),
            ssm_at_home: aws_sdk_ssm::Client::new(&here),
            s3: aws_sdk_s3::Client::new(&here),
            sns: aws_sdk_sns::Client::new(&here),
            sts: aws_sdk_sts::Client::new(&here),
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
        Self::of_place(self, &self.config, region)
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
