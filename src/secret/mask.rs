//! Hides secrets in text that leaves the process.

use std::borrow::Cow;

use super::text::Generated;
use super::{ClusterSecret, Token};

/// Characters behind the prefix that are shown: of a token they are part of its id.
pub(super) const SHOWN: usize = 8;

/// Cuts each `hrs_…` and `hrt_…` in a text after 8 characters: `hrt_abcd1234…`. A text without any is not copied.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some((shown, end)) = next(rest) {
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

/// Where the first secret of a text is to be cut, and where it ends.
fn next(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("hr") {
        let begin = from + at;
        from = begin + 2;
        let secret = &text[begin..];
        if [ClusterSecret::PREFIX, Token::PREFIX].iter().any(|prefix| secret.starts_with(prefix)) {
            let digits = begin + Token::PREFIX.len();
            let count = text[digits..].bytes().take_while(u8::is_ascii_alphanumeric).count();
            if count > SHOWN {
                return Some((digits + SHOWN, digits + count));
            }
        }
    }
    None
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
        ] {
            assert_eq!(mask(text), masked);
        }
        assert!(matches!(mask("GET /hraftd/key/a"), Cow::Borrowed(_)));
    }
}
