//! The handshakes under way at a port: few at a time, and one that takes its time makes room for the next.
//!
//! Those from addresses where a node was seen have a part for themselves, and wait for no stranger's turn.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Whoever has its place for so long gives way to another that waits.
const GRACE: Duration = Duration::from_millis(250);

/// The limits of one part of the handshakes at a port.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// The most at a time.
    pub places: usize,
    /// The most of these from addresses where no node was seen.
    pub strangers: usize,
    /// One that has its place for so long loses it to another that waits.
    pub grace: Duration,
}

impl RoomLimits {
    pub(super) const fn of(places: usize, strangers: usize) -> Self {
        Self { places, strangers, grace: GRACE }
    }
}

/// All that are amid one part of their handshakes at a port.
#[derive(Debug)]
pub(super) struct Handshakes {
    limits: RoomLimits,
    under_way: Mutex<UnderWay>,
    /// One has ended.
    ended: Notify,
    /// One at a time waits for a place, of strangers and of others.
    next: [Semaphore; 2],
}

/// By the order in which they began.
#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    of_strangers: BTreeMap<u64, Begun>,
    of_nodes: BTreeMap<u64, Begun>,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    gone: CancellationToken,
}

/// The place of one, for as long as it lasts.
#[derive(Debug)]
pub(super) struct HandshakePlace<'a> {
    all: &'a Handshakes,
    number: u64,
    gone: CancellationToken,
}

impl UnderWay {
    fn of(&mut self, is_stranger: bool) -> &mut BTreeMap<u64, Begun> {
        if is_stranger { &mut self.of_strangers } else { &mut self.of_nodes }
    }
}

impl Handshakes {
    pub(super) fn new(limits: RoomLimits) -> Self {
        Self { limits, under_way: Mutex::default(), ended: Notify::new(), next: [(); 2].map(|()| Semaphore::new(1)) }
    }

    /// Waits for a place.
    pub(super) async fn begin(&self, is_stranger: bool) -> HandshakePlace<'_> {
        // An error says that it was closed, which nobody does.
        let _turn = self.next[usize::from(is_stranger)].acquire().await;
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            match self.try_begin(is_stranger) {
                Ok(place) => return place,
                Err(None) => ended.await,
                Err(Some(until)) => tokio::select! {
                    () = ended => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// A place that is free, or that of the oldest one that had its time; else when that will be.
    fn try_begin(&self, is_stranger: bool) -> Result<HandshakePlace<'_>, Option<Instant>> {
        let (mut under_way, now) = (self.under_way.lock(), Instant::now());
        let strangers = under_way.of_strangers.len();
        let is_full = strangers + under_way.of_nodes.len() >= self.limits.places
            || is_stranger && strangers >= self.limits.strangers;
        if is_full {
            // A stranger takes no node's place.
            let of_strangers = strangers > 0 || is_stranger;
            let Some(oldest) = under_way.of(of_strangers).first_entry() else { return Err(None) };
            let until = oldest.get().at + self.limits.grace;
            if now < until {
                return Err(Some(until));
            }
            oldest.remove().gone.cancel();
        }
        under_way.begun += 1;
        let (number, gone) = (under_way.begun, CancellationToken::new());
        under_way.of(is_stranger).insert(number, Begun { at: now, gone: gone.clone() });
        Ok(HandshakePlace { all: self, number, gone })
    }
}

impl HandshakePlace<'_> {
    /// Does this until another has the place.
    pub(super) async fn keep_for<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            biased;
            done = handshake => done,
            () = self.gone.cancelled() => Err(io::Error::other("its handshake made room for another")),
        }
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way.lock();
        let ended = under_way.of_strangers.remove(&self.number).or_else(|| under_way.of_nodes.remove(&self.number));
        drop(under_way);
        drop(ended);
        self.all.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn port(handshakes: usize, strangers: usize) -> Handshakes {
        Handshakes::new(RoomLimits { places: handshakes, strangers, grace: GRACE })
    }

    fn are_gone(all: &[HandshakePlace<'_>]) -> Vec<bool> {
        all.iter().map(|one| one.gone.is_cancelled()).collect()
    }

    /// Issue 21, the second attack: 256 half handshakes kept clients out for ten seconds.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_once_it_had_its_time() {
        let port = port(2, 2);
        let began = Instant::now();
        let mut all = vec![port.begin(true).await, port.begin(true).await];
        for _ in 0..3 {
            all.push(port.begin(true).await);
        }
        assert_eq!(are_gone(&all), [true, true, true, false, false]);
        assert_eq!(began.elapsed(), GRACE * 2, "two at a time, each for its time");
        // What ends leaves its place at once.
        drop(all.pop());
        all.push(port.begin(true).await);
        assert_eq!(began.elapsed(), GRACE * 2);
        drop(all);
        let under_way = port.under_way.lock();
        assert!(under_way.of_strangers.is_empty() && under_way.of_nodes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keep_no_node_out_and_take_no_place_of_one() {
        let port = port(3, 2);
        let began = Instant::now();
        let strangers = [port.begin(true).await, port.begin(true).await];
        let nodes = [port.begin(false).await];
        assert!(port.begin(true).now_or_never().is_none() && port.begin(false).now_or_never().is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        let another = port.begin(false).await;
        assert_eq!((are_gone(&strangers), are_gone(&nodes)), (vec![true, false], vec![false]));
        let third = port.begin(false).await;
        assert_eq!(are_gone(&strangers), [true; 2]);
        tokio::time::advance(GRACE).await;
        assert!(port.begin(true).now_or_never().is_none(), "nodes have all places");
        drop(another);
        assert!(port.begin(true).now_or_never().is_some());
        drop(third);
    }
}
