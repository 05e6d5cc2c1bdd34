//! Watches are complete: who watches is told every change of what is watched, once and in order, wherever the stream is
//! taken up again.

use super::{Applied, Checked};
use crate::kv::Event;
use crate::watch::{Filter, Position};

/// All changes there were, in order.
#[derive(Debug, Default)]
pub struct Watches {
    events: Vec<Event>,
    told: u64,
}

impl Watches {
    pub fn applied(&mut self, applied: &Applied<'_>) {
        self.events.extend_from_slice(applied.events);
    }

    fn after(&self, position: Position) -> &[Event] {
        let from = self.events.partition_point(|event| Position::of_event(event) <= position);
        &self.events[from..]
    }

    /// A watcher that knows everything up to `after` is told of a change.
    pub fn told(&mut self, filter: &Filter, after: Position, at: Position, what: &str) -> Checked {
        let next = self.after(after).iter().find(|event| filter.takes(event));
        match next {
            Some(event) if Position::of_event(event) == at && describe(event) == what => {
                self.told += 1;
                Ok(())
            }
            next => Err(format!("watches: a watcher of {filter:?} after {after} is told {what} at {at}, not {next:?}")),
        }
    }

    /// A watcher is told that it knows everything up to `at`.
    pub fn knows(&self, filter: &Filter, after: Position, at: Position) -> Checked {
        let missed = self.after(after).iter().take_while(|event| Position::of_event(event) <= at);
        match missed.into_iter().find(|event| filter.takes(event)) {
            None => Ok(()),
            Some(missed) => {
                Err(format!("watches: a watcher of {filter:?} after {after} is at {at}, without {missed:?}"))
            }
        }
    }

    /// The position of the last change that passes a watcher's filter.
    pub fn last(&self, filter: &Filter) -> Option<Position> {
        self.events.iter().rev().find(|event| filter.takes(event)).map(Position::of_event)
    }

    /// How many watchers were told so far, each time counted.
    pub fn count(&self) -> u64 {
        self.told
    }
}

/// As a client sees it: the name of the event, and of what.
fn describe(event: &Event) -> String {
    use crate::kv::Change::*;
    match &event.change {
        Set { key, record } => format!("set {key} {}", String::from_utf8_lossy(record.value())),
        Deleted { key } => format!("delete {key}"),
        Expired { key, .. } => format!("expire {key}"),
        Acquired { lock, token, .. } => format!("acquired {lock} {token}"),
        Released { lock, token } => format!("released {lock} {token}"),
        LockExpired { lock, token, .. } => format!("expired {lock} {token}"),
    }
}
