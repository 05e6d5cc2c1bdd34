//! Wall clocks that say what a test wants.

use std::path::PathBuf;

/// libfaketime's library for programs with threads.
pub fn library() -> Option<PathBuf> {
    let dirs = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
