//! Values other than addresses, as typed: sizes, numbers, times, switches, levels.
//!
//! Each parser takes the [`Setting`] and errs with a line that names it.

use std::ops::RangeInclusive;

use crate::config::setting::Setting;
use crate::duration::parse_duration;
use crate::exit::Exit;
use crate::node::ReadLevel;
use crate::telemetry::LogFormat;

/// A number of bytes: digits, then nothing, `K`, `M`, `G` or `T`, or `KiB` and so on (in either case; powers of 1024).
///
/// # Errors
/// Not a size, or not in `allowed`.
pub(super) fn size(given: &Setting, allowed: RangeInclusive<usize>) -> Result<usize, Exit> {
    let text = &given.text;
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit_bytes = match unit.to_ascii_lowercase().as_str() {
        "" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "t" | "tib" => Some(1 << 40),
        _ => None,
    };
    let (Some(unit_bytes), false) = (unit_bytes, digits.is_empty()) else {
        return Err(given.bad("not a size such as 65536, 512K or 1MiB"));
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit_bytes));
    bytes.filter(|bytes| allowed.contains(bytes)).ok_or_else(|| {
        given.bad(format_args!("not between {} and {}", show_size(*allowed.start()), show_size(*allowed.end())))
    })
}

/// A size for people: `8 MiB`, `512 KiB`, `100 bytes`.
pub(super) fn show_size(bytes: usize) -> String {
    match bytes {
        _ if bytes > 0 && bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        1 => "1 byte".to_owned(),
        _ => format!("{bytes} bytes"),
    }
}

/// A whole number.
///
/// # Errors
/// Not a number, or not in `allowed`.
pub(super) fn number(given: &Setting, allowed: RangeInclusive<u64>) -> Result<u64, Exit> {
    let digits = !given.text.is_empty() && given.text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(given.bad("not a whole number"));
    }
    let number = given.text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| given.bad(format_args!("not between {} and {}", allowed.start(), allowed.end())))
}

/// A time, in milliseconds.
///
/// # Errors
/// Not a duration, or not in `allowed_ms`.
pub(super) fn time_ms(given: &Setting, allowed_ms: RangeInclusive<u64>) -> Result<u64, Exit> {
    let time = parse_duration(&given.text).map_err(|why| given.bad(why))?;
    let millis = u64::try_from(time.as_millis()).ok().filter(|millis| allowed_ms.contains(millis));
    millis.ok_or_else(|| given.bad(format_args!("not between {}ms and {}ms", allowed_ms.start(), allowed_ms.end())))
}

/// A switch: `true`, `false`, `1` or `0`.
///
/// # Errors
/// Anything else.
pub(super) fn switch(given: &Setting) -> Result<bool, Exit> {
    match given.text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(given.bad("not true or false")),
    }
}

/// A read level, by its own name or rqlite's.
///
/// # Errors
/// Anything else.
pub(super) fn read_level(given: &Setting) -> Result<ReadLevel, Exit> {
    ReadLevel::from_name(&given.text)
        .ok_or_else(|| given.bad("not a read level: linearizable, weak, none, strong or auto"))
}

/// `text` or `json`.
///
/// # Errors
/// Anything else.
pub(super) fn log_format(given: &Setting) -> Result<LogFormat, Exit> {
    match given.text.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(given.bad("not text or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |text: &str| size(&Setting::typed("--max-value", text), 1..=8 << 20);
        for (text, bytes) in [
            ("1", 1),
            ("65536", 65536),
            ("512K", 512 << 10),
            ("512KiB", 512 << 10),
            ("1k", 1024),
            ("1M", 1 << 20),
            ("1MiB", 1 << 20),
            ("1mib", 1 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1KB", "1 M", "-1", "+1", "1.5M", "1P"] {
            assert_eq!(size(text).unwrap_err().code, 64, "{text}");
        }
        for text in ["0", "9M", "99999999999999999999", "18446744073709551615K"] {
            let line = format!("--max-value {text}: not between 1 byte and 8 MiB");
            assert_eq!(size(text), Err(Exit::usage(line)));
        }
        assert_eq!([show_size(0), show_size(1536), show_size(1 << 11)], ["0 bytes", "1536 bytes", "2 KiB"]);
    }

    #[test]
    fn switches() {
        for (text, on) in [("true", true), ("TRUE", true), ("1", true), ("false", false), ("0", false)] {
            assert_eq!(switch(&Setting::typed("--rmem", text)), Ok(on), "{text}");
        }
        assert_eq!(switch(&Setting::typed("--rmem", "")), Err(Exit::usage("--rmem \"\": not true or false")));
    }
}
