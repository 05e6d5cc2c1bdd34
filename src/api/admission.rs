//! Bounds how much is taken on at a time.
//!
//! A request beyond a bound is refused at once, cheaply, with 503 and `Retry-After`. This way
//! requests that were taken on are done in time, memory is bounded, and nothing queues that nobody
//! waits for any more.
//!
//! * Requests at work: a read from its head on, a write from the end of its body on, so that slow
//!   senders hold no place. Only requests about keys, locks and the like count: an operator is
//!   heard under any load.
//! * Waiting requests: long polls, waiters for locks, watchers, and reads for a `min_index=` that
//!   is yet to come. They have a bound of their own, and no place among those at work.
//! * Writes whose `timeout=` is shorter than what writes take now: an entry that comes too late is
//!   work for nothing.
//! * Long answers that clients have not taken yet: [`crate::api::response::memory`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::http::Method;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::api::response::error::ApiError;
use crate::node::ReadOptions;

/// This many writes at a time are always tried: how long writes take is known from those that are
/// done.
const ALWAYS_TRIED_WRITES: usize = 64;

/// A newer time counts for one in so many.
const MEAN_OF_WRITES: u64 = 16;

/// The bounds of one node, and what is left of them.
#[derive(Debug)]
pub(super) struct Admission {
    at_work: Semaphore,
    waiting: Arc<Semaphore>,
    pace: WritePace,
}

impl Admission {
    pub(super) fn new(max_at_work: usize, max_waiting: usize) -> Self {
        let places = |most: usize| Semaphore::new(most.min(Semaphore::MAX_PERMITS));
        Self { at_work: places(max_at_work), waiting: Arc::new(places(max_waiting)), pace: WritePace::default() }
    }

    /// Takes a request on. A read has its place until the pass is dropped; a write takes it
    /// [later](Self::write), and is refused here already where there is none.
    pub(super) fn enter(&self, method: &Method) -> Result<Pass<'_>, ApiError> {
        let at_work = self.place()?;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        Ok(Pass { admission: self, at_work: is_read.then_some(at_work), waiting: None })
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.at_work.try_acquire().map_err(|_| overloaded(format_args!("it has as many requests in hand as it takes")))
    }

    /// Takes a write on that must be done by `deadline`.
    pub(super) fn write(&self, deadline: Instant) -> Result<Writing<'_>, ApiError> {
        let (began, place) = (Instant::now(), self.place()?);
        let left = deadline.saturating_duration_since(began);
        let takes = Duration::from_micros(self.pace.takes_us.load(Relaxed));
        let hopeless = left < takes && self.pace.writing.load(Relaxed) >= ALWAYS_TRIED_WRITES;
        if left.is_zero() {
            return Err(overloaded(format_args!("the timeout= of this write passed before its turn came")));
        }
        if hopeless {
            return Err(overloaded(format_args!(
                "a write takes some {} ms now, and this one has {} ms left of its timeout=",
                takes.as_millis(),
                left.as_millis()
            )));
        }
        self.pace.writing.fetch_add(1, Relaxed);
        Ok(Writing { pace: &self.pace, began, _place: place })
    }
}

fn overloaded(why: std::fmt::Arguments<'_>) -> ApiError {
    ApiError::Overloaded(format!("this node has more to do than it can: {why}; nothing was done, try again later"))
}

/// A connection beyond those that are served.
pub(super) fn too_many_connections() -> ApiError {
    overloaded(format_args!("it has as many connections as it takes"))
}

/// A request that was taken on.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    admission: &'a Admission,
    at_work: Option<SemaphorePermit<'a>>,
    waiting: Option<OwnedSemaphorePermit>,
}

