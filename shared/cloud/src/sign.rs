//! The asymmetric key in KMS that signs a case's manifest. Its private half never leaves KMS.

use crate::{Cloud, CloudError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use sha2::{Digest as _, Sha256};

const SIGN: &str = "kms:Sign";
const PUBLIC_KEY: &str = "kms:GetPublicKey";

impl Cloud {
    /// The public half of a key: DER of its SubjectPublicKeyInfo (RFC 5280).
    ///
    /// # Errors
    /// Where KMS refuses or cannot be reached.
    pub async fn public_key(&self, key: &str) -> Result<Vec<u8>, CloudError> {
        let answer = self
            .kms_at_home
            .get_public_key()
            .key_id(key)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PUBLIC_KEY, key, &error))?;
        answer
            .public_key()
            .map(|blob| blob.as_ref().to_vec())
            .ok_or_else(|| CloudError::unusable(PUBLIC_KEY, key, "KMS gave no public key"))
    }

    /// The signature of a message: ECDSA over its SHA-256, in DER.
    ///
    /// # Errors
    /// Where KMS refuses or cannot be reached.
    pub async fn sign(&self, key: &str, message: &[u8]) -> Result<Vec<u8>, CloudError> {
        let answer = self
            .kms_at_home
            .sign()
            .key_id(key)
            // The digest alone is sent: KMS takes messages of 4096 bytes at most.
            .message(Blob::new(Sha256::digest(message).to_vec()))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(SIGN, key, &error))?;
        answer
            .signature()
            .map(|blob| blob.as_ref().to_vec())
            .ok_or_else(|| CloudError::unusable(SIGN, key, "KMS gave no signature"))
    }
}
