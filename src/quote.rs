//! Texts of others, cut short for a message or a log line.

/// The most characters of a text that are quoted.
const MAX_QUOTED_CHARS: usize = 64;

/// A text that somebody sent, quoted and cut short, for a message.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short() {
        assert_eq!(quoted("a\"b\n"), r#""a\"b\n""#);
        let long = quoted(&"é".repeat(5000));
        assert!(long.len() < 200 && long.ends_with("(10000 bytes)"), "{long}");
    }
}
