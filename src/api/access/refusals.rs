//! Counts requests that were refused, and logs some of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::response::error::Refused;
use crate::command::Denied;
use crate::observe::{AuthRefusal, SecurityNumbers};

/// A name and an address are logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The most names with addresses that are remembered; beyond that nothing more is logged within that time.
const MAX_REMEMBERED: usize = 1024;

/// A name and an address.
type Whence = (Option<Arc<str>>, Option<IpAddr>);

/// Refused requests: each is counted for the metrics, and some are logged.
#[derive(Debug, Default)]
pub struct Refusals {
    numbers: Arc<SecurityNumbers>,
    logged: Mutex<HashMap<Whence, Instant>>,
}

impl Refusals {
    /// They are counted in these numbers.
    pub fn new(numbers: Arc<SecurityNumbers>) -> Self {
        Self { numbers, logged: Mutex::default() }
    }

    /// Notes one. True where it was logged.
    pub fn note(&self, refused: &Refused, from: Option<IpAddr>) -> bool {
        self.numbers.refused(match refused.why {
            Denied::Missing => AuthRefusal::Missing,
            Denied::Unknown => AuthRefusal::Unknown,
            Denied::Expired => AuthRefusal::Expired,
            Denied::Forbidden(_) | Denied::NotOwner => AuthRefusal::NotGranted,
        });
        if !self.is_due((refused.who.clone(), from)) {
            return false;
        }
        let (who, from) = (refused.who.as_deref().unwrap_or("nobody who is known"), from.map(|ip| ip.to_string()));
        let from = from.as_deref().unwrap_or("an unknown address");
        tracing::warn!("refused a request of {who} at {from}: {}", refused.why);
        true
    }

    fn is_due(&self, key: Whence) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        if logged.get(&key).is_some_and(|at| now < *at + LOG_EVERY) {
            return false;
        }
        if logged.len() >= MAX_REMEMBERED {
            logged.retain(|_, at| now < *at + LOG_EVERY);
        }
        let fits = logged.len() < MAX_REMEMBERED;
        if fits {
            logged.insert(key, now);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::AUTH_REFUSALS;

    #[tokio::test(start_paused = true)]
    async fn each_name_and_address_is_logged_once_a_second() {
        let refusals = Refusals::default();
        let of = |who: &str| Refused { why: Denied::Forbidden("x".into()), who: Some(who.into()) };
        let at = |n: u32| Some(IpAddr::V4(n.into()));
        assert!(refusals.note(&of("a"), at(1)) && refusals.note(&of("a"), at(2)) && refusals.note(&of("b"), at(1)));
        assert!(!refusals.note(&of("a"), at(1)));
        tokio::time::advance(LOG_EVERY).await;
        assert!(refusals.note(&of("a"), at(1)));
        let unknown = Refused { why: Denied::Unknown, who: None };
        let logged = (0..100_000).filter(|n| refusals.note(&unknown, at(*n))).count();
        assert!(logged <= MAX_REMEMBERED, "{logged}");
        assert!(refusals.logged.lock().len() <= MAX_REMEMBERED);
        let counted = AUTH_REFUSALS.into_iter().zip(refusals.numbers.refusals()).nth(1);
        assert_eq!(counted, Some(("unknown", 100_000)));
    }
}
