//! JSON without white space between its tokens, so that any value fits on one line.

use crate::json;

/// Appends valid JSON text without the white space between its tokens; strings stay as they are.
pub fn compact(out: &mut Vec<u8>, json: &[u8]) {
    let mut from = 0;
    while let Some(space) = next_space(json, from) {
        out.extend_from_slice(&json[from..space]);
        from = space + json[space..].iter().take_while(|byte| is_space(**byte)).count();
    }
    out.extend_from_slice(&json[from..]);
}

/// Tells whether there is no white space between tokens.
pub fn is_compact(json: &[u8]) -> bool {
    next_space(json, 0).is_none()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The index of the first white space between tokens, from `from` on.
fn next_space(json: &[u8], from: usize) -> Option<usize> {
    json::outside_strings(json, from).find(|(_, byte)| is_space(*byte)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(json: &str) -> String {
        let mut out = Vec::new();
        compact(&mut out, json.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_is_between_tokens_goes() {
        let cases = [
            ("1", "1"),
            ("", ""),
            (" \t\r\n1.00 \n", "1.00"),
            ("{\r\n  \"a b\" : [ 1 ,\n 2 ] }", r#"{"a b":[1,2]}"#),
            (r#" " a \" b \\" "#, r#"" a \" b \\""#),
            (r#"["\\\\", "\\\" ,", " "]"#, r#"["\\\\","\\\" ,"," "]"#),
            ("\"\u{2028} é\"", "\"\u{2028} é\""),
            // What is no JSON does no harm.
            ("\"a ", "\"a "),
            ("\"\\", "\"\\"),
        ];
        for (json, compact) in cases {
            assert_eq!(compacted(json), compact);
            assert!(is_compact(compact.as_bytes()), "{compact}");
            assert_eq!(is_compact(json.as_bytes()), json == compact, "{json}");
        }
    }

    /// Random documents, written with and without white space at once.
    #[test]
    fn random_documents() {
        let mut seed = 7_u64;
        let mut below = move |end: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % end
        };
        for _ in 0..2_000 {
            let (mut spaced, mut tight) = (String::new(), String::new());
            let mut token = |text: &str, below: &mut dyn FnMut(u64) -> u64| {
                for _ in 0..below(3) {
                    spaced.push([' ', '\t', '\n', '\r'][below(4) as usize]);
                }
                spaced.push_str(text);
                tight.push_str(text);
            };
            document(0, &mut below, &mut token);
            assert!(serde_json::from_str::<serde_json::Value>(&spaced).is_ok(), "{spaced}");
            assert_eq!(compacted(&spaced), tight);
            assert!(is_compact(tight.as_bytes()));
        }
    }

    fn document(
        depth: u64,
        below: &mut dyn FnMut(u64) -> u64,
        token: &mut impl FnMut(&str, &mut dyn FnMut(u64) -> u64),
    ) {
        const STRINGS: [&str; 6] = [r#""""#, r#"" ""#, r#""\"""#, r#""\\""#, r#""a\\\" \n b""#, r#""{ \" : [ , ""#];
        match below(4 + 2 * u64::from(depth < 3)) {
            0 => token(["1", "-0.5e+3", "123456789012345678901"][below(3) as usize], below),
            1 => token(["true", "false", "null"][below(3) as usize], below),
            2 | 3 => token(STRINGS[below(6) as usize], below),
            kind => {
                token(if kind == 4 { "[" } else { "{" }, below);
                for nth in 0..below(4) {
                    if nth > 0 {
                        token(",", below);
                    }
                    if kind == 5 {
                        token(STRINGS[below(6) as usize], below);
                        token(":", below);
                    }
                    document(depth + 1, below, token);
                }
                token(if kind == 4 { "]" } else { "}" }, below);
            }
        }
    }
}
