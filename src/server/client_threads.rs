//! Threads for the client port alone.
//!
//! A runtime runs its tasks in turn: among thousands that serve clients the few of Raft would come late, and a heartbeat
//! that is late is an election. With threads of their own it is the kernel that shares the processor out, and it prefers
//! those that have slept.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads; what runs on them is dropped with this.
pub(super) struct ClientThreads {
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl ClientThreads {
    /// As many as there are processors.
    pub(super) fn start() -> io::Result<Self> {
        Builder::new_multi_thread()
            .thread_name("clients")
            .enable_all()
            .build()
            .map(|runtime| Self { runtime: Some(runtime) })
    }

    /// To spawn on them.
    pub(super) fn handle(&self) -> Handle {
        self.runtime.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for ClientThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It is dropped by a task, which may not wait for others.
            runtime.shutdown_background();
        }
    }
}
