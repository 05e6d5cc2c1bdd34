//! Files that are read again while the node runs: on SIGHUP, and once a second to see whether they have changed.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::notify::Notifier;
use crate::platform::Hangups;

/// How often files are looked at. One that has changed is believed when it was the same twice.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at a file, and takes in what is new. It may block.
type Look = Box<dyn FnMut(Why) + Send>;

/// Why files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A second has passed.
    Time,
    /// The operator says so (SIGHUP): whatever they hold is meant.
    Signal,
}

/// All files that are read again; clones share them.
#[derive(Clone, Default)]
pub(super) struct Reloads(Arc<Mutex<Vec<Look>>>);

impl Reloads {
    /// Takes SIGHUP from now on, and looks at the files for as long as the runtime runs.
    pub(super) fn start(notifier: Notifier) -> Self {
        let reloads = Self::default();
        let hangups = Hangups::new();
        if let Err(error) = &hangups {
            tracing::warn!(%error, "SIGHUP will kill this process");
        }
        tokio::spawn(reloads.clone().run(hangups.ok(), notifier));
        reloads
    }

    /// Looks at one more.
    pub(super) fn add(&self, look: impl FnMut(Why) + Send + 'static) {
        self.0.lock().push(Box::new(look));
    }

    async fn run(self, mut hangups: Option<Hangups>, notifier: Notifier) {
        let mut seconds = interval(LOOK_EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => hangups.next().await,
                    None => std::future::pending().await,
                }
            };
            let why = tokio::select! {
                () = hangup => Why::Signal,
                _ = seconds.tick() => Why::Time,
            };
            let has_any = !self.0.lock().is_empty();
            match (why, has_any) {
                (Why::Time, false) => {}
                (Why::Signal, false) => {
                    tracing::info!("SIGHUP is ignored: this node is not started yet; SIGTERM stops it");
                }
                (_, true) => {
                    if why == Why::Signal {
                        notifier.reloading();
                        tracing::info!(
                            "SIGHUP: configuration, secrets and certificates are read again; SIGTERM stops this node"
                        );
                    }
                    let all = self.0.clone();
                    // A disk that hangs must not keep a worker.
                    let _ = spawn_blocking(move || all.lock().iter_mut().for_each(|look| look(why))).await;
                    if why == Why::Signal {
                        notifier.reloaded();
                    }
                }
            }
        }
    }
}
