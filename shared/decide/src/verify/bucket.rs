//! The checks of the evidence bucket: how it keeps what is in it.

use super::of_fact;
use crate::checks::verify::{BUCKET, CLOSED, ENCRYPTED, REPLICATED, TLS};
use stasis_model::baseline::Observed;
use stasis_model::check::Check;
use stasis_model::disks::{DiskPolicy, LockMode};
use stasis_model::facts::BucketFacts;

/// How the bucket keeps what is written into it.
fn wanted(policy: &DiskPolicy) -> String {
    let in_compliance = if policy.case_file == LockMode::Compliance { " COMPLIANCE" } else { "" };
    format!("versioning enabled, Object Lock{in_compliance} for {} days", policy.lock_days)
}

/// The checks of the bucket; replication where there is any.
pub(crate) fn checks(policy: &DiskPolicy, bucket: &Observed<BucketFacts>) -> Vec<Check> {
    let mut checks = vec![
        of_fact(BUCKET, &wanted(policy), bucket, |b| kept(b, policy)),
        of_fact(ENCRYPTED, "aws:kms", bucket, |bucket| {
            of_fact(ENCRYPTED, "aws:kms", &bucket.encryption, |algorithm| match algorithm {
                Some(algorithm) => Check::of(ENCRYPTED, "aws:kms", algorithm.starts_with("aws:kms"), algorithm.clone()),
                None => Check::missing(ENCRYPTED, "aws:kms", "no default encryption"),
            })
        }),
        of_fact(CLOSED, "all four blocks of public access", bucket, closed),
        of_fact(TLS, "its policy denies what comes without TLS", bucket, |bucket| {
            let expected = "its policy denies what comes without TLS";
            of_fact(TLS, expected, &bucket.tls_only, |only| {
                let observed = if *only { "it does" } else { "it does not" };
                Check::of(TLS, expected, *only, observed)
            })
        }),
    ];
    checks.extend(bucket.known().and_then(replicated));
    checks
}

fn kept(bucket: &BucketFacts, policy: &DiskPolicy) -> Check {
    let versioned = if bucket.versioned { "versioned" } else { "not versioned" };
    let (long, lock) = match &bucket.lock {
        None => (false, "no Object Lock retention".to_owned()),
        Some((mode, locked)) => {
            let as_strong = policy.case_file != LockMode::Compliance || mode == "COMPLIANCE";
            (*locked >= policy.lock_days && as_strong, format!("Object Lock {mode} for {locked} days"))
        }
    };
    Check::of(BUCKET, wanted(policy), bucket.versioned && long, format!("{versioned}, {lock}"))
}

fn closed(bucket: &BucketFacts) -> Check {
    let expected = "all four blocks of public access";
    of_fact(CLOSED, expected, &bucket.public_access, |block| {
        let all = [
            (block.block_acls, "BlockPublicAcls"),
            (block.ignore_acls, "IgnorePublicAcls"),
            (block.block_policy, "BlockPublicPolicy"),
            (block.restrict_buckets, "RestrictPublicBuckets"),
        ];
        let off: Vec<&str> = all.into_iter().filter(|(on, _)| !on).map(|(_, name)| name).collect();
        let observed = if off.is_empty() { "all four are on".to_owned() } else { format!("off: {}", off.join(", ")) };
        Check::of(CLOSED, expected, off.is_empty(), observed)
    })
}

/// Replication is the operator's choice, so its absence is no failure; that it could not be read is said.
fn replicated(bucket: &BucketFacts) -> Option<Check> {
    let expected = "where it is configured";
    match bucket.replicated_to.known() {
        Some(to) if to.is_empty() => None,
        Some(to) => Some(Check::of(REPLICATED, expected, true, format!("to {}", to.join(", ")))),
        None => Some(of_fact(REPLICATED, expected, &bucket.replicated_to, |_| {
            Check::of(REPLICATED, expected, true, String::new())
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::check::CheckStatus;
    use stasis_model::facts::PublicAccessBlock;

    fn status(spoil: fn(&mut BucketFacts), name: &str) -> Option<CheckStatus> {
        let mut facts = sample::contained();
        if let Observed::Known(bucket) = &mut facts.bucket {
            spoil(bucket);
        }
        checks(&sample::case().policy.disks, &facts.bucket).into_iter().find(|c| c.name == name).map(|c| c.status)
    }

    #[test]
    fn each_way_in_which_a_bucket_keeps_less_is_told() {
        type Spoil = fn(&mut BucketFacts);
        let table: [(&str, Spoil, CheckStatus); 8] = [
            (BUCKET, |b| b.versioned = false, CheckStatus::Fail),
            (BUCKET, |b| b.lock = Some(("GOVERNANCE".to_owned(), 364)), CheckStatus::Fail),
            (ENCRYPTED, |b| b.encryption = Observed::Known(Some("AES256".to_owned())), CheckStatus::Fail),
            (ENCRYPTED, |b| b.encryption = Observed::Known(None), CheckStatus::Missing),
            (CLOSED, |b| b.public_access = Observed::Known(PublicAccessBlock::default()), CheckStatus::Fail),
            (CLOSED, |b| b.public_access = Observed::Unknown("AccessDenied".to_owned()), CheckStatus::Unknown),
            (TLS, |b| b.tls_only = Observed::Known(false), CheckStatus::Fail),
            (REPLICATED, |b| b.replicated_to = Observed::Unknown("AccessDenied".to_owned()), CheckStatus::Unknown),
        ];
        for (name, spoil, expected) in table {
            assert_eq!(status(spoil, name), Some(expected), "{name}");
        }
        let in_compliance = DiskPolicy { case_file: LockMode::Compliance, ..sample::case().policy.disks };
        for (mode, expected) in [("COMPLIANCE", CheckStatus::Pass), ("GOVERNANCE", CheckStatus::Fail)] {
            let mut facts = sample::contained();
            if let Observed::Known(bucket) = &mut facts.bucket {
                bucket.lock = Some((mode.to_owned(), 365));
            }
            let found = checks(&in_compliance, &facts.bucket);
            assert_eq!(found.iter().find(|c| c.name == BUCKET).map(|c| c.status), Some(expected), "{mode}");
        }
        assert_eq!(status(|_| {}, REPLICATED), None, "nobody asked for replication");
        let to = |b: &mut BucketFacts| b.replicated_to = Observed::Known(vec!["arn:aws:s3:::elsewhere".to_owned()]);
        assert_eq!(status(to, REPLICATED), Some(CheckStatus::Pass));
    }
}
