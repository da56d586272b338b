//! Where Stasis is: from the command line, the environment, or the outputs of its stack, in this order.

use crate::args::Common;
use crate::error::CliError;
use crate::screen::Screen;
use aws_config::SdkConfig;
use stasis_cloud::{Cloud, Home, Traces};
use stasis_decide::proof::Key;
use stasis_model::case::Case;
use stasis_model::ids::{AccountId, CaseId, Region};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::sync::OnceCell;

const CONTAIN: &str = "ContainStateMachineArn";
const RELEASE: &str = "ReleaseStateMachineArn";
const BUCKET: &str = "EvidenceBucket";
const SIGNING_KEY: &str = "SigningKeyArn";

/// The place, and who works from it.
#[derive(Debug)]
pub(crate) struct Place {
    common: Common,
    config: SdkConfig,
    outputs: OnceCell<BTreeMap<String, String>>,
    /// The clients.
    pub cloud: Cloud,
    /// Who calls, by ARN.
    pub caller: String,
    /// Their account.
    pub account: AccountId,
    /// Where answers go.
    pub screen: Screen,
}

impl Place {
    /// Finds Stasis.
    pub(crate) async fn find(common: &Common, screen: Screen) -> Result<Self, CliError> {
        let config = stasis_cloud::analyst_config(common.profile.as_deref(), common.region.as_deref()).await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(CliError::Usage(
                "no region is set: name the one that Stasis is deployed in (--region, or AWS_REGION)".to_owned(),
            ));
        };
        let region: Region = region.parse().map_err(|error| CliError::Usage(format!("{error}")))?;
        let (account, caller) = stasis_cloud::stack::caller(&config).await?;
        let outputs = OnceCell::new();
        let bucket = match &common.bucket {
            Some(bucket) => bucket.clone(),
            None => {
                let found = outputs_of(&config, &common.stack, &region).await?;
                let bucket = named(&found, BUCKET, &common.stack)?;
                outputs.set(found).ok();
                bucket
            }
        };
        let home = Home { external_id: format!("stasis-{account}"), account: account.clone(), region, bucket };
        let cloud = Cloud::new(&config, home, Traces::default());
        Ok(Self { common: common.clone(), config, outputs, cloud, caller, account, screen })
    }

    async fn output(&self, name: &str) -> Result<String, CliError> {
        let region = &self.cloud.home().region;
        let outputs = self.outputs.get_or_try_init(|| outputs_of(&self.config, &self.common.stack, region)).await?;
        named(outputs, name, &self.common.stack)
    }

    /// ARN of the state machine that contains.
    pub(crate) async fn contain_machine(&self) -> Result<String, CliError> {
        match &self.common.contain_machine {
            Some(arn) => Ok(arn.clone()),
            None => self.output(CONTAIN).await,
        }
    }

    /// ARN of the state machine that releases.
    pub(crate) async fn release_machine(&self) -> Result<String, CliError> {
        match &self.common.release_machine {
            Some(arn) => Ok(arn.clone()),
            None => self.output(RELEASE).await,
        }
    }

    /// The key that manifests are checked with: from a file, or the stack's own from KMS. None where it cannot be had, which
    /// is said.
    pub(crate) async fn trusted_key(&self, file: Option<&Path>) -> Result<Option<Key>, CliError> {
        if let Some(file) = file {
            return key_in(file).map(Some);
        }
        let arn = match &self.common.signing_key {
            Some(arn) => Ok(arn.clone()),
            None => self.output(SIGNING_KEY).await,
        };
        let key = match arn {
            Ok(arn) => self.cloud.public_key(&arn).await.map_err(CliError::from),
            Err(error) => Err(error),
        };
        match key {
            Ok(der) => Ok(Key::from_der(&der)),
            Err(error) => {
                self.screen
                    .note(format!("the stack's own key cannot be had, so the one beside the case is taken: {error}"));
                Ok(None)
            }
        }
    }

    /// A case.
    pub(crate) async fn case(&self, id: &CaseId) -> Result<Case, CliError> {
        self.cloud.case(id).await?.ok_or_else(|| {
            CliError::NotFound(format!(
                "there is no case {id} in bucket {}; stasis list names those that there are, and --bucket, --region and --profile look elsewhere",
                self.cloud.bucket()
            ))
        })
    }
}

/// The public key in a file.
pub(crate) fn key_in(file: &Path) -> Result<Key, CliError> {
    let pem = std::fs::read_to_string(file).map_err(|error| CliError::file(file, &error))?;
    Key::from_pem(&pem).ok_or_else(|| CliError::File {
        path: file.to_owned(),
        problem: "holds no public key of ECDSA on P-256 in PEM (-----BEGIN PUBLIC KEY-----)".to_owned(),
    })
}

async fn outputs_of(config: &SdkConfig, stack: &str, region: &Region) -> Result<BTreeMap<String, String>, CliError> {
    stasis_cloud::stack::outputs(config, stack).await?.ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no stack {stack} in {region}: name the stack (--stack), region (--region) and profile (--profile) that Stasis is deployed by, or the evidence bucket itself (--bucket)"
        ))
    })
}

fn named(outputs: &BTreeMap<String, String>, name: &str, stack: &str) -> Result<String, CliError> {
    outputs.get(name).cloned().ok_or_else(|| {
        CliError::NotFound(format!("stack {stack} has no output {name}: it is not Stasis, or of an older release"))
    })
}
