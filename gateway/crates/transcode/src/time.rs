//! Timestamps and durations as text: RFC 3339 in UTC, and decimal seconds with an `s`.
//! Calendar arithmetic after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".

const SECONDS_PER_DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Ten thousand years, as google.protobuf.Duration says.
const LONGEST: i64 = 315_576_000_000;

/// Seconds since 1970 and nanoseconds (0 to 999,999,999) as RFC 3339, without quotes. None: out of range.
pub(crate) fn timestamp(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Option<()> {
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    if !TIMESTAMPS.contains(&seconds) {
        return None;
    }
    let (days, of_day) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, day) = civil(days);
    digits(year, 4, out);
    for (separator, number) in
        [(b'-', month), (b'-', day), (b'T', of_day / 3600), (b':', of_day / 60 % 60), (b':', of_day % 60)]
    {
        out.push(separator);
        digits(number, 2, out);
    }
    fraction(nanos, out);
    out.push(b'Z');
    Some(())
}

/// A duration as text, without quotes. None: out of range, or the signs differ.
pub(crate) fn duration(seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Option<()> {
    let signs_differ = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
    if seconds.abs() > LONGEST || nanos.unsigned_abs() >= 1_000_000_000 || signs_differ {
        return None;
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(seconds.unsigned_abs()).as_bytes());
    fraction(nanos.unsigned_abs(), out);
    out.push(b's');
    Some(())
}

fn digits(mut number: i64, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// None, three, six or nine digits.
fn fraction(nanos: u32, out: &mut Vec<u8>) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    match nanos {
        _ if nanos.is_multiple_of(1_000_000) => digits((nanos / 1_000_000).into(), 3, out),
        _ if nanos.is_multiple_of(1_000) => digits((nanos / 1_000).into(), 6, out),
        _ => digits(nanos.into(), 9, out),
    }
}

/// Days since 1970-01-01 to year, month and day.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// Reads RFC 3339, any offset, up to nine digits of fraction.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.as_bytes().split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, expected)| date[*at] != *expected) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| number(&date[range]);
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last_day).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = parse_fraction(rest)?;
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h @ .., b':', m1, m2] if h.len() == 2 => {
            let (hours, minutes) = (number(h)?, number(&[*m1, *m2])?);
            let offset = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let of_day = hour * 3600 + minute * 60 + second;
    let seconds = days_since_epoch(year, month, day) * SECONDS_PER_DAY + of_day - offset;
    TIMESTAMPS.contains(&seconds).then_some((seconds, nanos))
}

/// Reads decimal seconds with an `s`.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let text = text.strip_suffix('s')?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let end = text.find('.').unwrap_or(text.len());
    let (whole, rest) = text.as_bytes().split_at(end);
    let seconds = (whole.len() <= 12).then(|| number(whole)).flatten()?;
    let (nanos, nothing) = parse_fraction(rest)?;
    if !nothing.is_empty() || seconds > LONGEST {
        return None;
    }
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// `.5` to nanoseconds, and what follows.
fn parse_fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > 9 {
        return None;
    }
    let value = number(&text[..count])? * 10_i64.pow(9 - u32::try_from(count).ok()?);
    Some((i32::try_from(value).ok()?, &text[count..]))
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(seconds: i64, nanos: i32) -> Option<String> {
        let mut out = vec![];
        timestamp(seconds, nanos, &mut out)?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn every_day_of_ten_thousand_years_survives_the_calendar() {
        let (mut previous, last) = ((0, 12, 31), TIMESTAMPS.end() / SECONDS_PER_DAY);
        for days in TIMESTAMPS.start() / SECONDS_PER_DAY..=last {
            let date = civil(days);
            assert!(date > previous, "{date:?}");
            assert_eq!(days_since_epoch(date.0, date.1, date.2), days, "{date:?}");
            previous = date;
        }
        assert_eq!(previous, (9999, 12, 31));
    }

    #[test]
    fn timestamps_are_written_and_read() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_767_323_045, 120_000_000, "2026-01-02T03:04:05.120Z"),
            (951_782_400, 1_000, "2000-02-29T00:00:00.000001Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(written(seconds, nanos).as_deref(), Some(text));
            assert_eq!(parse_timestamp(text), Some((seconds, nanos)));
        }
        assert_eq!(parse_timestamp("1970-01-01T01:30:00.5+01:30"), Some((0, 500_000_000)));
        assert_eq!(parse_timestamp("1969-12-31T23:00:00-01:00"), Some((0, 0)));
        for (seconds, nanos) in [(253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(written(seconds, nanos), None);
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-1-01T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.0000000001Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00 Z",
            "0001-01-01T00:00:00+00:01",
            "10000-01-01T00:00:00Z",
            "1970-01-01T00:00:0éZ",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_and_read() {
        let written = |seconds, nanos| {
            let mut out = vec![];
            duration(seconds, nanos, &mut out)?;
            String::from_utf8(out).ok()
        };
        for (seconds, nanos, text) in [
            (0, 0, "0s"),
            (1, 500_000_000, "1.500s"),
            (-1, -500_000_000, "-1.500s"),
            (0, -1, "-0.000000001s"),
            (LONGEST, 0, "315576000000s"),
        ] {
            assert_eq!(written(seconds, nanos).as_deref(), Some(text));
            assert_eq!(parse_duration(text), Some((seconds, nanos)));
        }
        assert_eq!(parse_duration("1.5s"), Some((1, 500_000_000)));
        for (seconds, nanos) in [(1, -1), (-1, 1), (LONGEST + 1, 0), (0, 1_000_000_000), (i64::MIN + 1, 0)] {
            assert_eq!(written(seconds, nanos), None);
        }
        for text in [
            "",
            "s",
            "1",
            "1.s",
            ".5s",
            "+1s",
            "--1s",
            "1.0000000001s",
            "315576000001s",
            "99999999999999s",
            "1 s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
