//! Signatures of manifests: ECDSA on P-256 over SHA-256 (FIPS 186-5). Checks them; KMS alone makes them.

use p256::PublicKey;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};

/// A public key that manifests are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    key: PublicKey,
    /// SHA-256 of its DER, in hexadecimal.
    pub fingerprint: String,
    /// It, in PEM.
    pub pem: String,
}

impl Key {
    /// A key from DER, as KMS gives it; none where it is no key on P-256.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        Self::of(PublicKey::from_public_key_der(der).ok()?)
    }

    /// A key from PEM; none where it is no key on P-256.
    pub fn from_pem(pem: &str) -> Option<Self> {
        Self::of(PublicKey::from_public_key_pem(pem.trim()).ok()?)
    }

    fn of(key: PublicKey) -> Option<Self> {
        let der = key.to_public_key_der().ok()?;
        let pem = key.to_public_key_pem(LineEnding::LF).ok()?;
        Some(Self { key, fingerprint: crate::sha256(der.as_bytes()), pem })
    }

    /// Whether this signature, in DER, is one of this message by this key.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        DerSignature::from_bytes(signature)
            .is_ok_and(|signature| VerifyingKey::from(&self.key).verify(message, &signature).is_ok())
    }
}
