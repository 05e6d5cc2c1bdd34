//! JSON answers that are made while they are sent, so that a long one is never in memory as a
//! whole.
//!
//! Such an answer may keep a state alive that has long changed. If its client stops reading, it
//! breaks off after [`STALLED_AFTER`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::task;

/// About how many bytes are made at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How long a client may take for a chunk: at least this, at most twice as long.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// A JSON text that comes piece by piece.
pub trait Pieces: Send + 'static {
    /// Appends the next piece; returns whether there are more.
    fn piece(&mut self, out: &mut Vec<u8>) -> bool;
}

/// All of it as a body, of known length where it is short.
pub fn body(pieces: impl Pieces) -> Body {
    let mut rest = Some(pieces);
    let first = Bytes::from(chunk(&mut rest));
    let Some(rest) = rest else { return Body::from(first) };
    let rest = Arc::new(Mutex::new(Rest { pieces: Some(rest), made: 0, stalled: false }));
    task::spawn(watch(Arc::downgrade(&rest)));
    let more = stream::unfold(rest, |rest| async { next(&rest).map(|chunk| (chunk, rest)) });
    Body::from_stream(stream::iter([Ok(first)]).chain(more))
}

/// The rest of an answer.
struct Rest<P> {
    /// Dropped with its last piece.
    pieces: Option<P>,
    /// Chunks so far.
    made: u64,
    stalled: bool,
}

fn next<P: Pieces>(rest: &Mutex<Rest<P>>) -> Option<io::Result<Bytes>> {
    let mut rest = rest.lock();
    if rest.pieces.is_none() {
        let stalled = std::mem::take(&mut rest.stalled);
        return stalled.then(|| Err(io::Error::other("the client took too long to read")));
    }
    rest.made += 1;
    Some(Ok(chunk(&mut rest.pieces).into()))
}

/// Lets go of what a client does not come for.
async fn watch<P: Pieces>(rest: std::sync::Weak<Mutex<Rest<P>>>) {
    // The first look is at a client that has just begun.
    let mut seen = u64::MAX;
    loop {
        sleep(STALLED_AFTER).await;
        let Some(rest) = rest.upgrade() else { return };
        let mut rest = rest.lock();
        if rest.pieces.is_none() {
            return;
        }
        if seen == rest.made {
            (rest.pieces, rest.stalled) = (None, true);
            return;
        }
        seen = rest.made;
    }
}

fn chunk<P: Pieces>(rest: &mut Option<P>) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < CHUNK_BYTES
        && let Some(pieces) = rest
    {
        if !pieces.piece(&mut out) {
            *rest = None;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::HttpBody;
    use http_body_util::BodyExt;

    struct Counted(usize, #[allow(dead_code)] Arc<()>);

    impl Pieces for Counted {
        fn piece(&mut self, out: &mut Vec<u8>) -> bool {
            self.0 -= 1;
            out.extend_from_slice(&[b'x'; 1000]);
            self.0 > 0
        }
    }

    async fn read(body: &mut Body) -> Option<Result<usize, axum::Error>> {
        Some(body.frame().await?.map(|frame| frame.into_data().unwrap().len()))
    }

    #[tokio::test]
    async fn short_ones_have_a_length_and_long_ones_let_go_in_the_end() {
        let held = Arc::new(());
        let short = body(Counted(65, held.clone()));
        assert_eq!((Arc::strong_count(&held), short.size_hint().exact()), (1, Some(65_000)));

        let mut long = body(Counted(200, held.clone()));
        assert_eq!(long.size_hint().exact(), None);
        for length in [66_000, 66_000, 66_000, 2_000] {
            assert_eq!(Arc::strong_count(&held), 2);
            assert_eq!(read(&mut long).await.unwrap().unwrap(), length);
        }
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(read(&mut long).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_it() {
        let held = Arc::new(());
        let mut long = body(Counted(1000, held.clone()));
        for _ in 0..3 {
            sleep(STALLED_AFTER * 3 / 4).await;
            assert_eq!(read(&mut long).await.unwrap().unwrap(), 66_000);
        }
        sleep(STALLED_AFTER * 2).await;
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(read(&mut long).await.unwrap().is_err());
        assert!(read(&mut long).await.is_none());
    }
}
