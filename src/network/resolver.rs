//! Looks names up: at most one look-up of a name at a time, however many wait for it.
//!
//! The system's look-up blocks a thread, for half a minute where no name server answers, and cannot be cancelled. A member
//! that is dead and whose name is gone is called several times a second: each call would cost a thread for as long.
//!
//! Where no answer comes within [`PATIENCE`], the name's last addresses count: else two members of three could not elect a
//! leader beside a name server that is silent. Who answers there shows its Raft id, so an old address misleads nobody. The
//! look-up goes on, and what it finds counts from then on.
//!
//! Of a name's addresses the one that took the last connection comes first: before a dead one, which would cost each new
//! connection its time.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::task;

/// How long an answer is waited for where last addresses are known.
const PATIENCE: Duration = Duration::from_millis(150);

/// The most names whose last addresses are kept: members', and what a few strangers ask for.
const MAX_KNOWN: usize = 256;

type Found = Result<Vec<SocketAddr>, String>;

/// Asks the system for the addresses of a name.
type Ask = Box<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The look-ups under way.
pub(super) struct Resolver {
    ask: Ask,
    under_way: Arc<Mutex<HashMap<String, Shared<BoxFuture<'static, Found>>>>>,
    /// The last addresses of names.
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug, Default)]
struct Known {
    last: Vec<SocketAddr>,
    /// It took the last connection.
    good: Option<IpAddr>,
}

impl Known {
    /// The good one first; the others stay as they were.
    fn sort(&self, found: &mut [SocketAddr]) {
        found.sort_by_key(|addr| Some(addr.ip()) != self.good);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Box::new(|name| async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed()))
    }
}

impl Resolver {
    fn new(ask: Ask) -> Self {
        Self { ask, under_way: Arc::default(), known: Arc::default() }
    }

    /// The addresses of this name; those that it had last where no answer comes in time.
    ///
    /// # Errors
    /// The system's, where it does not resolve.
    pub(super) fn look_up(&self, name: &str) -> BoxFuture<'static, Found> {
        let (asked, known, name) = (self.join(name), self.known.clone(), name.to_owned());
        async move {
            let last = known.lock().get(&name).map(|known| known.last.clone());
            let mut found = match last {
                None => asked.await,
                Some(last) => timeout(PATIENCE, asked).await.unwrap_or(Ok(last)),
            }?;
            if let Some(known) = known.lock().get(&name) {
                known.sort(&mut found);
            }
            Ok(found)
        }
        .boxed()
    }

    /// This address of the name took a connection.
    pub(super) fn took(&self, name: &str, addr: IpAddr) {
        if let Some(known) = self.known.lock().get_mut(name) {
            known.good = Some(addr);
        }
    }

    /// Joins the look-up of this name, or begins one. It goes on where nobody waits any more: the next ones join it.
    fn join(&self, name: &str) -> Shared<BoxFuture<'static, Found>> {
        let mut under_way = self.under_way.lock();
        if let Some(joined) = under_way.get(name) {
            return joined.clone();
        }
        let (asked, all, name) = ((self.ask)(name.to_owned()), self.under_way.clone(), name.to_owned());
        let known = self.known.clone();
        let begun = task::spawn({
            let name = name.clone();
            async move {
                let found = asked.await.map_err(|error| error.to_string());
                if let Ok(found) = &found
                    && !found.is_empty()
                {
                    let mut known = known.lock();
                    if known.len() < MAX_KNOWN || known.contains_key(&name) {
                        known.entry(name.clone()).or_default().last.clone_from(found);
                    }
                }
                all.lock().remove(&name);
                found
            }
        });
        let shared = begun.map(|ended| ended.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared();
        under_way.insert(name, shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Issue 18, D12: a dead member without an address took 200 threads.
    #[tokio::test(start_paused = true)]
    async fn many_calls_are_one_look_up() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let resolver = Resolver::new(Box::new(move |name| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_secs(30)).await;
                if name == "gone" { Err(io::Error::other("no such name")) } else { Ok(vec![([10, 0, 0, 1], 0).into()]) }
            }
            .boxed()
        }));
        for _ in 0..100 {
            assert!(timeout(Duration::from_millis(200), resolver.look_up("gone")).await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(resolver.look_up("gone").await, Err("no such name".to_owned()));
        assert_eq!(resolver.look_up("n1").await, Ok(vec![([10, 0, 0, 1], 0).into()]));
        assert!(resolver.look_up("gone").await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 3, "what was found is asked for again");
        assert!(resolver.under_way.lock().is_empty());
    }

    /// Two members of three could not elect a leader while the name server was silent.
    #[tokio::test(start_paused = true)]
    async fn the_last_addresses_count_where_no_answer_comes() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let resolver = Resolver::new(Box::new(move |_| {
            let turn = count.fetch_add(1, Ordering::Relaxed);
            async move {
                // The first is answered at once, the others late, and with another address.
                tokio::time::sleep(Duration::from_secs(if turn == 0 { 0 } else { 5 })).await;
                Ok(vec![([10, 0, 0, if turn == 0 { 1 } else { 2 }], 0).into()])
            }
            .boxed()
        }));
        let at = |last: u8| Ok(vec![SocketAddr::from(([10, 0, 0, last], 0))]);
        assert_eq!(resolver.look_up("n1").await, at(1));
        let began = tokio::time::Instant::now();
        assert_eq!(resolver.look_up("n1").await, at(1));
        assert!(began.elapsed() <= PATIENCE + Duration::from_millis(1));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(resolver.look_up("n1").await, at(2), "what the late answer said");
    }

    #[tokio::test]
    async fn the_address_that_took_the_last_connection_comes_first() {
        let all = [1, 2, 3].map(|last| SocketAddr::from(([10, 0, 0, last], 0)));
        let resolver = Resolver::new(Box::new(move |_| async move { Ok(all.to_vec()) }.boxed()));
        let [dead, live, other] = all;
        resolver.took("n1", live.ip());
        assert_eq!(resolver.look_up("n1").await, Ok(vec![dead, live, other]), "of a name that was never found");
        resolver.took("n1", live.ip());
        assert_eq!(resolver.look_up("n1").await, Ok(vec![live, dead, other]));
        resolver.took("n1", [10, 0, 0, 9].into());
        assert_eq!(resolver.look_up("n1").await, Ok(vec![dead, live, other]), "it has that address no more");
        assert_eq!(resolver.look_up("n2").await, Ok(vec![dead, live, other]));
    }
}
