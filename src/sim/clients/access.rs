//! Tokens that change while they are used.
//!
//! * What other clients hold ([`APPS`]) is given other secrets, with a grace, and the same grants again: nobody notices.
//! * Guests' tokens are rotated without a grace, widened, narrowed, revoked, and end by themselves: those who use them are let
//!   in exactly as long as they may be, as far as that is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Answer, Ask, Client, Outcome};
use crate::sim::invariants::access::GUESTS;
use crate::sim::world;

/// The tokens of all other clients.
pub const APPS: [&str; 3] = ["app-0", "app-1", "app-2"];

/// Places for tokens of guests, one after another.
pub const SLOTS: [&str; 2] = ["slot-0", "slot-1"];

const PATIENCE: Duration = Duration::from_secs(2);

/// What was sent with the secret before is answered by then; only then another comes.
const ROTATED_EACH: Duration = Duration::from_secs(15);

/// After this even a weak read has heard of what was acknowledged.
const WEAK_BOUND: Duration = Duration::from_millis(400 + 5);

/// A token, as its clients know it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub secret: Option<String>,
    /// It is good for so long at least, if it has an end.
    until: Option<Instant>,
    /// It may write.
    writes: bool,
    /// It could once do less.
    was_widened: bool,
    /// It is being changed, or how that ended is not known.
    is_unsure: bool,
    /// Counts changes.
    changes: u64,
    /// Secrets that are good no more, and since when that is known.
    ended: Vec<(String, Instant)>,
}

/// Clones are the same tokens.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<BTreeMap<&'static str, Known>>>);

impl Tokens {
    pub fn now(&self, name: &'static str) -> Known {
        self.0.lock().get(name).cloned().unwrap_or_default()
    }

    fn change(&self, name: &'static str, change: impl FnOnce(&mut Known)) {
        let mut all = self.0.lock();
        let known = all.entry(name).or_default();
        change(known);
        known.changes += 1;
    }
}

/// The end of a change of a token.
enum Change {
    Done(Answer),
    NotDone,
    Unknown,
}

fn shown(answer: &Answer) -> Option<String> {
    answer.json["token"].as_str().map(str::to_owned)
}

impl Client {
    fn tokens(&self) -> Tokens {
        self.shared.tokens.clone().expect("clients are asked who they are")
    }

    async fn change(&mut self, method: &'static str, name: &str, rest: &str, body: String) -> Change {
        let port = self.any_port();
        let ask = Ask::new(method, format!("/hraftd/auth/token/{name}{rest}"), body);
        match self.ask(port, &ask, PATIENCE).await {
            Outcome::Done(answer) => {
                world::check(|seen| {
                    seen.acknowledged.done(answer.index);
                    Ok(())
                });
                Change::Done(answer)
            }
            Outcome::Refused(_) => Change::NotDone,
            Outcome::Unknown => Change::Unknown,
        }
    }

