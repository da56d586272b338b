//! BTF, the kernel's types as the kernel itself carries them
//! (<https://docs.kernel.org/bpf/btf.html>). Little-endian, as on both architectures of EC2.

use crate::SymbolsError;

const MAGIC: u16 = 0xEB9F;
/// The kernel's own limit on the number of types is about a million.
const MOST_TYPES: usize = 1 << 20;

/// A type. Other types are named by number; 0 is `void`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Its name; empty for none.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int {
        /// In bytes.
        size: u32,
        /// Signed.
        signed: bool,
        /// A truth value.
        boolean: bool,
    },
    /// A pointer to a type.
    Pointer(u32),
    /// An array.
    Array {
        /// Of what.
        of: u32,
        /// How many.
        count: u32,
    },
    /// A struct or a union.
    Composite {
        /// A union.
        union: bool,
        /// In bytes.
        size: u32,
        /// Its members.
        members: Vec<Member>,
    },
    /// An enumeration.
    Enumeration {
        /// In bytes.
        size: u32,
        /// Its values.
        values: Vec<(String, i128)>,
    },
    /// A struct or union that is only named.
    Forward {
        /// A union.
        union: bool,
    },
    /// Another name for a type, or the same with a qualifier.
    Alias(u32),
    /// A floating-point number, of this many bytes.
    Float(u32),
    /// A function, or what it takes and gives.
    Function,
    /// Something that is no type of a value (a variable, a section, a tag).
    Other,
}

/// A member of a struct or union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty for an anonymous one.
    pub name: String,
    /// Its type.
    pub of: u32,
    /// Where it begins, in bits.
    pub bit_offset: u32,
    /// How many bits it has, where it is a bit field.
    pub bits: Option<u32>,
}

/// Words and texts of a file, never beyond its end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..self.at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)?;
        self.at += 4;
        Some(word)
    }
}

/// The types of a BTF file; the first is `void`.
///
/// # Errors
/// Where the file is cut off, or no BTF.
pub fn types(file: &[u8]) -> Result<Vec<Type>, SymbolsError> {
    const SHORT: SymbolsError = SymbolsError::Btf("its header is cut off");
    let magic = file.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes).ok_or(SHORT)?;
    if magic != MAGIC {
        return Err(SymbolsError::Btf("it is no BTF"));
    }
    let mut header = Reader { bytes: file, at: 4 };
    let mut next = || header.word().and_then(|word| usize::try_from(word).ok()).ok_or(SHORT);
    let (length, type_offset, type_length) = (next()?, next()?, next()?);
    let (text_offset, text_length) = (next()?, next()?);
    let section = |offset: usize, size: usize| file.get(length.checked_add(offset)?..)?.get(..size);
    let section_of_types = section(type_offset, type_length).ok_or(SymbolsError::Btf("its types are cut off"))?;
    let texts = section(text_offset, text_length).ok_or(SymbolsError::Btf("its names are cut off"))?;
    let mut reader = Reader { bytes: section_of_types, at: 0 };
    let mut types = vec![Type { name: "void".to_owned(), kind: Kind::Other }];
    while reader.at < section_of_types.len() {
        let number = types.len();
        if number > MOST_TYPES {
            return Err(SymbolsError::Btf("it has more types than any kernel"));
        }
        types.push(
            one(&mut reader, texts)
                .ok_or(SymbolsError::Type { number, what: "is cut off or of a kind that is not known" })?,
        );
    }
    Ok(types)
}

fn text(texts: &[u8], offset: u32) -> String {
    let rest = usize::try_from(offset).ok().and_then(|offset| texts.get(offset..)).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned()
}

