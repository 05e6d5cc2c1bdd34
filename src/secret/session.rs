//! Sessions: what a browser holds for a token, so that no script of a page ever sees the token itself.
//!
//! A session is stateless: it names the token, and when its time is up, under an HMAC that every node can verify. It is
//! no more than its token: revoke that, and the session is nothing.
//!
//! The bytes are a kind, 8 that name the token, its generation, the end, and HMAC-SHA256 of these.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::cluster::ClusterSecret;
use super::text;
use super::token::TokenMark;

/// What the text of a session begins with.
pub(super) const PREFIX: &str = "hrc_";

const LABEL: &str = "hraftd/v1/session";
const COMMAND: &str = "POST /hraftd/auth/session";

const SAID_BYTES: usize = 1 + 8 + 4 + 8;
const BYTES: usize = SAID_BYTES + 32;

const OF_ROOT: u8 = 1;
const OF_TOKEN: u8 = 2;

/// What sessions are signed with: it follows from a cluster secret, and is the same at every node.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// That of a cluster secret.
    pub fn of(secret: &ClusterSecret) -> Self {
        let mut key = Self([0; 32]);
        secret.derive(LABEL, &mut key.0);
        key
    }

    fn mac(&self, said: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "it takes keys of any length")]
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key");
        mac.chain_update(said)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

/// The token that a session stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOf {
    /// A root token: it is good where this node's file has that.
    Root(TokenMark),
    /// A token of the cluster.
    Token {
        /// Its id.
        id: u64,
        /// Which of its secrets was shown.
        generation: u32,
    },
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The token that it stands for.
    pub of: SessionOf,
    /// When its time is up, in milliseconds of log time.
    pub ends_ms: u64,
}

impl Session {
    /// Its text, `hrc_…`, signed.
    pub fn sign(&self, key: &SessionKey) -> Zeroizing<String> {
        let (kind, name, generation) = match self.of {
            SessionOf::Root(mark) => (OF_ROOT, mark, 0),
            SessionOf::Token { id, generation } => (OF_TOKEN, id.to_be_bytes(), generation),
        };
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&name);
        bytes[9..13].copy_from_slice(&generation.to_be_bytes());
        bytes[13..SAID_BYTES].copy_from_slice(&self.ends_ms.to_be_bytes());
        let sum = key.mac(&bytes[..SAID_BYTES]).finalize().into_bytes();
        bytes[SAID_BYTES..].copy_from_slice(&sum);
        text::encode(PREFIX, &*bytes)
    }

    /// What a text says, where one of these keys has signed it. Sums are compared in constant time.
    pub fn verify(text: &str, keys: &[SessionKey]) -> Option<Self> {
        let bytes = text::decode_as::<BYTES>((PREFIX, COMMAND), text).ok()?;
        let (said, sum) = bytes.split_at(SAID_BYTES);
        if !keys.iter().any(|key| key.mac(said).verify_slice(sum).is_ok()) {
            return None;
        }
        let name: [u8; 8] = said[1..9].try_into().ok()?;
        let generation = u32::from_be_bytes(said[9..13].try_into().ok()?);
        let of = match said[0] {
            OF_ROOT => SessionOf::Root(name),
            OF_TOKEN => SessionOf::Token { id: u64::from_be_bytes(name), generation },
            _ => return None,
        };
        Some(Self { of, ends_ms: u64::from_be_bytes(said[13..].try_into().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Generated;
    use super::*;

    fn key() -> SessionKey {
        SessionKey::of(&ClusterSecret::generate().unwrap())
    }

    #[test]
    fn a_session_is_read_where_its_key_is_known() {
        let (a, b) = (key(), key());
        for of in [SessionOf::Root([7; 8]), SessionOf::Token { id: u64::MAX - 1, generation: 3 }] {
            let session = Session { of, ends_ms: 43_200_000 };
            let text = session.sign(&a);
            assert_eq!(Session::verify(&text, &[b.clone(), a.clone()]), Some(session));
            assert_eq!(Session::verify(&text, std::slice::from_ref(&b)), None, "of another cluster");
            assert_eq!(Session::verify(&text, &[]), None);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "it fits into a cookie");
        }
    }

    /// Each byte counts: another kind, name, generation, end or sum is no session.
    #[test]
    fn what_was_changed_is_none() {
        let key = key();
        let text = Session { of: SessionOf::Token { id: 1, generation: 1 }, ends_ms: 1 }.sign(&key);
        let bytes = text::decode_as::<BYTES>((PREFIX, COMMAND), &text).unwrap();
        for at in 0..BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = text::encode(PREFIX, &*changed);
            assert_eq!(Session::verify(&changed, std::slice::from_ref(&key)), None, "byte {at}");
        }
        for wrong in ["", "hrc_", &text[..text.len() - 1], &format!("{}a", *text), &text.replace("hrc_", "hrt_")] {
            assert_eq!(Session::verify(wrong, std::slice::from_ref(&key)), None, "{wrong}");
        }
        // Signed with what the secret itself is, or its other keys: no.
        let secret = ClusterSecret::generate().unwrap();
        let mut other = SessionKey([0; 32]);
        secret.derive("hraftd/v1/peers", &mut other.0);
        let forged = Session { of: SessionOf::Root([0; 8]), ends_ms: u64::MAX }.sign(&other);
        assert_eq!(Session::verify(&forged, &[SessionKey::of(&secret)]), None);
    }
}
