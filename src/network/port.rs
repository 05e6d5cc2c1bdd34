//! The Raft port: the node behind it, and its limits.

use std::sync::Arc;

use super::limits::PortLimits;
use super::validate::CommandLimits;
use crate::node::NodeSlot;
use crate::node::rpc::Envelope;
use crate::tls::PeerIdentity;

/// The state shared by the routes of the Raft port.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) node: NodeSlot,
    pub(super) limits: Arc<PortLimits>,
    pub(super) command_limits: CommandLimits,
}

impl Port {
    pub(super) fn new(node: NodeSlot, command_limits: CommandLimits) -> Self {
        Self { node, limits: Arc::default(), command_limits }
    }
}

/// Checks that a message is of the node whose connection it came on, where that is known.
///
/// # Errors
/// Why it is refused, and its connection closed.
pub(super) fn check_sender(peer: Option<PeerIdentity>, envelope: &Envelope) -> Result<(), String> {
    match peer.filter(|peer| peer.raft_id != envelope.from_raft) {
        None => Ok(()),
        Some(PeerIdentity { raft_id, .. }) => {
            Err(format!("it says that it is of Raft id {}, and its connection is of {raft_id}", envelope.from_raft))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{OLDEST, Speaks};
    use crate::raft_types::StartMark;
    use crate::secret::{ClusterSecret, Generated};

    #[test]
    fn a_message_is_of_the_node_of_its_connection() {
        let envelope = Envelope {
            cluster: None,
            from: "127.0.0.1:1,127.0.0.1:2".parse().unwrap(),
            from_raft: 7,
            start: StartMark { starts: 1, boot: 1 },
            to: "[::1]:1,[::1]:2".parse().unwrap(),
            to_raft: None,
            to_start: None,
            echo: None,
            confirmed: None,
            log_time: None,
            mark: None,
            format: OLDEST,
            speaks: Speaks::own(),
        };
        let secret = ClusterSecret::generate().unwrap().id();
        assert_eq!(check_sender(None, &envelope), Ok(()), "without a secret nobody knows");
        assert_eq!(check_sender(Some(PeerIdentity { raft_id: 7, secret }), &envelope), Ok(()));
        assert!(check_sender(Some(PeerIdentity { raft_id: 8, secret }), &envelope).is_err());
    }
}
