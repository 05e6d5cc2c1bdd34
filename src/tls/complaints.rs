//! Says what happens again and again once a minute for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const EVERY: Duration = Duration::from_secs(60);

/// Addresses that are remembered; beyond that nothing is said of others.
const MAX_ADDRESSES: usize = 64;

/// When something was last said of an address.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<IpAddr, Instant>>);

impl Complaints {
    /// True where it is time to say something of this address.
    pub(super) fn is_due(&self, about: IpAddr) -> bool {
        let (mut said, now) = (self.0.lock(), Instant::now());
        if said.get(&about).is_some_and(|last| now - *last < EVERY) {
            return false;
        }
        said.retain(|_, last| now - *last < EVERY);
        if said.len() >= MAX_ADDRESSES {
            return false;
        }
        said.insert(about, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_address_is_told_of_once_a_minute() {
        let complaints = Complaints::default();
        let at = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert!(complaints.is_due(at(1)) && complaints.is_due(at(2)) && !complaints.is_due(at(1)));
        assert_eq!((3..=255).filter(|n| complaints.is_due(at(*n))).count(), MAX_ADDRESSES - 2);
        tokio::time::advance(EVERY).await;
        assert!(complaints.is_due(at(1)) && complaints.is_due(at(255)));
    }
}
