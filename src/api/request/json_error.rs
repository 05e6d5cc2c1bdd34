//! Why a text is no JSON, in words of who wrote it: a parser's own name what it looked for, not what is wrong.

use serde_json::error::Category;

use crate::api::response::text;

/// What a parser says, by its beginning, and what is wrong.
const WORDS: &[(&str, &str)] = &[
    ("expected ident", "there is a word that JSON does not know; text needs double quotes"),
    ("expected value", "there is no JSON value; text needs double quotes"),
    ("key must be a string", "a name needs double quotes"),
    ("expected `:`", "a colon is missing"),
    ("expected `,` or `]`", "a comma or ] is missing"),
    ("expected `,` or `}`", "a comma or } is missing"),
    ("expected `\"`", "a double quote is missing"),
    ("trailing comma", "the comma before a closing bracket is one too many"),
    ("trailing characters", "something follows after its end"),
    ("control character", "there is a line break or another control character in a text; write it as \\n, \\t or \\u"),
    ("invalid escape", "a backslash in a text stands before something that is no escape"),
    ("invalid number", "a number is not as JSON writes numbers"),
    ("invalid unicode code point", "an escape \\u stands for no character"),
    ("lone leading surrogate", "an escape \\u stands for half of a character"),
    ("unexpected end of hex escape", "an escape \\u stands for half of a character"),
];

/// What a parser calls values, and what JSON does.
const KINDS: &[(&str, &str)] = &[
    ("sequence", "an array"),
    ("map", "an object"),
    ("string", "a text"),
    ("integer", "a number"),
    ("floating point", "a number"),
    ("boolean", "true or false"),
    ("null", "null"),
    ("unit", "null"),
];

/// What is wrong, and where. Cut short: a parser may quote all of what it could not take.
pub(in crate::api) fn why(error: &serde_json::Error) -> String {
    let said = error.to_string();
    // Where a value as a whole is another than was asked for, there is no place.
    let place = match (error.line(), error.column()) {
        (_, 0) => String::new(),
        (line, column) => format!(" at line {line} column {column}"),
    };
    if error.classify() == Category::Eof {
        return format!("it ends too early{place}");
    }
    if let Some((_, words)) = WORDS.iter().find(|(begins, _)| said.starts_with(begins)) {
        return format!("{words}{place}");
    }
    let said = match said.rfind(" at line ") {
        Some(end) => &said[..end],
        None => &said,
    };
    let kind = said.strip_prefix("invalid type: ").and_then(|found| {
        let (_, expected) = found.rsplit_once(", expected ")?;
        let (_, kind) = KINDS.iter().find(|(begins, _)| found.starts_with(begins))?;
        Some(format!("it is {kind}, not {expected}{place}"))
    });
    kind.unwrap_or_else(|| text::brief(format!("{said}{place}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn no_word_is_the_parsers() {
        for (json, expected) in [
            ("", "it ends too early"),
            ("[1", "it ends too early at line 1 column 2"),
            ("nope", "there is a word that JSON does not know; text needs double quotes at line 1 column 2"),
            ("k=v", "there is no JSON value; text needs double quotes at line 1 column 1"),
            ("{k:1}", "a name needs double quotes at line 1 column 2"),
            ("{\"k\" 1}", "a colon is missing at line 1 column 6"),
            ("[1 2]", "a comma or ] is missing at line 1 column 4"),
            ("{\"k\":1\n\"l\":2}", "a comma or } is missing at line 2 column 1"),
            ("[1,]", "the comma before a closing bracket is one too many at line 1 column 4"),
            ("1 2", "something follows after its end at line 1 column 3"),
            ("\"a\nb\"", "there is a line break or another control character in a text"),
            ("\"\\x\"", "a backslash in a text stands before something that is no escape"),
            ("01", "a number is not as JSON writes numbers"),
            ("\"\\udc00\"", "an escape \\u stands for"),
        ] {
            let error = serde_json::from_str::<Value>(json).unwrap_err();
            assert!(why(&error).starts_with(expected), "{json}: {}", why(&error));
        }
    }

    #[test]
    fn another_kind_of_value_is_told() {
        let error = serde_json::from_str::<String>("[1]").unwrap_err();
        assert_eq!(why(&error), "it is an array, not a string");
        let error = serde_json::from_str::<Vec<u8>>(&format!("\"{}\"", "v".repeat(10_000))).unwrap_err();
        assert!(why(&error).starts_with("it is a text, not a sequence") && why(&error).len() < 100, "{}", why(&error));
    }
}
