//! Bounds long answers together: thousands of clients that stop reading must not fill the memory.
//!
//! * An answer takes its room for as long as the connection holds its bytes. So does each piece of
//!   a stream.
//! * Short answers need no room. A long one that finds none is not sent.
//! * A stream that has begun waits for room before it makes its next piece.
//! * [`crate::http`] cuts off a client that reads nothing, which frees its room.
//!
//! Caveat: watches have bounds of their own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::response::error::ApiError;
use crate::node::NodeError;

/// Answers up to this take no room.
const SHORT_ANSWER_BYTES: usize = 16 << 10;

/// The most bytes of all long answers together, unless one alone may be longer.
const LONG_ANSWERS_BYTES: usize = 256 << 20;

/// The most bytes of a streamed piece beside one value: what comes before its last item, and what
/// is added to show it.
const PIECE_BYTES: usize = 128 << 10;

/// An extension of a response whose body is made while it is sent: so many bytes it is made from, which are there until
/// its end.
#[derive(Debug, Clone, Copy)]
pub struct MadeFrom(pub usize);

/// An extension of the response to a transaction that changed nothing: it only read.
#[derive(Debug, Clone, Copy)]
pub struct OnlyRead;

/// The bytes that one permit of a semaphore stands for: permits are counted in 32 bits.
pub const PERMIT_BYTES: usize = 1 << 10;

/// How many permits so many bytes take.
pub fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

/// The memory that answers may take.
#[derive(Debug)]
pub struct AnswerMemory {
    room: Arc<Semaphore>,
    /// The most that a piece may take.
    piece: u32,
}

impl AnswerMemory {
    /// One value may have `max_value` bytes; bytes that are no JSON are shown as base64.
    pub fn new(max_value: usize) -> Self {
        let piece = permits(PIECE_BYTES + max_value / 3 * 4);
        Self { room: Arc::new(Semaphore::new((LONG_ANSWERS_BYTES / PERMIT_BYTES).max(piece as usize))), piece }
    }

    /// Gives the response its room; `None`: there is none.
    pub fn admit(&self, response: Response) -> Option<Response> {
        let length = response.body().size_hint().exact();
        let wanted = match length {
            Some(length) if length <= SHORT_ANSWER_BYTES as u64 => return Some(response),
            // One that is longer than all the room takes all of it.
            Some(length) => permits(usize::try_from(length).unwrap_or(usize::MAX)).min(permits(LONG_ANSWERS_BYTES)),
            None => self.piece,
        };
        let source = response.extensions().get::<MadeFrom>().map_or(0, |from| permits(from.0));
        let source = self
            .room
            .clone()
            .try_acquire_many_owned(source.min(permits(LONG_ANSWERS_BYTES).saturating_sub(wanted)))
            .ok()?;
        let taken = Some(self.room.clone().try_acquire_many_owned(wanted).ok()?);
        let (room, piece) = (self.room.clone(), self.piece);
        Some(response.map(|inner| {
            Body::new(BodyWithRoom {
                inner,
                taken,
                source: Some(source),
                whole: length.is_some(),
                asked: None,
                room,
                piece,
            })
        }))
    }
}

/// Why an answer is not sent. What a transaction changed cannot be undone: then nothing may be said of
/// its outcome.
pub fn no_room(changed: bool) -> ApiError {
    let why = "clients have not read the answers that this node holds for them, and there is no room for this one";
    if changed {
        return NodeError::Timeout(format!(
            "{why}. The outcome of this transaction is unknown: read before you repeat it"
        ))
        .into();
    }
    ApiError::Overloaded(format!("{why}; try again later, or ask another node"))
}

/// A body whose pieces hold their room.
struct BodyWithRoom {
    inner: Body,
    /// For what it is made from.
    source: Option<OwnedSemaphorePermit>,
    /// For the next piece.
    taken: Option<OwnedSemaphorePermit>,
    /// It has a length, and room for that was taken.
    whole: bool,
    /// Waits for room.
    asked: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    room: Arc<Semaphore>,
    piece: u32,
}

