//! Durations as people type them in query parameters and flags: `150ms`, `30s`, `5m`, `24h`.

use std::time::Duration;

/// Parses digits and one unit (`ms`, `s`, `m` or `h`), nothing else. The error names the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = |why: &str| format!("{text:?} is not a duration such as 150ms, 30s, 5m or 24h: {why}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(bad("it does not begin with a digit"));
    }
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(bad("it has no unit")),
        _ => return Err(bad("the unit is none of ms, s, m and h")),
    };
    let number: Option<u64> = number.parse().ok();
    let total = number.and_then(|number| number.checked_mul(millis)).ok_or_else(|| bad("it is too long"))?;
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("0s", 0), ("150ms", 150), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("007s", 7_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let too_long = "99999999999999999999s";
        for text in ["", "s", "10", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1S", "1m30s", "1d", "١s", too_long] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
