//! Durations as Go prints them, times of RFC 3339, and foreign text cut to fit a message.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::duration::as_ms;

pub use crate::quote::quoted;

/// A duration as Go's `Duration.String` prints it: `3.685538ms`, `1.5s`, `1m30s`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let mut out = String::with_capacity(24);
    let mut whole = nanos / size;
    if unit == "s" && whole >= 60 {
        if whole >= 3600 {
            let _ = write!(out, "{}h", whole / 3600);
        }
        let _ = write!(out, "{}m", whole / 60 % 60);
        whole %= 60;
    }
    let _ = write!(out, "{whole}");
    let rest = nanos % size;
    if rest > 0 {
        let fraction = format!("{:0width$}", rest, width = size.ilog10() as usize);
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out.push_str(unit);
    out
}

/// A duration in the form that flags and parameters take: `87600h`, `90s`, `1500ms`.
///
/// The largest unit that divides it is used; what is below a millisecond is not shown.
pub fn duration(duration: Duration) -> String {
    let millis = as_ms(duration);
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(size, _)| millis > 0 && millis.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", millis / size),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A time as RFC 3339 has it, in UTC, to the second: `2026-01-02T03:04:05Z`.
pub fn rfc3339(time: SystemTime) -> String {
    // A clock before 1970, or after the year 9999, shows 1970.
    let seconds = time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let stamp = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    stamp.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The same to the millisecond: `2026-01-02T03:04:05.678Z`.
pub fn rfc3339_millis(time: SystemTime) -> String {
    let millis = time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok());
    let stamp = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    format!("{:.3}", stamp.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// An error of a parser, cut short: it may quote all of what it could not take.
pub fn brief(error: impl std::fmt::Display) -> String {
    const MAX_BRIEF_CHARS: usize = 200;
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_BRIEF_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (1_100, "1.1µs"),
            (250_000, "250µs"),
            (1_000_000, "1ms"),
            (3_685_538, "3.685538ms"),
            (999_999_999, "999.999999ms"),
            (1_500_000_000, "1.5s"),
            (1_000_000_001, "1.000000001s"),
            (59_000_000_000, "59s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (360_000_500_000_000, "100h0m0.5s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    /// Issue 18, D12: errors printed `87600h0m0s`, which `ttl=` refuses.
    #[test]
    fn durations_as_parameters_take_them() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (7_200_000, "2h"),
            (315_360_000_000, "87600h"),
        ] {
            let shown = duration(Duration::from_millis(millis));
            assert_eq!(shown, text);
            assert_eq!(crate::duration::parse_duration(&shown), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn times_to_the_millisecond() {
        for (millis, text) in [(0, "1970-01-01T00:00:00.000Z"), (951_782_400_120, "2000-02-29T00:00:00.120Z")] {
            assert_eq!(rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn errors_of_parsers_are_short() {
        assert_eq!(brief("as it is"), "as it is");
        assert_eq!(brief("é".repeat(5000)), format!("{}…", "é".repeat(200)));
    }
}
