//! The vocabulary of Stasis.
//!
//! Types only, with what makes them valid: identifiers, the way a request comes in, the case, the facts
//! read from AWS, the actions that change something, and what is reported. Every other crate speaks in
//! these words. Nothing here talks to AWS, reads a clock or decides anything.

pub mod action;
pub mod approval;
pub mod baseline;
pub mod case;
pub mod check;
pub mod custody;
pub mod disks;
pub mod error;
pub mod evidence;
pub mod facts;
pub mod ids;
pub mod memory;
pub mod open_cases;
pub mod outcome;
pub mod policy;
pub mod ready;
pub mod source;
pub mod stage;
pub mod tags;
pub mod trigger;

/// A point in time, UTC, kept to the millisecond so that it reads the same in every file.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// The number of the layout of everything that is written to the evidence bucket.
pub const SCHEMA: u32 = 1;

/// The clock of a function, cut to milliseconds.
pub fn now() -> Timestamp {
    use chrono::SubsecRound as _;
    chrono::Utc::now().trunc_subsecs(3)
}
