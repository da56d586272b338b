//! Whatever a host sends: its summary is read or refused, and a walk along its image ends, with ranges that are sorted and apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stasis_acquisition::lime::Walk;
use stasis_acquisition::manifest::Manifest;
use stasis_acquisition::summary::Summary;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(summary) = serde_json::from_slice::<Summary>(bytes) {
        assert!(serde_json::to_vec(&summary).is_ok());
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        for number in [0, 1, manifest.parts.end().saturating_sub(1), manifest.parts.end(), u32::MAX] {
            let _ = manifest.parts.of(number);
        }
    }
    let mut walk = Walk::new(bytes.len() as u64);
    let mut steps = 0;
    while !walk.is_over() {
        let at = usize::try_from(walk.at()).unwrap_or(usize::MAX);
        let before = walk.at();
        if walk.take(bytes.get(at..).unwrap_or_default().get(..32).unwrap_or_default()).is_err() {
            break;
        }
        assert!(walk.at() > before, "it goes on");
        steps += 1;
        assert!(steps <= bytes.len(), "it ends");
    }
    let ranges = walk.so_far();
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
});
