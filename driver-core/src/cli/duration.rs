//! Durations as Go programs read them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Units in nanoseconds. Longer names first where one begins with another.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Reads a duration as Go's `time.ParseDuration` does, but none below zero: a sequence of decimal
/// numbers, each with a unit, or `0`.
///
/// # Errors
/// What is wrong with `text`.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const INVALID: &str = "expected a duration such as 30s, 1.5s or 1h30m";
    if text.strip_prefix('+').unwrap_or(text) == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(INVALID);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(INVALID)?;
        let (number, behind) = rest.split_at(end);
        let unit = UNITS.iter().find(|(unit, _)| behind.starts_with(unit)).ok_or(INVALID)?;
        rest = &behind[unit.0.len()..];
        let part = nanoseconds(number, unit.1).ok_or(INVALID)?;
        total = total.checked_add(Duration::from_nanos(part)).ok_or(INVALID)?;
    }
    Ok(total)
}

/// As [`parse`], but not zero.
///
/// # Errors
/// What is wrong with `text`.
pub(super) fn parse_positive(text: &str) -> Result<Duration, &'static str> {
    match parse(text)? {
        Duration::ZERO => Err("expected more than no time"),
        duration => Ok(duration),
    }
}

/// A decimal number of units. Digits beyond nanoseconds are cut off.
fn nanoseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let mut place = unit;
    for digit in fraction.chars() {
        // A second point is no digit.
        let digit = u64::from(digit.to_digit(10)?);
        // Ten hours' worth of nanoseconds at most: far from overflow.
        total = total.checked_add(digit * place / 10)?;
        place /= 10;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse, parse_positive};

    #[test]
    fn some_durations_must_not_be_zero() {
        assert_eq!(parse_positive("1ns"), Ok(Duration::from_nanos(1)));
        assert!(parse_positive("0s").is_err() && parse_positive("soon").is_err());
    }

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("1µs2μs", 3_000),
            ("0.1234567899s", 123_456_789),
            ("12h", 43_200_000_000_000),
            ("1m1m", 120_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "+", "5", "s", ".s", "-5s", "1.2.3s", "5d", "5 s", "s5", "99999999999999h", "1e3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
