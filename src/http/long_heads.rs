//! The long request heads of a port: all of them together take a bounded number of bytes.
//!
//! A head of up to [`FREE_BYTES`] is paid for with its connection or stream, whose number is bounded. What is longer is
//! kept for as long as its request waits for an answer, which may be minutes, so it is counted here, before it is read
//! where that is possible. A head that finds no room is answered with a bare 503.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A head of no more than this is not counted.
pub(super) const FREE_BYTES: usize = 8 << 10;

/// All others together have so many bytes.
const TOTAL_BYTES: usize = 64 << 20;

/// What a field takes beside its name and its value.
const FIELD_BYTES: usize = 96;

/// They are counted in pieces of so many bytes.
const UNIT_BYTES: usize = 1 << 10;

/// The room for long heads at a port; clones share it.
#[derive(Debug, Clone)]
pub struct LongHeads(Arc<Semaphore>);

/// The room that one head has, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct HeadRoom {
    units: usize,
    taken: Option<OwnedSemaphorePermit>,
}

impl Default for LongHeads {
    fn default() -> Self {
        Self::new(TOTAL_BYTES)
    }
}

impl LongHeads {
    /// Makes room for so many bytes of long heads.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT_BYTES)))
    }

    /// Room for a head; `None` where there is none left.
    pub(super) fn room_for(&self, bytes: usize) -> Option<HeadRoom> {
        let mut room = HeadRoom::default();
        room.grow(self, bytes).then_some(room)
    }
}

impl HeadRoom {
    /// Makes it as large as a head of so many bytes needs. False where there is no room left: it is as it was then.
    pub(super) fn grow(&mut self, heads: &LongHeads, bytes: usize) -> bool {
        let units = if bytes > FREE_BYTES { bytes.div_ceil(UNIT_BYTES) } else { 0 };
        let Some(more) = units.checked_sub(self.units).filter(|more| *more > 0) else { return true };
        let permits = u32::try_from(more).ok().and_then(|more| heads.0.clone().try_acquire_many_owned(more).ok());
        let Some(more) = permits else { return false };
        self.units = units;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

/// How many bytes a head takes here, about.
pub(super) fn size_of(head: &Parts) -> usize {
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    target + fields.sum::<usize>()
}

/// The answer to a request whose head has no room.
pub(super) fn no_room() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18: heads of 58 KB, in many long polls, took 1,160 MiB.
    #[test]
    fn all_long_heads_together_have_so_much_room() {
        let heads = LongHeads::new(100 << 10);
        let short: Vec<HeadRoom> = (0..1_000).map(|_| heads.room_for(FREE_BYTES).unwrap()).collect();
        let long = heads.room_for(60 << 10).unwrap();
        assert!(heads.room_for(60 << 10).is_none());
        let mut other = heads.room_for(30 << 10).unwrap();
        assert!(other.grow(&heads, 40 << 10) && other.grow(&heads, 1) && !other.grow(&heads, (40 << 10) + 1));
        drop(long);
        assert!(other.grow(&heads, 100 << 10));
        assert!(heads.room_for(FREE_BYTES).is_some() && heads.room_for(FREE_BYTES + 1).is_none());
        drop((other, short));
        assert_eq!(heads.0.available_permits(), 100);
    }
}
