//! End to end: EventBridge or the console, the real state machine, the real functions, and the local AWS.
//! What became of an instance is read from the AWS APIs, never taken from what a stage says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod approval;
mod bad_input;
mod by_hand;
mod command_line;
mod contain;
mod depth;
mod disks;
mod failures;
mod joining;
mod local;
mod memory;
mod modes;
mod open_cases;
mod policy;
mod ready;
mod release;
mod scope;
mod several;
mod suspect;
mod ticket;
