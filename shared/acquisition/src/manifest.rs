//! The manifest: one object that tells the collector where to send what. Run Command's parameters hold too little
//! for thousands of presigned addresses. It holds no key: each address allows one part of one upload, or the creation
//! of one object, and nothing else.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layout of manifest and summary.
pub const SCHEMA: u32 = 1;
/// The largest manifest that is read, in bytes: 10,000 signatures take less than 1 MB.
pub const MOST_BYTES: u64 = 8 << 20;

/// What stands in the template for the number of the part.
const NUMBER: &str = "{part}";
/// What stands in the template for its signature.
const SIGNATURE: &str = "{signature}";

/// What the collector is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The layout.
    pub schema: u32,
    /// Which manifest of the acquisition it is, from 1: addresses run out, and then a next one follows.
    pub number: u32,
    /// For how many seconds its addresses are good, from when it was written.
    pub valid_seconds: u64,
    /// The size of each part but the last, in bytes.
    pub part_bytes: u64,
    /// How many parts may be on their way at the same time.
    pub uploads_at_once: u8,
    /// The addresses of the parts.
    pub parts: PartAddresses,
    /// The addresses of the small objects, by [`Object`] name.
    pub objects: BTreeMap<Object, String>,
    /// Where the next manifest will be.
    #[serde(default)]
    pub next: Option<String>,
    /// The layout of the image.
    #[serde(default)]
    pub format: Format,
    /// At most so many bytes a second, where the instance's other traffic is to be spared.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// The layout of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// LiME: as it is, and what Volatility reads.
    #[default]
    Lime,
    /// AVML version 2: compressed by snappy, for `avml-convert` to turn into LiME.
    Avml,
    /// As it is, without headers, from address 0 on: what the memory tools of Windows give.
    Raw,
}

/// The small objects that the collector sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Object {
    /// That it has begun.
    Started,
    /// Processes, sockets, modules and the like: JSON lines.
    State,
    /// The kernel's types, for the symbols of the image.
    Btf,
    /// The kernel's symbols.
    Kallsyms,
    /// Which physical addresses are memory.
    Iomem,
    /// The kernel's banner.
    Version,
    /// Where the kernel says that its crash notes are.
    Vmcoreinfo,
    /// Small files that a reboot or the attacker removes: JSON lines.
    Files,
    /// What was taken, and what was not.
    Summary,
}

impl Object {
    /// Every one, in the order in which they are sent.
    pub const ALL: [Self; 9] = [
        Self::Started,
        Self::State,
        Self::Btf,
        Self::Kallsyms,
        Self::Iomem,
        Self::Version,
        Self::Vmcoreinfo,
        Self::Files,
        Self::Summary,
    ];

    /// The name of the file in the case.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Started => "started.json",
            Self::State => "state.jsonl",
            Self::Btf => "vmlinux.btf",
            Self::Kallsyms => "kallsyms.txt",
            Self::Iomem => "iomem.txt",
            Self::Version => "version.txt",
            Self::Vmcoreinfo => "vmcoreinfo.txt",
            Self::Files => "files.jsonl",
            Self::Summary => "summary.json",
        }
    }
}

/// The addresses of the parts. They differ in two places only, so one template and a signature for each part say all
/// of them: 0.7 MB instead of 13 for 10,000 parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartAddresses {
    /// The number of the first part.
    pub first: u32,
    /// The address with `{part}` and `{signature}` in place of what differs.
    template: String,
    /// The signature of each part, from the first on.
    signatures: Vec<String>,
}

impl PartAddresses {
    /// The addresses of the parts from `first` on, as the signer made them; `None` where there is none, or where they
    /// differ in more than number and signature.
    pub fn new(first: u32, addresses: &[String]) -> Option<Self> {
        let mut template = None;
        let mut signatures = Vec::with_capacity(addresses.len());
        for (number, address) in (first..).zip(addresses) {
            let (of_this, signature) = split(address, number)?;
            if template.get_or_insert_with(|| of_this.clone()) != &of_this {
                return None;
            }
            signatures.push(signature);
        }
        Some(Self { first, template: template?, signatures })
    }

    /// The address of a part; `None` where it has none.
    pub fn of(&self, number: u32) -> Option<String> {
        let signature = self.signatures.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        Some(self.template.replace(NUMBER, &number.to_string()).replace(SIGNATURE, signature))
    }

    /// The number after the last part.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(u32::try_from(self.signatures.len()).unwrap_or(u32::MAX))
    }
}

/// An address without number and signature, and its signature.
fn split(address: &str, number: u32) -> Option<(String, String)> {
    let (before, query) = address.split_once('?')?;
    let mut signature = None;
    let mut numbered = false;
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some(("partNumber", value)) if value == number.to_string() => {
                numbered = true;
                format!("partNumber={NUMBER}")
            }
            Some(("X-Amz-Signature", value)) => {
                signature = Some(value.to_owned());
                format!("X-Amz-Signature={SIGNATURE}")
            }
            _ => pair.to_owned(),
        })
        .collect();
    Some((format!("{before}?{}", pairs.join("&")), signature.filter(|_| numbered)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(first: u32, count: u32) -> Vec<String> {
        (first..first + count)
            .map(|n| format!("https://b.s3.eu-central-1.amazonaws.com/cases/x/memory/image.lime?x-id=UploadPart&partNumber={n}&uploadId=abc&X-Amz-Expires=3600&X-Amz-Signature={:064x}", u64::from(n) * 7919))
            .collect()
    }

    #[test]
    fn addresses_that_differ_elsewhere_are_not_put_into_a_template() {
        let mut mixed = addresses(1, 3);
        mixed[2] = mixed[2].replace("abc", "xyz");
        assert_eq!(PartAddresses::new(1, &mixed), None);
        assert_eq!(PartAddresses::new(1, &[]), None);
        assert_eq!(PartAddresses::new(2, &addresses(1, 3)), None, "numbers must be those said");
        assert_eq!(PartAddresses::new(1, &["https://x/y".to_owned()]), None);
    }

    #[test]
    fn ten_thousand_parts_stay_small() {
        let parts = PartAddresses::new(1, &addresses(1, 10_000)).expect("a template");
        let size = serde_json::to_vec(&parts).expect("JSON").len();
        assert!(size < 700_000, "{size}");
    }

    #[test]
    fn every_object_has_a_file_of_its_own() {
        let names: std::collections::BTreeSet<&str> = Object::ALL.iter().map(|o| o.file_name()).collect();
        assert_eq!(names.len(), Object::ALL.len());
    }

    proptest! {
        #[test]
        fn the_template_gives_back_every_address(first in 1_u32..9000, count in 1_u32..50, beyond in 0_u32..100) {
            let before = addresses(first, count);
            let parts = PartAddresses::new(first, &before).expect("a template");
            let after: Vec<String> = (first..parts.end()).map(|n| parts.of(n).expect("signed")).collect();
            prop_assert_eq!(before, after);
            prop_assert_eq!(parts.of(first + count + beyond), None);
            prop_assert_eq!(parts.of(first - 1), None);
        }
    }
}
