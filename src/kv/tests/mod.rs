//! Tests of the state: what one command does, and any number of them against a [`model`].

mod auth;
mod generator;
mod leases;
mod locks;
mod model;
mod outcomes;
mod random;
mod ranges;
mod retries;
mod single;

use super::*;
use crate::command::{Command, Denied, Op, Retry, Stamped};

/// A state and its next index.
#[derive(Debug, Default)]
struct Kv {
    kv: KvStore,
    index: u64,
    /// Changes that were not looked at.
    events: Vec<Event>,
}

impl Kv {
    /// At a time.
    fn at(&mut self, stamp_ms: u64, action: Action) -> Reply {
        self.apply(Command::Stamped(Stamped { stamp_ms, retry: None, action }))
    }

    /// With an `Idempotency-Key`, kept for a second.
    fn keyed(&mut self, stamp_ms: u64, key: &str, digest: u128, action: Action) -> Reply {
        let retry = Some(Retry { key: key.into(), digest, window_ms: 1_000 });
        self.apply(Command::Stamped(Stamped { stamp_ms, retry, action }))
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        // One that only reads is answered without an entry as it is by one.
        let stamped = command.stamped().filter(|stamped| stamped.retry.is_none());
        let read = stamped.and_then(|by| self.kv.clone().answer_read(self.index, by.stamp_ms, &command));
        let reply = self.kv.apply(self.index, &command, &mut self.events);
        assert!(read.is_none_or(|read| read == reply), "{command}: {reply:?}");
        reply
    }

    fn tick(&mut self, stamp_ms: u64) -> bool {
        match self.at(stamp_ms, Action::Tick { most: 100 }) {
            Reply::Ticked { more } => more,
            other => panic!("{other:?}"),
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.kv.get(key).map(|record| std::str::from_utf8(record.value()).unwrap())
    }

    fn keys(&self) -> Vec<&str> {
        self.kv.iter().map(|(key, _)| key.as_str()).collect()
    }

    /// Changes since the last call.
    fn changes(&mut self) -> Vec<Change> {
        self.events.drain(..).map(|event| event.change).collect()
    }
}

fn set(key: &str, value: &str, ttl_ms: Option<u64>) -> Action {
    Action::Set { pairs: vec![(key.into(), value.to_owned().into())], ttl_ms, conditions: Vec::new() }
}

fn incr(key: &str, by: i64) -> Action {
    Action::Incr { key: key.into(), by, ttl_ms: None, conditions: Vec::new() }
}

fn acquire(ttl_ms: u64, wait_ms: u64) -> Action {
    Action::Acquire { name: "l".into(), ttl_ms, body: None, wait_ms }
}

fn failure(reply: Reply) -> Failure {
    match reply {
        Reply::Failed(failure) => *failure,
        other => panic!("{other:?}"),
    }
}
