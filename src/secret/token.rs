//! Tokens: an id that may be shown, and a secret.

use std::{fmt, io};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::text::{self, Generated, TextError};

const ID_BYTES: usize = 8;
const BYTES: usize = ID_BYTES + 32;

/// Whoever has it may do what it grants.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; BYTES]);

/// What tokens are found and shown by; no secret. Prints as [`super::mask`] shows the token: `hrt_abcd1234…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub u64);

/// The beginning of the hash of a token.
pub type TokenMark = [u8; 8];

impl Token {
    /// Another secret for an id that is known.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate_for(id: TokenId) -> io::Result<Self> {
        let mut token = Self::generate()?;
        token.0[..ID_BYTES].copy_from_slice(&id.0.to_be_bytes());
        Ok(token)
    }

    /// Its id: 64 random bits, so two tokens of one cluster have the same only by a rare chance.
    pub fn id(&self) -> TokenId {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&self.0[..ID_BYTES]);
        TokenId(u64::from_be_bytes(id))
    }

    /// Tells it from others that were generated, and nothing else: the beginning of its hash.
    pub fn mark(&self) -> TokenMark {
        let mut mark = [0; 8];
        mark.copy_from_slice(&self.digest()[..8]);
        mark
    }

    /// What is kept of it: SHA-256 of the id and the secret. Compare it with [`super::same`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl Generated for Token {
    const PREFIX: &'static str = "hrt_";
    const COMMAND: &'static str = "hraftd token";

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

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first 40 bits of the bytes are the first 8 digits, whatever comes behind.
        let text = text::encode(Token::PREFIX, &self.0.to_be_bytes());
        write!(f, "{}…", &text[..Token::PREFIX.len() + super::mask::SHOWN])
    }
}

#[cfg(test)]
mod tests {
    use super::super::mask;
    use super::*;

    #[test]
    fn an_id_is_shown_as_the_token_is_masked() {
        for _ in 0..100 {
            let token = Token::generate().unwrap();
            assert_eq!(token.id().to_string(), mask(&token.text()));
            assert_eq!(format!("{token:?}"), format!("Token({})", token.id()));
        }
    }

    #[test]
    fn the_digest_is_of_id_and_secret() {
        let token = Token::generate().unwrap();
        let mut other = token.clone();
        assert_eq!(token.digest(), other.digest());
        other.0[0] ^= 1;
        assert_ne!(token.digest(), other.digest());
        other.0[0] ^= 1;
        other.0[BYTES - 1] ^= 1;
        assert_ne!(token.digest(), other.digest());
        assert_eq!(token.id(), other.id());
    }
}
