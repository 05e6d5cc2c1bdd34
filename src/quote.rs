//! Texts of others: cut short for a message or a log line, and so that they steer no terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The most characters of a text that are quoted.
const MAX_QUOTED_CHARS: usize = 64;

/// A text that somebody sent, quoted and cut short, for a message.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

/// True for what no terminal is sent of others: control characters (those of C1, too), what changes the direction of the
/// text after it, and what ends a line. All of them are below U+10000.
pub fn is_escaped(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || turns || ends_a_line
}

/// A text on one line, with `\n`, `\u{202e}` and the like for what [is escaped](is_escaped).
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false, |out, c| out.extend(c.escape_default()))
}

/// JSON on one line: the same value, with `\u202e` for what [is escaped](is_escaped) in its texts, and spaces for line ends
/// and tabs, which are between them.
pub fn json_escaped(json: &str) -> Cow<'_, str> {
    replaced(
        json,
        |_| false,
        |out, c| match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c => unicode(out, c),
        },
    )
}

/// Lines for people, or JSON: both stay what they are, with `\u202e` for what [is escaped](is_escaped) but line ends and tabs. A
/// carriage return, which JSON may have between its texts, is a space.
pub fn lines_escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c| matches!(c, '\n' | '\t'), |out, c| if c == '\r' { out.push(' ') } else { unicode(out, c) })
}

fn unicode(out: &mut String, c: char) {
    // A string takes all that is written.
    let _ = write!(out, "\\u{:04x}", u32::from(c));
}

fn replaced(text: &str, stays: impl Fn(char) -> bool, replace: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let is_replaced = |c| is_escaped(c) && !stays(c);
    if !text.contains(is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if is_replaced(c) { replace(&mut out, c) } else { out.push(c) });
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_steers_a_terminal() {
        let evil = "a\r\n\t\u{1b}[2J\u{9b}1m\u{202e}\u{2066}\u{2028}\u{7f}é";
        assert_eq!(escaped(evil), "a\\r\\n\\t\\u{1b}[2J\\u{9b}1m\\u{202e}\\u{2066}\\u{2028}\\u{7f}é");
        assert_eq!(lines_escaped(evil), "a \n\t\\u001b[2J\\u009b1m\\u202e\\u2066\\u2028\\u007fé");
        let json = "{\n\t\"a\u{202e}\": \"\u{9b}\u{7f}\"}";
        assert_eq!(json_escaped(json), "{  \"a\\u202e\": \"\\u009b\\u007f\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&json_escaped(json)), value(json));
        assert!(matches!(escaped("plain é"), Cow::Borrowed(_)));
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quoted("a\"b\n"), r#""a\"b\n""#);
        let long = quoted(&"é".repeat(5000));
        assert!(long.len() < 200 && long.ends_with("(10000 bytes)"), "{long}");
    }
}
