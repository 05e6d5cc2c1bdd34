//! What was written and what came of it, to be compared with what is there afterwards.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http::{self, Conn, Reply};
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

/// What a client knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Acknowledged,
    /// 503: it was certainly not written.
    Refused,
    /// 504, or no answer.
    Unknown,
}

impl Outcome {
    pub fn of(answer: &Result<Reply, String>) -> Self {
        match answer {
            Ok(reply) if reply.status == 200 => Self::Acknowledged,
            Ok(reply) if reply.status == 503 => Self::Refused,
            Ok(reply) if reply.status == 504 => Self::Unknown,
            Ok(reply) => panic!("an answer that no write may get: {}", reply.brief()),
            // Not even connected.
            Err(error) if error.starts_with("connect ") => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }
}

/// Writes by key, each key once.
#[derive(Debug, Default)]
pub struct Record {
    writes: BTreeMap<String, (String, Outcome)>,
}

impl Record {
    /// Writes one key, whose value is a string, and notes what came of it.
    pub fn write(&mut self, node: &Node, key: &str, value: &str) -> Outcome {
        let outcome = post(&node.haddr, key, value);
        self.note(key.to_owned(), value.to_owned(), outcome);
        outcome
    }

    pub fn note(&mut self, key: String, value: String, outcome: Outcome) {
        assert!(self.writes.insert(key, (value, outcome)).is_none(), "each key once");
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.writes.values().filter(|(_, found)| *found == outcome).count()
    }

    /// Every acknowledged write is there, on each of the nodes by itself, no refused one, and all of them have the same.
    pub fn check_all(&self, cluster: &Cluster) {
        let applied = cluster.nodes.iter().map(|node| node.stat("applied_index").unwrap()).max().unwrap();
        let found: Vec<BTreeMap<&String, Option<Value>>> = std::thread::scope(|scope| {
            let readers = cluster.nodes.iter().map(|node| scope.spawn(|| self.read_all(node, applied)));
            readers.collect::<Vec<_>>().into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        for (node, other) in cluster.nodes.iter().zip(&found).skip(1) {
            for (key, value) in other {
                assert!(found[0][key] == *value, "{} and {} differ in {key}", cluster.nodes[0].name, node.name);
            }
        }
    }

    /// What the node itself has for each key, once it has applied an index.
    fn read_all(&self, node: &Node, applied: u64) -> BTreeMap<&String, Option<Value>> {
        eventually(SETTLE, &format!("{} has applied {applied}", node.name), || {
            let found = node.stat("applied_index")?;
            check(found >= applied, || found.to_string())
        });
        let mut conn = Conn::open(&node.haddr).unwrap();
        let mut all = BTreeMap::new();
        for (key, (value, outcome)) in &self.writes {
            let reply = conn.request("GET", &format!("/hraftd/key/{key}?level=none"), &[], None).unwrap();
            let found = match reply.status {
                200 => Some(reply.json()[key].clone()),
                404 => None,
                _ => panic!("{}: {}", node.name, reply.brief()),
            };
            match (&found, outcome) {
                (Some(found), _) => assert!(found == value.as_str(), "{}: {key} has another value", node.name),
                (None, Outcome::Acknowledged) => panic!("{}: {key} was acknowledged and is lost", node.name),
                (None, _) => {}
            }
            assert!(found.is_none() || *outcome != Outcome::Refused, "{}: {key} was refused, and is there", node.name);
            all.insert(key, found);
        }
        all
    }
}

/// One write on a connection of its own.
pub fn post(haddr: &str, key: &str, value: &str) -> Outcome {
    let body = format!(r#"{{"{key}":"{value}"}}"#);
    Outcome::of(&http::call(haddr, "POST", "/hraftd/key?timeout=5s", Some(body.as_bytes())))
}
