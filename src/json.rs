//! Finds its way in JSON text without parsing it.
//!
//! The text may be anything: what is not JSON gives some answer in linear time, and no panic.

/// Returns the index after the string whose opening quote is at `begin`.
///
/// `None`: the text ends before the string does.
pub fn string_end(json: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            // An escaped quote ends nothing.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The bytes outside strings, each with its index, from `at` on. `at` must be outside a string.
pub fn outside_strings(json: &[u8], mut at: usize) -> impl Iterator<Item = (usize, u8)> {
    std::iter::from_fn(move || {
        while *json.get(at)? == b'"' {
            at = string_end(json, at)?;
        }
        let found = (at, *json.get(at)?);
        at += 1;
        Some(found)
    })
}

/// Returns the index of the first bracket that nests deeper than `max_depth` levels.
///
/// Takes no stack, whatever the depth.
pub fn too_deep(json: &[u8], max_depth: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in outside_strings(json, 0) {
        match byte {
            b'{' | b'[' if depth == max_depth => return Some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_own_quote() {
        for (json, begin, end) in [
            (r#""""#, 0, Some(2)),
            (r#"["a\"b",1]"#, 1, Some(7)),
            (r#""\\""#, 0, Some(4)),
            (r#""a"#, 0, None),
            (r#""\"#, 0, None),
            (r#""\""#, 0, None),
            (r#"""#, 0, None),
        ] {
            assert_eq!(string_end(json.as_bytes(), begin), end, "{json}");
        }
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let deep = |json: &str| too_deep(json.as_bytes(), 2);
        assert_eq!(deep(r#"[["[[\"[["],{},[1]]"#), None);
        assert_eq!(deep(r#"[[1],{"[":{"#), Some(10));
        assert_eq!(deep("]]][[["), Some(5));
        assert_eq!(deep(r#"[["[["#), None);
    }
}
