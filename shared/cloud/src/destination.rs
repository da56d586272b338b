//! The way to the place where copies of snapshots are kept: a client in its region, with the credentials of the role there.

use crate::{Cloud, CloudError};
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use stasis_model::case::Case;
use stasis_model::disks::{Place, destination_of, place_of};
use stasis_model::ids::Region;
use std::time::{Duration, SystemTime};

const SIGN: &str = "ec2:CopySnapshot";
/// For how long EC2 may make use of a signed request.
const SIGNED_SECONDS: u64 = 600;
/// What a query holds as it stands (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// EC2 in a place.
pub(crate) struct Elsewhere {
    pub(crate) ec2: aws_sdk_ec2::Client,
    credentials: Credentials,
}

impl Cloud {
    /// EC2 in a place of the case: beside the instance, or in the destination of its copies.
    pub(crate) async fn ec2_in(&self, case: &Case, place: &Place) -> Result<Elsewhere, CloudError> {
        let beside = place == &place_of(case);
        let role = destination_of(case).filter(|to| !beside && to.place == *place).map_or("", |to| to.role.as_str());
        let (config, traces) = if beside {
            (&self.there, self.traces_there.clone())
        } else {
            (&self.config, self.process.traces.in_account(&place.account))
        };
        let mut builder = aws_sdk_ec2::config::Builder::from(config)
            .region(aws_sdk_ec2::config::Region::new(place.region.as_str().to_owned()))
            .interceptor(traces);
        let credentials = if role.is_empty() {
            own_credentials(config).await?
        } else {
            let assumed = self.session(role, &case.case_id, None).await?;
            builder = builder.credentials_provider(assumed.clone());
            assumed
        };
        Ok(Elsewhere { ec2: aws_sdk_ec2::Client::from_conf(builder.build()), credentials })
    }
}

async fn own_credentials(config: &SdkConfig) -> Result<Credentials, CloudError> {
    let provider = config
        .credentials_provider()
        .ok_or_else(|| CloudError::unusable(SIGN, "credentials", "the function has none"))?;
    let found = provider.provide_credentials().await;
    found.map_err(|error| CloudError::unusable(SIGN, "credentials", error.to_string()))
}

impl Elsewhere {
    /// The same copy, asked for where the snapshot is: EC2 wants it for an encrypted snapshot of another region, and this
    /// SDK does not make it (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html>).
    pub(crate) fn signed_copy(
        &self,
        snapshot: &str,
        from: &Region,
        to: &Region,
        key: &str,
    ) -> Result<String, CloudError> {
        signed_copy(&self.credentials, snapshot, from, to, key, SystemTime::now())
            .map_err(|error| CloudError::unusable(SIGN, snapshot, error))
    }
}

fn signed_copy(
    credentials: &Credentials,
    snapshot: &str,
    from: &Region,
    to: &Region,
    key: &str,
    now: SystemTime,
) -> Result<String, String> {
    let suffix = if from.as_str().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let encoded = |value: &str| utf8_percent_encode(value, RESERVED).to_string();
    let fields = [
        ("Action", "CopySnapshot"),
        ("DestinationRegion", to.as_str()),
        ("Encrypted", "true"),
        ("KmsKeyId", key),
        ("SourceRegion", from.as_str()),
        ("SourceSnapshotId", snapshot),
        ("Version", "2016-11-15"),
    ];
    let mut query: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let host = format!("ec2.{from}.{suffix}");
    let address = format!("https://{host}/?{}", query.join("&"));
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(SIGNED_SECONDS));
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(from.as_str())
        .name("ec2")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = std::iter::once(("host", host.as_str()));
    let request =
        SignableRequest::new("GET", &address, headers, SignableBody::Bytes(&[])).map_err(|error| error.to_string())?;
    let (instructions, _) = sign(request, &parameters).map_err(|error| error.to_string())?.into_parts();
    let (_, added) = instructions.into_parts();
    query.extend(added.into_iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(&value))));
    Ok(format!("https://{host}/?{}", query.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_copy_names_both_regions_and_is_asked_for_where_the_snapshot_is() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("a+token/=".to_owned()), None, "test");
        let (from, to) = ("eu-central-1".parse().expect("region"), "eu-west-1".parse().expect("region"));
        let key = "arn:aws:kms:eu-west-1:222233334444:key/1";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let signed = signed_copy(&credentials, "snap-0a", &from, &to, key, at).expect("signed");
        assert!(signed.starts_with("https://ec2.eu-central-1.amazonaws.com/?Action=CopySnapshot&"), "{signed}");
        for part in [
            "DestinationRegion=eu-west-1",
            "SourceRegion=eu-central-1",
            "SourceSnapshotId=snap-0a",
            "KmsKeyId=arn%3Aaws%3Akms%3Aeu-west-1%3A222233334444%3Akey%2F1",
            "%2Feu-central-1%2Fec2%2Faws4_request",
            "X-Amz-Security-Token=a%2Btoken%2F%3D",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Date=20260921T141320Z",
            "X-Amz-Expires=600",
            // What botocore 1.43 signs of the same request, which AWS' other SDKs make by themselves.
            "X-Amz-Signature=0f80b2abadb110795e3b1b98e698f1cd43281d1e6f4674997224ac75bd88795e",
        ] {
            assert!(signed.contains(part), "{part} is not in {signed}");
        }
        assert!(!signed.contains("secret"));
    }
}
