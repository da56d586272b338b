//! Symbols for Volatility 3, made from what the suspect's own kernel tells: its types (BTF), its symbols (kallsyms)
//! and its banner. So no debug package has to be found for a kernel that nobody kept one of.
//!
//! [`btf`] reads the types, [`kallsyms`] the symbols, [`isf`] writes what Volatility reads. All three come from a host
//! that an attacker may rule: whatever the bytes are, the answer is a result or a named error.

pub mod btf;
pub mod isf;
pub mod kallsyms;

/// What is wrong with the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// The file of types.
    #[error("vmlinux.btf: {0}")]
    Btf(&'static str),
    /// A type that does not make sense.
    #[error("vmlinux.btf: type {number} {what}")]
    Type {
        /// Its number.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file of symbols.
    #[error("kallsyms.txt: {0}")]
    Kallsyms(&'static str),
}
