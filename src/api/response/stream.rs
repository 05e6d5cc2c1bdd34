//! JSON answers that are made while they are sent, so that a long one is never in memory as a
//! whole.
//!
//! Such an answer may keep a state alive that has long changed. If that costs too much, it breaks off: see [`super::held`].

use std::io;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};

use super::held::Held;
use crate::kv::Gone;

/// About how many bytes are made at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A JSON text that comes piece by piece.
pub trait Pieces: Send + 'static {
    /// Appends the next piece; returns whether there are more.
    fn piece(&mut self, out: &mut Vec<u8>) -> bool;
}

/// Whether an answer may go on: asked before each part but the first.
pub type GoesOn = Box<dyn FnMut() -> bool + Send>;

/// All of it as a body, of known length where it is short. `gone`, where it is made from a state: the counter of that.
/// It breaks off once `goes_on` says no. Between two parts others have their turn: a client that reads as fast as it is sent
/// would keep its thread for dozens of them.
pub fn body(pieces: impl Pieces, gone: Option<Gone>, goes_on: Option<GoesOn>) -> Body {
    let mut rest = Some(pieces);
    let first = Bytes::from(chunk(&mut rest));
    if rest.is_none() {
        return Body::from(first);
    }
    let more = stream::unfold(Some((Held::new(rest, gone), goes_on)), |held| async {
        let (held, mut goes_on) = held?;
        tokio::task::yield_now().await;
        if goes_on.as_mut().is_some_and(|goes_on| !goes_on()) {
            return Some((Err(io::Error::other("its client may not have the rest any more")), None));
        }
        let made = held.using(|rest| {
            let chunk = Bytes::from(chunk(rest));
            ((chunk, rest.is_some()), rest.is_some())
        });
        Some(match made {
            Some((chunk, more)) => (Ok(chunk), more.then_some((held, goes_on))),
            None => (Err(io::Error::other("the client took too long to read it")), None),
        })
    });
    Body::from_stream(stream::iter([Ok(first)]).chain(more))
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
    use std::sync::Arc;

    use super::super::held::STALLED_AFTER;
    use super::*;
    use axum::body::HttpBody;
    use http_body_util::BodyExt;
    use tokio::time::sleep;

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
        let short = body(Counted(65, held.clone()), None, None);
        assert_eq!((Arc::strong_count(&held), short.size_hint().exact()), (1, Some(65_000)));

        let mut long = body(Counted(200, held.clone()), None, None);
        assert_eq!(long.size_hint().exact(), None);
        for length in [66_000, 66_000, 66_000, 2_000] {
            assert_eq!(Arc::strong_count(&held), 2);
            assert_eq!(read(&mut long).await.unwrap().unwrap(), length);
        }
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(read(&mut long).await.is_none());
    }

    /// Found by an attack: with 150 long listings at a node even its health took four seconds.
    #[tokio::test]
    async fn others_have_their_turn_between_two_parts() {
        let mut long = body(Counted(1000, Arc::default()), None, None);
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let mut parts = 0;
        while read(&mut long).await.is_some() {
            parts += 1;
        }
        other.abort();
        let turns = turns.load(std::sync::atomic::Ordering::SeqCst);
        assert!(parts > 10 && turns >= parts - 1, "{turns} turns of another beside {parts} parts");
    }

    #[tokio::test]
    async fn it_breaks_off_where_it_may_not_go_on() {
        let held = Arc::new(());
        let may = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = may.clone();
        let goes_on: GoesOn = Box::new(move || asked.load(std::sync::atomic::Ordering::SeqCst));
        let mut long = body(Counted(1000, held.clone()), None, Some(goes_on));
        for _ in 0..2 {
            assert_eq!(read(&mut long).await.unwrap().unwrap(), 66_000);
        }
        may.store(false, std::sync::atomic::Ordering::SeqCst);
        assert!(read(&mut long).await.unwrap().is_err());
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(read(&mut long).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_loses_it() {
        let held = Arc::new(());
        let mut long = body(Counted(1000, held.clone()), None, None);
        // Made before anybody asked.
        assert_eq!(read(&mut long).await.unwrap().unwrap(), 66_000);
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
