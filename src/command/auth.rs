//! Who asks for a command, and what tokens allow.
//!
//! A [`Need`] is what one request is about; [`Grants`] tell whether its token has that. Both edges of a cluster use the same
//! words: the node that a client asks, and the entry when it is applied.

use std::fmt;
use std::sync::Arc;

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Serialize};

/// Names a token for as long as it exists, through changes of its grants and its secret. Never 0.
pub type TokenId = u64;

/// The SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// The most grants of a token.
pub const MAX_GRANTS: usize = 64;

/// The most bytes of the name of a token.
pub const MAX_TOKEN_NAME_BYTES: usize = 64;

/// The name of root tokens.
pub const ROOT: &str = "root";

/// The name of those who show no token.
pub const ANONYMOUS: &str = "anonymous";

/// The owner that stands for all root tokens.
const ROOT_OWNER: TokenId = 0;

/// Who asks, as the node that was asked saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// hraftd itself, for no client.
    Node,
    /// A root token of the node that was asked.
    Root,
    /// Nobody that is known.
    Anonymous {
        /// The index of the entry that last changed what is granted to all.
        revision: u64,
    },
    /// A token.
    Token(Holder),
}

/// Who holds a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The token.
    pub id: TokenId,
    /// Counts its secrets, from 1.
    pub generation: u32,
    /// The index of the entry that last changed the token.
    pub revision: u64,
    /// The name of the token.
    pub name: Arc<str>,
}

impl Principal {
    /// The name that people use.
    pub fn name(&self) -> &str {
        match self {
            Principal::Node => "hraftd",
            Principal::Root => ROOT,
            Principal::Anonymous { .. } => ANONYMOUS,
            Principal::Token(holder) => &holder.name,
        }
    }

    /// The index of the newest entry that a node must have applied to know this principal.
    pub fn revision(&self) -> u64 {
        match self {
            Principal::Node | Principal::Root => 0,
            Principal::Anonymous { revision } | Principal::Token(Holder { revision, .. }) => *revision,
        }
    }

    /// The owner of the locks and leases that it takes; `None`: they are anybody's who may have such.
    pub fn owner(&self) -> Option<TokenId> {
        match self {
            Principal::Root => Some(ROOT_OWNER),
            Principal::Token(holder) => Some(holder.id),
            Principal::Node | Principal::Anonymous { .. } => None,
        }
    }

    /// Tells whether an owner stands for all root tokens.
    pub fn is_root_owner(owner: TokenId) -> bool {
        owner == ROOT_OWNER
    }

    /// The `Idempotency-Key` of this principal, apart from the same of others.
    pub fn idempotency_key(&self, key: &str) -> CompactString {
        match self {
            // A client's key has no control characters.
            Principal::Token(holder) => format_compact!("\u{1}{:x} {key}", holder.id),
            Principal::Node | Principal::Root | Principal::Anonymous { .. } => {
                format_compact!("\u{1}{} {key}", self.name())
            }
        }
    }
}

/// The keys or locks that a grant is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All that begin so, by bytes.
    Prefix(CompactString),
    /// One.
    One(CompactString),
}

impl Scope {
    fn covers(&self, name: &str) -> bool {
        match self {
            Scope::Prefix(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
            Scope::One(one) => one == name,
        }
    }

    /// Whether it covers all that begins so.
    fn covers_all_of(&self, prefix: &str) -> bool {
        match self {
            Scope::Prefix(own) => prefix.as_bytes().starts_with(own.as_bytes()),
            Scope::One(_) => false,
        }
    }
}

/// One thing that a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// Reading keys.
    Read(Scope),
    /// Writing keys.
    Write(Scope),
    /// Locks.
    Lock(Scope),
    /// What tells of the cluster, and no key.
    Status,
    /// Changes of members and of the leader.
    Members,
    /// Copies of all.
    Backup,
    /// Everything.
    Admin,
}

