//! Integers that are added to, and numbers that are compared.
//!
//! It compares two JSON numbers exactly, however long they are: `0.1` is `0.10`, `-0` is `0`, `1e400` is more than any
//! `f64`.

use std::cmp::Ordering;

use crate::command::NotANumber;

/// An exponent of more digits is beyond what arithmetic of 128 bits holds.
const FEW_DIGITS: usize = 30;

/// The last digits of a long exponent, which the shift by a number's own digits changes.
const LOW_DIGITS: usize = 20;
const LOW_END: i128 = 10_i128.pow(LOW_DIGITS as u32);

/// A JSON number, taken apart. Its digits are slices of its text.
///
/// It is `0.DIGITS` times ten to the power of the exponent. Zero has no digits.
pub(super) struct Number<'a> {
    negative: bool,
    /// The first part and the second, without zeros at either end.
    digits: (&'a [u8], &'a [u8]),
    exponent: Exponent,
}

/// A whole number: its sign, and its digits without zeros before them; `0` is not negative.
#[derive(PartialEq, Eq)]
struct Exponent {
    negative: bool,
    digits: Vec<u8>,
}

impl<'a> Number<'a> {
    /// Reads a JSON text; `None`: it is no number. It takes time in proportion to the text.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        let text = json.trim_ascii();
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(text)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest)?,
            _ => (&[][..], rest),
        };
        let (down, power) = match rest {
            [] => (false, &[][..]),
            [b'e' | b'E', b'-', power @ ..] => (true, power),
            [b'e' | b'E', b'+', power @ ..] | [b'e' | b'E', power @ ..] => (false, power),
            _ => return None,
        };
        if !rest.is_empty() && !matches!(split_digits(power), Some((_, []))) {
            return None;
        }
        let fraction = trim_end(fraction);
        let (digits, shift) = if whole == b"0" {
            let digits = trim_start(fraction);
            ((digits, &[][..]), -signed(fraction.len() - digits.len()))
        } else if fraction.is_empty() {
            ((trim_end(whole), fraction), signed(whole.len()))
        } else {
            ((whole, fraction), signed(whole.len()))
        };
        Some(Self { negative, digits, exponent: Exponent::new(down, power, shift) })
    }

    fn is_zero(&self) -> bool {
        self.digits.0.is_empty()
    }

    /// Compares two numbers, in time in proportion to the shorter.
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.is_zero(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let (a, b) = (sign(self), sign(other));
        if a != b || a == 0 {
            return a.cmp(&b);
        }
        let magnitude = self.exponent.cmp(&other.exponent).then_with(|| compare_digits(self.digits, other.digits));
        if a < 0 { magnitude.reverse() } else { magnitude }
    }
}

impl Exponent {
    /// `power`, or less than nothing of it, plus `shift`.
    fn new(down: bool, power: &[u8], shift: i128) -> Self {
        let power = trim_start(power);
        if power.len() <= FEW_DIGITS {
            let power = value(power);
            let sum = if down { shift - power } else { shift + power };
            return Self { negative: sum < 0, digits: sum.unsigned_abs().to_string().into_bytes() };
        }
        // Far larger than the shift: the sign stays.
        let (high, low) = power.split_at(power.len() - LOW_DIGITS);
        let mut digits = high.to_vec();
        let mut low = value(low) + if down { -shift } else { shift };
        if low < 0 {
            low += LOW_END;
            step(&mut digits, b'0', b'9', |digit| digit - 1);
        } else if low >= LOW_END {
            low -= LOW_END;
            step(&mut digits, b'9', b'0', |digit| digit + 1);
        }
        digits.extend(format!("{low:020}").into_bytes());
        Self { negative: down, digits: trim_start(&digits).to_vec() }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || self.digits.len().cmp(&other.digits.len()).then_with(|| self.digits.cmp(&other.digits));
        match (self.negative, other.negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
        }
    }
}

/// Compares two rows of digits, each in two parts, as one compares texts.
fn compare_digits<'d>(mut a: (&'d [u8], &'d [u8]), mut b: (&'d [u8], &'d [u8])) -> Ordering {
    loop {
        if a.0.is_empty() {
            a = (a.1, &[]);
        }
        if b.0.is_empty() {
            b = (b.1, &[]);
        }
        let length = a.0.len().min(b.0.len());
        if length == 0 {
            return a.0.len().cmp(&b.0.len());
        }
        let (of_a, of_b) = (a.0.split_at(length), b.0.split_at(length));
        match of_a.0.cmp(of_b.0) {
            Ordering::Equal => (a.0, b.0) = (of_a.1, of_b.1),
            other => return other,
        }
    }
}

/// Adds one or takes it away: digits that are `last` become `first` from the right on, and the one before them changes.
fn step(digits: &mut Vec<u8>, last: u8, first: u8, change: fn(u8) -> u8) {
    for digit in digits.iter_mut().rev() {
        if *digit != last {
            *digit = change(*digit);
            return;
        }
        *digit = first;
    }
    // All were nines: nothing is taken from a number of zeros.
    digits.insert(0, b'1');
}

