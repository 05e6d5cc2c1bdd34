//! The secret that the nodes of a cluster share.

use std::{fmt, io};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::text::{self, Generated, TextError};

const BYTES: usize = 32;

/// The secret of a cluster: whoever has it is a node of it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClusterSecret([u8; BYTES]);

/// The public fingerprint of a secret, as `hraftd secret --id` prints it: it tells secrets apart, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId([u8; 8]);

impl ClusterSecret {
    /// Fills `out` with a key for what `label` names, by HKDF-SHA256: the label is the `info`, and there is no salt. It is
    /// the same at every node, and tells nothing of the secret or of other keys.
    ///
    /// # Panics
    /// `out` is longer than 8,160 bytes.
    pub fn derive(&self, label: &str, out: &mut [u8]) {
        let key = Hkdf::<Sha256>::new(None, &self.0);
        #[expect(clippy::expect_used, reason = "lengths are constants of the callers")]
        key.expand(label.as_bytes(), out).expect("at most 255 hashes");
    }

    /// Its public fingerprint.
    pub fn id(&self) -> SecretId {
        let mut id = SecretId([0; 8]);
        self.derive("hraftd/v1/id", &mut id.0);
        id
    }
}

impl Generated for ClusterSecret {
    const PREFIX: &'static str = "hrs_";
    const COMMAND: &'static str = "hraftd secret";

    fn generate() -> io::Result<Self> {
        text::random().map(|bytes| Self(*bytes))
    }

    fn parse(text: &str) -> Result<Self, TextError> {
        text::decode::<Self, BYTES>(text).map(|bytes| Self(*bytes))
    }

    fn text(&self) -> Zeroizing<String> {
        text::encode(Self::PREFIX, &self.0)
    }

    fn is_same(&self, other: &Self) -> bool {
        super::same(&self.0, &other.0)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecret({})", self.id())
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_label_and_by_secret() {
        let (a, b) = (ClusterSecret([1; BYTES]), ClusterSecret([2; BYTES]));
        let key = |secret: &ClusterSecret, label: &str| {
            let mut key = [0; 48];
            secret.derive(label, &mut key);
            key
        };
        assert_eq!(key(&a, "x"), key(&a, "x"));
        assert_ne!(key(&a, "x"), key(&a, "y"));
        assert_ne!(key(&a, "x"), key(&b, "x"));
        assert_ne!(a.id(), b.id());
        let counted = ClusterSecret(std::array::from_fn(|at| at.to_le_bytes()[0]));
        assert_eq!(counted.id().to_string(), "9cd3fafd39ec3ce5", "as computed without this crate");
    }

    #[test]
    fn debug_shows_the_fingerprint_alone() {
        let secret = ClusterSecret([1; BYTES]);
        assert_eq!(format!("{secret:?}"), format!("ClusterSecret({})", secret.id()));
        assert_eq!(secret.id().to_string().len(), 16);
    }
}
