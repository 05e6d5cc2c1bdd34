//! The text form: a prefix, then bytes and their checksum in base 32 (a–z, 2–7), without padding.
//!
//! The checksum is CRC-32C of the prefix and the bytes. Each text stands for other bytes: what is left of the last
//! character is zero, and there are no capitals.

use std::io;

#[cfg(not(test))]
use rand::TryRng as _;
use thiserror::Error;
use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECKSUM_BYTES: usize = 4;

/// Why a text is no secret. It has nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// It begins otherwise.
    #[error("it does not begin with {prefix}: make one with {command}")]
    Prefix {
        /// What it has to begin with.
        prefix: &'static str,
        /// The command that makes one.
        command: &'static str,
    },
    /// A character that none has, counted from 1.
    #[error("its character {at} cannot be in one: was it pasted whole, and alone on its line?")]
    Character {
        /// The place of the character.
        at: usize,
    },
    /// It is too short: a paste that was cut off.
    #[error("it was cut off: it has {has} of {wanted} characters")]
    Short {
        /// Characters that are there.
        has: usize,
        /// Characters of a whole one.
        wanted: usize,
    },
    /// It is too long.
    #[error("it has {has} characters, which is more than {wanted}")]
    Long {
        /// Characters that are there.
        has: usize,
        /// Characters of a whole one.
        wanted: usize,
    },
    /// A character is wrong.
    #[error("its checksum is wrong: a character was changed")]
    Checksum,
}

/// A secret that `hraftd` generates and reads.
pub trait Generated: Sized {
    /// What the text begins with.
    const PREFIX: &'static str;
    /// The command that makes one, for error texts.
    const COMMAND: &'static str;

    /// Makes one of the system's randomness.
    ///
    /// # Errors
    /// The system has none to give.
    fn generate() -> io::Result<Self>;

    /// Reads one, without white space around it.
    ///
    /// # Errors
    /// See [`TextError`].
    fn parse(text: &str) -> Result<Self, TextError>;

    /// Its text, without a newline.
    fn text(&self) -> Zeroizing<String>;

    /// True for the same secret, in constant time.
    fn is_same(&self, other: &Self) -> bool;
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    fill(&mut *bytes)?;
    Ok(bytes)
}

#[cfg(not(test))]
fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let filled = rand::rngs::SysRng.try_fill_bytes(bytes);
    filled.map_err(|error| io::Error::other(format!("no random bytes: {error}")))
}

/// In a run of the simulation the seed gives them.
#[cfg(test)]
use crate::sim::world::fill;

fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(prefix.as_bytes()), bytes).to_be_bytes()
}

/// Characters of a text of so many bytes, its prefix included.
const fn text_len(prefix: &str, bytes: usize) -> usize {
    prefix.len() + ((bytes + CHECKSUM_BYTES) * 8).div_ceil(5)
}

/// The text of bytes.
pub(super) fn encode(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    // With its whole capacity at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(text_len(prefix, bytes.len())));
    text.push_str(prefix);
    let (mut bits, mut count) = (0_u32, 0);
    let mut push = |value: u32| text.push(char::from(ALPHABET[(value & 31) as usize]));
    for &byte in bytes.iter().chain(&checksum(prefix, bytes)) {
        bits = (bits << 8) | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    text
}

/// The bytes of a text.
pub(super) fn decode<T: Generated, const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, TextError> {
    decode_as((T::PREFIX, T::COMMAND), text)
}

/// The bytes of a text with this prefix; the command makes one.
pub(super) fn decode_as<const N: usize>(
    (prefix, command): (&'static str, &'static str),
    text: &str,
) -> Result<Zeroizing<[u8; N]>, TextError> {
    let digits = text.strip_prefix(prefix).ok_or(TextError::Prefix { prefix, command })?;
    let mut bytes = Zeroizing::new([0; N]);
    let mut sum = [0; CHECKSUM_BYTES];
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for (place, c) in digits.chars().enumerate() {
        let value = match c {
            'a'..='z' => c as u32 - 'a' as u32,
            '2'..='7' => c as u32 - '2' as u32 + 26,
            _ => return Err(TextError::Character { at: prefix.len() + place + 1 }),
        };
        bits = (bits << 5) | value;
        count += 5;
        if count >= 8 {
            count -= 8;
            let byte = (bits >> count).to_le_bytes()[0];
            match at {
                _ if at < N => bytes[at] = byte,
                _ if at < N + CHECKSUM_BYTES => sum[at - N] = byte,
                _ => {}
            }
            at += 1;
        }
    }
    let (has, wanted) = (text.len(), text_len(prefix, N));
    if has < wanted {
        return Err(TextError::Short { has, wanted });
    }
    if has > wanted {
        return Err(TextError::Long { has, wanted });
    }
    let rest = bits & ((1 << count) - 1);
    if rest != 0 || !super::same(&sum, &checksum(prefix, &*bytes)) {
        return Err(TextError::Checksum);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterSecret, Token};
    use super::*;

    fn faults<T: Generated>() {
        let text = T::generate().unwrap().text();
        let again = T::parse(&text).unwrap();
        assert!(again.is_same(&T::parse(&text).unwrap()) && !again.is_same(&T::generate().unwrap()));
        assert_eq!(again.text(), text);
        let fault = |text: &str| T::parse(text).err().unwrap();
        for has in T::PREFIX.len()..text.len() {
            assert_eq!(fault(&text[..has]), TextError::Short { has, wanted: text.len() });
        }
        assert_eq!(fault(&format!("{}a", *text)), TextError::Long { has: text.len() + 1, wanted: text.len() });
        for at in T::PREFIX.len()..text.len() {
            for other in ["a", "7"].into_iter().filter(|other| *other != &text[at..=at]) {
                let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert_eq!(fault(&changed), TextError::Checksum, "{at}");
            }
            let capital = format!("{}A{}", &text[..at], &text[at + 1..]);
            assert_eq!(fault(&capital), TextError::Character { at: at + 1 });
        }
        let prefix = TextError::Prefix { prefix: T::PREFIX, command: T::COMMAND };
        for wrong in ["", "correct horse battery staple", "hrx_aaaa", &text[1..], &format!(" {}", *text)] {
            assert_eq!(fault(wrong), prefix, "{wrong:?}");
        }
        assert!(matches!(fault(&format!("{} ", *text)), TextError::Character { .. }));
    }

    #[test]
    fn what_was_cut_off_or_changed_is_an_error_that_says_so() {
        faults::<ClusterSecret>();
        faults::<Token>();
    }

    #[test]
    fn the_text_is_what_it_always_was() {
        assert_eq!(*encode("hrs_", &[0; 32]), ZEROS);
        let all: Vec<u8> = (0..32).collect();
        assert_eq!(*encode("hrs_", &all), COUNTED);
        assert!(ClusterSecret::parse(ZEROS).is_ok() && ClusterSecret::parse(COUNTED).is_ok());
    }

    const ZEROS: &str = "hrs_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaain2osaa";
    const COUNTED: &str = "hrs_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypuvjm54q";
}