impl BodyWithRoom {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.taken.is_none() && !self.whole {
            let (room, piece) = (self.room.clone(), self.piece);
            // Never closed.
            let asked =
                self.asked.get_or_insert_with(|| Box::pin(async move { room.acquire_many_owned(piece).await.ok() }));
            self.taken = ready!(asked.as_mut().poll(cx));
            self.asked = None;
        }
        Poll::Ready(())
    }

    /// The piece with its room, without what it did not need.
    fn hold(&mut self, data: Bytes) -> Bytes {
        let Some(mut room) = self.taken.take() else { return data };
        if !self.whole {
            let surplus = room.num_permits().saturating_sub(permits(data.len()) as usize);
            drop(room.split(surplus));
        }
        Bytes::from_owner(BytesWithRoom { data, _room: room })
    }
}

struct BytesWithRoom {
    data: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BytesWithRoom {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl HttpBody for BodyWithRoom {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        ready!(self.poll_room(cx));
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame.map_data(|data| self.hold(data)))),
            other => {
                (self.taken, self.source) = (None, None);
                other
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    const MIB: usize = 1 << 20;

    fn whole(bytes: usize) -> Response {
        Response::new(Body::from(vec![b'x'; bytes]))
    }

    fn pieces() -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        let piece = |length| Ok(Bytes::from(vec![b'x'; length]));
        futures_util::stream::iter([100_000, 200_000, 300].map(piece))
    }

    async fn next(response: &mut Response) -> Option<Bytes> {
        Some(response.body_mut().frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_given_back_with_the_bytes() {
        let answers = AnswerMemory::new(MIB);
        let all = answers.room.available_permits();
        let mut held = Vec::new();
        while let Some(mut response) = answers.admit(whole(MIB)) {
            assert_eq!(response.body().size_hint().exact(), Some(MIB as u64));
            // As hyper does: the body is gone, its bytes wait for the client.
            held.push(next(&mut response).await.unwrap());
        }
        assert_eq!(held.len(), LONG_ANSWERS_BYTES / MIB);
        assert!(answers.admit(whole(SHORT_ANSWER_BYTES)).is_some(), "a short one needs no room");
        assert!(answers.admit(whole(SHORT_ANSWER_BYTES + 1)).is_none());
        assert!(answers.admit(Response::new(Body::from_stream(pieces()))).is_none());
        held.pop();
        assert!(answers.admit(whole(MIB)).is_some());
        assert!(answers.admit(whole(2 * LONG_ANSWERS_BYTES)).is_none());
        drop(held);
        assert_eq!(answers.room.available_permits(), all);
        assert!(answers.admit(whole(2 * LONG_ANSWERS_BYTES)).is_some(), "not for ever");
    }

    #[tokio::test]
    async fn what_an_answer_is_made_from_counts_until_its_end() {
        let answers = AnswerMemory::new(MIB);
        let all = answers.room.available_permits();
        let made = |from| {
            let mut response = Response::new(Body::from_stream(pieces()));
            response.extensions_mut().insert(MadeFrom(from));
            answers.admit(response)
        };
        let mut first = made(200 * MIB).unwrap();
        assert!(made(100 * MIB).is_none(), "there is no room for both");
        while next(&mut first).await.is_some() {}
        assert_eq!(answers.room.available_permits(), all);
        assert!(made(100 * MIB).is_some());
        assert!(made(1 << 40).is_some(), "one alone may be longer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_for_room() {
        let answers = AnswerMemory::new(MIB);
        let all = answers.room.available_permits();
        let mut stream = answers.admit(Response::new(Body::from_stream(pieces()))).unwrap();
        let first = next(&mut stream).await.unwrap();
        assert_eq!((first.len(), answers.room.available_permits()), (100_000, all - 98));
        let others = answers.room.clone().acquire_many_owned(u32::try_from(all - 98).unwrap()).await.unwrap();
        assert!(timeout(Duration::from_secs(60), next(&mut stream)).await.is_err(), "there was no room");
        drop(others);
        let second = next(&mut stream).await.unwrap();
        assert_eq!((second.len(), next(&mut stream).await.unwrap().len()), (200_000, 300));
        assert!(next(&mut stream).await.is_none());
        drop((first, second));
        assert_eq!(answers.room.available_permits(), all);
    }
}
