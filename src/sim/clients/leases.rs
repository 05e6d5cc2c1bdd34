//! Registrations: keys that live as long as a lease, which is kept alive for a while, and then ended or just left.

use std::time::Duration;

use super::{Answer, Ask, Client};
use crate::sim::world;

/// How many keys there are; a new registration takes some of them over.
const KEYS: u64 = 12;

/// The longest time to live, in milliseconds.
const MOST_MS: u64 = 4_000;

impl Client {
    /// `None`: the cluster knows no leases yet.
    async fn ask_lease(&mut self, method: &'static str, path: String, body: String) -> Option<Answer> {
        let request = self.next_key();
        world::check(|seen| {
            seen.expiry.sends(&request);
            Ok(())
        });
        let ask = Ask::new(method, path, body).keyed(&request);
        let patience = Duration::from_millis(300 + self.below(1_500));
        let answer = self.until_answered(&ask, patience).await;
        if answer.status == 501 {
            return None;
        }
        world::check(|seen| {
            seen.acknowledged.done(answer.index);
            seen.exactly_once.done(&request).map(drop).ok_or_else(|| format!("{request} was answered, and is nowhere"))
        });
        Some(answer)
    }

    pub async fn use_leases(mut self) {
        while self.goes_on() {
            let ttl_ms = 1_000 + self.below(MOST_MS - 1_000);
            let made = self.ask_lease("POST", format!("/hraftd/lease?ttl={ttl_ms}ms"), String::new()).await;
            if let Some(lease) = made.and_then(|made| made.json["lease"].as_u64()) {
                self.register(lease, ttl_ms).await;
            }
            self.pause(400).await;
        }
    }

    async fn register(&mut self, lease: u64, ttl_ms: u64) {
        for _ in 0..1 + self.below(3) {
            let first = self.below(KEYS);
            let keys: Vec<String> =
                (first..first + 1 + self.below(4)).map(|key| format!("\"svc/{}\":{lease}", key % KEYS)).collect();
            let body = format!("{{{}}}", keys.join(","));
            match self.ask_lease("POST", format!("/hraftd/key?lease={lease}"), body).await {
                Some(answer) if answer.status == 200 => {}
                _ => return,
            }
        }
        if self.below(4) == 0 {
            let name = super::locks::NAMES[self.below(2) as usize];
            self.ask_lease("POST", format!("/hraftd/lock/{name}?lease={lease}"), String::new()).await;
        }
        for _ in 0..self.below(4) {
            // Sometimes too late.
            let late = self.below(4) == 0;
            self.pause(if late { 2 * ttl_ms } else { ttl_ms }).await;
            match self.ask_lease("PUT", format!("/hraftd/lease/{lease}"), String::new()).await {
                Some(answer) if answer.status == 200 => {}
                _ => return,
            }
        }
        // Some are just left.
        if self.below(3) == 0 {
            self.ask_lease("DELETE", format!("/hraftd/lease/{lease}"), String::new()).await;
        }
    }
}
