//! The collector: one static binary that runs on the suspect host and streams what is volatile there to presigned
//! addresses. It holds no key, writes nothing to a disk, loads no module, installs nothing, and is the first to die
//! when memory runs short. It reads `/proc` and `/sys` itself, because the host's own tools may lie.
//!
//! [`run`] is the order of one acquisition. Everything that it reads is below one root ([`host::Host`]), so that every
//! part of it is tested without being root.

pub mod address;
pub mod error;
pub mod files;
pub mod host;
pub mod iomem;
pub mod kcore;
pub mod kernel;
mod pace;
pub mod priority;
pub mod process_memory;
pub mod run;
pub mod sender;
pub mod state;
pub mod stream;
pub mod tar;
