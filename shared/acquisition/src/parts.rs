//! Into how many parts of which size an image is cut, for S3's multipart upload: 10,000 parts at most, of 5 MiB to
//! 5 GiB each (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).

/// S3's most parts of an upload.
pub const MOST_PARTS: u32 = 10_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The size of a part for all but the smallest and the largest hosts.
const ORDINARY: u64 = 16 * MIB;
/// The size of a part for hosts of up to 1 GiB, whose memory the collector's buffers must not fill.
const SMALL: u64 = 8 * MIB;
/// Part sizes leave room for what is not foreseen: memory that the instance type does not tell.
const PLANNED_PARTS: u64 = 9_500;

/// The size of each part but the last, in bytes, for a host with this much memory.
pub fn part_bytes(memory_bytes: u64) -> u64 {
    if memory_bytes <= GIB {
        return SMALL;
    }
    let least = with_room(memory_bytes).div_ceil(PLANNED_PARTS);
    least.div_ceil(MIB).saturating_mul(MIB).max(ORDINARY)
}

/// How many parts are to be signed for a host with this much memory.
pub fn part_count(memory_bytes: u64) -> u32 {
    let parts = with_room(memory_bytes).saturating_add(64 * MIB).div_ceil(part_bytes(memory_bytes));
    u32::try_from(parts).unwrap_or(MOST_PARTS).min(MOST_PARTS)
}

/// How many parts are on their way at the same time. Each is held in memory until it is through.
pub fn uploads_at_once(memory_bytes: u64) -> u8 {
    if memory_bytes <= GIB { 1 } else { 2 }
}

/// 2 % more: headers, and memory beyond what the type is sold with.
fn with_room(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_add(memory_bytes / 50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_by_memory() {
        let table = [(GIB / 2, 8), (GIB, 8), (4 * GIB, 16), (144 * GIB, 16), (768 * GIB, 85), (24 * 1024 * GIB, 2703)];
        for (memory, mib) in table {
            assert_eq!(part_bytes(memory) / MIB, mib, "{} GiB", memory / GIB);
        }
    }

    proptest! {
        #[test]
        fn every_host_fits_into_an_upload(memory in 64 * MIB..=32 * 1024 * GIB) {
            let (bytes, count) = (part_bytes(memory), part_count(memory));
            prop_assert!((5 * MIB..=5 * GIB).contains(&bytes));
            prop_assert!((1..=MOST_PARTS).contains(&count));
            prop_assert!(bytes * u64::from(count) >= memory);
        }

        /// The collector's buffers: one that is filled, and those on their way.
        #[test]
        fn buffers_are_small_beside_the_memory(memory in 256 * MIB..=32 * 1024 * GIB) {
            let buffers = part_bytes(memory) * (u64::from(uploads_at_once(memory)) + 1);
            prop_assert!(buffers <= 48 * MIB || buffers <= memory / 1000);
        }
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        assert!((1..=MOST_PARTS).contains(&part_count(u64::MAX)));
        assert!(part_bytes(u64::MAX) > 0);
    }
}
