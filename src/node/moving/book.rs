//! Where members were found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::node::rpc::{AppendStream, BoxFuture, JoinRefusal, PeerError, PeerReply, PeerRequest, Peers, Probe, Target};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::RaftId;
use crate::raft_types::alias::{SnapshotMeta, Vote};
use crate::storage::SnapshotFile;

/// The addresses of members that were found elsewhere than the membership says.
#[derive(Debug, Default)]
pub struct AddressBook(Mutex<BTreeMap<RaftId, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    /// The addresses that the membership had when the member was found. Once it has others, they count.
    instead_of: PublicId,
    found_at: PublicId,
}

impl AddressBook {
    /// Notes that a member answers at other addresses than the membership's; forgets what was noted where they are the
    /// same. True if that is news.
    pub fn found(&self, raft_id: RaftId, in_membership: &PublicId, at: &PublicId) -> bool {
        let mut entries = self.0.lock();
        if in_membership == at {
            return entries.remove(&raft_id).is_some();
        }
        let entry = Entry { instead_of: in_membership.clone(), found_at: at.clone() };
        let old = entries.insert(raft_id, entry.clone());
        old.is_none_or(|old| old.instead_of != entry.instead_of || old.found_at != entry.found_at)
    }

    /// The addresses to reach a member at that the membership has at `in_membership`; `None` for those.
    pub fn elsewhere(&self, raft_id: RaftId, in_membership: &PublicId) -> Option<PublicId> {
        let entries = self.0.lock();
        let entry = entries.get(&raft_id)?;
        (entry.instead_of == *in_membership).then(|| entry.found_at.clone())
    }

    /// Forgets what was found of members that the committed membership has at other addresses since. One that moves back must
    /// not be looked for where it was in between.
    pub fn keep_to<'a>(&self, committed: impl Iterator<Item = (&'a RaftId, &'a PublicId)>) {
        let mut entries = self.0.lock();
        for (raft_id, in_membership) in committed {
            if entries.get(raft_id).is_some_and(|entry| entry.instead_of != *in_membership) {
                entries.remove(raft_id);
            }
        }
    }

    fn direct(&self, target: &Target) -> Target {
        let elsewhere = target.raft_id.and_then(|raft_id| self.elsewhere(raft_id, &target.id));
        Target { raft_id: target.raft_id, id: elsewhere.unwrap_or_else(|| target.id.clone()) }
    }
}

/// Sends what is for a member to where it was found.
#[derive(Debug)]
pub struct BookedPeers {
    peers: Arc<dyn Peers>,
    book: Arc<AddressBook>,
}

impl BookedPeers {
    /// Looks into `book` before each message.
    pub fn new(peers: Arc<dyn Peers>, book: Arc<AddressBook>) -> Self {
        Self { peers, book }
    }
}

impl Peers for BookedPeers {
    fn call(
        &self,
        target: &Target,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        self.peers.call(&self.book.direct(target), request, timeout)
    }

    fn open_appends(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Option<Box<dyn AppendStream>>, PeerError>> {
        self.peers.open_appends(&self.book.direct(target), timeout)
    }

    fn send_snapshot(
        &self,
        target: &Target,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotFile,
        idle_timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, PeerError>> {
        self.peers.send_snapshot(&self.book.direct(target), vote, meta, snapshot, idle_timeout)
    }

    fn ask_to_join(
        &self,
        haddr: &HostPort,
        id: &PublicId,
        raft_id: RaftId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Result<(), JoinRefusal>, PeerError>> {
        self.peers.ask_to_join(haddr, id, raft_id, timeout)
    }

    fn probe(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Result<Probe, PeerError>> {
        self.peers.probe(haddr, timeout)
    }

    fn resolve(&self, addr: &HostPort) -> BoxFuture<'static, Vec<HostPort>> {
        self.peers.resolve(addr)
    }

    fn ids_at(&self, haddr: &HostPort, timeout: Duration) -> BoxFuture<'static, Vec<PublicId>> {
        self.peers.ids_at(haddr, timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(port: u16) -> PublicId {
        format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
    }

    #[test]
    fn what_was_found_counts_until_the_membership_says_something_newer() {
        let book = AddressBook::default();
        assert_eq!(book.elsewhere(7, &id(1)), None);
        assert!(book.found(7, &id(1), &id(5)));
        assert!(!book.found(7, &id(1), &id(5)), "it is known");
        assert_eq!(book.elsewhere(7, &id(1)), Some(id(5)));
        assert_eq!(book.elsewhere(8, &id(1)), None, "another member");
        assert_eq!(book.elsewhere(7, &id(6)), None, "it moved on, and the membership knows it");
        assert!(book.found(7, &id(1), &id(1)), "it is back");
        assert_eq!(book.elsewhere(7, &id(1)), None);
    }

    /// Found by simulation (seed 476): a node that had found another when it moved asked for it there after it had moved back.
    #[test]
    fn a_member_that_moves_back_is_where_the_membership_has_it() {
        let book = AddressBook::default();
        book.found(7, &id(1), &id(5));
        book.found(8, &id(2), &id(6));
        book.keep_to([(&7, &id(1)), (&8, &id(2))].into_iter());
        assert_eq!(book.elsewhere(7, &id(1)), Some(id(5)), "the membership says nothing newer");
        book.keep_to([(&7, &id(5))].into_iter());
        assert_eq!((book.elsewhere(7, &id(1)), book.elsewhere(8, &id(2))), (None, Some(id(6))));
    }

    #[test]
    fn a_question_to_an_address_is_asked_there() {
        let book = AddressBook::default();
        book.found(7, &id(1), &id(5));
        let to = |raft_id| book.direct(&Target { raft_id, id: id(1) }).id;
        assert_eq!((to(Some(7)), to(None)), (id(5), id(1)));
    }
}
