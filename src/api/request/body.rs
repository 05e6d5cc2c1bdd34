//! Request bodies, bounded one by one and together. Their time is bounded by the caller.
//!
//! However many clients send big bodies at once, what is held of them fits in [`Room`]; who finds none waits unread,
//! which slows its client by TCP's own means. The bound is also what keeps memory from staying with the process after a
//! burst: allocators give freed blocks of some MiB back late or, as glibc's does, never.
//!
//! A small body that comes at once needs no room, which is nearly all of them. What has come of others, while more is to
//! come, has a bound of its own, so that thousands of slow senders do not fill the memory: beyond it they are refused.

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::response::error::ApiError;

/// Bodies up to this are small.
const SMALL: usize = 64 << 10;

/// For all big bodies together, unless one alone may be longer.
const ROOM: usize = 64 << 20;

/// For what has come of all small ones.
const SMALL_ROOM: usize = 64 << 20;

/// What one that is on its way takes beside its bytes.
const ON_ITS_WAY: usize = 4 << 10;

/// Permits are u32.
pub const UNIT: usize = 1 << 10;

/// So many permits are for so many bytes.
pub fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// The memory that bodies may take.
#[derive(Debug)]
pub struct Room {
    big: Semaphore,
    small: Semaphore,
}

impl Room {
    /// Where one body may have `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let of = |bytes: usize| Semaphore::new(bytes.div_ceil(UNIT));
        Self { big: of(ROOM.max(limit)), small: of(SMALL_ROOM) }
    }

    /// All that a body may come to, at once: bodies that hold parts while they wait for more could wait for ever.
    async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.big.acquire_many(units(bytes)).await.ok()
    }

    /// What has come of a small body: at once, or it is refused.
    fn keep<'a>(&'a self, kept: &mut Option<SemaphorePermit<'a>>, bytes: usize) -> Result<(), ApiError> {
        let has = kept.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = (units(bytes + ON_ITS_WAY) as usize).saturating_sub(has);
        let more = self.small.try_acquire_many(u32::try_from(more).unwrap_or(u32::MAX)).map_err(|_| {
            ApiError::Overloaded(
                "this node has as many requests half received as it takes; nothing was done, try again later"
                    .to_owned(),
            )
        })?;
        match kept {
            Some(kept) => kept.merge(more),
            None => *kept = Some(more),
        }
        Ok(())
    }
}

/// A body, and the room that it takes for as long as it is kept.
pub type Held<'a> = (Bytes, Option<SemaphorePermit<'a>>);

