//! The hands of Stasis: the only crate that talks to AWS.
//!
//! [`observe`] reads facts into our types, [`perform`] does one action, [`casefile`] keeps the case in the
//! evidence bucket. Nothing here decides what is to be done. Calls that would stop an instance or delete
//! evidence are forbidden by clippy.toml.

pub mod casefile;
mod destination;
pub mod error;
pub mod execution;
pub mod notify;
pub mod observe;
pub mod perform;
pub mod policy;
mod presign;
pub mod ticket;

pub use error::CloudError;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use stasis_model::ids::Region;
use std::time::Duration;

/// The clients of one region, and the evidence bucket at home.
#[derive(Debug, Clone)]
pub struct Cloud {
    config: SdkConfig,
    home: Region,
    region: Region,
    bucket: String,
    autoscaling: aws_sdk_autoscaling::Client,
    cloudtrail: aws_sdk_cloudtrail::Client,
    ec2: aws_sdk_ec2::Client,
    events: aws_sdk_eventbridge::Client,
    elb: aws_sdk_elasticloadbalancing::Client,
    elbv2: aws_sdk_elasticloadbalancingv2::Client,
    iam: aws_sdk_iam::Client,
    kms: aws_sdk_kms::Client,
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

impl Cloud {
    /// The clients of the home region.
    pub fn new(config: &SdkConfig, home: &Region, bucket: &str) -> Self {
        Self::of_region(config, home, home, bucket)
    }

    fn of_region(config: &SdkConfig, home: &Region, region: &Region, bucket: &str) -> Self {
        let there = config.to_builder().region(aws_config::Region::new(region.as_str().to_owned())).build();
        let here = config.to_builder().region(aws_config::Region::new(home.as_str().to_owned())).build();
        Self {
            config: config.clone(),
            home: home.clone(),
            region: region.clone(),
            bucket: bucket.to_owned(),
            autoscaling: aws_sdk_autoscaling::Client::new(&there),
            cloudtrail: aws_sdk_cloudtrail::Client::new(&there),
            ec2: aws_sdk_ec2::Client::new(&there),
            events: aws_sdk_eventbridge::Client::new(&here),
            elb: aws_sdk_elasticloadbalancing::Client::new(&there),
            elbv2: aws_sdk_elasticloadbalancingv2::Client::new(&there),
            iam: aws_sdk_iam::Client::new(&there),
            kms: aws_sdk_kms::Client::new(&there),
            sfn: aws_sdk_sfn::Client::new(&here),
            ssm: aws_sdk_ssm::Client::new(&there),
            ssm_at_home: aws_sdk_ssm::Client::new(&here),
            s3: aws_sdk_s3::Client::new(&here),
            sns: aws_sdk_sns::Client::new(&here),
            sts: aws_sdk_sts::Client::new(&here),
        }
    }

    /// The clients of another region; bucket and topic stay at home.
    #[must_use]
    pub fn in_region(&self, region: &Region) -> Self {
        if *region == self.region {
            return self.clone();
        }
        Self::of_region(&self.config, &self.home, region, &self.bucket)
    }

    /// The region of Stasis itself.
    pub fn home(&self) -> &Region {
        &self.home
    }

    /// The evidence bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }
}
