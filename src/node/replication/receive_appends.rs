//! A follower's side of a stream of appends.
//!
//! openraft takes the requests and yields their outcomes in the same order. Beside them go the envelopes of requests that
//! are not answered yet: what a leader says of freshness counts once its request is accepted.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, StreamAppendError};

use crate::node::Node;
use crate::node::rpc::{Confirmed, Envelope, Refusal, Stamp, StampedOutcome};
use crate::raft_types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

/// The requests of one stream that are for this node.
struct AdmittedRequests<S> {
    node: Node,
    requests: S,
    unanswered: Arc<Unanswered>,
}

/// The part of requests that openraft does not take, until they are answered.
#[derive(Default)]
struct Unanswered {
    freshness: Mutex<VecDeque<(Option<Stamp>, Option<Confirmed>)>>,
    /// Why the last request was not taken; nothing comes after it.
    refused: Mutex<Option<Refusal>>,
}

impl<S: Stream<Item = Result<(Envelope, Request), Refusal>> + Send + Unpin> AdmittedRequests<S> {
    async fn next(&mut self) -> Option<Request> {
        let (envelope, request) = match self.admitted().await? {
            Ok(admitted) => admitted,
            Err(refusal) => {
                *self.unanswered.refused.lock() = Some(refusal);
                return None;
            }
        };
        if let Some((term, ms)) = envelope.log_time {
            self.node.clock().noted(term, ms);
        }
        self.unanswered.freshness.lock().push_back((envelope.echo, envelope.confirmed));
        Some(request)
    }

    async fn admitted(&mut self) -> Option<Result<(Envelope, Request), Refusal>> {
        Some(match self.requests.next().await? {
            Ok((envelope, request)) => self.node.admit_append(&envelope, &request).await.map(|()| (envelope, request)),
            Err(refusal) => Err(refusal),
        })
    }
}

impl Node {
    /// Takes a leader's requests and yields their outcomes, in order. Ends after the first that fails, or that could not
    /// be taken.
    pub fn receive_appends(
        &self,
        requests: impl Stream<Item = Result<(Envelope, Request), Refusal>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<StampedOutcome, Refusal>> + Send + 'static {
        let unanswered = Arc::<Unanswered>::default();
        let admitted = AdmittedRequests { node: self.clone(), requests, unanswered: unanswered.clone() };
        let admitted = stream::unfold(admitted, |mut admitted| async move { Some((admitted.next().await?, admitted)) });
        let (node, answered) = (self.clone(), unanswered.clone());
        let outcomes = self.inner.raft.stream_append(admitted).map(move |outcome| {
            // A Raft that has stopped has no answer to give; the sender must not take that for one.
            let outcome = outcome.map_err(|_| Refusal::Stopped)?;
            let freshness = answered.freshness.lock().pop_front();
            if !matches!(outcome, Err(StreamAppendError::HigherVote(_)))
                && let Some((echo, confirmed)) = freshness
            {
                node.inner.freshness.heard(echo, confirmed, node.applied_index());
            }
            Ok((outcome, node.inner.freshness.stamp()))
        });
        let refused = stream::once(async move { unanswered.refused.lock().take() });
        outcomes.chain(refused.filter_map(async |refused| refused.map(Err)))
    }
}