/// At least one digit, and what follows them.
fn split_digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn trim_start(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

fn trim_end(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    &digits[..digits.len() - zeros]
}

fn signed(length: usize) -> i128 {
    i128::try_from(length).unwrap_or(i128::MAX)
}

/// The value of few digits.
fn value(digits: &[u8]) -> i128 {
    digits.iter().fold(0, |value, digit| value * 10 + i128::from(digit - b'0'))
}

/// The integer that a value is.
pub(super) fn integer(is_bytes: bool, value: &[u8]) -> Result<i64, NotANumber> {
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    // A body may end in a newline.
    let value = value.trim_ascii();
    match value {
        _ if is_bytes => Err(NotANumber::Other),
        [b'"', text @ .., b'"'] => Err(parse(text).map_or(NotANumber::Other, |_| NotANumber::TextOfNumber)),
        _ => parse(value).ok_or(NotANumber::Other),
    }
}

pub(super) fn add(number: i64, by: i64) -> Result<i64, NotANumber> {
    number.checked_add(by).ok_or(NotANumber::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &[u8], b: &[u8]) -> Option<Ordering> {
        Some(Number::parse(a)?.cmp(&Number::parse(b)?))
    }
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn ascending_numbers() {
        let nines = "9".repeat(40);
        let ascending = [
            format!("-1e{nines}"),
            "-1e400".to_owned(),
            "-12345678901234567890123456789".to_owned(),
            "-1.5".to_owned(),
            "-1".to_owned(),
            "-1e-400".to_owned(),
            format!("-1e-{nines}"),
            "0".to_owned(),
            format!("1e-1{}", "0".repeat(40)),
            format!("1e-{nines}"),
            format!("10e-{nines}"),
            "1e-400".to_owned(),
            "0.1".to_owned(),
            "0.10000000000000000000000000000000000001".to_owned(),
            "0.2".to_owned(),
            "1".to_owned(),
            "9007199254740992".to_owned(),
            "9007199254740993".to_owned(),
            "1e400".to_owned(),
            "1.0000000001e400".to_owned(),
            "1e401".to_owned(),
            format!("0.1e{nines}"),
            format!("1e{nines}"),
            format!("1e1{}", "0".repeat(40)),
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a.as_bytes(), b.as_bytes()), Some(at.cmp(&other)), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_same_number_in_other_words() {
        let nines = "9".repeat(40);
        for (a, b) in [
            ("0.1", "0.10"),
            ("-0", "0"),
            ("-0.00e7", "0e-5"),
            ("1e400", "10E+399"),
            ("1e400", "0.01e402"),
            ("100", "1e2"),
            ("-1.50", "-15e-1"),
            (" 7\n", "7"),
            (&format!("10e{nines}"), &format!("1e1{}", "0".repeat(40))),
            (&format!("0.1e-{nines}"), &format!("1e-1{}", "0".repeat(40))),
            (&format!("1e00{nines}"), &format!("1e+{nines}")),
        ] {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), Some(Ordering::Equal), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "", "-", "+1", "01", "1.", ".5", "1e", "1e+", "1e1.5", "0x10", "NaN", "1 2", "\"1\"", "null", "[1]", "1a",
            "--1", "1e5e5", "\u{ff11}",
        ] {
            assert_eq!(compare(text.as_bytes(), b"1"), None, "{text}");
            assert_eq!(compare(b"1", text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn digits_in_two_parts() {
        let digits = |text: &'static str| {
            let (a, b) = text.split_once('.').unwrap();
            (a.as_bytes(), b.as_bytes())
        };
        for (a, b, order) in [
            ("12.345", "1234.5", Ordering::Equal),
            ("12.345", "12345.", Ordering::Equal),
            ("12.", "1.2001", Ordering::Less),
            ("13.", "1.2001", Ordering::Greater),
            ("1.", ".1", Ordering::Equal),
            ("1.25", "12.4", Ordering::Greater),
        ] {
            assert_eq!(compare_digits(digits(a), digits(b)), order, "{a} {b}");
            assert_eq!(compare_digits(digits(b), digits(a)), order.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn as_whole_numbers_compare() {
        let mut rng = StdRng::seed_from_u64(20);
        let mut equal = 0;
        for _ in 0..20_000 {
            // A number of few digits, written with a point and a power that make up for one another.
            let mut number = || {
                let value: i64 = rng.random_range(-200..200);
                let (shift, zeros) = (rng.random_range(0..4_usize), rng.random_range(0..3));
                let digits = format!("{:04}", value.abs());
                let (whole, fraction) = digits.split_at(digits.len() - shift);
                let whole = whole.trim_start_matches('0');
                let whole = if whole.is_empty() { "0" } else { whole };
                let sign = if value < 0 { "-" } else { "" };
                (value, format!("{sign}{whole}.{fraction}{}e{shift}", "0".repeat(zeros + 1)))
            };
            let ((a, a_text), (b, b_text)) = (number(), number());
            assert_eq!(compare(a_text.as_bytes(), b_text.as_bytes()), Some(a.cmp(&b)), "{a_text} {b_text}");
            equal += u32::from(a == b);
        }
        assert!(equal > 20);
    }
}
