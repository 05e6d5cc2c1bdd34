//! A directory in memory: what `--rmem` runs on, and what tests crash and break.
//!
//! It keeps what was flushed apart from what was only written, file by file and name by name, so
//! that [`MemDisk::crash`] can give a copy as a power loss would leave it. With
//! [`MemDisk::without_crashes`], for `--rmem`, nothing is kept twice.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Disk, DiskFile};

/// A directory in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    keeps_flushed: bool,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Arc<MemFile>>,
    durable_names: BTreeMap<String, Arc<MemFile>>,
    fault: Fault,
}

/// Shared by the disk and its files, which hold nothing else of the disk: it would never be freed.
type Fault = Arc<Mutex<Option<io::ErrorKind>>>;

#[derive(Debug)]
struct MemFile {
    content: Mutex<Content>,
    fault: Fault,
    keeps_flushed: bool,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    flushed: Vec<u8>,
    /// Offsets and bytes written since the last flush, in order.
    unflushed: Vec<(u64, Vec<u8>)>,
}

impl Content {
    fn write(bytes: &mut Vec<u8>, buf: &[u8], offset: u64) {
        let start = usize::try_from(offset).expect("an in-memory file fits the address space");
        let end = start + buf.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(buf);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section below leaves its data whole, so a panic elsewhere poisons nothing.
    mutex.lock()
}

fn check(fault: &Fault) -> io::Result<()> {
    lock(fault).map_or(Ok(()), |kind| Err(kind.into()))
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemDisk {
    /// An empty directory that remembers what was flushed.
    pub fn new() -> Self {
        Self { state: Arc::default(), keeps_flushed: true }
    }

    /// An empty directory that keeps one copy of everything and cannot [`crash`](Self::crash).
    pub fn without_crashes() -> Self {
        Self { state: Arc::default(), keeps_flushed: false }
    }

    /// From now on every write, flush, creation, rename and removal fails with this error.
    pub fn fail_with(&self, fault: Option<io::ErrorKind>) {
        *lock(&lock(&self.state).fault) = fault;
    }

    /// The directory as a power loss now would leave it: durable names, flushed content, and of
    /// each file's unflushed bytes those that `survive(file, offset, length)` says, as a count of
    /// bytes from the start of that write.
    pub fn crash(&self, mut survive: impl FnMut(&str, u64, usize) -> usize) -> Self {
        assert!(self.keeps_flushed, "made without crashes");
        let after = Self::new();
        for (name, file) in &lock(&self.state).durable_names {
            let content = lock(&file.content);
            let mut bytes = content.flushed.clone();
            for (offset, written) in &content.unflushed {
                let kept = survive(name, *offset, written.len()).min(written.len());
                if kept > 0 {
                    Content::write(&mut bytes, &written[..kept], *offset);
                }
            }
            after.put(name, bytes);
        }
        after
    }

    /// Forgets what was written and not flushed, as Linux does after a failed flush: reads still show those bytes, and no
    /// later flush writes them.
    #[cfg(test)]
    pub(crate) fn lose_dirty(&self) {
        for file in lock(&self.state).names.values() {
            lock(&file.content).unflushed.clear();
        }
    }

    /// Puts a file as if it had always been there: flushed, its name durable.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let flushed = if self.keeps_flushed { bytes.clone() } else { Vec::new() };
        let mut state = lock(&self.state);
        let file = Arc::new(MemFile {
            content: Mutex::new(Content { now: bytes, flushed, unflushed: Vec::new() }),
            fault: state.fault.clone(),
            keeps_flushed: self.keeps_flushed,
        });
        state.names.insert(name.to_owned(), file.clone());
        state.durable_names.insert(name.to_owned(), file);
    }

    /// A file's bytes, as written; `None` where there is no such file.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let file = lock(&self.state).names.get(name).cloned()?;
        let bytes = lock(&file.content).now.clone();
        Some(bytes)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        check(&state.fault)?;
        Ok(state)
    }
}

impl Disk for MemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.writable()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemFile {
            content: Mutex::default(),
            fault: state.fault.clone(),
            keeps_flushed: self.keeps_flushed,
        });
        state.names.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = lock(&self.state).names.get(name).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // Others are in folders.
        Ok(lock(&self.state).names.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.writable()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        self.rename(name, &format!("{folder}/{name}"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.writable()?.names.remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.writable()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn display(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

impl MemFile {
    fn writable(&self) -> io::Result<()> {
        check(&self.fault)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.now.len());
        let n = buf.len().min(content.now.len() - start);
        buf[..n].copy_from_slice(&content.now[start..start + n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        let mut content = lock(&self.content);
        Content::write(&mut content.now, buf, offset);
        if self.keeps_flushed {
            content.unflushed.push((offset, buf.to_vec()));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writable()?;
        if self.keeps_flushed {
            let content = &mut *lock(&self.content);
            for (offset, written) in content.unflushed.drain(..) {
                Content::write(&mut content.flushed, &written, offset);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_flushed_and_named() {
        let disk = MemDisk::new();
        let file = disk.create("a").unwrap();
        file.write_all_at(b"flushed", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.crash(|_, _, _| 0).list().unwrap(), Vec::<String>::new());
        disk.sync_dir().unwrap();
        file.write_all_at(b"torn!", 7).unwrap();
        disk.create("b").unwrap();
        assert_eq!(disk.crash(|_, _, _| 0).bytes("a").unwrap(), b"flushed");
        let torn = disk.crash(|name, offset, len| {
            assert_eq!((name, offset, len), ("a", 7, 5));
            2
        });
        assert_eq!(torn.bytes("a").unwrap(), b"flushedto");
        assert_eq!(torn.bytes("b"), None);
    }

    #[test]
    fn it_is_freed_with_its_last_handle() {
        let held = allocation_counter::measure(|| {
            for disk in [MemDisk::new(), MemDisk::without_crashes()] {
                disk.put("a", vec![0; 1000]);
                disk.create("b").unwrap().write_all_at(&[0; 1000], 0).unwrap();
            }
        });
        assert_eq!(held.bytes_current, 0);
    }

    #[test]
    fn a_fault_fails_every_change_but_no_read() {
        let disk = MemDisk::without_crashes();
        let file = disk.create("a").unwrap();
        file.write_all_at(b"x", 0).unwrap();
        disk.fail_with(Some(io::ErrorKind::StorageFull));
        assert_eq!(file.write_all_at(b"y", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.create("b").unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(file.read_exact_at(&mut byte, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
