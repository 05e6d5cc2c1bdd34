//! A follower's side of a stream of appends.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};

use crate::node::Node;
use crate::node::replication::serve::Sender;
use crate::node::rpc::{Envelope, Refusal};
use crate::raft_types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

/// What a follower makes of a leader's requests.
struct Taken<S> {
    node: Node,
    requests: S,
    noted: Arc<Noted>,
}

/// What is known of requests that are not answered yet, and why the last one was refused.
#[derive(Default)]
struct Noted {
    /// How long ago a quorum had acknowledged the leader, in milliseconds, and what it says is committed.
    pending: Mutex<VecDeque<(Option<u64>, u64)>>,
    refused: Mutex<Option<Refusal>>,
}

fn lock<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    mutex.lock()
}

impl<S: Stream<Item = Result<(Envelope, Request), Refusal>> + Send + Unpin> Taken<S> {
    async fn next(&mut self) -> Option<Request> {
        let (envelope, request) = match self.admitted().await? {
            Ok(admitted) => admitted,
            Err(refusal) => {
                *lock(&self.noted.refused) = Some(refusal);
                return None;
            }
        };
        if let Some((term, ms)) = envelope.log_time {
            self.node.clock().noted(term, ms);
        }
        let committed = request.leader_commit.map_or(0, |id| id.index);
        lock(&self.noted.pending).push_back((envelope.quorum_age_ms, committed));
        Some(request)
    }

    async fn admitted(&mut self) -> Option<Result<(Envelope, Request), Refusal>> {
        Some(match self.requests.next().await? {
            Ok((envelope, request)) => self.node.admit(&envelope, Sender::Leader).await.map(|()| (envelope, request)),
            Err(refusal) => Err(refusal),
        })
    }
}

impl Node {
    /// What becomes of a leader's requests, in order; it ends after the first that fails, or that could not be taken.
    pub fn answer_appends(
        &self,
        requests: impl Stream<Item = Result<(Envelope, Request), Refusal>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Refusal>> + Send + 'static {
        let noted = Arc::<Noted>::default();
        let taken = Taken { node: self.clone(), requests, noted: noted.clone() };
        let taken = stream::unfold(taken, |mut taken| async move { Some((taken.next().await?, taken)) });
        let (node, of_answers) = (self.clone(), noted.clone());
        let answers = self.inner.raft.stream_append(taken).map(move |outcome| {
            // A Raft that has stopped has no answer to give; the sender must not take that for one.
            let outcome = outcome.map_err(|_| Refusal::Stopped)?;
            let noted = lock(&of_answers.pending).pop_front();
            if !matches!(outcome, Err(StreamAppendError::HigherVote(_)))
                && let Some((quorum_age_ms, committed)) = noted
            {
                node.heard_leader(quorum_age_ms, committed);
            }
            Ok(outcome)
        });
        answers.chain(
            stream::once(async move { lock(&noted.refused).take() }).filter_map(async |refused| refused.map(Err)),
        )
    }
}
