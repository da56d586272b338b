//! Whatever a policy document holds: no panic, and what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stasis_model::policy::PolicyDocument;

fuzz_target!(|text: &str| match PolicyDocument::read(text) {
    Ok(document) => {
        let Ok(again) = serde_json::to_string(&document) else { panic!("it cannot be written") };
        assert!(PolicyDocument::read(&again).is_ok_and(|read| read == document), "{again}");
    }
    Err(error) => assert!(!error.to_string().is_empty()),
});
