//! Keys that live for a while.

use std::time::Duration;

use super::{Ask, Client, Outcome};
use crate::command::Reply;
use crate::sim::world;

/// How many there are.
const KEYS: u64 = 20;

/// The longest that one lives, in milliseconds.
pub const MOST_MS: u64 = 9_000;

impl Client {
    pub async fn use_ttls(mut self) {
        while self.goes_on() {
            let (request, number) = (self.next_key(), self.below(KEYS));
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
            let key = format!("ttl{}", self.below(KEYS));
            self.read(&key).await;
            self.pause(250).await;
        }
    }

    /// Whoever is asked, at whatever level: what it shows is what was committed, due or not.
    async fn read(&mut self, key: &str) {
        let level = ["linearizable", "weak", "none"][self.below(3) as usize];
        let (port, patience) = (self.any_port(), Duration::from_millis(100 + self.below(1_000)));
        let ask = Ask::get(format!("/hraftd/key/{key}?level={level}"));
        if let Outcome::Done(answer) = self.ask(port, &ask, patience).await {
            let found = (answer.status == 200).then(|| answer.json[key].to_string().into_bytes());
            world::check(|seen| seen.linearizable.read(key, answer.index, &found, &seen.state));
        }
    }
}
