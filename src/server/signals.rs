//! Signals: the first SIGTERM or SIGINT asks for a graceful stop, the second gets an immediate one. SIGHUP is of [`super::reload`].

use std::time::Duration;

use crate::platform::{self, StopSignals};

/// Signals this close to the first are the same request.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// The exit code of a process that was told to stop twice.
const SECOND_SIGNAL_EXIT_CODE: i32 = 1;

/// Makes a file beyond the limit of `ulimit -f` a failed write that is reported like any other, not a death by a signal.
pub(super) fn outlive_file_size_limit() {
    if let Err(error) = platform::catch_file_size_signal() {
        tracing::warn!(%error, "a file beyond the limit of `ulimit -f` will kill this process");
    }
}

/// Takes SIGTERM and SIGINT from now on, and ends with the first; from then on another one ends the process.
///
/// It is called before a port is open or a file is: a node that answers stops when it is told to.
pub(super) fn terminated() -> impl Future<Output = ()> {
    let signals = StopSignals::new();
    async move {
        match signals {
            Ok(signals) => first_of(signals).await,
            Err(error) => {
                tracing::error!(%error, "cannot listen for signals: this process can only be killed");
                std::future::pending().await
            }
        }
    }
}

async fn first_of(mut signals: StopSignals) {
    signals.next().await;
    tokio::spawn(async move {
        // GNU timeout and some supervisors signal the process and its group: that is one request to stop.
        let _ = tokio::time::timeout(SAME_REQUEST, async {
            loop {
                signals.next().await;
            }
        })
        .await;
        signals.next().await;
        tracing::warn!("told to stop again: leaving at once");
        std::process::exit(SECOND_SIGNAL_EXIT_CODE);
    });
}
