//! File descriptors: as many as the system allows, and how many of them clients may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Clients have no more connections than this, however many files there may be: each takes memory.
const MOST: usize = 16_384;

/// How many connections clients may have at a time: three quarters of the files that this process may open, so that
/// the log, snapshots and the other nodes always find some.
///
/// Raises the soft limit to the hard one first: it is low for programs that use `select`.
pub(super) fn connections() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let files = getrlimit(Resource::Nofile).current;
    share(files)
}

fn share(files: Option<u64>) -> usize {
    files.map_or(MOST, |files| usize::try_from(files / 4 * 3).unwrap_or(MOST)).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_have_all_files() {
        assert_eq!(share(None), MOST);
        assert_eq!(share(Some(1 << 20)), MOST);
        assert_eq!(share(Some(20_000)), 15_000);
        assert_eq!(share(Some(1024)), 768);
        assert_eq!(share(Some(0)), 1);
    }
}