impl Pass<'_> {
    /// The request will wait for something to happen: refused where too many do.
    pub(super) fn will_wait(&mut self) -> Result<(), ApiError> {
        if self.waiting.is_none() {
            let place = self.admission.waiting.clone().try_acquire_owned();
            let place = place.map_err(|_| overloaded(format_args!("too many clients wait or watch at it")))?;
            self.waiting = Some(place);
        }
        Ok(())
    }

    /// From here on it does nothing but wait.
    pub(super) fn waits(&mut self) {
        self.at_work = None;
    }

    /// Moves a read to those who wait if the node, which has applied `index`, is not as far as it
    /// asks for.
    pub(super) fn read(&mut self, options: &ReadOptions, index: u64) -> Result<(), ApiError> {
        if options.min_index > index {
            self.will_wait()?;
            self.waits();
        }
        Ok(())
    }

    /// The place among those who wait, for a stream that goes on after the request is answered.
    pub(super) fn into_waiting(self) -> Option<OwnedSemaphorePermit> {
        self.waiting
    }
}

/// How long writes take, and how many are under way.
#[derive(Debug, Default)]
struct WritePace {
    writing: AtomicUsize,
    /// A running mean. Writers may overwrite each other's: it is an estimate.
    takes_us: AtomicU64,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    pace: &'a WritePace,
    began: Instant,
    _place: SemaphorePermit<'a>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mean = self.pace.takes_us.load(Relaxed);
        self.pace.takes_us.store(mean - mean / MEAN_OF_WRITES + took / MEAN_OF_WRITES, Relaxed);
        self.pace.writing.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_work_and_so_many_waiting() {
        let admission = Admission::new(4, 2);
        let read = || admission.enter(&Method::GET);
        let mut at_work: Vec<Pass<'_>> = (0..4).map(|_| read().unwrap()).collect();
        assert!(read().is_err() && admission.enter(&Method::POST).is_err());
        for pass in &mut at_work[..2] {
            pass.will_wait().unwrap();
            pass.will_wait().unwrap();
            assert!(read().is_err(), "it is still at work");
        }
        assert!(at_work[2].will_wait().is_err());
        at_work[0].waits();
        drop(read().unwrap());
        // One goes on after its answer, and ends later.
        let watching = at_work.swap_remove(0).into_waiting();
        let index_to_come = ReadOptions { min_index: 8, ..crate::node::ReadLevel::None.into() };
        at_work[2].read(&index_to_come, 8).unwrap();
        assert!(at_work[2].read(&index_to_come, 7).is_err());
        drop(watching);
        at_work[2].read(&index_to_come, 7).unwrap();
        assert!(at_work[2].at_work.is_none() && at_work[1].at_work.is_some());
        drop(at_work);
        assert_eq!((admission.at_work.available_permits(), admission.waiting.available_permits()), (4, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_has_its_place_from_the_end_of_its_body() {
        let admission = Admission::new(1, 0);
        let soon = Instant::now() + Duration::from_secs(1);
        let slow_senders: Vec<Pass<'_>> = (0..10).map(|_| admission.enter(&Method::POST).unwrap()).collect();
        let writing = admission.write(soon).unwrap();
        assert!(admission.write(soon).is_err());
        drop(writing);
        drop(admission.write(soon).unwrap());
        drop(slow_senders);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_would_come_too_late_is_not_begun() {
        let admission = Admission::new(1000, 0);
        let within = |ms| Instant::now() + Duration::from_millis(ms);
        let late = admission.write(within(0)).unwrap_err();
        let late = format!("{late:?}");
        assert!(late.contains("passed before its turn came"), "{late}");
        for _ in 0..200 {
            let writing = admission.write(within(1)).unwrap();
            tokio::time::advance(Duration::from_millis(300)).await;
            drop(writing);
        }
        let few: Vec<Writing<'_>> = (0..ALWAYS_TRIED_WRITES).map(|_| admission.write(within(1)).unwrap()).collect();
        assert!(admission.write(within(200)).is_err());
        drop(admission.write(within(400)).unwrap());
        // Once they are fast again, that is known from those that are always tried.
        drop(few);
        (0..200).for_each(|_| drop(admission.write(within(1)).unwrap()));
        let _few: Vec<Writing<'_>> = (0..ALWAYS_TRIED_WRITES).map(|_| admission.write(within(1)).unwrap()).collect();
        drop(admission.write(within(1)).unwrap());
        assert_eq!(admission.pace.writing.load(Relaxed), ALWAYS_TRIED_WRITES);
    }
}