    async fn put_token(&mut self, name: &str, grants: &[&str], ttl_ms: Option<u64>) -> Change {
        let ttl = ttl_ms.map_or_else(String::new, |ttl_ms| format!(r#","ttl":"{ttl_ms}ms""#));
        self.change("PUT", name, "", format!(r#"{{"grants":{grants:?}{ttl}}}"#)).await
    }

    async fn revoke(&mut self, name: &str) {
        loop {
            if let Change::Done(_) = self.change("DELETE", name, "", String::new()).await {
                return world::check(|seen| seen.access.revoked(name));
            }
            self.pause(100).await;
        }
    }

    /// Makes the tokens of all other clients.
    pub async fn make_tokens(&mut self) {
        for name in APPS {
            let secret = loop {
                let made = self.put_token(name, &["read:", "write:", "lock:", "status"], None).await;
                // One whose answer was lost is there, and its secret is not known.
                let made = match made {
                    Change::Done(answer) if answer.json["token"].is_null() => {
                        self.change("PUT", name, "?rotate&grace=0s", String::new()).await
                    }
                    made => made,
                };
                if let Change::Done(answer) = made
                    && let Some(secret) = shown(&answer)
                {
                    break secret;
                }
                self.pause(100).await;
            };
            self.tokens().change(name, |known| known.secret = Some(secret));
        }
    }

    /// Changes the tokens of all other clients, so that nobody notices.
    pub async fn keep(mut self) {
        let mut rotated = APPS.map(|_| Some(Instant::now()));
        while self.goes_on() {
            let at = self.below(APPS.len() as u64) as usize;
            let name = APPS[at];
            match rotated[at] {
                Some(last) if last.elapsed() > ROTATED_EACH => {
                    // Where the answer is lost the old secret is good for the grace, unless it is rotated once more.
                    rotated[at] = match self.change("PUT", name, "?rotate&grace=1h", String::new()).await {
                        Change::Done(answer) => {
                            let secret = shown(&answer);
                            self.tokens().change(name, |known| known.secret = secret);
                            Some(Instant::now())
                        }
                        Change::NotDone => Some(last),
                        Change::Unknown => None,
                    };
                }
                _ => drop(self.put_token(name, &["status", "lock:", "write:", "read:"], None).await),
            }
            self.pause(2_000).await;
        }
    }

    /// Changes the tokens of a slot, so that everybody notices.
    pub async fn keep_guests(mut self, slot: &'static str) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let name = format!("{slot}.{number}");
            self.keep_guest(slot, &name).await;
            // What may come late of it comes to a token that nobody has.
            self.tokens().change(slot, |known| known.is_unsure = true);
            self.revoke(&name).await;
            self.tokens().change(slot, |known| {
                let secret = known.secret.take().map(|secret| (secret, Instant::now()));
                known.ended.extend(secret);
                known.is_unsure = false;
            });
            self.pause(500).await;
        }
    }

    /// Until it is to be revoked, or how a change ended is not known.
    async fn keep_guest(&mut self, slot: &'static str, name: &str) {
        let (all, less) = (["read:guest/", "write:guest/"], ["read:guest/", "write:other/"]);
        let tokens = self.tokens();
        let ttl_ms = (self.below(4) == 0).then(|| 1_000 + self.below(3_000));
        let until = ttl_ms.map(|ttl_ms| Instant::now() + world::check(|seen| Ok(seen.expiry.least(ttl_ms))));
        let Change::Done(made) = self.put_token(name, &all, ttl_ms).await else { return };
        let secret = shown(&made);
        tokens.change(slot, |known| {
            let (changes, ended) = (known.changes, std::mem::take(&mut known.ended));
            *known = Known { secret, until, writes: true, changes, ended, ..Known::default() };
        });
        for _ in 0..self.below(5) {
            self.pause(1_500).await;
            tokens.change(slot, |known| known.is_unsure = true);
            let rotates = self.below(2) == 0;
            let writes = !tokens.now(slot).writes;
            let changed = match rotates {
                true => self.change("PUT", name, "?rotate&grace=0s", String::new()).await,
                false => self.put_token(name, if writes { &all } else { &less }, None).await,
            };
            match changed {
                Change::Done(answer) if rotates => tokens.change(slot, |known| {
                    let before = std::mem::replace(&mut known.secret, shown(&answer));
                    known.ended.extend(before.map(|before| (before, Instant::now())));
                    known.is_unsure = false;
                }),
                Change::Done(_) => tokens.change(slot, |known| {
                    (known.writes, known.until, known.is_unsure) = (writes, None, false);
                    known.was_widened |= writes;
                }),
                Change::NotDone => tokens.change(slot, |known| known.is_unsure = false),
                Change::Unknown => return,
            }
        }
    }

    /// Uses the tokens of a slot, and at times one that is no good any more.
    pub async fn be_guest(mut self, slot: &'static str) {
        let tokens = self.tokens();
        while self.goes_on() {
            self.pause(150).await;
            let before = tokens.now(slot);
            let ended = before.ended.len() as u64;
            let old = if ended > 0 && self.below(3) == 0 { Some(ended - 1 - self.below(ended.min(3))) } else { None };
            let old = old.map(|at| before.ended[at as usize].clone());
            let secret = old.as_ref().map(|(secret, _)| secret).or(before.secret.as_ref());
            let Some(secret) = secret else { continue };
            let key = format!("{GUESTS}{}", self.below(6));
            if self.below(3) == 0 {
                self.read_as_guest(slot, &before, (secret, old.as_ref().map(|(_, since)| *since)), &key).await;
            } else {
                self.write_as_guest(slot, &before, (secret, old.is_some()), &key).await;
            }
        }
    }

    /// Whether what was known before a request held until its end.
    fn is_sure(&self, slot: &'static str, before: &Known) -> bool {
        let after = self.tokens().now(slot);
        after.changes == before.changes && !before.is_unsure && before.until.is_none_or(|until| Instant::now() < until)
    }

    async fn write_as_guest(&mut self, slot: &'static str, before: &Known, (secret, is_old): (&str, bool), key: &str) {
        let (request, is_keyed) = (self.next_key(), self.below(2) == 0);
        let ask = Ask::new("PUT", format!("/hraftd/key/{key}"), format!("\"{request}\""));
        let ask = if is_keyed { ask.keyed(&request) } else { ask };
        let port = self.any_port();
        let outcome = self.ask(port, &ask.clone().showing(secret), PATIENCE).await;
        let is_sure = self.is_sure(slot, before);
        match &outcome {
            Outcome::Done(answer) => {
                if is_old || (is_sure && !before.writes) {
                    world::fail(format!("access: {request} wrote {key} at {port}, and its token may not: {before:?}"));
                }
                world::check(|seen| {
                    seen.acknowledged.done(answer.index);
                    Ok(())
                });
            }
            Outcome::Refused(Some(answer)) if matches!(answer.status, 401 | 403) => {
                let may = is_sure && !is_old && before.writes;
                if may && (answer.status == 401 || !before.was_widened) {
                    world::fail(format!(
                        "access: {request} was refused at {port}, and may write: {answer:?} {before:?}"
                    ));
                }
                // What is refused may be asked for again, as the same request, where it is not to be refused.
                let again = (is_keyed && is_old).then(|| before.secret.clone()).flatten();
                match again {
                    Some(secret) => self.ask_again(&request, &ask.showing(&secret)).await,
                    None => world::check(|seen| seen.access.refused(format!("\"{request}\"").as_bytes())),
                }
            }
            Outcome::Refused(_) | Outcome::Unknown => {}
        }
    }

    async fn ask_again(&mut self, request: &str, ask: &Ask) {
        let port = self.any_port();
        if let Outcome::Done(answer) = self.ask(port, ask, PATIENCE).await {
            world::check(|seen| seen.exactly_once.answered(request, answer.index, |_| true));
        }
    }

    async fn read_as_guest(
        &mut self,
        slot: &'static str,
        before: &Known,
        (secret, ended): (&str, Option<Instant>),
        key: &str,
    ) {
        let is_weak = self.below(3) == 0;
        let level = if is_weak { "weak" } else { "linearizable" };
        let is_over = ended.is_some_and(|since| !is_weak || since.elapsed() > WEAK_BOUND);
        let (port, ask) = (self.any_port(), Ask::get(format!("/hraftd/key/{key}?level={level}")).showing(secret));
        match self.ask(port, &ask, PATIENCE).await {
            Outcome::Done(answer) if is_over => {
                world::fail(format!("access: a token that is over reads {key} at {port}: {answer:?} {before:?}"));
            }
            Outcome::Refused(Some(answer))
                if matches!(answer.status, 401 | 403) && ended.is_none() && self.is_sure(slot, before) =>
            {
                world::fail(format!("access: {level} of {key} was refused at {port}: {answer:?} {before:?}"));
            }
            _ => {}
        }
    }
}