impl Grant {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// A text that says what there is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scoped = |rest: &str| {
            let (scope, length) = match rest.strip_prefix('=') {
                Some("") => return Err(format!("{text:?} names no key behind the =")),
                Some(one) => (Scope::One(one.into()), one.len()),
                None => (Scope::Prefix(rest.into()), rest.len()),
            };
            if length > super::MAX_KEY_BYTES {
                return Err(format!("a grant for names of {length} bytes; they have at most {}", super::MAX_KEY_BYTES));
            }
            Ok(scope)
        };
        match text.split_once(':') {
            Some(("read", rest)) => scoped(rest).map(Self::Read),
            Some(("write", rest)) => scoped(rest).map(Self::Write),
            Some(("lock", rest)) => scoped(rest).map(Self::Lock),
            None if text == "status" => Ok(Self::Status),
            None if text == "members" => Ok(Self::Members),
            None if text == "backup" => Ok(Self::Backup),
            None if text == "admin" => Ok(Self::Admin),
            _ => Err(format!(
                "{:?} is no grant; there are read:PREFIX, write:PREFIX, lock:PREFIX (read: is all keys, read:=KEY one), \
                 status, members, backup and admin",
                text.chars().take(64).collect::<String>()
            )),
        }
    }

    fn allows(&self, need: Need<'_>) -> bool {
        match (self, need) {
            (Grant::Admin, _) => true,
            (_, Need::Nothing) => true,
            (Grant::Read(scope), Need::Read(key) | Need::Exists(key)) => scope.covers(key),
            (Grant::Read(scope), Need::ReadAll(prefix)) => scope.covers_all_of(prefix),
            (Grant::Write(scope), Need::Write(key) | Need::Exists(key)) => scope.covers(key),
            (Grant::Write(scope), Need::WriteAll(prefix)) => scope.covers_all_of(prefix),
            (Grant::Write(_), Need::WriteAny) => true,
            (Grant::Lock(scope), Need::Lock(name)) => scope.covers(name),
            (Grant::Lock(scope), Need::LockAll(prefix)) => scope.covers_all_of(prefix),
            (Grant::Status, Need::Status) | (Grant::Members, Need::Members) | (Grant::Backup, Need::Backup) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, scope) = match self {
            Grant::Read(scope) => ("read", scope),
            Grant::Write(scope) => ("write", scope),
            Grant::Lock(scope) => ("lock", scope),
            Grant::Status => return f.write_str("status"),
            Grant::Members => return f.write_str("members"),
            Grant::Backup => return f.write_str("backup"),
            Grant::Admin => return f.write_str("admin"),
        };
        match scope {
            Scope::Prefix(prefix) => write!(f, "{word}:{prefix}"),
            Scope::One(one) => write!(f, "{word}:={one}"),
        }
    }
}

