//! Request bodies, bounded one by one and together. Their time is bounded by the caller.
//!
//! * Large bodies fit in [`BodyMemory`] together. One that finds no place waits unread, which slows
//!   its client by TCP's own means. The bound also keeps memory from staying with the process after
//!   a burst: allocators give freed blocks of some MiB back late or, as glibc's does, never.
//! * A body asks for its place once a part of it is there, and gives it to one that waits if it makes no progress. So who
//!   claims much and sends nothing is in nobody's way.
//! * A small body that comes at once, as nearly all do, needs no place.
//! * Small bodies that come in parts have a bound of their own, so that thousands of slow senders
//!   do not fill the memory. Beyond it they are refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::api::response::error::ApiError;
use crate::api::response::memory::{PERMIT_BYTES, permits};

/// Bodies up to this are small.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// Larger ones up to this have room of their own: the largest, which take longest, are not in their way.
const MEDIUM_BODY_BYTES: usize = 1 << 20;

/// The most bytes of all medium bodies together.
const MEDIUM_BODIES_BYTES: usize = 32 << 20;

/// The most bytes of all larger bodies together, unless one alone may be longer.
const LARGE_BODIES_BYTES: usize = 64 << 20;

/// The most bytes that have come of all small bodies together.
const SMALL_BODIES_BYTES: usize = 64 << 20;

/// A request half received takes so many bytes beside those of its body.
const HALF_RECEIVED_BYTES: usize = 4 << 10;

/// A large body gives way to others that wait if less than this has come of it in [`PROGRESS_TIME`].
const PROGRESS_BYTES: usize = 64 << 10;

/// See [`PROGRESS_BYTES`].
const PROGRESS_TIME: Duration = Duration::from_secs(1);

/// The memory that bodies may take.
#[derive(Debug)]
pub struct BodyMemory {
    /// The most bytes of one body (`--max-request`).
    limit: usize,
    large: Semaphore,
    medium: Semaphore,
    small: Semaphore,
    /// How many large bodies wait for a place.
    waiting: AtomicUsize,
}

impl BodyMemory {
    /// One body may have `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let permits = |bytes: usize| Semaphore::new(bytes.div_ceil(PERMIT_BYTES));
        let (large, small) = (permits(LARGE_BODIES_BYTES.max(limit)), permits(SMALL_BODIES_BYTES));
        Self { limit, large, medium: permits(MEDIUM_BODIES_BYTES), small, waiting: AtomicUsize::new(0) }
    }

    /// Takes all that a body may come to, at once: two bodies that held a part each could wait for
    /// ever.
    async fn take(&self, bytes: usize, place: &Place) -> Option<SemaphorePermit<'_>> {
        let room = if bytes <= MEDIUM_BODY_BYTES { &self.medium } else { &self.large };
        if let Ok(taken) = room.try_acquire_many(permits(bytes)) {
            return Some(taken);
        }
        let _waiting = Waiting::begin(&self.waiting);
        place.waits.store(true, Relaxed);
        // Never closed.
        let taken = room.acquire_many(permits(bytes)).await.ok();
        place.waits.store(false, Relaxed);
        taken
    }

    /// The next piece of a body. Of one that holds a place and makes no progress while others wait, the end.
    async fn next(&self, body: &mut Body, progress: &mut Option<Progress>) -> Result<Option<Bytes>, ApiError> {
        let Some(progress) = progress else { return next(body).await };
        loop {
            match timeout_at(progress.until, next(body)).await {
                Ok(piece) => {
                    progress.bytes += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
                    if progress.bytes >= PROGRESS_BYTES {
                        *progress = Progress::begin();
                    }
                    return piece;
                }
                Err(_) if self.waiting.load(Relaxed) > 0 => {
                    return Err(ApiError::RequestTimeout(
                        "the request body comes too slowly while others wait for its place; nothing was done, try \
                         again later"
                            .to_owned(),
                    ));
                }
                Err(_) => *progress = Progress::begin(),
            }
        }
    }

    /// Takes what has come of a small body at once, or refuses it.
    fn keep<'a>(&'a self, kept: &mut Option<SemaphorePermit<'a>>, bytes: usize) -> Result<(), ApiError> {
        let has = kept.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = (permits(bytes + HALF_RECEIVED_BYTES) as usize).saturating_sub(has);
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

/// The place of one body, seen from outside.
#[derive(Debug, Default)]
pub struct Place {
    waits: AtomicBool,
}

impl Place {
    /// True while the body waits for its place: nothing of it is read meanwhile.
    pub fn is_awaited(&self) -> bool {
        self.waits.load(Relaxed)
    }
}

/// A body that waits for a place, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The bytes that came of a large body lately.
struct Progress {
    until: Instant,
    bytes: usize,
}

