//! Compares two JSON texts by structure.
//!
//! * White space, escapes in strings and the order of members do not count.
//! * Numbers are compared by their text: `1` and `1.0` differ.
//! * The order of members with the same name counts.
//!
//! A client's value is JSON of limited depth: the request was checked. An entry or snapshot of a peer may hold anything. A
//! text that is no JSON, or deeper than [`MAX_DEPTH`], equals only the same bytes, on every replica alike.

use sha2::{Digest as _, Sha256};

use crate::json;

/// The deepest arrays and objects that are looked into; the stack holds so many.
pub(crate) const MAX_DEPTH: usize = 256;

/// A JSON text taken apart.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tree<'a> {
    /// A number, `true`, `false` or `null`.
    Word(&'a [u8]),
    /// UTF-8, but for lone surrogates.
    Text(Vec<u8>),
    Array(Vec<Tree<'a>>),
    /// In the order of the names.
    Object(Vec<(Vec<u8>, Tree<'a>)>),
}

/// Compares two JSON texts.
pub fn same_json(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

/// A digest of a JSON text's structure. It is a cryptographic one: nobody can make two texts that differ but have the same.
pub type Digest = [u8; 32];

/// The digest of a JSON text: two texts have the same exactly if they are the [same](same_json). `None` for a text that is no
/// JSON or nests too deep.
pub fn digest_json(json: &[u8]) -> Option<Digest> {
    let mut hash = Sha256::new();
    parse(json)?.hash(&mut hash);
    Some(hash.finalize().into())
}

fn hash_bytes(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash_length(hash, kind, bytes.len());
    hash.update(bytes);
}

fn hash_length(hash: &mut Sha256, kind: u8, length: usize) {
    hash.update([kind]);
    hash.update((length as u64).to_le_bytes());
}

impl Tree<'_> {
    /// Each part begins with its kind and length: no two trees give the same bytes.
    fn hash(&self, hash: &mut Sha256) {
        match self {
            Tree::Word(word) => hash_bytes(hash, 0, word),
            Tree::Text(text) => hash_bytes(hash, 1, text),
            Tree::Array(items) => {
                hash_length(hash, 2, items.len());
                items.iter().for_each(|item| item.hash(hash));
            }
            Tree::Object(members) => {
                hash_length(hash, 3, members.len());
                for (name, value) in members {
                    hash_bytes(hash, 1, name);
                    value.hash(hash);
                }
            }
        }
    }
}

fn parse(json: &[u8]) -> Option<Tree<'_>> {
    let mut parser = Parser { json, at: 0, depth: 0 };
    let tree = parser.value()?;
    parser.skip_space();
    (parser.at == json.len()).then_some(tree)
}

struct Parser<'a> {
    json: &'a [u8],
    at: usize,
    /// Arrays and objects around `at`.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        while matches!(self.json.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.json.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Option<Tree<'a>> {
        match self.peek()? {
            b'{' => self.deeper(Self::object),
            b'[' => self.deeper(Self::array),
            b'"' => self.text().map(Tree::Text),
            _ => self.word(),
        }
    }

    fn deeper(&mut self, inner: fn(&mut Self) -> Option<Tree<'a>>) -> Option<Tree<'a>> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let tree = inner(self);
        self.depth -= 1;
        tree
    }

    fn object(&mut self) -> Option<Tree<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Some(Tree::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.text()?;
            if !self.take(b':') {
                return None;
            }
            members.push((name, self.value()?));
            if self.take(b'}') {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                return Some(Tree::Object(members));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn array(&mut self) -> Option<Tree<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Tree::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Some(Tree::Array(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let rest = self.json.get(self.at..)?;
        let text = &rest[..json::string_end(rest, 0)?];
        self.at += text.len();
        if text.contains(&b'\\') { unescape(text) } else { Some(text[1..text.len() - 1].to_vec()) }
    }

    fn word(&mut self) -> Option<Tree<'a>> {
        let rest = self.json.get(self.at..)?;
        let end = rest.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| Tree::Word(&rest[..end]))
    }
}

/// As bytes, because a lone surrogate fits no string.
fn unescape(quoted: &[u8]) -> Option<Vec<u8>> {
    struct Bytes;
    impl serde::de::Visitor<'_> for Bytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON string")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let mut parser = serde_json::Deserializer::from_slice(quoted);
    serde::Deserializer::deserialize_bytes(&mut parser, Bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same() {
        for (a, b) in [
            ("1", " 1\n"),
            ("12345678901234567890.10", "12345678901234567890.10"),
            (r#""é/""#, r#""\u00e9\/""#),
            (r#""\ud800""#, r#""\uD800""#),
            ("[1, 2,{}]", "[1,2,{ }]"),
            (r#"{"a":1,"b":[true]}"#, r#"{ "b" : [ true ] , "\u0061":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":1, "a":2}"#),
            ("[]", " [ ] "),
        ] {
            assert!(same_json(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert_eq!(digest_json(a.as_bytes()).unwrap(), digest_json(b.as_bytes()).unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn what_is_not() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("0", "-0"),
            ("1", "\"1\""),
            ("null", "false"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
            (r#""a""#, r#""A""#),
            (r#""é""#, r#""e\u0301""#),
            ("[]", "{}"),
            ("", "x]"),
        ] {
            assert!(!same_json(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert!(digest_json(a.as_bytes()) != digest_json(b.as_bytes()) || digest_json(a.as_bytes()).is_none());
        }
    }

    /// A peer may not keep to the limit of requests, and a stack overflow ends the process.
    #[test]
    fn no_depth_is_too_much() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize, value: &str| format!("{}{value}{}", open.repeat(depth), close.repeat(depth));
            let same = |depth| same_json(nested(depth, "1").as_bytes(), nested(depth, " 1").as_bytes());
            assert!(same(MAX_DEPTH));
            assert!(!same(MAX_DEPTH + 1) && !same(1_000_000));
            let endless = open.repeat(1_000_000);
            assert!(!same_json(endless.as_bytes(), format!("{endless} ").as_bytes()));
            assert!(same_json(endless.as_bytes(), endless.as_bytes()));
        }
        let beside = format!("[{}]", vec!["[[]]"; 1000].join(","));
        assert!(same_json(beside.as_bytes(), beside.replace(',', " ,").as_bytes()), "depth is no length");
    }
}
