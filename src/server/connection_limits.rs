//! The numbers of connections that clients and peers may have, by the number of files that this process may open.
//!
//! All of them together leave some: the log must find one for its next segment whatever others do, or the process ends. What
//! the node opens itself is the log, snapshots, and connections to other nodes, which are bounded too
//! ([`LanedPeers`](crate::node::rpc::LanedPeers)).

use crate::http::Places;
use crate::node::rpc::MAX_WIDTH;
use crate::platform;

/// Clients have no more connections than this, even if more files could be open: each takes memory.
const MAX_CLIENT_CONNECTIONS: usize = 16_384;

/// Connections beyond the limit that are told so at a time.
const MAX_EXCESS_CONNECTIONS: usize = 256;

/// The Raft port has no more connections than this, but for streams of appends.
const MAX_PEER_CONNECTIONS: usize = 4_096;

/// Strangers have no more places at the Raft port than this: nodes that join, for a moment.
const MAX_STRANGERS: usize = 1_024;

/// The Raft port has no more streams of appends than this.
const MAX_APPEND_STREAMS: usize = 256;

/// A node opens so many files itself, and an eighth of those that it may, but no more than [`MAX_OWN_FILES`]. It has some 35
/// beside two others, and dials up to 64 callers that it does not know.
const MIN_OWN_FILES: usize = 96;

/// See [`MIN_OWN_FILES`].
const MAX_OWN_FILES: usize = 1_024;

/// One request of clients at a time at another node, in each lane, for so many files.
const FILES_FOR_A_REQUEST: usize = 128;

/// How the files are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    clients: usize,
    excess: usize,
    peers: usize,
    streams: usize,
}

/// The files that a node opens itself.
fn own(files: usize) -> usize {
    (files / 8).saturating_add(MIN_OWN_FILES).min(MAX_OWN_FILES)
}

impl Shares {
    /// Of so many files; `None` for no limit. All of it are at least one.
    fn of(files: Option<u64>) -> Self {
        let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let peers = (files / 8).clamp(1, MAX_PEER_CONNECTIONS);
        let streams = (files / 32).clamp(4, MAX_APPEND_STREAMS);
        let rest = files.saturating_sub(own(files) + peers + streams);
        let excess = (rest / 4).clamp(1, MAX_EXCESS_CONNECTIONS);
        Self { clients: rest.saturating_sub(excess).clamp(1, MAX_CLIENT_CONNECTIONS), excess, peers, streams }
    }

    fn now() -> Self {
        Self::of(platform::open_file_limit())
    }
}

/// Connections that clients may have at a time, and those beyond that are told so.
///
/// Raises the soft limit of open files to the hard one first: it is low for programs that use `select`.
pub(super) fn clients() -> (usize, usize) {
    if let Err(error) = platform::raise_open_file_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let shares = Shares::now();
    (shares.clients, shares.excess)
}

/// Places for the connections that the Raft port may have at a time: an eighth of the files, at least half of it for
/// members, which need a few. Call it after [`clients`], which raises the limit, as for all below.
pub(super) fn peers() -> Places {
    let share = Shares::now().peers;
    let for_strangers = share.div_ceil(2).min(MAX_STRANGERS);
    Places::new(for_strangers, share - for_strangers)
}

/// Streams of appends that the Raft port may have at a time.
pub(super) fn append_streams() -> usize {
    Shares::now().streams
}

/// Requests of clients that are under way to another node at a time, in each lane.
pub(super) fn requests_to_a_peer() -> usize {
    platform::open_file_limit()
        .and_then(|files| usize::try_from(files).ok())
        .map_or(MAX_WIDTH, |files| files / FILES_FOR_A_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, the second attack: the log found no file, and the process ended.
    #[test]
    fn all_together_never_have_all_files() {
        let fixed = [192, 200, 256, 1_024, 4_096, 20_000, 1 << 20];
        for files in (192..4_096).step_by(7).chain(fixed) {
            let shares = Shares::of(Some(files as u64));
            let (Shares { clients, excess, peers, streams }, own) = (shares, own(files));
            assert!(clients + excess + peers + streams + own <= files, "{files}: {shares:?}");
            assert!(clients >= files / 6 || clients == MAX_CLIENT_CONNECTIONS, "{files}: {clients} clients");
            assert!(own >= 120, "{files}: {own}");
        }
        let most = Shares { clients: 16_384, excess: 256, peers: 4_096, streams: 256 };
        assert_eq!([None, Some(1 << 20)].map(Shares::of), [most; 2]);
        let few = Shares { clients: 480, excess: 160, peers: 128, streams: 32 };
        assert_eq!(Shares::of(Some(1_024)), few);
        assert!(Shares::of(Some(0)).clients > 0);
    }
}
