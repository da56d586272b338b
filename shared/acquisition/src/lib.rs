//! What the collector on the suspect host and the functions in AWS say to each other: the manifest that tells the
//! collector where to send what, the summary with which it answers, the layout of the image, and its cut into parts.
//! No I/O, no AWS: both sides link it, and what comes from the host is never believed without being checked here.

pub mod lime;
pub mod manifest;
pub mod parts;
pub mod summary;
