//! Foreign text on its way into a message or a page: on one line, no longer than it may be, and with nothing in it that
//! cannot be seen.

/// A text of at most `most` characters, with a blank for each control character.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

/// A text in which each character that is not seen, or that changes the direction of those around it, is written as its
/// number: so that a name cannot be made to look like another one (<https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing>).
pub(crate) fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            seen.push_str(&format!("[U+{:04X}]", u32::from(c)));
        } else {
            seen.push(c);
        }
    }
    seen
}

fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_turns_text_is_written_as_its_number() {
        assert_eq!(visible("invoice\u{202e}fdp.exe"), "invoice[U+202E]fdp.exe");
        assert_eq!(visible("a\u{200b}b\u{1b}[2J\u{e0041}"), "a[U+200B]b[U+001B][2J[U+E0041]");
        for plain in ["web-7", "本番サーバー", "خادم", "two\nlines\tand a tab", "<b>&amp;"] {
            assert_eq!(visible(plain), plain);
        }
    }
}
