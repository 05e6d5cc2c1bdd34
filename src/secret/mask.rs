//! Hides secrets in text that leaves the process.

use std::borrow::Cow;

use super::text::Generated;
use super::{ClusterSecret, Token, session};

/// Characters behind the prefix that are shown: of a token they are part of its id.
pub(super) const SHOWN: usize = 8;

/// Cuts each `hrs_…`, `hrt_…` and `hrc_…` in a text after 8 characters: `hrt_abcd1234…`. Capitals, and characters that are
/// written as in a URI (`hrt%5F…`, once or several times over), are seen through. A text without any is not copied.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some((shown, end)) = next(rest.as_bytes()) {
        masked.push_str(&rest[..shown]);
        masked.push('…');
        rest = &rest[end..];
    }
    if rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

/// Where the first secret of a text is to be cut, and where it ends. Both are ends of ASCII characters.
fn next(text: &[u8]) -> Option<(usize, usize)> {
    let mut begin = 0;
    while begin < text.len() {
        // Most characters begin none.
        begin += text[begin..].iter().position(|byte| matches!(byte, b'h' | b'H' | b'%'))?;
        if let Some(found) = secret_at(text, begin) {
            return Some(found);
        }
        begin += 1;
    }
    None
}

fn secret_at(text: &[u8], begin: usize) -> Option<(usize, usize)> {
    let (mut at, mut prefix) = (begin, [0; 4]);
    for letter in &mut prefix {
        (*letter, at) = letter_at(text, at)?;
    }
    let is_same = |known: &&&str| known.as_bytes().eq_ignore_ascii_case(&prefix);
    [ClusterSecret::PREFIX, Token::PREFIX, session::PREFIX].iter().find(is_same)?;
    let (mut count, mut shown) = (0, at);
    while let Some((letter, end)) = letter_at(text, at)
        && letter.is_ascii_alphanumeric()
    {
        count += 1;
        at = end;
        if count == SHOWN {
            shown = at;
        }
    }
    (count > SHOWN).then_some((shown, at))
}

/// A letter, which may be written as `%XX`, or as `%25XX` and so on; and where it ends.
fn letter_at(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let first = *text.get(at)?;
    if first != b'%' {
        return Some((first, at + 1));
    }
    let mut digits = at + 1;
    while text[digits..].starts_with(b"25") {
        digits += 2;
    }
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    let letter = u8::try_from(digit(digits)? * 16 + digit(digits + 1)?).ok()?;
    Some((letter, digits + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_after_eight_characters() {
        for (text, masked) in [
            ("", ""),
            ("hr", "hr"),
            ("hrt_", "hrt_"),
            ("hrt_abcd1234", "hrt_abcd1234"),
            ("hrt_abcd12345", "hrt_abcd1234…"),
            ("hrhrt_abcd12345 hrs_ABCDEFGHIJ\nx", "hrhrt_abcd1234… hrs_ABCDEFGH…\nx"),
            ("Bearer hrt_abcd1234aaaaaaaa, é", "Bearer hrt_abcd1234…, é"),
            ("hrs_abc hrs_abcdefghi\u{e9}", "hrs_abc hrs_abcdefgh…\u{e9}"),
            ("shrs_aaaaaaaaaaaa", "shrs_aaaaaaaa…"),
            ("hrc_abcd12345; x", "hrc_abcd1234…; x"),
            ("/k/hrt%5fabcd12345?x", "/k/hrt%5fabcd1234…?x"),
            ("hrt%5Fabcd12345&hrt%255fABCD12345", "hrt%5Fabcd1234…&hrt%255fABCD1234…"),
            ("%68r%74%25255Fa%62cd1234%35zz%C3%A9", "%68r%74%25255Fa%62cd1234…%C3%A9"),
            ("HRT_ABCD12345", "HRT_ABCD1234…"),
            ("hr%", "hr%"),
            ("hrt%5", "hrt%5"),
            ("hrt%25", "hrt%25"),
            ("hrt_abcd1234%", "hrt_abcd1234%"),
            ("éhrt_abcd12345é", "éhrt_abcd1234…é"),
        ] {
            assert_eq!(mask(text), masked);
        }
        assert!(matches!(mask("GET /hraftd/key/a"), Cow::Borrowed(_)));
    }
}
