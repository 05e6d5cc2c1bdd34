//! How much of the kept outcomes one client may take.
//!
//! Outcomes of requests with an `Idempotency-Key` are kept for a while, and none is dropped early: a repetition would be
//! applied twice. So there is a limit, and whoever reaches it shuts out all others. Here each node counts, by the address of
//! the client, the outcomes that came through it and are still kept. While more than half of all room is taken, a client
//! that has its share gets nothing more kept; nothing is done of such a request.
//!
//! Repetitions are not counted, and not refused, where this node knows their outcome.
//!
//! Caveats: clients behind one proxy are one client. One that goes through several nodes has a share at each. The addresses
//! of one IPv6 network (/64) are one client. Of more than [`MAX_CLIENTS`] clients those with least are forgotten.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::http::Request;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::request::idempotency;
use crate::api::response::error::ApiError;
use crate::kv::{RetryRoom, RetryUse};

/// Clients that are counted at a time.
const MAX_CLIENTS: usize = 1024;

/// A client's outcomes are counted by parts of the time that they are kept for; so late, at most, one is forgotten.
const PARTS: u32 = 16;

/// The address of a client, on requests with an `Idempotency-Key` (as an extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl Client {
    pub(super) fn at(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            ip => ip,
        })
    }

    /// Notes the client on its request, if that has an `Idempotency-Key`.
    /// Its address, or that of its network.
    pub(super) fn ip(self) -> IpAddr {
        self.0
    }

    pub(super) fn note<B>(self, request: &mut Request<B>) {
        if idempotency::is_keyed(request.headers()) {
            request.extensions_mut().insert(self);
        }
    }
}

/// What clients have taken.
#[derive(Debug)]
pub(super) struct RetryShares {
    part: Duration,
    taken: Mutex<HashMap<Client, Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By the time at which it began, oldest first.
    parts: VecDeque<(Instant, RetryUse)>,
}

impl Taken {
    fn forget_before(&mut self, then: Option<Instant>) {
        while self.parts.front().is_some_and(|(began, _)| Some(*began) < then) {
            self.parts.pop_front();
        }
    }

    fn sum(&self) -> RetryUse {
        let mut sum = RetryUse::default();
        self.parts.iter().for_each(|(_, used)| sum.add(*used));
        sum
    }
}

impl RetryShares {
    /// Outcomes are kept for `window_ms`.
    pub(super) fn new(window_ms: u64) -> Self {
        Self { part: Duration::from_millis(window_ms) / PARTS, taken: Mutex::default() }
    }

    /// When the oldest part that still counts began at the earliest.
    fn horizon(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.part * (PARTS + 1))
    }

    /// Refuses a request of a client that has its share, where room is scarce.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`]: nothing was done.
    pub(super) fn admit(&self, client: Option<&Client>, room: RetryRoom) -> Result<(), ApiError> {
        let Some(client) = client.filter(|_| room.is_scarce && !room.is_kept) else { return Ok(()) };
        let mut all = self.taken.lock();
        let Some(taken) = all.get_mut(client) else { return Ok(()) };
        taken.forget_before(self.horizon());
        if !taken.sum().is_a_share() {
            return Ok(());
        }
        Err(ApiError::Overloaded(format!(
            "of the outcomes of requests with an Idempotency-Key that are kept, more than half of what there may be, too \
             many are of this client ({}); nothing was done. Try again later, or without",
            client.0
        )))
    }

    /// An outcome of this client is kept.
    pub(super) fn took(&self, client: &Client, used: RetryUse) {
        let mut all = self.taken.lock();
        if all.len() >= MAX_CLIENTS && !all.contains_key(client) {
            let horizon = self.horizon();
            all.values_mut().for_each(|taken| taken.forget_before(horizon));
            if let Some(least) = all.iter().min_by_key(|(_, taken)| taken.sum().bytes).map(|(client, _)| *client) {
                all.remove(&least);
            }
        }
        let (now, taken) = (Instant::now(), all.entry(*client).or_default());
        match taken.parts.back_mut() {
            Some((began, part)) if now < *began + self.part => part.add(used),
            _ => {
                taken.parts.push_back((now, used));
                taken.forget_before(self.horizon());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCARCE: RetryRoom = RetryRoom { is_kept: false, is_scarce: true };

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_its_share_waits_until_it_is_over() {
        let (shares, client, other) = (RetryShares::new(16_000), client("10.0.0.1"), client("10.0.0.2"));
        let half = RetryUse { count: RetryUse::SHARE.count / 2, bytes: 1 };
        shares.took(&client, half);
        tokio::time::advance(Duration::from_secs(8)).await;
        shares.took(&other, half);
        assert!(shares.admit(Some(&client), SCARCE).is_ok());
        shares.took(&client, half);
        assert!(matches!(shares.admit(Some(&client), SCARCE), Err(ApiError::Overloaded(_))));
        assert!(shares.admit(Some(&client), RetryRoom { is_kept: true, ..SCARCE }).is_ok(), "a repetition");
        assert!(shares.admit(Some(&client), RetryRoom { is_scarce: false, ..SCARCE }).is_ok());
        assert!(shares.admit(Some(&other), SCARCE).is_ok() && shares.admit(None, SCARCE).is_ok());
        tokio::time::advance(Duration::from_millis(9_100)).await;
        assert!(shares.admit(Some(&client), SCARCE).is_ok(), "the first half is over");
        shares.took(&client, RetryUse { count: 1, bytes: RetryUse::SHARE.bytes });
        assert!(shares.admit(Some(&client), SCARCE).is_err(), "by its bytes");
        assert!(shares.taken.lock()[&client].parts.len() <= PARTS as usize + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_clients_those_with_least_are_forgotten() {
        let (shares, greedy) = (RetryShares::new(16_000), client("10.0.0.1"));
        shares.took(&greedy, RetryUse::SHARE);
        for number in 0..3 * MAX_CLIENTS as u32 {
            shares.took(&Client::at(IpAddr::V4(number.into())), RetryUse { count: 1, bytes: 17 });
        }
        assert_eq!(shares.taken.lock().len(), MAX_CLIENTS);
        assert!(shares.admit(Some(&greedy), SCARCE).is_err());
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
    }
}
