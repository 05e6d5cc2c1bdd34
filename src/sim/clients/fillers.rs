//! Fill the state up to its quota, and make room again: everybody's writes that grow it are refused meanwhile.

use std::time::Duration;

use super::{Ask, Client, Outcome};
use crate::sim::world;

/// Bytes of a value. A few of them are the smallest quota.
const VALUE_BYTES: usize = 2_000;

/// The smallest quota in bytes: more than all others have together.
pub const QUOTA_BYTES: u64 = 12_000;

impl Client {
    /// How often it found the state full.
    pub async fn fill(mut self) -> u64 {
        let (value, mut full) = (format!("\"{}\"", "x".repeat(VALUE_BYTES)), 0);
        while self.goes_on() {
            let ask = Ask::new("PUT", format!("/hraftd/key/fill/{}", self.next_key()), value.clone());
            let (port, patience) = (self.any_port(), Duration::from_millis(200 + self.below(2_000)));
            if let Outcome::Refused(Some(answer)) = self.ask(port, &ask, patience).await
                && answer.status == 507
            {
                full += 1;
                self.make_room().await;
            }
            self.pause(150).await;
        }
        self.make_room().await;
        full
    }

    /// Deletes all that was filled in: a full state takes that.
    async fn make_room(&mut self) {
        let request = self.next_key();
        let ask = Ask::new("DELETE", "/hraftd/key?prefix=fill/".to_owned(), String::new()).keyed(&request);
        let patience = Duration::from_millis(200 + self.below(2_000));
        let answer = self.until_answered(&ask, patience).await;
        world::check(|seen| {
            seen.acknowledged.done(answer.index);
            seen.exactly_once.answered(&request, answer.index, |_| answer.status == 200)
        });
    }
}
