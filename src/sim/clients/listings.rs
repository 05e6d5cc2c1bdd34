//! Listings of prefixes, whole and by pages.

use std::time::Duration;

use serde_json::Value;

use super::registers::floor;
use super::{Answer, Ask, Client, Outcome};
use crate::sim::invariants::listings::{Asked, Listed};
use crate::sim::world;

const PREFIXES: [&str; 4] = ["acc", "reg", "ttl", ""];

fn listed(answer: &Answer) -> Option<Listed> {
    match &answer.json {
        Value::Object(pairs) => {
            Some(pairs.iter().map(|(key, value)| (key.clone(), Some(value.to_string().into_bytes()))).collect())
        }
        Value::Array(keys) => keys.iter().map(|key| Some((key.as_str()?.to_owned(), None))).collect(),
        _ => None,
    }
}

impl Client {
    pub async fn list(mut self) {
        while self.goes_on() {
            let prefix = PREFIXES[self.below(PREFIXES.len() as u64) as usize];
            let level = ["linearizable", "linearizable", "weak", "none"][self.below(4) as usize];
            let keys = if self.below(2) == 0 { "&keys" } else { "" };
            let limit = (self.below(2) == 0).then(|| 1 + self.below(4) as usize);
            let path = format!("/hraftd/key?prefix={prefix}&level={level}{keys}");
            let mut after: Option<String> = None;
            while let Some(next) = self.page(&path, level, Asked { prefix, after: after.as_deref(), limit }).await {
                after = Some(next);
            }
            self.pause(300).await;
        }
    }

    /// Reads one page; returns the last key to continue after, if there is more.
    async fn page(&mut self, path: &str, level: &str, asked: Asked<'_>) -> Option<String> {
        let limit = asked.limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
        let after = asked.after.map_or_else(String::new, |after| format!("&after={after}"));
        // Each page at any node: it may be older than the one before.
        let (port, floor, patience) = (self.any_port(), floor(), Duration::from_millis(200 + self.below(2_000)));
        let outcome = self.ask(port, &Ask::get(format!("{path}{limit}{after}")), patience).await;
        let Outcome::Done(answer) = outcome else { return None };
        world::check(|seen| {
            let listed = listed(&answer).ok_or_else(|| format!("listings: {asked:?} was answered {answer:?}"))?;
            if level == "linearizable" {
                seen.linearizable.answered(&format!("a listing of {asked:?} at {port}"), floor, answer.index)?;
            }
            seen.listings.listed(asked, answer.index, &listed, answer.more, &seen.state)?;
            Ok(listed.last().filter(|_| answer.more).map(|(key, _)| key.clone()))
        })
    }
}
