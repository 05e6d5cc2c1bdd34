//! The connections of a port on which nobody was known yet. They make room where places are scarce.
//!
//! A connection that says nothing, or nothing that counts, costs its maker nothing, and a place is one of few. So whoever
//! answers requests says of a connection that it [stays](Newcomer::stays); until then it is new. Where most of the places
//! are taken, each connection that comes takes the place of one that is new, which has had [`GRACE`] before that, or
//! [`FULL_GRACE`] where all places are taken:
//! * first of the one that is amid its handshake for longest,
//! * then of the oldest of those of which no request is at work here,
//! * and last of the oldest of those whose request is: how long an answer takes is this node's doing. A probe waits for a
//!   disk, a client with a token for a node that starts.
//!
//! A connection that has to go, goes: it does not come to stay after that, so each that made room is one less.
//!
//! Caveats: what a new connection says buys it no time, only that others go before it while it is answered. A flood of more
//! connections in [`FULL_GRACE`] than there are places takes them all, as long as it lasts.

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
    /// Without a request that is at work here.
    inside: BTreeMap<u64, Waiting>,
    at_work: BTreeMap<u64, Waiting>,
    /// They made room, and have not ended yet.
    leaving: usize,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    gone: CancellationToken,
    /// Its requests that are at work here: HTTP/2 has several.
    requests: usize,
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
    /// Set under the lock of [`Shared::new`].
    stays: AtomicBool,
}

/// A request of a new connection, for as long as it is at work here.
#[derive(Debug)]
pub(super) struct AtWork(Newcomer);

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
        new.at_the_door.insert(number, Waiting { since: Instant::now(), gone: gone.clone(), requests: 0 });
        drop(new);
        let seat = Seat { shared: self.0.clone(), number, stays: AtomicBool::new(false) };
        Arrived { newcomer: Newcomer(Arc::new(seat)), gone }
    }

    /// How many places are taken while so many connections are open: what made room has none any more.
    pub(super) fn taken(&self, open: usize) -> usize {
        open.saturating_sub(self.0.new.lock().leaving)
    }

    /// Ends a new connection for another that comes while so many places are taken. False where none has to go, or none may
    /// yet.
    pub(super) fn make_room(&self, taken: usize) -> bool {
        if taken < self.0.places.div_ceil(4).saturating_mul(SCARCE_QUARTERS) {
            return false;
        }
        let grace = if taken < self.0.places { GRACE } else { FULL_GRACE };
        let mut new = self.0.new.lock();
        let oldest = new.in_turn().into_iter().find_map(|new| {
            let oldest = new.first_entry()?;
            (oldest.get().since.elapsed() >= grace).then(|| oldest.remove())
        });
        let Some(oldest) = oldest else { return false };
        new.leaving += 1;
        drop(new);
        oldest.gone.cancel();
        true
    }

    /// Waits until one would make room, though all places are taken.
    pub(super) async fn full_grace(&self) {
        loop {
            let oldest = {
                let mut new = self.0.new.lock();
                new.in_turn().into_iter().filter_map(|new| Some(new.first_key_value()?.1.since)).min()
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

impl New {
    /// Those who make room first come first.
    fn in_turn(&mut self) -> [&mut BTreeMap<u64, Waiting>; 3] {
        [&mut self.at_the_door, &mut self.inside, &mut self.at_work]
    }

    /// Takes one out; `None` where it made room, or is no longer new.
    fn take(&mut self, number: u64) -> Option<Waiting> {
        self.in_turn().into_iter().find_map(|new| new.remove(&number))
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
        if !self.newcomer.stays_now() {
            self.newcomer.0.shared.new.lock().leaving -= 1;
        }
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

    /// It brought a request, which is at work until the guard is dropped.
    pub(super) fn asks(&self) -> AtWork {
        let mut new = self.0.shared.new.lock();
        let waiting = new.inside.remove(&self.0.number).or_else(|| new.at_work.remove(&self.0.number));
        if let Some(mut waiting) = waiting {
            waiting.requests += 1;
            new.at_work.insert(self.0.number, waiting);
        }
        AtWork(self.clone())
    }

    /// Whoever sent the request may be here: its connection keeps its place, unless it made room already.
    pub fn stays(&self) {
        self.stays_now();
    }

    /// False where it made room already.
    fn stays_now(&self) -> bool {
        if !self.is_new() {
            return true;
        }
        let mut new = self.0.shared.new.lock();
        let taken = new.take(self.0.number);
        if taken.is_some() {
            self.0.stays.store(true, Relaxed);
        }
        drop(new);
        taken.is_some() || !self.is_new()
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let Newcomer(seat) = &self.0;
        if seat.stays.load(Relaxed) {
            return;
        }
        let mut new = seat.shared.new.lock();
        let Some(mut waiting) = new.at_work.remove(&seat.number) else { return };
        waiting.requests -= 1;
        let to = if waiting.requests == 0 { &mut new.inside } else { &mut new.at_work };
        to.insert(seat.number, waiting);
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
        assert_eq!(newcomers.taken(8), 4, "four are leaving");
        drop(all);
        assert_eq!(newcomers.taken(8), 8);
        assert!(newcomers.0.new.lock().in_turn().iter().all(|new| new.is_empty()));
    }

    /// A probe that waited for an answer of this node was cut off amid its first request.
    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_makes_room_last() {
        let newcomers = Newcomers::new(4);
        let all: Vec<Arrived> = (0..4).map(|_| newcomers.enter()).collect();
        all.iter().for_each(|one| one.newcomer().comes_in());
        let mut first = vec![all[0].newcomer().asks(), all[0].newcomer().asks()];
        let second = all[1].newcomer().asks();
        advance(GRACE).await;
        drop(first.pop());
        assert!(newcomers.make_room(4));
        assert_eq!(are_gone(&all), [false, false, true, false]);
        drop(second);
        assert!(newcomers.make_room(4));
        assert_eq!(are_gone(&all), [false, true, true, false], "it is answered, and is older");
        assert!(newcomers.make_room(4) && newcomers.make_room(4), "no request keeps a place");
        assert_eq!(are_gone(&all), [true; 4]);
        assert!(!newcomers.make_room(4));
        // Its request was under way.
        drop(first);
        drop(all);
        assert_eq!(newcomers.taken(4), 4);
        assert!(newcomers.0.new.lock().in_turn().iter().all(|new| new.is_empty()));
    }

    /// It was counted as gone, and kept its place.
    #[tokio::test(start_paused = true)]
    async fn who_made_room_does_not_come_to_stay() {
        let newcomers = Newcomers::new(4);
        let [one, other] = [newcomers.enter(), newcomers.enter()];
        one.newcomer().comes_in();
        other.newcomer().comes_in();
        other.newcomer().stays();
        other.newcomer().stays();
        advance(GRACE).await;
        assert!(newcomers.make_room(4));
        one.newcomer().stays();
        assert_eq!(are_gone(&[one, other]), [true, false]);
        assert_eq!(newcomers.taken(4), 4);
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
