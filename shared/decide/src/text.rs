//! Foreign text on its way into a message: on one line, and no longer than it may be.

/// A text of at most `most` characters, with a blank for each control character.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
