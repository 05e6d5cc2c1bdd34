//! Which cluster it is: the first that a node told in this process. From then on each request names it, and a node of
//! another cluster does nothing of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header of requests, and of the answers to those who may know.
pub(super) const CLUSTER: HeaderName = HeaderName::from_static("x-hraftd-cluster");

/// The code of an answer that refuses what is for another cluster.
pub(super) const OTHER_CLUSTER: &str = "other_cluster";

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    id: OnceLock<HeaderValue>,
    /// It was asked for: a node of an older version does not tell it.
    was_asked: AtomicBool,
    /// All endpoints were of other clusters, when they were asked last.
    is_elsewhere: AtomicBool,
}

impl Known {
    /// What a request says of the cluster that it is for; before that is known it asks.
    pub(super) fn wanted(&self) -> HeaderValue {
        self.id.get().cloned().unwrap_or(HeaderValue::from_static("?"))
    }

    /// Remembers the cluster that an answer tells, where it is the first.
    ///
    /// # Errors
    /// It is another than the one that answered first: both.
    pub(super) fn heard(&self, headers: &HeaderMap) -> Result<(), [String; 2]> {
        let Some(told) = headers.get(CLUSTER).filter(|told| is_id(told.as_bytes())) else { return Ok(()) };
        let known = self.id.get_or_init(|| told.clone());
        let text = |id: &HeaderValue| String::from_utf8_lossy(id.as_bytes()).into_owned();
        if known == told { Ok(()) } else { Err([text(told), text(known)]) }
    }

    /// True once it is known, or nobody can tell.
    pub(super) fn is_settled(&self) -> bool {
        self.is_known() || self.was_asked.load(Ordering::Relaxed)
    }

    /// True once a node told it.
    pub(super) fn is_known(&self) -> bool {
        self.id.get().is_some()
    }

    /// Somebody was asked, and answered.
    pub(super) fn was_asked(&self) {
        self.was_asked.store(true, Ordering::Relaxed);
    }

    /// Notes whether all endpoints are of other clusters.
    pub(super) fn note_elsewhere(&self, is_elsewhere: bool) {
        self.is_elsewhere.store(is_elsewhere, Ordering::Relaxed);
    }

    /// True where all endpoints were of other clusters, when they were asked last.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.is_elsewhere.load(Ordering::Relaxed)
    }
}

fn is_id(text: &[u8]) -> bool {
    text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(CLUSTER, HeaderValue::from_str(id).unwrap())])
    }

    #[test]
    fn the_first_that_is_told_counts() {
        let (known, ids) = (Known::default(), ["a", "b"].map(|digit| digit.repeat(32)));
        assert_eq!((known.wanted(), known.is_settled()), (HeaderValue::from_static("?"), false));
        for nothing in [HeaderMap::new(), told("?"), told(&"g".repeat(32)), told("a")] {
            assert_eq!(known.heard(&nothing), Ok(()));
        }
        assert!(!known.is_known());
        assert_eq!(known.heard(&told(&ids[0])), Ok(()));
        assert_eq!(known.wanted(), ids[0].as_str());
        assert_eq!(known.heard(&told(&ids[1])), Err([ids[1].clone(), ids[0].clone()]));
        assert_eq!(known.heard(&HeaderMap::new()), Ok(()), "an older node tells nothing");
        assert_eq!(known.wanted(), ids[0].as_str());
    }
}
