//! Keys that live for a while.

use std::time::Duration;

use super::{Ask, Client, Outcome};
use crate::command::Reply;
use crate::sim::world;

/// The longest that one lives, in milliseconds.
pub const MOST_MS: u64 = 9_000;

impl Client {
    pub async fn use_ttls(mut self) {
        while self.goes_on() {
            let (request, number) = (self.next_key(), self.below(20));
            let key = format!("ttl{number}");
            let ttl_ms = 1_000 + self.below(MOST_MS - 1_000);
            let touches = self.below(3) == 0;
            let ask = if touches {
                Ask::new("POST", format!("/hraftd/key/{key}?touch&ttl={ttl_ms}ms"), String::new())
            } else {
                Ask::new("PUT", format!("/hraftd/key/{key}?ttl={ttl_ms}ms"), "1".to_owned())
            };
            let ask = ask.keyed(&request);
            world::check(|seen| {
                seen.expiry.sends(&request);
                Ok(())
            });
            let port = self.any_port();
            let patience = Duration::from_millis(100 + self.below(3_000));
            if let Outcome::Done(answer) = self.ask(port, &ask, patience).await {
                world::check(|seen| {
                    seen.acknowledged.done(answer.index);
                    let fits = |reply: &Reply| match reply {
                        Reply::Put { created } => (answer.status == 201) == *created && !touches,
                        Reply::Touched { .. } => answer.status == 200 && touches,
                        Reply::Failed(_) => answer.status == 404 && touches,
                        _ => false,
                    };
                    seen.exactly_once.answered(&request, answer.index, fits)
                });
            }
            self.pause(250).await;
        }
    }
}
