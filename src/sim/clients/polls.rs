//! Long polls of registers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::registers::{self, floor};
use super::{Ask, Client, Outcome};
use crate::sim::world;

/// The longest that one waits, in milliseconds.
const MOST_MS: u64 = 3_000;

/// Without faults, a long poll hears of a write within this time.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// The key of the last polls, which nobody else writes.
const KEY: &str = "poll";

impl Client {
    pub async fn poll(mut self) {
        let key = registers::name(self.below(registers::KEYS));
        // Where it was changed last, as far as is known; 0 where it is not there.
        let mut known = 0;
        while self.goes_on() {
            known = self.poll_once(&key, known).await.unwrap_or(known);
            self.pause(200).await;
        }
    }

    async fn poll_once(&mut self, key: &str, known: u64) -> Option<u64> {
        let level = if self.below(3) == 0 { "none" } else { "linearizable" };
        let waits = Duration::from_millis(1 + self.below(MOST_MS));
        let is_not = (known > 0).then_some(known);
        let ask = Ask::get(format!("/hraftd/key/{key}?level={level}")).polling(is_not, waits);
        let (port, floor, patience) = (self.any_port(), floor(), Duration::from_millis(200 + self.below(1_000)));
        let sent = Instant::now();
        let Outcome::Done(answer) = self.ask(port, &ask, patience).await else { return None };
        let waited = sent.elapsed();
        world::check(|seen| {
            let held = seen.state.at(key, answer.index);
            let changed = held.as_ref().map_or(0, |(_, changed)| *changed);
            if level == "linearizable" {
                seen.linearizable.answered(&format!("a long poll of {key} at {port}"), floor, answer.index)?;
            }
            let fits = match answer.status {
                200 => {
                    let found = Some(answer.json[key].to_string().into_bytes());
                    seen.linearizable.read(key, answer.index, &found, &seen.state)?;
                    changed != known
                }
                304 => changed == known && waited >= waits,
                // Without a condition it waits until the key is there.
                _ => held.is_none() && (known > 0 || waited >= waits),
            };
            if !fits {
                return Err(format!(
                    "polls: after {waited:?} of {waits:?} one for other than {known} of {key} was answered {answer:?}, \
                     where {held:?} is committed"
                ));
            }
            Ok(Some(changed))
        })
    }

    /// Once nothing is wrong any more: what is written is told at once, by each of these nodes.
    pub async fn poll_all(mut self, mut writer: Self, ports: Vec<u16>) {
        for port in ports {
            let first = writer.write_once("1").await;
            let ask = Ask::get(format!("/hraftd/key/{KEY}?level=linearizable")).polling(Some(first), TOLD_WITHIN * 10);
            let polled = async {
                let outcome = self.ask(port, &ask, TOLD_WITHIN).await;
                (outcome, Instant::now())
            };
            let written = async {
                sleep(TOLD_WITHIN / 4).await;
                writer.write_once("2").await;
                Instant::now()
            };
            let ((outcome, told), written) = tokio::join!(polled, written);
            let is_told = matches!(&outcome, Outcome::Done(answer) if answer.json[KEY] == 2);
            if !is_told || told > written + TOLD_WITHIN {
                world::fail(format!("polls: {port} tells of a write {:?} after it: {outcome:?}", told - written));
            }
        }
    }

    /// The index.
    async fn write_once(&mut self, value: &str) -> u64 {
        let request = self.next_key();
        let ask = Ask::new("PUT", format!("/hraftd/key/{KEY}"), value.to_owned()).keyed(&request);
        self.until_answered(&ask, Duration::from_secs(1)).await;
        world::check(|seen| seen.exactly_once.done(&request).ok_or_else(|| format!("{request} is nowhere")))
    }
}
