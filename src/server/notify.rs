//! What systemd is told where it asks (`Type=notify`): that this node is ready, what it does, that it lives, and that it reads
//! its settings again.
//!
//! * `READY=1` once the data is loaded and both ports answer. No quorum is needed: a unit that waited for the others could
//!   keep them from starting.
//! * `WATCHDOG=1` only while `GET /livez` would be answered with 200: a process that stands still is started again.
//! * A thread of its own sends. A socket that nobody reads costs messages, never a turn of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

use crate::node::Node;
use crate::observe::Pulses;

/// Messages that wait to be sent; more are dropped.
const MAX_WAITING: usize = 64;

/// How often the status is looked at, and the watchdog fed, unless that wants it oftener.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells systemd; clones tell the same. Without `NOTIFY_SOCKET` it does nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Notifier(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    messages: SyncSender<String>,
    ready: AtomicBool,
}

impl Notifier {
    /// Begins, where this process is asked to.
    pub(super) fn start() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|socket| socket.is_empty()) {
            return Self(None);
        }
        let (messages, waiting) = sync_channel::<String>(MAX_WAITING);
        let send = move || {
            let mut told = false;
            for message in waiting {
                let sent = sd_notify::notify(&[NotifyState::Custom(&message)]);
                if let Err(error) = sent
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!(%error, "the service manager is not told how this node is: NOTIFY_SOCKET");
                }
            }
        };
        match std::thread::Builder::new().name("notify".to_owned()).spawn(send) {
            Ok(_) => Self(Some(Arc::new(Shared { messages, ready: AtomicBool::new(false) }))),
            Err(error) => {
                tracing::warn!(%error, "the service manager is not told how this node is");
                Self(None)
            }
        }
    }

    fn send(&self, message: impl Into<String>) {
        if let Some(shared) = &self.0 {
            let _full = shared.messages.try_send(message.into());
        }
    }

    /// The data is being loaded.
    pub(super) fn loading(&self) {
        self.send("STATUS=loading the data");
    }

    /// The data is loaded, and both ports answer.
    pub(super) fn ready(&self) {
        if let Some(shared) = &self.0 {
            shared.ready.store(true, Ordering::Relaxed);
            self.send("READY=1");
        }
    }

    /// Settings are about to be read again. Before the node is ready there is nothing to tell.
    pub(super) fn reloading(&self) {
        if self.is_ready()
            && let Ok(now) = NotifyState::monotonic_usec_now()
        {
            self.send(format!("RELOADING=1\n{now}"));
        }
    }

    /// They are read.
    pub(super) fn reloaded(&self) {
        if self.is_ready() {
            self.send("READY=1");
        }
    }

    /// The node is about to end.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Feeds the watchdog, if the pulses turn.
    async fn feed(&self, pulses: &Pulses, most: Duration) {
        match pulses.check(most).await {
            Ok(()) => self.send("WATCHDOG=1"),
            Err(why) => tracing::warn!("the watchdog is not fed: {why}"),
        }
    }

    fn is_ready(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.ready.load(Ordering::Relaxed))
    }

    /// Tells what the node does, and feeds the watchdog while `pulses` turn within `most`. Runs until it is dropped.
    pub(super) async fn follow(self, node: Node, (pulses, most): (Pulses, Duration)) {
        if self.0.is_none() {
            return;
        }
        let watchdog = sd_notify::watchdog_enabled();
        // Twice within its time, as sd_watchdog_enabled(3) says.
        let interval = watchdog.map_or(LOOK_INTERVAL, |within| LOOK_INTERVAL.min(within / 2));
        let (mut told, mut looked) = (String::new(), Instant::now());
        loop {
            let status = status(&node);
            if status != told {
                self.send(format!("STATUS={status}"));
                told = status;
            }
            if watchdog.is_some() {
                self.feed(&pulses, most).await;
            }
            looked = (looked + interval).max(Instant::now());
            sleep(looked - Instant::now()).await;
        }
    }
}

fn status(node: &Node) -> String {
    let stats = node.stats();
    format!("{}, term {}", stats.state.as_str().to_lowercase(), stats.term)
}

#[cfg(test)]
mod tests {
    use tokio::runtime;

    use super::*;

    /// The threads that serve clients stand still; those that feed the watchdog turn.
    #[test]
    fn a_thread_that_stands_still_feeds_no_watchdog() {
        let threads =
            |workers| runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        let (clients, others) = (threads(1), threads(1));
        let (messages, told) = sync_channel(MAX_WAITING);
        let notifier = Notifier(Some(Arc::new(Shared { messages, ready: AtomicBool::new(true) })));
        let all = vec![("the client port".to_owned(), clients.handle().clone())];
        let (pulses, _tasks) = Pulses::begin(Duration::from_millis(20), all);
        let most = Duration::from_millis(500);
        let fed = || {
            others.block_on(notifier.feed(&pulses, most));
            told.try_iter().collect::<Vec<_>>()
        };
        assert_eq!(fed(), ["WATCHDOG=1"]);
        let (go_on, stands) = sync_channel::<()>(0);
        clients.spawn(async move {
            // A thread that blocks: what must never be done.
            let _ = stands.recv();
        });
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while !fed().is_empty() {
            assert!(std::time::Instant::now() < until, "it is fed by what stands still");
        }
        assert!(fed().is_empty());
        go_on.send(()).unwrap();
        while fed().is_empty() {
            assert!(std::time::Instant::now() < until, "it goes on, and is not fed");
        }
    }
}
