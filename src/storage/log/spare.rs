//! The spare: one segment file, zeroed and flushed ahead of its use.
//!
//! Overwriting bytes that exist needs no change of the file's length or extents, which makes each
//! flush cheaper; so zeros are really written. One spare is kept, so that a full disk leaves room
//! to recover. It is made by a thread of its own, because a writer under load is never idle.
//!
//! Caveat: a failure here is no failure of the log. It warns, and is tried again later; meanwhile
//! segments simply grow.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::storage::disk::{Disk, DiskFile};

/// The file that is being zeroed, or waits to become the next segment.
pub const SPARE_NAME: &str = "log-spare";

const WRITE_BYTES: usize = 256 << 10;
const FLUSH_BYTES: u64 = 2 << 20;
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The spare, between the thread that makes it and the writer that takes it.
#[derive(Debug, Default)]
pub struct Spare {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Option<Arc<dyn DiskFile>>,
    stopping: bool,
}

impl Spare {
    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Renames the spare, if it is ready; the next one is then made. The renaming
    /// happens under the lock: the next spare needs the old name.
    ///
    /// # Errors
    /// The I/O error of the renaming.
    pub fn take(&self, disk: &dyn Disk, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut state = self.state();
        let Some(file) = &state.ready else { return Ok(None) };
        disk.rename(SPARE_NAME, name)?;
        let file = file.clone();
        state.ready = None;
        self.changed.notify_one();
        Ok(Some(file))
    }

    /// Ends the thread in [`run`](Self::run), soon.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_one();
    }

    /// Makes spares of `bytes` until stopped.
    pub fn run(&self, disk: &dyn Disk, bytes: u64) {
        loop {
            let mut state = self.state();
            while state.ready.is_some() && !state.stopping {
                self.changed.wait(&mut state);
            }
            if state.stopping {
                return;
            }
            drop(state);
            match self.make(disk, bytes) {
                Ok(Some(file)) => self.state().ready = Some(file),
                Ok(None) => return,
                Err(error) => {
                    let file = disk.display(SPARE_NAME);
                    tracing::warn!(file, %error, "cannot prepare a log segment ahead; trying again later");
                    // Half a spare on a full disk would keep the log itself from growing.
                    let _ = disk.remove(SPARE_NAME);
                    let mut state = self.state();
                    if !state.stopping {
                        self.changed.wait_for(&mut state, RETRY_AFTER);
                    }
                }
            }
        }
    }

    fn make(&self, disk: &dyn Disk, bytes: u64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = disk.create(SPARE_NAME)?;
        let zeros = vec![0; WRITE_BYTES];
        let (mut at, mut flushed) = (0, 0);
        while at < bytes {
            if self.state().stopping {
                return Ok(None);
            }
            let n = (bytes - at).min(WRITE_BYTES as u64);
            file.write_all_at(&zeros[..usize::try_from(n).expect("at most a chunk")], at)?;
            at += n;
            // Small flushes, so that the log's own do not queue behind a large one.
            if at - flushed >= FLUSH_BYTES || at == bytes {
                file.sync_data()?;
                flushed = at;
            }
        }
        disk.sync_dir()?;
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::MemDisk;

    #[test]
    fn a_spare_is_zeroed_named_and_flushed() {
        let disk = MemDisk::new();
        let file = Spare::default().make(&disk, 300_000).unwrap().unwrap();
        assert_eq!(file.len().unwrap(), 300_000);
        let after = disk.crash(|_, _, _| panic!("nothing is left unflushed"));
        assert_eq!(after.bytes(SPARE_NAME).unwrap(), vec![0; 300_000]);
    }

    #[test]
    fn a_failure_leaves_no_half_made_spare_and_a_stop_ends_the_wait() {
        let disk = MemDisk::new();
        disk.put(SPARE_NAME, Vec::new());
        let spare = Spare::default();
        std::thread::scope(|scope| {
            // The name is taken, so the first attempt fails, warns, and removes it.
            scope.spawn(|| spare.run(&disk, 1000));
            while disk.list().unwrap() == [SPARE_NAME] {
                std::thread::yield_now();
            }
            spare.stop();
        });
        assert!(spare.take(&disk, "x").unwrap().is_none());
    }
}
