//! Tells people. What is said is the decide crate's.

use stasis_cloud::{Cloud, CloudError};
use stasis_decide::report::Notice;

/// Publishes a notice.
///
/// # Errors
/// Where the topic refuses or cannot be reached.
pub(crate) async fn publish(cloud: &Cloud, topic: &str, notice: &Notice) -> Result<(), CloudError> {
    cloud.publish(topic, &notice.subject, &notice.body, &notice.chat()).await
}
