//! Signals that end a process, or that are for its command.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::{EX_FAILURE, Exit};

/// Signals as they come.
pub(super) struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    /// From now on they are told here.
    ///
    /// # Errors
    /// The system refuses it: 1.
    pub(super) fn take() -> Result<Self, Exit> {
        let (told, here) = mpsc::unbounded_channel();
        for (kind, which) in [
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
        ] {
            let mut signals =
                signal(kind).map_err(|error| Exit::error(EX_FAILURE, format!("cannot listen to signals: {error}")))?;
            let told = told.clone();
            tokio::spawn(async move { while signals.recv().await.is_some() && told.send(which).is_ok() {} });
        }
        Ok(Self(here))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// The next one that asks to end.
    pub(super) async fn end(&mut self) -> Signal {
        loop {
            match self.next().await {
                Signal::USR1 | Signal::USR2 => {}
                signal => return signal,
            }
        }
    }
}

/// How a process ends that was told to.
pub(super) fn ended_by(signal: Signal) -> Exit {
    Exit { code: 128 + signal.as_raw(), out: None, err: None }
}
