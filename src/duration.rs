//! Durations as people type them: `150ms`, `30s`, `5m`, `24h`.
//!
//! One number and one unit, for flags and query parameters alike. No sign, space, fraction, sum
//! (`1h30m`) or bare number: each of those is an error that says so.

use std::time::Duration;

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3_600_000;

/// Parses digits followed by `ms`, `s`, `m` or `h`; `0s` is a duration too.
///
/// # Errors
/// The reason, in one line. The caller adds its flag or parameter, and the value.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if !digits.is_empty() => return Err("the unit is missing: ms, s, m or h".to_owned()),
        _ => return Err("not a duration such as 150ms, 30s, 5m or 24h".to_owned()),
    };
    if digits.is_empty() {
        return Err("not a duration such as 150ms, 30s, 5m or 24h".to_owned());
    }
    let millis = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    millis.map(Duration::from_millis).ok_or_else(|| "the duration is too long".to_owned())
}

/// Parses what [`parse_duration`] does, and days such as `90d`.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_with_days(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days {
        Some(days) => Ok(Duration::from_millis(days.saturating_mul(DAY_MS))),
        None => parse_duration(text),
    }
}

/// A duration in whole milliseconds, at most `u64::MAX`.
pub fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as [`parse_duration`] reads them, in the largest unit that they are a whole number of.
pub fn show_ms(ms: u64) -> String {
    match ms {
        _ if ms > 0 && ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms > 0 && ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("150ms", 150), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("0s", 0), ("007s", 7_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in ["", "5", "s", "-5s", "+5s", "1.5s", "5 s", " 5s", "5s ", "1h30m", "5d", "5S", "٥s", "1e3ms"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse_duration(text), Err("the duration is too long".to_owned()), "{text:?}");
        }
    }
}