fn one(reader: &mut Reader<'_>, texts: &[u8]) -> Option<Type> {
    let (name, info, size_or_type) = (reader.word()?, reader.word()?, reader.word()?);
    let (count, flag) = (info & 0xFFFF, info >> 31 != 0);
    let kind = match (info >> 24) & 0x1F {
        1 => {
            let encoding = (reader.word()? >> 24) & 0xF;
            Kind::Int { size: size_or_type, signed: encoding & 1 != 0, boolean: encoding & 4 != 0 }
        }
        2 => Kind::Pointer(size_or_type),
        3 => {
            let (of, _index, count) = (reader.word()?, reader.word()?, reader.word()?);
            Kind::Array { of, count }
        }
        kind @ (4 | 5) => {
            let members = (0..count).map(|_| member(reader, texts, flag)).collect::<Option<_>>()?;
            Kind::Composite { union: kind == 5, size: size_or_type, members }
        }
        6 => {
            let value = |reader: &mut Reader<'_>| {
                let (name, value) = (reader.word()?, reader.word()?);
                // Signed unless the flag is not set: as the kernel's own tools print it.
                let value = if flag { i128::from(value.cast_signed()) } else { i128::from(value) };
                Some((text(texts, name), value))
            };
            Kind::Enumeration { size: size_or_type, values: (0..count).map(|_| value(reader)).collect::<Option<_>>()? }
        }
        7 => Kind::Forward { union: flag },
        // typedef, volatile, const, restrict, type tag
        8..=11 | 18 => Kind::Alias(size_or_type),
        12 => Kind::Function,
        13 => {
            skip(reader, count, 2)?;
            Kind::Function
        }
        14 => {
            skip(reader, 1, 1)?;
            Kind::Other
        }
        15 => {
            skip(reader, count, 3)?;
            Kind::Other
        }
        16 => Kind::Float(size_or_type),
        17 => {
            skip(reader, 1, 1)?;
            Kind::Other
        }
        19 => {
            let value = |reader: &mut Reader<'_>| {
                let (name, low, high) = (reader.word()?, reader.word()?, reader.word()?);
                let value = u64::from(low) | u64::from(high) << 32;
                let value = if flag { i128::from(value.cast_signed()) } else { i128::from(value) };
                Some((text(texts, name), value))
            };
            Kind::Enumeration { size: size_or_type, values: (0..count).map(|_| value(reader)).collect::<Option<_>>()? }
        }
        _ => return None,
    };
    Some(Type { name: text(texts, name), kind })
}

fn skip(reader: &mut Reader<'_>, times: u32, words: u32) -> Option<()> {
    (0..times.checked_mul(words)?).try_for_each(|_| reader.word().map(drop))
}

fn member(reader: &mut Reader<'_>, texts: &[u8], has_bits: bool) -> Option<Member> {
    let (name, of, offset) = (reader.word()?, reader.word()?, reader.word()?);
    let (bit_offset, bits) = if has_bits { (offset & 0xFF_FFFF, offset >> 24) } else { (offset, 0) };
    Some(Member { name: text(texts, name), of, bit_offset, bits: (bits > 0).then_some(bits) })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A BTF file of these names and words of types.
    pub(crate) fn file(texts: &[u8], words: &[u32]) -> Vec<u8> {
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut file = vec![0x9F, 0xEB, 1, 0];
        for word in [24, 0, types.len(), types.len(), texts.len()] {
            file.extend(u32::try_from(word).expect("small").to_le_bytes());
        }
        [file, types, texts.to_vec()].concat()
    }

    pub(crate) const TEXTS: &[u8] = b"\0int\0list_head\0next\0flags\0color\0RED\0";

    /// An int; a struct of a pointer to itself and a bit field of three bits; an enumeration.
    pub(crate) fn sample() -> Vec<u8> {
        file(
            TEXTS,
            &[
                1,
                1 << 24,
                4,
                0x0100_0020, // 1: int
                5,
                4 << 24 | 1 << 31 | 2,
                16,
                15,
                3,
                0,
                20,
                1,
                3 << 24 | 66, // 2: struct list_head
                0,
                2 << 24,
                2, // 3: pointer to it
                26,
                6 << 24 | 1 << 31 | 1,
                4,
                32,
                u32::MAX, // 4: enum color
            ],
        )
    }

    #[test]
    fn types_are_read() {
        let types = types(&sample()).expect("types");
        assert_eq!(types.len(), 5);
        assert_eq!(
            types[1],
            Type { name: "int".to_owned(), kind: Kind::Int { size: 4, signed: true, boolean: false } }
        );
        let Kind::Composite { union: false, size: 16, members } = &types[2].kind else { panic!("{:?}", types[2]) };
        assert_eq!((members[0].name.as_str(), members[0].of, members[0].bits), ("next", 3, None));
        assert_eq!((members[1].bit_offset, members[1].bits), (66, Some(3)));
        assert_eq!(types[4].kind, Kind::Enumeration { size: 4, values: vec![("RED".to_owned(), -1)] });
    }

    #[test]
    fn what_is_no_btf_is_named() {
        let good = sample();
        for (bytes, part) in [
            (&b""[..], "header is cut off"),
            (&b"ELF file"[..], "no BTF"),
            (&good[..20], "header is cut off"),
            (&good[..60], "types are cut off"),
            (&good[..good.len() - 3], "names are cut off"),
        ] {
            assert!(types(bytes).expect_err("refused").to_string().contains(part), "{part}");
        }
        let unknown = file(TEXTS, &[1, 30 << 24, 0]);
        assert!(types(&unknown).expect_err("refused").to_string().contains("type 1"));
        let short = file(TEXTS, &[1, 4 << 24 | 500, 0]);
        assert!(types(&short).expect_err("refused").to_string().contains("cut off"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            drop(types(&bytes));
        }
    }
}
