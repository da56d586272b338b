//! Addresses for the collector, signed by a session of the evidence-writer role that may do nothing but what the
//! addresses say: so they die with a session whose end is known, and whoever finds one can do no more with it.

use crate::{Cloud, CloudError};
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation};
use aws_sdk_s3::presigning::PresigningConfig;
use stasis_acquisition::manifest::{Manifest, Object, PartAddresses, SCHEMA};
use stasis_model::case::Case;
use stasis_model::memory::{FOLDER, HOST_FOLDER, MemoryPolicy, collector_key, format_of, image_name};
use std::time::{Duration, SystemTime};

const ASSUME: &str = "sts:AssumeRole";
const SIGN: &str = "s3:UploadPart";
/// A session of a role that was assumed by another lasts an hour at most
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining>).
const SESSION_SECONDS: i32 = 3600;
/// For how long the addresses are called good: less than the session.
const VALID_SECONDS: u64 = 3300;

/// What a manifest is to hold.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) number: u32,
    pub(crate) key: &'a str,
    pub(crate) upload_id: &'a str,
    pub(crate) first_part: u32,
    pub(crate) parts: u32,
    pub(crate) part_bytes: u64,
    pub(crate) uploads_at_once: u8,
}

/// Where a manifest of a case is.
pub(crate) fn manifest_key(case: &Case, number: u32) -> String {
    format!("{}{FOLDER}manifest-{number}.json", case.prefix())
}

impl Cloud {
    /// A manifest with its addresses.
    pub(crate) async fn manifest(&self, case: &Case, wanted: Wanted<'_>) -> Result<Manifest, CloudError> {
        let signer = self.signer(case).await?;
        let mut addresses = Vec::new();
        for number in wanted.first_part..wanted.first_part.saturating_add(wanted.parts) {
            let part = signer.s3.upload_part().bucket(&self.home.bucket).key(wanted.key).upload_id(wanted.upload_id);
            let part = part.part_number(i32::try_from(number).unwrap_or(i32::MAX));
            let signed = part.presigned(signer.when.clone()).await;
            addresses.push(signed.map_err(|error| CloudError::from_sdk(SIGN, wanted.key, &error))?.uri().to_owned());
        }
        let parts = PartAddresses::new(wanted.first_part, &addresses)
            .ok_or_else(|| CloudError::unusable(SIGN, wanted.key, "the addresses of the parts have no common form"))?;
        let mut objects = std::collections::BTreeMap::new();
        for object in Object::ALL {
            let key = format!("{}{FOLDER}{HOST_FOLDER}{}", case.prefix(), object.file_name());
            // Signed with the condition: the address is good for creating the object, and never for another version.
            let put = signer.s3.put_object().bucket(&self.home.bucket).key(&key).if_none_match("*");
            let signed = put.presigned(signer.when.clone()).await;
            objects.insert(
                object,
                signed.map_err(|error| CloudError::from_sdk("s3:PutObject", key, &error))?.uri().to_owned(),
            );
        }
        Ok(Manifest {
            schema: SCHEMA,
            number: wanted.number,
            valid_seconds: VALID_SECONDS,
            part_bytes: wanted.part_bytes,
            uploads_at_once: wanted.uploads_at_once,
            parts,
            objects,
            next: Some(signer.get(self.bucket(), &manifest_key(case, wanted.number + 1)).await?),
            format: format_of(case),
            bytes_per_second: Some(case.policy.memory.bytes_per_second).filter(|limit| *limit > 0),
        })
    }

    /// The addresses of the collector and of the newest manifest.
    pub(crate) async fn collector_addresses(
        &self,
        case: &Case,
        collector: &str,
        number: u32,
    ) -> Result<(String, String), CloudError> {
        let signer = self.signer(case).await?;
        let collector = signer.get(self.bucket(), &collector_key(collector)).await?;
        Ok((collector, signer.get(self.bucket(), &manifest_key(case, number)).await?))
    }

