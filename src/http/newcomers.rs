//! The connections of a port on which nobody was known yet. They make room where places are scarce.
//!
//! A connection that says nothing, or nothing that counts, costs its maker nothing, and a place is one of few. So whoever
//! answers requests says of a connection that it [stays](Newcomer::stays); until then it is new. Where most of the places
//! are taken, each connection that comes takes the place of the one that is new for longest, one amid its handshake first. Each
//! has [`GRACE`] before that, and [`FULL_GRACE`] where all places are taken.
//!
//! Caveats: what a new connection says buys it no time. A flood of more connections in [`FULL_GRACE`] than there are places
//! takes them all, as long as it lasts.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Places are scarce once so many quarters of them are taken.
const SCARCE_QUARTERS: usize = 3;

/// How long a new connection keeps its place where places are scarce.
const GRACE: Duration = Duration::from_secs(5);

/// The same, where there are none.
const FULL_GRACE: Duration = Duration::from_secs(1);

/// The new connections of a port; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Newcomers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The places of the port.
    places: usize,
    new: Mutex<New>,
}

/// By the order in which they came.
#[derive(Debug, Default)]
struct New {
    next: u64,
    at_the_door: BTreeMap<u64, Waiting>,
    inside: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    gone: CancellationToken,
}

/// A connection that came, for as long as it lives.
#[derive(Debug)]
pub(super) struct Arrived {
    newcomer: Newcomer,
    gone: CancellationToken,
}

/// On a request (as an extension) of a connection that is still new.
#[derive(Debug, Clone)]
pub struct Newcomer(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    number: u64,
    stays: AtomicBool,
}

impl Newcomers {
    /// Makes those of a port with so many places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Shared { places, new: Mutex::default() }))
    }

    pub(super) fn places(&self) -> usize {
        self.0.places
    }

    /// One came.
    pub(super) fn enter(&self) -> Arrived {
        let gone = CancellationToken::new();
        let mut new = self.0.new.lock();
        new.next += 1;
        let number = new.next;
        new.at_the_door.insert(number, Waiting { since: Instant::now(), gone: gone.clone() });
        drop(new);
        let seat = Seat { shared: self.0.clone(), number, stays: AtomicBool::new(false) };
        Arrived { newcomer: Newcomer(Arc::new(seat)), gone }
    }

    /// Ends a new connection for another that comes while so many are open. False where none has to go, or none may yet.
    pub(super) fn make_room(&self, open: usize) -> bool {
        if open < self.0.places.div_ceil(4).saturating_mul(SCARCE_QUARTERS) {
            return false;
        }
        let grace = if open < self.0.places { GRACE } else { FULL_GRACE };
        let mut new = self.0.new.lock();
        let New { at_the_door, inside, .. } = &mut *new;
        for new in [at_the_door, inside] {
            if let Some(oldest) = new.first_entry()
                && oldest.get().since.elapsed() >= grace
            {
                oldest.remove().gone.cancel();
                return true;
            }
        }
        false
    }

    /// Waits until one would make room, though all places are taken.
    pub(super) async fn full_grace(&self) {
        loop {
            let oldest = {
                let new = self.0.new.lock();
                [&new.at_the_door, &new.inside].into_iter().filter_map(|new| Some(new.first_key_value()?.1.since)).min()
            };
            match oldest.map(|since| since + FULL_GRACE) {
                // Nobody comes meanwhile.
                None => pending().await,
                Some(until) if until <= Instant::now() => return,
                Some(until) => sleep_until(until).await,
            }
        }
    }
}

impl Shared {
    fn forget(&self, number: u64) {
        let mut new = self.new.lock();
        let forgotten = new.at_the_door.remove(&number).or_else(|| new.inside.remove(&number));
        drop(new);
        drop(forgotten);
    }
}

impl Arrived {
    pub(super) fn newcomer(&self) -> Newcomer {
        self.newcomer.clone()
    }

    /// Ends once others need the place; costs nothing once the connection stays.
    pub(super) async fn gone(&self) {
        let mut gone = pin!(self.gone.cancelled());
        poll_fn(|cx| if self.newcomer.is_new() { gone.as_mut().poll(cx) } else { Poll::Pending }).await;
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        self.newcomer.stays();
    }
}

impl Newcomer {
    /// It has passed the port's door.
    pub(super) fn comes_in(&self) {
        let mut new = self.0.shared.new.lock();
        if let Some(waiting) = new.at_the_door.remove(&self.0.number) {
            new.inside.insert(self.0.number, waiting);
        }
    }

    pub(super) fn is_new(&self) -> bool {
        !self.0.stays.load(Relaxed)
    }

    /// Whoever sent the request may be here: its connection keeps its place.
    pub fn stays(&self) {
        if !self.0.stays.swap(true, Relaxed) {
            self.0.shared.forget(self.0.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn are_gone(all: &[Arrived]) -> Vec<bool> {
        all.iter().map(|one| one.gone().now_or_never().is_some()).collect()
    }

    /// Issue 21, the second attack: idle connections held all places of a client port.
    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_new_for_longest_makes_room() {
        let newcomers = Newcomers::new(8);
        let all: Vec<Arrived> = (0..5).map(|_| newcomers.enter()).collect();
        for inside in [0, 1, 3] {
            all[inside].newcomer().comes_in();
        }
        all[0].newcomer().stays();
        advance(GRACE).await;
        assert!(!newcomers.make_room(5), "there are places");
        assert!(newcomers.make_room(6));
        assert_eq!(are_gone(&all), [false, false, true, false, false], "those amid a handshake go first");
        assert!(newcomers.make_room(6) && newcomers.make_room(6) && newcomers.make_room(6));
        assert_eq!(are_gone(&all), [false, true, true, true, true]);
        assert!(!newcomers.make_room(8), "who is known stays");
        drop(all);
        let new = newcomers.0.new.lock();
        assert!(new.at_the_door.is_empty() && new.inside.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_its_time() {
        let newcomers = Newcomers::new(8);
        let first = newcomers.enter();
        advance(FULL_GRACE).await;
        let second = newcomers.enter();
        assert!(!newcomers.make_room(7), "there is a place");
        let began = Instant::now();
        newcomers.full_grace().await;
        assert!(newcomers.make_room(8) && began.elapsed() == Duration::ZERO);
        assert!(!newcomers.make_room(8), "the second has just come");
        newcomers.full_grace().await;
        assert_eq!(began.elapsed(), FULL_GRACE);
        assert_eq!(are_gone(&[first, second]), [true, false]);
        assert!(newcomers.full_grace().now_or_never().is_none(), "there is none left");
    }
}