impl Progress {
    fn begin() -> Self {
        Self { until: Instant::now() + PROGRESS_TIME, bytes: 0 }
    }
}

/// A body, and the memory that it takes for as long as it is kept.
pub type HeldBody<'a> = (Bytes, Option<SemaphorePermit<'a>>);

/// Reads the whole body, unless it is, or says it will be, longer than the limit.
///
/// A small body is copied: as a slice it would keep the buffer of its connection, 8 KiB at least,
/// for as long as the entry that it becomes is cached in the log. A larger one that came in one
/// piece is not copied.
///
/// # Errors
/// * [`ApiError::TooLarge`]: it is longer than the limit.
/// * [`ApiError::BadRequest`]: it broke off.
/// * [`ApiError::RequestTimeout`]: it is large, makes no progress, and others wait for its place.
/// * [`ApiError::Overloaded`]: too many small bodies are half received.
pub async fn read<'a>(mut body: Body, memory: &'a BodyMemory, place: &Place) -> Result<HeldBody<'a>, ApiError> {
    let limit = memory.limit;
    // Before the first read, which is what would send a client that waits for it its "100
    // Continue".
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let Some(first) = next(&mut body).await? else {
        return Ok((Bytes::new(), None));
    };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    let is_whole = body.is_end_stream();
    if is_whole && first.len() <= SMALL_BODY_BYTES {
        return Ok((Bytes::copy_from_slice(&first), None));
    }
    let announced = if is_whole { first.len() } else { announced as usize };
    let (mut kept, mut taken, mut progress) = (None, None, None);
    if announced > SMALL_BODY_BYTES {
        taken = memory.take(announced, place).await;
        progress = Some(Progress::begin());
    } else {
        memory.keep(&mut kept, first.len())?;
    }
    if is_whole {
        return Ok((first, taken));
    }
    // `announced` is within the limit, and memory that is not written yet costs nothing.
    let mut all = BytesMut::with_capacity(announced.max(first.len() * 2));
    all.extend_from_slice(&first);
    drop(first);
    while let Some(data) = memory.next(&mut body, &mut progress).await? {
        let length = all.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if taken.is_none() && length <= SMALL_BODY_BYTES {
            memory.keep(&mut kept, length)?;
        } else if taken.is_none() {
            taken = memory.take(limit, place).await;
            (kept, progress) = (None, Some(Progress::begin()));
            // Growing by doubling would take twice the memory.
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

    use tokio::time::timeout;

    use super::*;

    async fn read(body: Body, memory: &BodyMemory) -> Result<HeldBody<'_>, ApiError> {
        super::read(body, memory, &Place::default()).await
    }

    const LIMIT: usize = LARGE_BODIES_BYTES / 2;

    /// A body of unknown length, in pieces.
    fn chunked(bytes: usize) -> Body {
        let pieces = (0..bytes.div_ceil(1000)).map(move |at| 1000.min(bytes - at * 1000));
        Body::from_stream(futures_util::stream::iter(
            pieces.map(|length| Ok::<_, Infallible>(Bytes::from(vec![b'x'; length]))),
        ))
    }

    /// Issue 18: bodies of 8 MB that dripped kept those of 100 KB out, and these were told that they had not come.
    #[tokio::test(start_paused = true)]
    async fn medium_bodies_pass_large_ones_and_who_waits_knows() {
        let memory = BodyMemory::new(LIMIT);
        let _all = memory.large.acquire_many(permits(LARGE_BODIES_BYTES)).await.unwrap();
        let (_, taken) = read(Body::from(vec![b'x'; MEDIUM_BODY_BYTES]), &memory).await.unwrap();
        assert!(taken.is_some());
        let place = Place::default();
        let large = super::read(Body::from(vec![b'x'; MEDIUM_BODY_BYTES + 1]), &memory, &place);
        assert!(timeout(Duration::from_secs(60), large).await.is_err() && place.is_awaited());
    }

    #[tokio::test(start_paused = true)]
    async fn big_bodies_wait_for_room_and_small_ones_do_not() {
        let memory = BodyMemory::new(LIMIT);
        let (body, first) = read(chunked(SMALL_BODY_BYTES + 1), &memory).await.unwrap();
        assert_eq!(body.len(), SMALL_BODY_BYTES + 1);
        let (body, second) = read(Body::from(vec![b'x'; LIMIT]), &memory).await.unwrap();
        assert_eq!(body.len(), LIMIT);
        let waits = timeout(Duration::from_secs(60), read(chunked(SMALL_BODY_BYTES + 1), &memory)).await;
        assert!(waits.is_err(), "there was no room");
        for small in [chunked(SMALL_BODY_BYTES), Body::from(vec![b'x'; SMALL_BODY_BYTES]), Body::empty()] {
            assert!(read(small, &memory).await.unwrap().1.is_none());
        }
        drop(second);
        assert!(read(chunked(LIMIT + 1), &memory).await.is_err(), "too long");
        assert!(read(chunked(LIMIT), &memory).await.unwrap().1.is_some(), "what was refused gave its memory back");
        drop(first);
        assert_eq!(memory.large.available_permits(), LARGE_BODIES_BYTES / PERMIT_BYTES);
    }

    /// A body that stops coming after so many bytes.
    fn stalled(bytes: usize) -> Body {
        use futures_util::StreamExt;
        Body::from_stream(chunked(bytes).into_data_stream().chain(futures_util::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_senders_of_small_bodies_are_bounded_together() {
        let memory = BodyMemory::new(LIMIT);
        let most = SMALL_BODIES_BYTES / (SMALL_BODY_BYTES + HALF_RECEIVED_BYTES);
        let mut slow: Vec<_> = (0..most).map(|_| Box::pin(read(stalled(SMALL_BODY_BYTES), &memory))).collect();
        for sender in &mut slow {
            assert!(timeout(Duration::from_millis(1), sender).await.is_err(), "it was answered");
        }
        let refused = timeout(Duration::from_secs(1), read(stalled(SMALL_BODY_BYTES), &memory)).await.unwrap();
        assert!(matches!(refused, Err(ApiError::Overloaded(_))), "{refused:?}");
        // What comes at once, and what is big, is as welcome as ever.
        assert!(read(Body::from(vec![b'x'; SMALL_BODY_BYTES]), &memory).await.is_ok());
        assert!(read(Body::from(vec![b'x'; LIMIT]), &memory).await.is_ok());
        slow.pop();
        assert!(read(chunked(SMALL_BODY_BYTES), &memory).await.is_ok());
        let grown = timeout(Duration::from_secs(1), read(stalled(SMALL_BODY_BYTES + 1), &memory)).await;
        assert!(grown.is_err(), "it is big, and waits for its rest");
        drop(slow);
        assert_eq!(memory.small.available_permits(), SMALL_BODIES_BYTES / PERMIT_BYTES);
        assert_eq!(memory.large.available_permits(), LARGE_BODIES_BYTES / PERMIT_BYTES);
    }

    /// The first part of a large body of unknown length, in two pieces: at the second it takes its place.
    fn beginning() -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send {
        let pieces = [SMALL_BODY_BYTES, 1].map(|length| Ok(Bytes::from(vec![b'x'; length])));
        futures_util::stream::iter(pieces)
    }

    /// Issue 18, A5: eight idle connections that claimed 8 MiB each blocked all others for 54 s.
    #[tokio::test(start_paused = true)]
    async fn a_large_body_without_progress_gives_way() {
        use futures_util::StreamExt;
        let drip = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        let silent = Body::from_stream(beginning().chain(futures_util::stream::pending()));
        let dripping = Body::from_stream(beginning().chain(drip));
        for slow in [silent, dripping] {
            let memory = BodyMemory::new(LIMIT);
            let (_, _kept) = read(Body::from(vec![b'x'; LIMIT]), &memory).await.unwrap();
            let mut slow = Box::pin(read(slow, &memory));
            assert!(timeout(Duration::from_secs(60), &mut slow).await.is_err(), "nobody waits for its place");
            assert_eq!(memory.large.available_permits(), 0);
            let began = Instant::now();
            let both = async { tokio::join!(read(chunked(LIMIT), &memory), slow) };
            let (honest, slow) = timeout(Duration::from_secs(600), both).await.expect("an end");
            assert_eq!(honest.unwrap().0.len(), LIMIT);
            assert!(matches!(slow, Err(ApiError::RequestTimeout(_))), "{slow:?}");
            assert!(began.elapsed() <= PROGRESS_TIME + Duration::from_secs(1), "{:?}", began.elapsed());
        }
    }

    /// As a connection that claims much and sends nothing.
    #[tokio::test(start_paused = true)]
    async fn a_claim_of_which_nothing_came_takes_no_place() {
        let memory = BodyMemory::new(LIMIT);
        let idle = || {
            Body::new(http_body_util::Limited::new(
                Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>()),
                LIMIT,
            ))
        };
        let mut all: Vec<_> = (0..100).map(|_| Box::pin(read(idle(), &memory))).collect();
        for one in &mut all {
            assert!(timeout(Duration::from_millis(1), one).await.is_err());
        }
        assert_eq!(memory.large.available_permits(), LARGE_BODIES_BYTES / PERMIT_BYTES);
    }

    #[tokio::test]
    async fn one_body_always_has_room() {
        let limit = LARGE_BODIES_BYTES * 2;
        let (body, memory) = (chunked(SMALL_BODY_BYTES + 1), BodyMemory::new(limit));
        assert!(timeout(Duration::from_secs(30), read(body, &memory)).await.unwrap().is_ok());
    }
}
