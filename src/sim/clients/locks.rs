//! Locks that are waited for, renewed, given up, and sometimes just left.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Ask, Client};
use crate::sim::invariants::locks::Hold;
use crate::sim::world;

pub const NAMES: [&str; 2] = ["l0", "l1"];

/// The longest that one is held unrenewed, in milliseconds.
const MOST_MS: u64 = 4_000;

impl Client {
    async fn ask_lock(&mut self, method: &'static str, path: String, patience: Duration) -> Answer {
        let request = self.next_key();
        world::check(|seen| {
            seen.expiry.sends(&request);
            Ok(())
        });
        let answer = self.until_answered(&Ask::new(method, path, String::new()).keyed(&request), patience).await;
        world::check(|seen| {
            seen.acknowledged.done(answer.index);
            seen.exactly_once.done(&request).map(drop).ok_or_else(|| format!("{request} was answered, and is nowhere"))
        });
        answer
    }

    pub async fn use_locks(mut self) {
        while self.goes_on() {
            let lock = NAMES[self.below(2) as usize];
            let (ttl_ms, wait_ms) = (1_000 + self.below(MOST_MS - 1_000), self.below(3) * 1_500);
            let sent = Instant::now();
            let wait = if wait_ms > 0 { format!("&wait={wait_ms}ms") } else { String::new() };
            let patience = Duration::from_millis(wait_ms + 300 + self.below(1_500));
            let answer = self.ask_lock("POST", format!("/hraftd/lock/{lock}?ttl={ttl_ms}ms{wait}"), patience).await;
            if let Some(token) = answer.json["token"].as_u64().filter(|_| answer.status == 200) {
                self.hold(lock, token, ttl_ms, sent).await;
            }
            self.pause(300).await;
        }
    }

    async fn hold(&mut self, lock: &'static str, token: u64, ttl_ms: u64, sent: Instant) {
        let ttl = world::check(|seen| Ok(seen.expiry.least(ttl_ms)));
        // Nobody can have been given it before it was asked for.
        let (from, mut until) = (Instant::now(), sent + ttl);
        let mut lost = false;
        for _ in 0..self.below(3) {
            // Sometimes too late.
            let late = self.below(4) == 0;
            self.pause(if late { 2 * ttl_ms } else { ttl_ms }).await;
            let sent = Instant::now();
            let path = format!("/hraftd/lock/{lock}?token={token}&ttl={ttl_ms}ms");
            // Where it is renewed it was held all the time, and is for another while.
            match self.ask_lock("PUT", path, Duration::from_millis(500)).await.status {
                200 => until = sent + ttl,
                _ => lost = true,
            }
        }
        // Some die with it.
        if !lost && self.below(3) > 0 {
            let sent = Instant::now();
            let path = format!("/hraftd/lock/{lock}?token={token}");
            until = match self.ask_lock("DELETE", path, Duration::from_millis(500)).await.status {
                200 => sent,
                _ => until.min(sent),
            };
        }
        world::check(|seen| seen.locks.held(lock, Hold { token, from, until }));
    }
}
