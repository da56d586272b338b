//! Whatever bytes start a run: no panic, and what is acted on are well-formed ids, each once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use stasis_model::trigger::{INSTANCES_MOST, Trigger};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    match Trigger::read(&value, &["example.edr".to_owned()]) {
        Ok(Trigger::Act { requests, .. }) => {
            let ids: BTreeSet<&str> = requests.iter().map(|request| request.instance.as_str()).collect();
            assert!(!ids.is_empty() && ids.len() == requests.len() && ids.len() <= INSTANCES_MOST);
            assert!(ids.iter().all(|id| id.starts_with("i-") && id.is_ascii()));
        }
        Ok(Trigger::Divide { instances, parts }) => {
            assert!(instances > INSTANCES_MOST && parts.len() == instances.div_ceil(INSTANCES_MOST));
        }
        Ok(Trigger::Ignore(reason)) => assert!(!reason.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
