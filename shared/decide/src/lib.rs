//! The decisions of Stasis: one module per stage, each a pure function of the case and the facts read.
//!
//! Nothing here does input or output, reads a clock or knows an AWS type, so that what Stasis would do is
//! known without an account: almost all tests are here.

pub mod approval;
pub mod capture;
mod checks;
pub mod detach;
mod disks;
pub mod joining;
pub mod manifest;
pub mod memory;
mod network_acl;
pub mod open_cases;
pub mod policy;
pub mod prepare;
pub mod preserve;
pub mod proof;
pub mod protect;
pub mod quarantine;
pub mod ready;
pub mod release;
pub mod replicate;
pub mod report;
pub mod revoke;
pub mod scope;
mod text;
pub mod ticket;
pub mod triage;
pub mod verify;

#[cfg(test)]
mod disks_world;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod world;

use sha2::{Digest as _, Sha256};

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