/// Reads the whole body, unless it is, or says it will be, longer than `limit` (`--max-request`).
///
/// A small body is copied: as a slice it would keep the buffer of its connection, 8 KiB at least, for as long as the
/// entry that it becomes is cached in the log. A larger one that came in one piece is not copied.
///
/// # Errors
/// It is too large, it broke off, or too many small ones are on their way.
pub async fn read(mut body: Body, limit: usize, room: &Room) -> Result<Held<'_>, ApiError> {
    // Before the first read, which is what would send a client that waits for it its "100 Continue".
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let announced = announced as usize;
    let mut taken = if announced > SMALL { room.take(announced).await } else { None };
    let Some(first) = next(&mut body).await? else {
        return Ok((Bytes::new(), None));
    };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    if body.is_end_stream() {
        return Ok((if first.len() > SMALL { first } else { Bytes::copy_from_slice(&first) }, taken));
    }
    let mut kept = None;
    if taken.is_none() {
        room.keep(&mut kept, first.len())?;
    }
    // `announced` is within the limit, and memory that is not written yet costs nothing.
    let mut all = BytesMut::with_capacity(announced.max(first.len() * 2));
    all.extend_from_slice(&first);
    drop(first);
    while let Some(data) = next(&mut body).await? {
        let length = all.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if taken.is_none() && length <= SMALL {
            room.keep(&mut kept, length)?;
        } else if taken.is_none() {
            taken = room.take(limit).await;
            kept = None;
            // No growing by doubling, which would take twice the room.
            all.reserve(limit - all.len());
        }
        all.extend_from_slice(&data);
    }
    Ok((all.freeze(), taken))
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                // Trailers are of no interest.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Err(error) => return Err(ApiError::BadRequest(format!("the request body broke off: {error}"))),
        }
    }
    Ok(None)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge(format!(
        "the request body is longer than {limit} bytes, the limit of one request (--max-request); send less at once"
    ))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use tokio::time::timeout;

    use crate::api::request::body::{ApiError, ON_ITS_WAY, ROOM, Room, SMALL, SMALL_ROOM, UNIT, read};

    const LIMIT: usize = ROOM / 2;

    /// Of unknown length, in pieces.
    fn chunked(bytes: usize) -> Body {
        let pieces = (0..bytes.div_ceil(1000)).map(move |at| 1000.min(bytes - at * 1000));
        Body::from_stream(futures_util::stream::iter(
            pieces.map(|length| Ok::<_, Infallible>(Bytes::from(vec![b'x'; length]))),
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn big_bodies_wait_for_room_and_small_ones_do_not() {
        let room = Room::new(LIMIT);
        let (body, first) = read(chunked(SMALL + 1), LIMIT, &room).await.unwrap();
        assert_eq!(body.len(), SMALL + 1);
        let (body, second) = read(Body::from(vec![b'x'; LIMIT]), LIMIT, &room).await.unwrap();
        assert_eq!(body.len(), LIMIT);
        let waits = timeout(Duration::from_secs(60), read(chunked(SMALL + 1), LIMIT, &room)).await;
        assert!(waits.is_err(), "there was no room");
        for small in [chunked(SMALL), Body::from(vec![b'x'; SMALL]), Body::empty()] {
            assert!(read(small, LIMIT, &room).await.unwrap().1.is_none());
        }
        drop(second);
        assert!(read(chunked(LIMIT + 1), LIMIT, &room).await.is_err(), "too long");
        assert!(read(chunked(LIMIT), LIMIT, &room).await.unwrap().1.is_some(), "what was refused gave its room back");
        drop(first);
        assert_eq!(room.big.available_permits(), ROOM / 1024);
    }

    /// So many bytes come, and no more.
    fn stalled(bytes: usize) -> Body {
        use futures_util::StreamExt;
        Body::from_stream(chunked(bytes).into_data_stream().chain(futures_util::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_senders_of_small_bodies_are_bounded_together() {
        let room = Room::new(LIMIT);
        let most = SMALL_ROOM / (SMALL + ON_ITS_WAY);
        let mut slow: Vec<_> = (0..most).map(|_| Box::pin(read(stalled(SMALL), LIMIT, &room))).collect();
        for sender in &mut slow {
            assert!(timeout(Duration::from_millis(1), sender).await.is_err(), "it was answered");
        }
        let refused = timeout(Duration::from_secs(1), read(stalled(SMALL), LIMIT, &room)).await.unwrap();
        assert!(matches!(refused, Err(ApiError::Overloaded(_))), "{refused:?}");
        // What comes at once, and what is big, is as welcome as ever.
        assert!(read(Body::from(vec![b'x'; SMALL]), LIMIT, &room).await.is_ok());
        assert!(read(Body::from(vec![b'x'; LIMIT]), LIMIT, &room).await.is_ok());
        slow.pop();
        assert!(read(chunked(SMALL), LIMIT, &room).await.is_ok());
        let grown = timeout(Duration::from_secs(1), read(stalled(SMALL + 1), LIMIT, &room)).await;
        assert!(grown.is_err(), "it is big, and waits for its rest");
        drop(slow);
        assert_eq!(room.small.available_permits(), SMALL_ROOM / UNIT);
        assert_eq!(room.big.available_permits(), ROOM / UNIT);
    }

    #[tokio::test]
    async fn one_body_always_has_room() {
        let limit = ROOM * 2;
        let (body, room) = (chunked(SMALL + 1), Room::new(limit));
        assert!(timeout(Duration::from_secs(30), read(body, limit, &room)).await.unwrap().is_ok());
    }
}
