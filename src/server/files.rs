//! File descriptors: as many as the system allows, and how many of them clients may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Clients have no more connections than this, however many files there may be: each takes memory.
const MOST: usize = 16_384;

/// Nor has the Raft port more than this.
const MOST_PEERS: usize = 4_096;

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

/// How many connections the Raft port may have at a time: an eighth of the files. Members need a few, and one for each
/// weak read that they pass on at the moment. To be asked after [`connections`], which raises the limit.
pub(super) fn peer_connections() -> usize {
    peer_share(getrlimit(Resource::Nofile).current)
}

fn peer_share(files: Option<u64>) -> usize {
    files.map_or(MOST_PEERS, |files| usize::try_from(files / 8).unwrap_or(MOST_PEERS)).clamp(1, MOST_PEERS)
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
        assert_eq!([None, Some(1024), Some(0)].map(peer_share), [MOST_PEERS, 128, 1]);
    }
}
