//! `/proc/kallsyms`: the kernel's symbols with the addresses that they have in the running kernel.

use crate::SymbolsError;
use std::collections::BTreeMap;

/// Where x86_64 kernels are linked to; the running one is shifted from there.
const LINKED_AT: u64 = 0xFFFF_FFFF_8100_0000;
/// The addresses of the kernel itself, which are shifted together; those of modules and per-processor data are not.
const KERNEL: std::ops::Range<u64> = 0xFFFF_FFFF_8000_0000..0xFFFF_FFFF_C000_0000;

/// The symbols of the kernel itself by name, with the addresses that they were linked to: Volatility finds the shift in
/// the image and adds it. Of several with one name the first; symbols of modules are left out.
///
/// # Errors
/// Where there is no `_text`, or the kernel hid the addresses from whoever read them.
pub fn symbols(text: &str) -> Result<BTreeMap<&str, u64>, SymbolsError> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(address), Some(_kind), Some(name), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if let Ok(address) = u64::from_str_radix(address, 16) {
            found.entry(name).or_insert(address);
        }
    }
    let start = found.get("_text").copied().ok_or(SymbolsError::Kallsyms("there is no _text"))?;
    if start == 0 {
        return Err(SymbolsError::Kallsyms("the kernel hid the addresses"));
    }
    let shift = if KERNEL.contains(&start) { start.wrapping_sub(LINKED_AT) } else { 0 };
    for address in found.values_mut().filter(|address| KERNEL.contains(address)) {
        *address = address.wrapping_sub(shift);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shift_is_taken_back_and_modules_are_left_out() {
        let text = "ffffffff9a000000 T _text\nffffffff9b00e0c0 D init_task\n0000000000000000 A fixed_percpu_data\n\
                    ffffffffc0100000 t virtio_probe\t[virtio]\nffffffff9a000040 t same\nffffffff9a000080 t same\n";
        let found = symbols(text).expect("symbols");
        assert_eq!(found["_text"], 0xFFFF_FFFF_8100_0000);
        assert_eq!(found["init_task"], 0xFFFF_FFFF_8200_E0C0);
        assert_eq!((found["fixed_percpu_data"], found["same"]), (0, 0xFFFF_FFFF_8100_0040));
        assert!(!found.contains_key("virtio_probe"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert!(symbols("").expect_err("nothing").to_string().contains("no _text"));
        assert!(symbols("0000000000000000 T _text\n").expect_err("hidden").to_string().contains("hid"));
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "([0-9a-f]{0,18} [a-zA-Z] [_a-z]{0,6}\n){0,20}") {
            drop(symbols(&text));
        }
    }
}
