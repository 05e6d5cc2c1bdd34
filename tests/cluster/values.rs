//! Keys and values come back as they were sent.

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::node::Node;

fn started(lab: &Lab) -> Node {
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    node
}

/// Byte for byte: none has white space that a parser would drop, nor an escape that it would resolve.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.50",
    "1e3",
    "1E+3",
    "1e400",
    "-1e-400",
    "18446744073709551616",
    "123456789012345678901234567890",
    "-9007199254740993",
    "0.1000000000000000055511151231257827021181583404541015625",
    r#""""#,
    r#""12""#,
    r#""01""#,
    r#""ünï ☃ 🦀""#,
    "[]",
    "{}",
    "[1,2.0,[3,[4]],{\"a\":null}]",
    r#"{"z":1,"a":{"b":[true,{"c":"d"}]},"m":12345678901234567890}"#,
    r#"{"foo":{"bar":1},"":0}"#,
];

#[test]
fn values_are_kept_exactly() {
    let cluster = Cluster::start(3);
    let pairs: Vec<String> =
        VALUES.iter().enumerate().map(|(number, value)| format!(r#""v{number}":{value}"#)).collect();
    let follower = &cluster.nodes[cluster.follower()];
    follower.post("/hraftd/key", &format!("{{{}}}", pairs.join(","))).unwrap().ok().unwrap();
    for (number, value) in VALUES.iter().enumerate() {
        for node in &cluster.nodes {
            let read = node.get(&format!("/hraftd/key/v{number}")).unwrap();
            assert_eq!((read.status, read.text()), (200, format!(r#"{{"v{number}":{value}}}"#)));
        }
    }
}

/// Also through the log and back.
#[test]
fn values_are_kept_exactly_over_a_restart() {
    let lab = Lab::new();
    let mut node = started(&lab);
    for (number, value) in VALUES.iter().enumerate() {
        node.set(&format!("v{number}"), value).unwrap();
    }
    node.kill();
    node.start();
    node.wait_ready();
    for (number, value) in VALUES.iter().enumerate() {
        let read = node.get(&format!("/hraftd/key/v{number}")).unwrap();
        assert_eq!((read.status, read.text()), (200, format!(r#"{{"v{number}":{value}}}"#)));
    }
}

#[test]
fn escapes_and_white_space_in_a_value_mean_the_same() {
    let lab = Lab::new();
    let node = started(&lab);
    for value in [r#""a\u00e9\n\"\\/\/\t\u0000\ud83e\udd80""#, "[ 1 ,\t2 ]", "\n{ \"a\" : 1.0 }\n", "  null "] {
        node.set("k", value).unwrap();
        let wanted: Value = serde_json::from_str(value).unwrap();
        assert_eq!(node.value("k").unwrap(), wanted, "{value}");
    }
}

/// The key as it is written in the JSON body, and as it is asked for in the path.
const KEYS: &[(&str, &str)] = &[
    ("plain", "plain"),
    ("a b", "a%20b"),
    ("a+b", "a+b"),
    ("a+b", "a%2Bb"),
    ("a/b/c", "a/b/c"),
    ("a/b/c", "a%2Fb%2fc"),
    ("a//b/../c/./", "a//b/../c/./"),
    ("/", "/"),
    ("/lead", "/lead"),
    ("trail/", "trail/"),
    ("%2F", "%252F"),
    ("100%", "100%25"),
    ("q?x=1&y#z", "q%3Fx%3D1%26y%23z"),
    ("ünï☃🦀", "%C3%BCn%C3%AF%E2%98%83%F0%9F%A6%80"),
    // Not the same as the one that is composed: nothing is normalised.
    ("u\u{308}", "u%CC%88"),
    ("quote\"back\\slash", "quote%22back%5Cslash"),
    ("line\nbreak\ttab", "line%0Abreak%09tab"),
    ("foo: bar, {}[]", "foo:%20bar,%20%7B%7D%5B%5D"),
    ("Case", "Case"),
    ("..", ".."),
    (".", "."),
];

#[test]
fn keys_of_every_kind() {
    let lab = Lab::new();
    let node = started(&lab);
    for (number, (key, path)) in KEYS.iter().enumerate() {
        node.set(key, &number.to_string()).unwrap();
        let read = node.get(&format!("/hraftd/key/{path}")).unwrap().ok().unwrap_or_else(|e| panic!("{key:?}: {e}"));
        assert_eq!(read.json(), serde_json::json!({ *key: number }), "{path}");
    }
    for path in ["case", "%C3%BC", "a%252Fb"] {
        assert_eq!(node.get(&format!("/hraftd/key/{path}")).unwrap().status, 404, "{path}");
    }
    let deleted = node.delete("/hraftd/key/a%20b", None).unwrap().ok().unwrap();
    assert_eq!(deleted.json()["deleted"], 1);
    assert_eq!(node.get("/hraftd/key/a%20b").unwrap().status, 404);
}

#[test]
fn the_longest_key_and_the_biggest_value() {
    let lab = Lab::new();
    let node = started(&lab);
    let key = "k".repeat(4096);
    node.set(&key, "1").unwrap();
    assert_eq!(node.get(&format!("/hraftd/key/{key}")).unwrap().status, 200);
    // All of it percent-encoded is three times as long.
    let encoded = "%6B".repeat(4096);
    assert_eq!(node.get(&format!("/hraftd/key/{encoded}")).unwrap().status, 200);
    let value = format!("\"{}\"", "v".repeat((1 << 20) - 2));
    node.set("big", &value).unwrap();
    let read = node.get("/hraftd/key/big").unwrap();
    assert_eq!(read.text().len(), value.len() + r#"{"big":}"#.len());
}

#[test]
fn nesting_up_to_the_bound() {
    let lab = Lab::new();
    let node = started(&lab);
    // 127 and the body itself: within 128 however it is counted.
    let value = format!("{}{}", "[".repeat(127), "]".repeat(127));
    node.set("deep", &value).unwrap();
    assert_eq!(node.get("/hraftd/key/deep").unwrap().text(), format!(r#"{{"deep":{value}}}"#));
}
