//! A tar archive as a stream (POSIX ustar): for process memory, which is many things of known size.

/// The unit of the format, in bytes.
pub const BLOCK: usize = 512;

/// The header of a member. Names are ours (`1234/exe`) and short; one that is longer than 100 bytes is cut.
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    put(&mut block, 0, name.as_bytes().get(..100).unwrap_or(name.as_bytes()));
    put(&mut block, 100, b"0000400\0");
    put(&mut block, 108, b"0000000\0");
    put(&mut block, 116, b"0000000\0");
    put(&mut block, 124, &size_field(size));
    put(&mut block, 136, b"00000000000\0");
    // The checksum is made with blanks in its own place.
    put(&mut block, 148, b"        ");
    put(&mut block, 156, b"0");
    put(&mut block, 257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block
}

/// How many zeros follow a member of this size.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

/// The end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Octal, or from 8 GiB on binary, as GNU tar does.
fn size_field(size: u64) -> [u8; 12] {
    let mut field = [0_u8; 12];
    if size < 1 << 33 {
        put(&mut field, 0, format!("{size:011o}\0").as_bytes());
    } else {
        put(&mut field, 0, &[0x80]);
        put(&mut field, 4, &size.to_be_bytes());
    }
    field
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in block.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asks the system's tar, which is not ours.
    fn listed(archive: &[u8]) -> String {
        use std::io::Write as _;
        let mut tar = std::process::Command::new("tar")
            .args(["--list", "--verbose", "--file", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("tar");
        tar.stdin.take().expect("stdin").write_all(archive).expect("written");
        let output = tar.wait_with_output().expect("ended");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn the_systems_tar_reads_it() {
        let mut archive = header("1/maps", 700).to_vec();
        archive.extend([b'x'; 700]);
        archive.extend(vec![0; padding(700)]);
        archive.extend(header("2/exe", 0));
        archive.extend(END);
        let text = listed(&archive);
        assert!(text.contains(" 700 ") && text.contains(" 1/maps\n") && text.contains(" 2/exe\n"), "{text}");
    }

    #[test]
    fn large_sizes_are_binary() {
        assert_eq!(&size_field((1 << 33) - 1), b"77777777777\0");
        assert_eq!(size_field(1 << 33), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn padding_fills_a_block(size in any::<u64>()) {
            prop_assert!(padding(size) < BLOCK);
            prop_assert_eq!((size % 512 + padding(size) as u64) % 512, 0);
        }
    }
}
