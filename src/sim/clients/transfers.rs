//! Transactions that move something from one account to another, or should and cannot.

use std::time::Duration;

use serde_json::{Value, json};

use super::registers::floor;
use super::{Answer, Ask, Client, Outcome};
use crate::command::Reply;
use crate::sim::invariants::Invariants;
use crate::sim::invariants::sums::is_account;
use crate::sim::world;

/// How many there are.
const ACCOUNTS: u64 = 4;

fn account(number: u64) -> String {
    format!("acc{}", number % ACCOUNTS)
}

/// The test that an account holds this.
fn holds(account: &str, value: Option<i64>) -> Value {
    match value {
        Some(value) => json!({ "key": account, "value": value }),
        None => json!({ "key": account, "exists": false }),
    }
}

fn moving(from: &str, to: &str, amount: i64) -> Value {
    json!({ "then": [{ "incr": { from: -amount } }, { "incr": { to: amount } }] })
}

/// Checks the balances that a transaction at this index read.
fn agrees(answer: &Answer, index: u64, seen: &Invariants) -> Result<(), String> {
    let results = answer.json["results"].as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
    for (key, value) in results.filter(|(key, _)| is_account(key)) {
        let held = seen.state.at(key, index).map(|(held, _)| held);
        if held != Some(value.to_string().into_bytes()) {
            return Err(format!("transactions: one at {index} says that {key} is {value}, and it is {held:?}"));
        }
    }
    Ok(())
}

impl Client {
    pub async fn transfer(mut self) {
        while self.goes_on() {
            let first = self.below(ACCOUNTS);
            let (from, to) = (account(first), account(first + 1 + self.below(ACCOUNTS - 1)));
            let amount = 1 + self.below(9) as i64;
            match self.below(10) {
                0..2 => drop(self.transact(moving(&from, &to, amount)).await),
                2..4 => self.transact_once(moving(&from, &to, amount)).await,
                4..8 => self.move_what_is_there(&from, &to, amount).await,
                8 => self.fail_in_the_end(&from, amount).await,
                _ => {
                    let all: Vec<_> = (0..ACCOUNTS).map(|number| json!({ "get": account(number) })).collect();
                    self.transact(json!({ "then": all })).await;
                }
            }
            self.pause(250).await;
        }
    }

    /// Moves money if both accounts still hold what was read; some moves close the one and take all of it.
    async fn move_what_is_there(&mut self, from: &str, to: &str, amount: i64) {
        let read = json!({ "then": [{ "get": from }, { "get": to }] });
        let Some(read) = self.transact(read).await else { return };
        let (a, b) = (read.json["results"][0][from].as_i64(), read.json["results"][1][to].as_i64());
        let then = match (a, b) {
            (Some(a), Some(b)) if self.below(4) == 0 => json!([{ "delete": from }, { "set": { to: a + b } }]),
            _ => json!([{ "set": { from: a.unwrap_or(0) - amount, to: b.unwrap_or(0) + amount } }]),
        };
        let tests = json!([holds(from, a), holds(to, b)]);
        let txn = json!({ "if": tests, "then": then, "else": [{ "get": from }, { "get": to }] });
        let Some(moved) = self.transact(txn).await else { return };
        world::check(|seen| {
            let index = moved.json["index"].as_u64().ok_or_else(|| format!("no index: {moved:?}"))?;
            let held = |key: &str| seen.state.at(key, index - 1).map(|(value, _)| value);
            let text = |value: Option<i64>| value.map(|value| value.to_string().into_bytes());
            if (held(from) == text(a) && held(to) == text(b)) != (moved.json["succeeded"] == true) {
                return Err(format!("transactions: {tests} before {index} was answered {moved:?}"));
            }
            Ok(())
        });
    }

    /// Text is no number to add to: all that was done before it is undone.
    async fn fail_in_the_end(&mut self, from: &str, amount: i64) {
        let then = json!([{ "incr": { from: amount } }, { "set": { "word": "x" } }, { "incr": { "word": 1 } }]);
        if let Some(answer) = self.transact(json!({ "then": then })).await {
            world::fail(format!("transactions: {then} was answered {answer:?}"));
        }
    }

    /// Its answer, where it was done.
    async fn transact(&mut self, txn: Value) -> Option<Answer> {
        let ask = Ask::new("POST", "/hraftd/txn".to_owned(), txn.to_string());
        let (floor, patience) = (floor(), Duration::from_millis(200 + self.below(2_000)));
        let port = self.any_port();
        let Outcome::Done(answer) = self.ask(port, &ask, patience).await else { return None };
        world::check(|seen| {
            let index = answer.json["index"].as_u64().ok_or_else(|| format!("no index: {answer:?}"))?;
            seen.acknowledged.done(index);
            seen.linearizable.answered(&format!("a transaction at {port}"), floor, index)?;
            agrees(&answer, index, seen)
        });
        Some(answer)
    }

    /// Repeated until it is answered.
    async fn transact_once(&mut self, txn: Value) {
        let request = self.next_key();
        let ask = Ask::new("POST", "/hraftd/txn".to_owned(), txn.to_string()).keyed(&request);
        let patience = Duration::from_millis(50 + self.below(1_500));
        let answer = self.until_answered(&ask, patience).await;
        world::check(|seen| {
            seen.acknowledged.done(answer.index);
            let fits = |reply: &Reply| matches!(reply, Reply::Txn { .. }) && answer.status == 200;
            seen.exactly_once.answered(&request, answer.index, fits)?;
            seen.exactly_once.done(&request).map_or(Ok(()), |index| agrees(&answer, index, seen))
        });
    }
}
