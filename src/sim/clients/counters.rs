//! Increments that are repeated until they are answered.

use std::time::Duration;

use super::{Ask, Client};
use crate::command::Reply;
use crate::sim::world;

pub const KEY: &str = "ctr";

impl Client {
    /// How many it did.
    pub async fn count(mut self) -> u64 {
        let mut done = 0;
        while self.goes_on() {
            let request = self.next_key();
            let ask = Ask::new("POST", format!("/hraftd/key/{KEY}?incr=1"), String::new()).keyed(&request);
            let patience = Duration::from_millis(50 + self.below(2_000));
            let answer = self.until_answered(&ask, patience).await;
            world::check(|seen| {
                seen.acknowledged.done(answer.index);
                let number = answer.json[KEY].as_i64().ok_or_else(|| format!("no number: {answer:?}"))?;
                let fits = |reply: &Reply| *reply == Reply::Number(number);
                seen.exactly_once.answered(&request, answer.index, fits)
            });
            done += 1;
            self.pause(150).await;
        }
        done
    }
}
