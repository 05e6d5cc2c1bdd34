//! Connections that lead nowhere any more, though nobody said so.
//!
//! A host that vanishes, or comes back under another address, closes nothing: each connection to it that is kept looks as
//! good as ever, and costs the next request its whole time. So where a request was not answered, and nobody at its address
//! has answered since it was sent, the connections of then are left alone: what follows opens new ones, which look the
//! name up again. The old ones are closed as those that nobody uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Authority;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::IDLE_TIMEOUT;

/// A request that is given up before this has waited for something else.
const MIN_SILENCE: Duration = Duration::from_millis(100);

/// Addresses beyond this number are forgotten once nothing was asked there for a while: whoever asks for a join chooses
/// one.
const MANY: usize = 256;

/// What is known of the connections to each address.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<Mutex<HashMap<Authority, Place>>>);

#[derive(Debug)]
struct Place {
    /// Counts the times that it fell silent: connections of an earlier one are not used any more.
    era: u32,
    asked: Instant,
    answered: Option<Instant>,
}

/// A request under way. Dropped without [`answered`](Self::answered) it counts as not answered.
#[derive(Debug)]
pub(super) struct Asking {
    silence: Silence,
    at: Authority,
    pub(super) era: u32,
    since: Instant,
}

impl Silence {
    /// A request is about to be sent to this address.
    pub(super) fn ask(&self, at: &Authority) -> Asking {
        let since = Instant::now();
        let mut places = self.0.lock();
        if places.len() >= MANY {
            // By then the pool has closed all connections of their earlier eras.
            places.retain(|_, place| since - place.asked < IDLE_TIMEOUT * 2);
        }
        let place = places.entry(at.clone()).or_insert(Place { era: 0, asked: since, answered: None });
        place.asked = since;
        Asking { silence: self.clone(), at: at.clone(), era: place.era, since }
    }
}

impl Asking {
    /// Somebody has answered.
    pub(super) fn answered(self) {
        if let Some(place) = self.silence.0.lock().get_mut(&self.at) {
            place.answered = Some(Instant::now());
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.since.elapsed() < MIN_SILENCE {
            return;
        }
        if let Some(place) = self.silence.0.lock().get_mut(&self.at)
            && place.era == self.era
            && place.answered.is_none_or(|answered| answered < self.since)
        {
            place.era = place.era.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    #[tokio::test]
    async fn an_address_without_an_answer_begins_an_era() {
        pause();
        let silence = Silence::default();
        let (at, other) = (Authority::from_static("7@n1:1"), Authority::from_static("8@n2:1"));
        let era = |at| {
            let asking = silence.ask(at);
            let era = asking.era;
            asking.answered();
            era
        };
        // Both are of one silence: they count once.
        let (first, second) = (silence.ask(&at), silence.ask(&at));
        advance(MIN_SILENCE).await;
        drop((first, second));
        assert_eq!((era(&at), era(&other)), (1, 0));
        // Given up at once, or answered by somebody else there: it says nothing.
        drop(silence.ask(&at));
        let slow = silence.ask(&at);
        advance(MIN_SILENCE).await;
        assert_eq!(era(&at), 1);
        drop(slow);
        assert_eq!(era(&at), 1);
    }

    #[tokio::test]
    async fn addresses_that_nobody_asks_are_forgotten() {
        pause();
        let silence = Silence::default();
        for number in 0..5 * MANY {
            drop(silence.ask(&Authority::try_from(format!("n{number}:1")).unwrap()));
            advance(Duration::from_millis(200)).await;
        }
        assert!(silence.0.lock().len() <= MANY, "{}", silence.0.lock().len());
    }
}
