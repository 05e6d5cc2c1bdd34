//! Finding a member by what a user types.

use crate::node::NodeError;
use crate::node::status::MemberView;
use crate::node_id::{HostPort, PublicId};
use crate::quote::quoted;

/// Members that an error lists.
const MAX_LISTED: usize = 16;

/// The one member that `wanted` means: the full id, a haddr, or `:PORT` or `:PORT,:PORT` where
/// exactly one member matches.
///
/// # Errors
/// `BadRequest` where it is none of these, `NotFound` for no such member, `Conflict` with the
/// candidates for more than one.
pub(in crate::node) fn find<'a>(members: &'a [MemberView], wanted: &str) -> Result<&'a MemberView, NodeError> {
    let pattern = Pattern::parse(wanted)?;
    // What was typed in full is meant, even where another member is on the same machine.
    let exact = |member: &&MemberView| {
        let id = &member.server.id;
        id.to_string() == wanted || id.haddr.to_string() == wanted
    };
    if let Some(member) = members.iter().find(exact) {
        return Ok(member);
    }
    let found: Vec<&MemberView> = members.iter().filter(|member| pattern.matches(&member.server.id)).collect();
    let list = |members: &[&MemberView]| {
        let mut ids: Vec<String> = members.iter().take(MAX_LISTED).map(|member| member.server.id.to_string()).collect();
        ids.extend(members.len().checked_sub(MAX_LISTED + 1).map(|rest| format!("and {} more", rest + 1)));
        ids.join(" ")
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(NodeError::NotFound(format!(
            "no member is {}; the members are {}",
            quoted(wanted),
            list(&members.iter().collect::<Vec<_>>())
        ))),
        several => {
            Err(NodeError::Conflict(format!("{} may be any of {}; give the full id", quoted(wanted), list(several))))
        }
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    haddr: AddrPattern,
    raddr: Option<AddrPattern>,
}

#[derive(Debug, Clone)]
enum AddrPattern {
    Whole(HostPort),
    Port(u16),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, NodeError> {
        let addr = |text: &str| match text.strip_prefix(':') {
            Some(port) => match port.parse() {
                Ok(port) => Ok(AddrPattern::Port(port)),
                Err(_) => Err(NodeError::BadRequest(format!("{} is not a port", quoted(text)))),
            },
            None => text.parse().map(AddrPattern::Whole).map_err(|e| NodeError::BadRequest(e.to_string())),
        };
        Ok(match text.split_once(',') {
            Some((haddr, raddr)) => Self { haddr: addr(haddr)?, raddr: Some(addr(raddr)?) },
            None => Self { haddr: addr(text)?, raddr: None },
        })
    }

    fn matches(&self, id: &PublicId) -> bool {
        self.haddr.matches(&id.haddr) && self.raddr.as_ref().is_none_or(|raddr| raddr.matches(&id.raddr))
    }
}

impl AddrPattern {
    fn matches(&self, addr: &HostPort) -> bool {
        match self {
            AddrPattern::Port(port) => *port == addr.port,
            // `localhost` and `127.0.0.1` are one host to whoever types them.
            AddrPattern::Whole(wanted) => {
                wanted.port == addr.port
                    && (wanted.host.eq_ignore_ascii_case(&addr.host) || (wanted.is_loopback() && addr.is_loopback()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Server;

    fn members() -> Vec<MemberView> {
        ["10.0.0.1:11000,10.0.0.1:12000", "10.0.0.2:11000,10.0.0.2:12000", "127.0.0.1:11002,127.0.0.1:12002"]
            .iter()
            .enumerate()
            .map(|(raft_id, id)| MemberView {
                raft_id: raft_id as u64,
                server: Server { id: id.parse().unwrap(), voter: true },
                role: crate::raft_types::Role::Voter,
            })
            .collect()
    }

    #[test]
    fn ids_and_their_parts_are_found() {
        let members = members();
        let found = |wanted: &str| find(&members, wanted).map(|m| m.raft_id);
        assert_eq!(found("10.0.0.2:11000,10.0.0.2:12000"), Ok(1));
        assert_eq!(found("10.0.0.1:11000"), Ok(0));
        assert_eq!(found("localhost:11002"), Ok(2));
        assert_eq!(found(":11002"), Ok(2));
        assert_eq!(found(":11002,:12002"), Ok(2));
        assert!(
            matches!(found(":11000"), Err(NodeError::Conflict(msg)) if msg.contains("10.0.0.2:11000,10.0.0.2:12000"))
        );
        assert!(matches!(found(":11002,:12003"), Err(NodeError::NotFound(_))));
        assert!(matches!(found("10.0.0.3:11000"), Err(NodeError::NotFound(_))));
        for bad in ["", ":", ":x", "10.0.0.1", "a:1,", "a:1,b:2,c:3"] {
            assert!(matches!(found(bad), Err(NodeError::BadRequest(_))), "{bad:?}");
        }
    }

    #[test]
    fn errors_are_short_whatever_is_typed_and_however_many_there_are() {
        let member = &members()[2];
        let members: Vec<MemberView> = (0..1_000).map(|raft_id| MemberView { raft_id, ..member.clone() }).collect();
        for wanted in [":11002", ":9", &format!(":{}", "1".repeat(1 << 20)), &"a".repeat(1 << 20)] {
            let error = find(&members, wanted).unwrap_err().to_string();
            assert!(error.len() < 1_000, "{error}");
        }
        let error = find(&members, ":9").unwrap_err().to_string();
        assert!(error.ends_with("127.0.0.1:11002,127.0.0.1:12002 and 984 more"), "{error}");
    }

    #[test]
    fn what_is_typed_in_full_wins_over_another_loopback_address() {
        let mut members = members();
        let mut other = members[2].clone();
        other.server.id = "127.0.0.2:11002,127.0.0.2:12002".parse().unwrap();
        other.raft_id = 3;
        members.push(other);
        assert_eq!(find(&members, "127.0.0.2:11002").map(|m| m.raft_id), Ok(3));
        assert_eq!(find(&members, "127.0.0.1:11002").map(|m| m.raft_id), Ok(2));
        assert!(matches!(find(&members, "localhost:11002"), Err(NodeError::Conflict(_))));
    }
}
