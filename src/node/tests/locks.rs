//! Locks under faults: one holder at a time, tokens that grow, first come first served.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::net::Net;
use super::sim::{PORTS, Sim, keyed, seeds, until_answered};
use crate::command::{Action, Failure, Key, Reply};
use crate::kv::{Change, Ticket};
use crate::watch::Filter;

const LOCKS: [&str; 2] = ["l", "m"];

/// A client's knowledge of a lock that it had.
#[derive(Debug)]
struct Holding {
    lock: &'static str,
    ticket: u64,
    token: u64,
    /// From when until when it held it for sure.
    from: Instant,
    until: Instant,
}

struct Client {
    net: Arc<Net>,
    rng: StdRng,
    name: String,
    requests: u64,
    held: Arc<Mutex<Vec<Holding>>>,
}

impl Client {
    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    /// Repeats a request until it is answered.
    async fn ask(&mut self, action: Action) -> (u64, Reply) {
        self.requests += 1;
        let command = keyed(format!("{}-{}", self.name, self.requests), action);
        until_answered(&self.net, &mut self.rng, &command).await
    }

    /// Waits at any node, and at another where that one stops.
    async fn wait(&mut self, lock: &Key, ticket: u64, until: Instant) -> Option<u64> {
        loop {
            let node = self.net.node(PORTS[self.rng.random_range(0..3)]);
            let Some(node) = node else {
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            match tokio::time::timeout_at(until, node.await_ticket(lock, ticket, until, Duration::ZERO)).await {
                Ok(Ok(Ticket::Holds { token, .. })) => return Some(token),
                Ok(Ok(Ticket::Gone)) | Err(_) => return None,
                // Not that far yet, or stopping.
                Ok(Ok(Ticket::Waits) | Err(_)) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn acquire(&mut self, lock: &'static str) {
        let (ttl_ms, wait_ms) = (500 + self.below(4_000), self.below(3) * 3_000);
        let name: Key = lock.into();
        let sent = Instant::now();
        let acquire = Action::Acquire { name: name.clone(), ttl_ms, body: None, wait_ms };
        let (ticket, reply) = self.ask(acquire).await;
        let (token, mut until) = match reply {
            // Nobody can have it for as long as it was asked for.
            Reply::Granted { token, ttl_ms } => (token, sent + Duration::from_millis(ttl_ms)),
            Reply::Queued => match self.wait(&name, ticket, sent + Duration::from_millis(wait_ms + 500)).await {
                Some(token) => (token, Instant::now()),
                None => {
                    self.ask(Action::Cancel { name, ticket }).await;
                    return;
                }
            },
            // Lost where it was granted, and the answer too: a repetition comes too late.
            Reply::Failed(failure) if matches!(*failure, Failure::Locked(_) | Failure::LockLost) => return,
            other => panic!("{other:?}"),
        };
        let from = Instant::now();
        let mut lost = false;
        for _ in 0..self.below(3) {
            let ms = self.below(ttl_ms);
            sleep(Duration::from_millis(ms)).await;
            let sent = Instant::now();
            match self.ask(Action::Renew { name: name.clone(), token, ttl_ms: None }).await.1 {
                // It had it all the time, and has it for another while.
                Reply::Granted { .. } => until = sent + Duration::from_millis(ttl_ms),
                _ => lost = true,
            }
        }
        // Some die with it.
        if !lost && self.below(3) > 0 {
            let sent = Instant::now();
            if self.ask(Action::Release { name, token }).await.1 == Reply::Done {
                until = sent;
            } else {
                until = until.min(sent);
            }
        }
        self.held.lock().push(Holding { lock, ticket, token, from, until });
    }
}

/// As all nodes tell it: who has a lock gives it up, or loses it, before another gets it, and tokens grow.
fn one_after_the_other(sim: &Sim, seed: u64) -> BTreeMap<Key, Vec<u64>> {
    let mut tokens: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    let mut holders: BTreeMap<Key, Option<u64>> = BTreeMap::new();
    for (position, change, _) in sim.history.all() {
        let what = format!("seed {seed}: {change:?} at {position:?}");
        match change {
            Change::Acquired { lock, token, .. } => {
                assert_eq!(holders.insert(lock.clone(), Some(token)).flatten(), None, "{what}");
                let tokens = tokens.entry(lock).or_default();
                assert!(tokens.last() < Some(&token) && token == position.index, "{what}: {tokens:?}");
                tokens.push(token);
            }
            Change::Released { lock, token } | Change::LockExpired { lock, token, .. } => {
                assert_eq!(holders.insert(lock, None).flatten(), Some(token), "{what}");
            }
            _ => {}
        }
    }
    tokens
}

#[tokio::test(start_paused = true)]
async fn one_holder_at_a_time_and_first_come_first_served_under_faults() {
    for seed in seeds(2) {
        let mut sim = Sim::start(seed, LOCKS.map(|lock| Filter::Lock(lock.into())).to_vec()).await;
        sim.net.lose_every_nth_answer(5);
        let held = Arc::new(Mutex::new(Vec::new()));
        let mut clients = JoinSet::new();
        for number in 0..6 {
            let mut client = Client {
                net: sim.net.clone(),
                rng: StdRng::seed_from_u64(seed << 8 | number),
                name: format!("client-{number}"),
                requests: 0,
                held: held.clone(),
            };
            clients.spawn(async move {
                loop {
                    let lock = LOCKS[client.rng.random_range(0..LOCKS.len())];
                    client.acquire(lock).await;
                    let ms = client.below(200);
                    sleep(Duration::from_millis(ms)).await;
                }
            });
        }
        for round in 0..6 {
            sim.wait(8_000).await;
            match round % 3 {
                2 => sim.crash_all(500).await,
                _ => sim.crash_leader(2_000).await,
            }
        }
        sim.settled().await;
        clients.shutdown().await;
        let kv = sim.all_equal().await;
        let tokens = one_after_the_other(&sim, seed);
        let mut held = std::mem::take(&mut *held.lock());
        assert!(held.len() > 8, "seed {seed}: {held:?}");
        for lock in LOCKS {
            let lock_tokens = &tokens[lock];
            assert!(kv.lock(lock).is_none_or(|view| Some(&view.token) == lock_tokens.last()));
            held.sort_by_key(|held| held.token);
            let held: Vec<&Holding> = held.iter().filter(|held| held.lock == lock).collect();
            for pair in held.windows(2) {
                let what = format!("seed {seed}: {pair:?}");
                assert!(pair[0].token < pair[1].token && pair[0].ticket < pair[1].ticket, "{what}");
                assert!(pair[0].until <= pair[1].from, "{what}");
            }
            assert!(held.iter().all(|held| lock_tokens.contains(&held.token)));
        }
    }
}
