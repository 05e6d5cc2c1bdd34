//! The leader's side of a stream of appends to one follower: requests one way, answers in the same order the other way.
//!
//! The leader does not wait for an answer before it sends the next request. It holds a commit index without entries back
//! for [`COMMIT_INDEX_HOLD`], or a few milliseconds more after many entries: mostly entries follow that carry it, or a
//! newer one. A reader that waits for the commit index is served by the heartbeat of its read index. That heartbeat is a
//! stream of a single request and is sent at once.
//!
//! The connection is closed after [`IDLE_STREAM_TIMEOUT`] without a request. An answer that does not come is an error, upon
//! which openraft sends again.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::{Instant, timeout};

use crate::node::memory::acknowledged::Asked;
use crate::node::read::quorum_acks::Sent;
use crate::node::replication::RaftNetwork;
use crate::node::replication::coarse_timer::CoarseTimer;
use crate::node::rpc::{AppendStream, PeerError, StampedOutcome};
use crate::raft_types::TypeConfig;
use crate::raft_types::alias::Vote;

/// How long a commit index waits for entries to travel with.
const COMMIT_INDEX_HOLD: Duration = Duration::from_millis(1);

/// The most requests that wait for an answer; each has a megabyte where a follower lags.
const MAX_UNANSWERED_REQUESTS: usize = 8;

/// A connection that carries nothing for this long is closed.
const IDLE_STREAM_TIMEOUT: Duration = Duration::from_secs(30);

type Request = AppendEntriesRequest<TypeConfig>;
/// The outcome of a request, as openraft takes it.
pub(in crate::node) type AppendOutcome = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends the requests of openraft through one stream, and yields their outcomes.
pub(in crate::node) struct AppendSession<'a, S> {
    network: &'a RaftNetwork,
    requests: S,
    /// Until it has failed.
    stream: Option<Box<dyn AppendStream>>,
    /// A request without entries.
    held: Option<(Request, Instant)>,
    /// When they were sent, by the leader of which vote, and what had been acknowledged by then.
    unanswered: VecDeque<(Sent, Vote, Asked)>,
    /// The last time something was sent to an empty stream, or answered.
    moved: Instant,
    timer: CoarseTimer,
    ended: bool,
}

/// The next thing to happen.
enum Event {
    Request(Option<Request>),
    Answer(Result<StampedOutcome, PeerError>),
    HeldLongEnough,
    Silence,
}

impl<'a, S: Stream<Item = Request> + Send + Unpin + 'a> AppendSession<'a, S> {
    /// The outcomes of `requests`, first of which is `first`.
    pub(in crate::node) fn run(
        network: &'a RaftNetwork,
        stream: Box<dyn AppendStream>,
        first: Request,
        requests: S,
    ) -> impl Stream<Item = AppendOutcome> + Send + 'a {
        let now = Instant::now();
        let requests = stream::iter([first]).chain(requests);
        let session = AppendSession {
            network,
            requests,
            stream: Some(stream),
            held: None,
            unanswered: VecDeque::new(),
            moved: now,
            timer: CoarseTimer::new(),
            ended: false,
        };
        stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            let outcome = session.next().await?;
            let goes_on = matches!(outcome, Ok(Ok(_)));
            Some((outcome, goes_on.then_some(session)))
        })
    }
}

impl<S: Stream<Item = Request> + Send + Unpin> AppendSession<'_, S> {
    async fn next(&mut self) -> Option<AppendOutcome> {
        loop {
            if self.ended && self.unanswered.is_empty() && self.held.is_none() {
                self.network.keep_idle(self.stream.take());
                return None;
            }
            match self.event().await {
                Event::Request(None) => {
                    self.ended = true;
                    // Nothing follows: it was all along a heartbeat, which a reader may wait for.
                    if let Err(error) = self.send_held().await {
                        return Some(Err(self.network.failed(error)));
                    }
                }
                Event::Request(Some(request)) if request.entries.is_empty() => {
                    let until = self.held.take().map_or_else(|| Instant::now() + COMMIT_INDEX_HOLD, |(_, until)| until);
                    self.held = Some((request, until));
                }
                Event::Request(Some(request)) => {
                    // It tells what the one that was held would have told, and its answer is the answer to both.
                    self.held = None;
                    if let Err(error) = self.send(request).await {
                        return Some(Err(self.network.failed(error)));
                    }
                }
                Event::HeldLongEnough => {
                    if let Err(error) = self.send_held().await {
                        return Some(Err(self.network.failed(error)));
                    }
                }
                Event::Answer(Ok((outcome, stamp))) => {
                    let Some((sent, vote, asked)) = self.unanswered.pop_front() else {
                        let error = PeerError::Lost("an answer to nothing".to_owned());
                        return Some(Err(self.network.failed(error)));
                    };
                    let outcome = match self.network.outcome(vote, asked, outcome) {
                        Ok(outcome) => outcome,
                        Err(error) => return Some(Err(error)),
                    };
                    if !matches!(outcome, Err(StreamAppendError::HigherVote(_))) {
                        self.network.answered(sent, stamp);
                    }
                    self.moved = Instant::now();
                    return Some(Ok(outcome));
                }
                Event::Answer(Err(error)) => {
                    return (!self.unanswered.is_empty() || self.held.is_some())
                        .then(|| Err(self.network.failed(error)));
                }
                Event::Silence if !self.unanswered.is_empty() => {
                    return Some(Err(RPCError::Network(NetworkError::from_string("no answer in time"))));
                }
                // openraft begins a new stream with what comes next.
                Event::Silence => return None,
            }
        }
    }

    async fn event(&mut self) -> Event {
        let silence =
            self.moved + if !self.unanswered.is_empty() { self.network.append_timeout } else { IDLE_STREAM_TIMEOUT };
        let held_until = self.held.as_ref().map(|(_, until)| *until);
        let (deadline, then) = match held_until {
            Some(until) if until < silence => (until, Event::HeldLongEnough),
            _ => (silence, Event::Silence),
        };
        let wants_more = !self.ended && self.unanswered.len() < MAX_UNANSWERED_REQUESTS;
        let answer = async {
            match &mut self.stream {
                Some(stream) => stream.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Event::Answer(answer),
            request = self.requests.next(), if wants_more => Event::Request(request),
            () = self.timer.wait_until(deadline, self.moved) => then,
        }
    }

    async fn send_held(&mut self) -> Result<(), PeerError> {
        match self.held.take() {
            Some((request, _)) => self.send(request).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, request: Request) -> Result<(), PeerError> {
        if self.unanswered.is_empty() {
            self.moved = Instant::now();
        }
        let (vote, asked) = (request.vote, self.network.asking(request.vote));
        self.network.sends(&request);
        self.unanswered.push_back((self.network.acks.sending(request.leader_commit), vote, asked));
        let Some(stream) = &mut self.stream else { return Err(PeerError::Lost("it failed before".to_owned())) };
        let sent = timeout(self.network.append_timeout, stream.send(request)).await;
        sent.unwrap_or_else(|_| Err(PeerError::Lost("it takes no more".to_owned())))
    }
}
