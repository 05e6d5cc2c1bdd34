//! SIGTERM and SIGINT: the first asks for a graceful stop, the second gets an immediate one. SIGXFSZ: nothing.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Signals this close to the first are the same request.
const SAME_REQUEST: std::time::Duration = std::time::Duration::from_millis(250);

/// The exit code of a process that was told to stop twice.
const IMPATIENT: i32 = 1;

/// A file beyond the limit of `ulimit -f` is then a failed write that is told like any other, not a death by a signal.
/// A handler that does nothing, in place of ignoring it: that would need unsafe code, and children would inherit it.
pub(super) fn outlive_file_size_limit() {
    if let Err(error) = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) {
        tracing::warn!(%error, "a file beyond the limit of `ulimit -f` will kill this process");
    }
}

/// Ends with the first SIGTERM or SIGINT; from then on another ends the process.
pub async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals: this process can only be killed");
        return std::future::pending().await;
    };
    let mut next = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    next().await;
    tokio::spawn(async move {
        // GNU timeout and some supervisors signal the process and its group: that is one request to stop.
        let _ = tokio::time::timeout(SAME_REQUEST, async {
            loop {
                next().await;
            }
        })
        .await;
        next().await;
        tracing::warn!("told to stop again: leaving at once");
        std::process::exit(IMPATIENT);
    });
}
