//! The operator's certificates and keys: PEM files, and what can be wrong with them.

use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

fn given(why: impl Into<String>) -> TlsError {
    TlsError::Given(why.into())
}

fn text(bytes: &[u8]) -> Result<&str, TlsError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // A sequence of ASN.1.
        Err(_) if bytes.first() == Some(&0x30) => Err(given("it is DER; convert it to PEM (openssl … -inform der)")),
        Err(_) => Err(given("it is no PEM")),
    }
}

/// The certificates of a PEM file: at least one.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    text(bytes)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|error| given(format!("a certificate in it cannot be read: {}", told(&error))))?;
    if all.is_empty() {
        return Err(given("it has no certificate (BEGIN CERTIFICATE)"));
    }
    match all.iter().all(|one| validity(one).is_some()) {
        true => Ok(all),
        false => Err(given("a certificate in it cannot be read")),
    }
}

/// The private key of a PEM file.
pub(super) fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = text(bytes)?;
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(given("its key has a password, which nobody could type; decrypt it (openssl pkey)"));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => given("it has no private key (BEGIN PRIVATE KEY)"),
        error => given(format!("its key cannot be read: {}", told(&error))),
    })
}

/// An error's words, without what was in the file.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing: was it cut off?",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is wrong",
        pem::Error::Base64Decode(_) => "its base 64 is wrong",
        _ => "it is damaged",
    }
}

/// When a certificate begins and ends to be valid.
pub(super) fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version may be left out.
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (tag, begin, rest) = element(validity)?;
    let begin = time(tag, begin)?;
    let (tag, end, _) = element(rest)?;
    Some((begin, time(tag, end)?))
}

/// The first element: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime` or `GeneralizedTime`, in UTC.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        0x17 => format!("{}{text}", if text.get(..2)?.parse::<u32>().ok()? < 50 { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    let seconds = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    })
}
