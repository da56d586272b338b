//! The role of the instance: by which profile it has it, who else has it, and whether our policy is on it.

use crate::{Cloud, CloudError};
use aws_sdk_ec2::types::{Filter, IamInstanceProfileAssociation};
use futures::future::join;
use stasis_model::action::arn_name;
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, Credentials};
use stasis_model::facts::{ProfileAssociation, RevokeFacts};
use stasis_model::ids::InstanceId;
use std::collections::BTreeSet;

const ASSOCIATIONS: &str = "ec2:DescribeIamInstanceProfileAssociations";
const PROFILE: &str = "iam:GetInstanceProfile";
const PROFILES: &str = "iam:ListInstanceProfilesForRole";
const POLICY: &str = "iam:GetRolePolicy";
/// Associations that give, or are about to give, an instance its role.
const LIVE: [&str; 2] = ["associating", "associated"];

impl Cloud {
    /// What revoke reads, for the policy of this name. Under policy `keep` nothing is.
    pub async fn revoke_facts(&self, case: &Case, policy: &str) -> RevokeFacts {
        let id = &case.instance.instance_id;
        let not_read = || "not read: the policy keeps the credentials".to_owned();
        let Some(before) =
            case.baseline.instance.instance_profile.as_ref().filter(|_| case.policy.credentials == Credentials::Revoke)
        else {
            return RevokeFacts {
                association: Observed::Unknown(not_read()),
                role: Observed::Unknown(not_read()),
                shared_with: Observed::Unknown(not_read()),
                quarantine_profile: Observed::Unknown(not_read()),
                revoked: Observed::Unknown(not_read()),
            };
        };
        let (association, role, quarantine_profile) = futures::future::join3(
            self.profile_association(id),
            self.profile(arn_name(before)),
            self.profile(&case.policy.quarantine_profile),
        )
        .await;
        let role: Observed<Option<String>> = role.map(|profile| profile.and_then(|p| p.role)).into();
        let (shared_with, revoked) = match role.known() {
            Some(Some(role)) => {
                let (shared, revoked) = join(self.others_with_role(id, role), self.has_policy(role, policy)).await;
                (shared.into(), revoked.into())
            }
            _ => (Observed::Unknown("the role is not known".to_owned()), Observed::Known(false)),
        };
        RevokeFacts {
            association: association.into(),
            role,
            shared_with,
            quarantine_profile: quarantine_profile.map(|profile| profile.map(|p| p.arn)).into(),
            revoked,
        }
    }

    /// What gives the instance its role.
    pub(crate) async fn profile_association(&self, id: &InstanceId) -> Result<Option<ProfileAssociation>, CloudError> {
        let found = self.associations(Some(id)).await?;
        Ok(found.iter().find(|a| a.instance_id() == Some(id.as_str())).and_then(|a| {
            Some(ProfileAssociation {
                id: a.association_id()?.to_owned(),
                profile: a.iam_instance_profile()?.arn()?.to_owned(),
            })
        }))
    }

    async fn associations(&self, id: Option<&InstanceId>) -> Result<Vec<IamInstanceProfileAssociation>, CloudError> {
        let mut call = self.ec2.describe_iam_instance_profile_associations();
        if let Some(id) = id {
            call = call.filters(Filter::builder().name("instance-id").values(id.as_str()).build());
        }
        let subject = id.map_or("the region", InstanceId::as_str);
        let found: Vec<IamInstanceProfileAssociation> = call
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(ASSOCIATIONS, subject, &error))?;
        Ok(found.into_iter().filter(|a| a.state().is_none_or(|s| LIVE.contains(&s.as_str()))).collect())
    }

    /// A profile by name; none where it does not exist.
    pub(crate) async fn profile(&self, name: &str) -> Result<Option<Profile>, CloudError> {
        match self.iam.get_instance_profile().instance_profile_name(name).send().await {
            Ok(answer) => Ok(answer.instance_profile().map(|profile| Profile {
                arn: profile.arn().to_owned(),
                role: profile.roles().first().map(|role| role.role_name().to_owned()),
                role_arn: profile.roles().first().map(|role| role.arn().to_owned()),
            })),
            Err(error) => match CloudError::from_sdk(PROFILE, name, &error) {
                gone if is_no_such_entity(&gone) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The role in a profile, where both exist.
    pub(crate) async fn role_of(&self, profile: &str) -> Result<Option<String>, CloudError> {
        Ok(self.profile(profile).await?.and_then(|profile| profile.role))
    }

    /// The other instances of this region that have the role, by whatever profile.
    async fn others_with_role(&self, id: &InstanceId, role: &str) -> Result<Vec<InstanceId>, CloudError> {
        let listing = self.iam.list_instance_profiles_for_role().role_name(role).into_paginator().items().send();
        let (profiles, associations) = join(listing.try_collect(), self.associations(None)).await;
        let profiles: Vec<aws_sdk_iam::types::InstanceProfile> =
            profiles.map_err(|error| CloudError::from_sdk(PROFILES, role, &error))?;
        let arns: BTreeSet<&str> = profiles.iter().map(|p| p.arn()).collect();
        Ok(associations?
            .iter()
            .filter(|a| a.iam_instance_profile().and_then(|p| p.arn()).is_some_and(|arn| arns.contains(arn)))
            .filter_map(|a| a.instance_id()?.parse().ok())
            .filter(|other| other != id)
            .collect())
    }

    /// Whether an inline policy of this name is on the role.
    pub(crate) async fn has_policy(&self, role: &str, policy: &str) -> Result<bool, CloudError> {
        match self.iam.get_role_policy().role_name(role).policy_name(policy).send().await {
            Ok(_) => Ok(true),
            Err(error) => match CloudError::from_sdk(POLICY, role, &error) {
                gone if is_no_such_entity(&gone) => Ok(false),
                error => Err(error),
            },
        }
    }
}

/// An instance profile: its ARN, and name and ARN of the role in it.
pub(crate) struct Profile {
    arn: String,
    role: Option<String>,
    pub(crate) role_arn: Option<String>,
}

/// IAM's word for "there is no such thing".
fn is_no_such_entity(error: &CloudError) -> bool {
    error.code == "NoSuchEntity" || error.is_not_found()
}
