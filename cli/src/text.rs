//! Foreign text on its way to a terminal: an attacker chose some of it, and terminals obey what they are sent.

/// A text without what a terminal would obey: control characters, and marks that turn the direction of writing.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => ' ',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_moves_no_cursor_and_turns_no_line_around() {
        assert_eq!(safe("web\u{1b}[2J\r\n\u{202e}gpj.exe\u{9b}31m"), "web [2J  \u{fffd}gpj.exe 31m");
        assert_eq!(safe("業務 – größe 🚀"), "業務 – größe 🚀");
    }
}
