//! How far the slow work of a case has come: the image of its memory, and its snapshots. For people who watch; no stage
//! decides by it.

use crate::{Cloud, CloudError};
use futures::future::join3;
use stasis_model::case::Case;
use stasis_model::disks::Snapshot;
use stasis_model::memory::{FOLDER, format_of, image_name};

/// How far the image of the memory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Bytes of memory that the machine has, by its type; none where that cannot be told.
    pub of: Option<u64>,
    /// Whether the upload is over.
    pub whole: bool,
}

impl Cloud {
    /// How far the image of the memory has come; none where none is on its way.
    ///
    /// # Errors
    /// Where the bucket refuses or cannot be reached.
    pub async fn memory_arrived(&self, case: &Case) -> Result<Option<Arrived>, CloudError> {
        let key = format!("{}{FOLDER}{}", case.prefix(), image_name(format_of(case)));
        let (upload, image, machine) = join3(self.upload(&key), self.describe(&key), self.machine(case)).await;
        let of = machine.ok().map(|machine| machine.memory_mib << 20);
        if let Some(image) = image? {
            return Ok(Some(Arrived { bytes: image.size, of, whole: true }));
        }
        let arrived = upload?.map(|upload| upload.parts.iter().map(|part| part.bytes).sum());
        Ok(arrived.map(|bytes| Arrived { bytes, of, whole: false }))
    }

    /// The snapshots of the case beside its instance, with how far each has come.
    ///
    /// # Errors
    /// Where EC2 refuses or cannot be reached.
    pub async fn snapshots_on_their_way(&self, case: &Case) -> Result<Vec<Snapshot>, CloudError> {
        self.snapshots(case).await
    }
}
