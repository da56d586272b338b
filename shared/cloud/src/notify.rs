//! Tells people, through the notification topic. Holds no text of its own.

use crate::{Cloud, CloudError};

const PUBLISH: &str = "sns:Publish";

impl Cloud {
    /// Publishes a message.
    ///
    /// # Errors
    /// Where the topic refuses or cannot be reached.
    pub async fn publish(&self, topic: &str, subject: &str, body: &str) -> Result<(), CloudError> {
        self.sns
            .publish()
            .topic_arn(topic)
            .subject(subject)
            .message(body)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PUBLISH, topic, &error))?;
        Ok(())
    }
}
