//! Writes that were passed on, and that their clients know by an id, or want to know the time of.
//!
//! What is known of them follows the commands, once these are applied: the commands themselves travel as ever.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::formats::Format;
use crate::node::rpc::{Envelope, MAX_MARKS, PeerReply, PeerRequest, RequestMark, Target};
use crate::node::{Node, Stages, Written};
use crate::task;

/// The first format in which marks travel.
const SINCE: Format = Format(2);

/// How long is waited at most for the leader's word on where the time went.
const TIMES_TIMEOUT: Duration = Duration::from_secs(3);

/// A write that was applied at the leader, its mark, and who waits for it.
pub(in crate::node) struct MarkedWrite<T> {
    pub(in crate::node) written: Written,
    pub(in crate::node) mark: RequestMark,
    pub(in crate::node) deadline: Instant,
    pub(in crate::node) told: oneshot::Sender<T>,
}

impl Node {
    /// Tells the leader the marks of writes that it has applied, and who waits for these the outcome: at once, but for those
    /// that want to know where the time went. Nobody else waits for that.
    pub(in crate::node) fn tell_marked<T: Send + 'static>(
        &self,
        target: &Target,
        mut writes: Vec<MarkedWrite<T>>,
        outcome: impl Fn(Written) -> T + Send + 'static,
    ) {
        let tell = move |writes: Vec<MarkedWrite<T>>| {
            for MarkedWrite { written, told, .. } in writes {
                // Who gave up meanwhile was told that the outcome is unknown.
                let _ = told.send(outcome(written));
            }
        };
        if self.format() < SINCE {
            return tell(writes);
        }
        // The leader's answers come in the order of the marks.
        writes.sort_by_key(|write| !write.mark.timed);
        let marks = writes.iter().take(MAX_MARKS).map(|write| (write.written.index, write.mark.clone())).collect();
        let timed = writes.partition_point(|write| write.mark.timed);
        tell(writes.split_off(timed));
        let mut timed = writes;
        // Nobody's time is up because of it: what was done is worth more than where the time went.
        let left = timed.iter().map(|write| write.deadline.saturating_duration_since(Instant::now())).min();
        let wait = left.map_or(TIMES_TIMEOUT, |left| TIMES_TIMEOUT.min(left / 2));
        let about = self.inner.peers.call(target, PeerRequest::Marks(marks), wait);
        task::spawn(async move {
            let began = Instant::now();
            if let Ok(PeerReply::Marks(stages)) = about.await {
                timed.iter_mut().zip(stages).for_each(|(write, stages)| write.written.stages = stages);
            }
            timed.iter_mut().for_each(|write| write.written.measuring = began.elapsed());
            tell(timed);
        });
    }

    /// As the leader: where the time of these writes went, which a member has passed on; logs those that the log of requests
    /// takes.
    pub(in crate::node) fn hear_marks(&self, envelope: &Envelope, marks: &[(u64, RequestMark)]) -> Vec<Option<Stages>> {
        let timeline = &self.inner.journal.timeline;
        let of = |(index, mark): &(u64, RequestMark)| {
            let stages = self.stages(*index, timeline.passed_on_at(*index)?)?;
            let took = Duration::from_micros(stages.sum_us());
            if self.inner.request_log.get().is_some_and(|log| log.get().takes(took, false, false)) {
                tracing::info!(
                    from = %envelope.from,
                    index,
                    ms = format_args!("{:.3}", took.as_secs_f64() * 1e3).to_string(),
                    request_id = mark.request_id.as_deref().unwrap_or("-"),
                    traceparent = mark.traceparent.as_deref().unwrap_or("-"),
                    "a write that was passed on"
                );
            }
            mark.timed.then_some(stages)
        };
        marks.iter().map(of).collect()
    }
}