/// What a request is about, and needs a grant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// Nothing but to be known.
    Nothing,
    /// To read a key.
    Read(&'a str),
    /// To read all keys that begin so.
    ReadAll(&'a str),
    /// To write a key.
    Write(&'a str),
    /// To write all keys that begin so.
    WriteAll(&'a str),
    /// To write some key or other.
    WriteAny,
    /// To know whether a key is there: who may read or write it may know.
    Exists(&'a str),
    /// A lock.
    Lock(&'a str),
    /// All locks whose names begin so.
    LockAll(&'a str),
    /// What tells of the cluster.
    Status,
    /// Changes of the members.
    Members,
    /// A copy of all.
    Backup,
    /// What only `admin` may.
    Admin,
}

impl fmt::Display for Need<'_> {
    /// A grant that would do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Nothing => f.write_str("any"),
            Need::Read(name) | Need::ReadAll(name) => write!(f, "read:{name}"),
            Need::Write(name) | Need::WriteAll(name) | Need::Exists(name) => write!(f, "write:{name}"),
            Need::WriteAny => f.write_str("write: (any)"),
            Need::Lock(name) | Need::LockAll(name) => write!(f, "lock:{name}"),
            Need::Status => f.write_str("status"),
            Need::Members => f.write_str("members"),
            Need::Backup => f.write_str("backup"),
            Need::Admin => f.write_str("admin"),
        }
    }
}

/// All that a token allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Tells whether one of them covers it.
    pub fn allow(&self, need: Need<'_>) -> bool {
        self.0.iter().any(|grant| grant.allows(need))
    }

    /// Ok where they cover it.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn demand(&self, need: Need<'_>) -> Result<(), Denied> {
        if self.allow(need) { Ok(()) } else { Err(Denied::forbidden(need)) }
    }

    /// Bytes of their names.
    pub fn bytes(&self) -> usize {
        let names = self.0.iter().map(|grant| match grant {
            Grant::Read(scope) | Grant::Write(scope) | Grant::Lock(scope) => match scope {
                Scope::Prefix(name) | Scope::One(name) => name.len(),
            },
            Grant::Status | Grant::Members | Grant::Backup | Grant::Admin => 0,
        });
        names.sum()
    }

    /// As the API shows them.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// The reason why a request is refused, whatever the state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// It shows no token, and one is needed.
    Missing,
    /// There is no such token, or it was revoked.
    Unknown,
    /// The time of the token is up.
    Expired,
    /// The token lacks this grant.
    Forbidden(CompactString),
    /// Another token made the lock or the lease that it is about.
    NotOwner,
}

impl Denied {
    /// A grant is missing.
    pub fn forbidden(need: Need<'_>) -> Self {
        // A grant for a long key is named by its beginning.
        let text = format_compact!("{need}");
        let end = text.char_indices().map(|(at, _)| at).nth(128).unwrap_or(text.len());
        Self::Forbidden(CompactString::from(&text[..end]))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Missing => f.write_str(
                "this cluster wants to know who asks: send a token, as Authorization: Bearer hrt_... or as the password of \
                 Basic (curl -u x:TOKEN)",
            ),
            Denied::Unknown => f.write_str("this token is not known here, or was revoked"),
            Denied::Expired => f.write_str("the time of this token is up, or of its session; ask for another"),
            Denied::Forbidden(need) => write!(f, "this needs the grant {need}, which the token does not have"),
            Denied::NotOwner => f.write_str("another token made it, and only that one, or admin, may change it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect())
    }

    #[test]
    fn grants_are_read_and_shown_alike() {
        for text in [
            "read:",
            "read:app/",
            "read:=app",
            "read:a:b",
            "write:é",
            "lock:=x",
            "status",
            "members",
            "backup",
            "admin",
        ] {
            assert_eq!(Grant::parse(text).unwrap().to_string(), text);
        }
        let long = format!("read:{}", "x".repeat(4097));
        for bad in ["", "read", "Read:x", "read:=", "root", "status:", "admin:x", "list:x", " read:x", &long] {
            assert!(Grant::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_are_compared_by_bytes() {
        let app = grants(&["read:app"]);
        assert!(app.allow(Need::Read("app")) && app.allow(Need::Read("apple")) && app.allow(Need::ReadAll("app/")));
        assert!(!app.allow(Need::Read("ap")) && !app.allow(Need::ReadAll("ap")) && !app.allow(Need::Write("app")));
        let folder = grants(&["read:app/"]);
        assert!(
            folder.allow(Need::Read("app/x")) && !folder.allow(Need::Read("app")) && !folder.allow(Need::Read("apple"))
        );
        let one = grants(&["write:=k"]);
        assert!(one.allow(Need::Write("k")) && one.allow(Need::WriteAny) && one.allow(Need::Exists("k")));
        assert!(!one.allow(Need::Write("kk")) && !one.allow(Need::WriteAll("k")) && !one.allow(Need::WriteAll("")));
        assert!(grants(&["read:"]).allow(Need::ReadAll("")));
        // Half of é: a prefix of bytes, though not of characters, is a prefix of none.
        assert!(!grants(&["read:é"]).allow(Need::Read("è")));
    }

    #[test]
    fn each_grant_allows_its_own_and_admin_all() {
        let needs = [
            Need::Read("k"),
            Need::ReadAll(""),
            Need::Write("k"),
            Need::WriteAll(""),
            Need::WriteAny,
            Need::Exists("k"),
            Need::Lock("k"),
            Need::LockAll(""),
            Need::Status,
            Need::Members,
            Need::Backup,
            Need::Admin,
        ];
        for (grant, allowed) in [
            ("read:", vec![0, 1, 5]),
            ("write:", vec![2, 3, 4, 5]),
            ("lock:", vec![6, 7]),
            ("status", vec![8]),
            ("members", vec![9]),
            ("backup", vec![10]),
            ("admin", (0..12).collect()),
        ] {
            let grants = grants(&[grant]);
            let found: Vec<usize> = (0..needs.len()).filter(|&at| grants.allow(needs[at])).collect();
            assert_eq!(found, allowed, "{grant}");
            assert!(grants.allow(Need::Nothing));
        }
        assert!(!Grants::default().allow(Need::Nothing) && needs.iter().all(|need| !Grants::default().allow(*need)));
    }
}
