//! The number of connections that clients and peers may have, by the number of files that this process may open.

use crate::http::Places;
use crate::platform;

/// Clients have no more connections than this, even if more files could be open: each takes memory.
const MAX_CLIENT_CONNECTIONS: usize = 16_384;

/// The Raft port has no more connections than this.
const MAX_PEER_CONNECTIONS: usize = 4_096;

/// Connections that clients may have at a time: three quarters of the files that this process may open, so that the log,
/// snapshots and the other nodes always find some.
///
/// Raises the soft limit of open files to the hard one first: it is low for programs that use `select`.
pub(super) fn clients() -> usize {
    if let Err(error) = platform::raise_open_file_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    client_share(platform::open_file_limit())
}

/// Strangers have no more places at the Raft port than this: nodes that join, for a moment.
const MAX_STRANGERS: usize = 1_024;

/// Places for the connections that the Raft port may have at a time: an eighth of the files, at least half of it for
/// members. They need a few, and one for each weak read that they pass on at the moment. Call it after [`clients`], which
/// raises the limit.
pub(super) fn peers() -> Places {
    let share = peer_share(platform::open_file_limit());
    let for_strangers = share.div_ceil(2).min(MAX_STRANGERS);
    Places::new(for_strangers, share - for_strangers)
}

fn client_share(files: Option<u64>) -> usize {
    let share = files.map_or(MAX_CLIENT_CONNECTIONS, |files| to_usize(files / 4 * 3));
    share.clamp(1, MAX_CLIENT_CONNECTIONS)
}

fn peer_share(files: Option<u64>) -> usize {
    files.map_or(MAX_PEER_CONNECTIONS, |files| to_usize(files / 8)).clamp(1, MAX_PEER_CONNECTIONS)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_have_all_files() {
        assert_eq!(client_share(None), MAX_CLIENT_CONNECTIONS);
        assert_eq!(client_share(Some(1 << 20)), MAX_CLIENT_CONNECTIONS);
        assert_eq!(client_share(Some(20_000)), 15_000);
        assert_eq!(client_share(Some(1024)), 768);
        assert_eq!(client_share(Some(0)), 1);
        assert_eq!([None, Some(1024), Some(0)].map(peer_share), [MAX_PEER_CONNECTIONS, 128, 1]);
    }
}