    /// A session of the evidence-writer role for this case alone.
    async fn signer(&self, case: &Case) -> Result<Signer, CloudError> {
        let role = case.policy.memory.writer_role.as_str();
        let answer = self
            .sts
            .assume_role()
            .role_arn(role)
            .role_session_name(case.case_id.as_str())
            .duration_seconds(SESSION_SECONDS)
            .policy(session_policy(&case.bucket, &sent_to(case), &case.policy.memory, self.home.region.as_str()))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(ASSUME, role, &error))?;
        let given =
            answer.credentials().ok_or_else(|| CloudError::unusable(ASSUME, role, "it gives no credentials"))?;
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "evidence-writer",
        );
        // A checksum that the SDK would sign for an empty body is none of the body that is sent.
        let config = aws_sdk_s3::config::Builder::from(&self.config)
            .region(aws_sdk_s3::config::Region::new(self.home.region.as_str().to_owned()))
            .credentials_provider(credentials)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        let when = PresigningConfig::builder()
            .start_time(SystemTime::now())
            .expires_in(Duration::from_secs(VALID_SECONDS))
            .build()
            .map_err(|error| CloudError::unusable(ASSUME, role, error.to_string()))?;
        Ok(Signer { s3: aws_sdk_s3::Client::from_conf(config), when })
    }
}

/// Signs with the session's credentials; all of one manifest at the same second, so that its addresses differ as
/// little as they can.
struct Signer {
    s3: aws_sdk_s3::Client,
    when: PresigningConfig,
}

impl Signer {
    async fn get(&self, bucket: &str, key: &str) -> Result<String, CloudError> {
        let signed = self.s3.get_object().bucket(bucket).key(key).presigned(self.when.clone()).await;
        Ok(signed.map_err(|error| CloudError::from_sdk("s3:GetObject", key, &error))?.uri().to_owned())
    }
}

/// The folder of the memory in the case, and the name of the image in it.
fn sent_to(case: &Case) -> (String, &'static str) {
    (format!("{}{FOLDER}", case.prefix()), image_name(format_of(case)))
}

/// What the session may do: send the image and the objects of this case, and fetch its manifests and the collectors.
fn session_policy(bucket: &str, (folder, image): &(String, &str), policy: &MemoryPolicy, region: &str) -> String {
    let partition = policy.writer_role.split(':').nth(1).unwrap_or("aws");
    let object = |key: String| format!("arn:{partition}:s3:::{bucket}/{key}");
    let of_case = |name: &str| object(format!("{folder}{name}"));
    let sent = [of_case(image), of_case(&format!("{HOST_FOLDER}*"))];
    let collectors = [&policy.collector_x86_64, &policy.collector_arm64, &policy.windows_tool.sha256];
    let collectors = collectors.into_iter().filter(|hash| !hash.is_empty());
    let mut fetched = vec![of_case("manifest-*")];
    fetched.extend(collectors.map(|hash| object(collector_key(hash))));
    let via = format!("s3.{region}.*");
    let statements = serde_json::json!([
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": sent},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": fetched},
        {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*", "Condition": {"StringLike": {"kms:ViaService": via}}},
    ]);
    serde_json::json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use stasis_model::memory::WindowsTool;

    /// AWS takes a session policy of at most 2,048 characters
    /// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).
    #[test]
    fn the_session_is_narrowed_to_one_case_and_its_policy_fits() {
        let policy = MemoryPolicy {
            writer_role: "arn:aws-us-gov:iam::111122223333:role/stasis-evidence-writer-us-gov-west-1".to_owned(),
            collector_x86_64: "a".repeat(64),
            collector_arm64: "b".repeat(64),
            windows_tool: WindowsTool { sha256: "c".repeat(64), ..WindowsTool::default() },
            ..MemoryPolicy::default()
        };
        let to = ("cases/case-20261123T061126Z-1f2e3d4c/memory/".to_owned(), "image.lime");
        let text = session_policy(&"b".repeat(63), &to, &policy, "us-gov-west-1");
        assert!(text.len() <= 2048, "{}", text.len());
        let found: Value = serde_json::from_str(&text).expect("JSON");
        for statement in found["Statement"].as_array().expect("statements") {
            let allowed = statement["Action"].to_string();
            assert!(!allowed.contains('*') && !allowed.contains("Delete") && !allowed.contains("List"), "{allowed}");
            let resources = statement["Resource"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for resource in resources {
                let mine = resource.starts_with("arn:aws-us-gov:s3:::")
                    && (resource.contains("/cases/case-20261123T061126Z-1f2e3d4c/memory/")
                        || resource.contains("/tools/collector/"));
                assert!(mine, "{resource}");
            }
        }
        let sent = found["Statement"][0]["Resource"].as_array().expect("resources");
        let ends: Vec<&str> =
            sent.iter().filter_map(|r| r.as_str()?.split_once("/memory/")).map(|(_, end)| end).collect();
        assert_eq!(ends, ["image.lime", "host/*"], "neither the outcome nor a manifest");
    }
}
