//! Tells people, through the notification topic. Holds no text of its own.

use crate::{Cloud, CloudError};

const PUBLISH: &str = "sns:Publish";

impl Cloud {
    /// Publishes a message: `chat` to subscribers by HTTPS, which chat integrations are, `body` to all others
    /// (<https://docs.aws.amazon.com/sns/latest/dg/sns-send-custom-platform-specific-payloads-mobile-devices.html>).
    ///
    /// # Errors
    /// Where the topic refuses or cannot be reached.
    pub async fn publish(&self, topic: &str, subject: &str, body: &str, chat: &str) -> Result<(), CloudError> {
        let message = serde_json::json!({"default": body, "https": chat}).to_string();
        self.sns
            .publish()
            .topic_arn(topic)
            .subject(subject)
            .message(message)
            .message_structure("json")
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(PUBLISH, topic, &error))?;
        Ok(())
    }
}
