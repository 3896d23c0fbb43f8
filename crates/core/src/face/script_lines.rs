//! The Python scripts' lines: durations, times and totals as Python prints them.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use crate::visible::{is_safe_to_show, push_escape};

/// Formats a duration as `str(datetime.timedelta)` does: `0:00:02.216464`.
#[must_use]
pub fn timedelta(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let day = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        _ => format!("{days} days, "),
    };
    let clock = format!("{day}{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match duration.subsec_micros() {
        0 => clock,
        micros => format!("{clock}.{micros:06}"),
    }
}

/// Formats a duration as `repr(datetime.timedelta)` does.
#[must_use]
pub fn timedelta_repr(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        ("days", seconds / 86_400),
        ("seconds", seconds % 86_400),
        ("microseconds", u64::from(duration.subsec_micros())),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let arguments = if parts.is_empty() { "0".to_owned() } else { parts.join(", ") };
    format!("datetime.timedelta({arguments})")
}

/// Formats a local time as `str(datetime.datetime)` does.
#[must_use]
pub fn datetime(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// Returns the scripts' line for a broadcast file (`library.py`, line 58), without its log level.
#[must_use]
pub fn writing_line(name: &str, from: Timestamp, to: Timestamp) -> String {
    let (took, from, to) = (timedelta(between(from, to)), datetime(from), datetime(to));
    format!("writing {name} dalam waktu {took} {from} s/d {to}")
}

/// Returns the scripts' last line (`multi_thread.py`, line 28).
#[must_use]
pub fn total_line(from: Timestamp, to: Timestamp) -> String {
    let (took, from, to) = (timedelta(between(from, to)), datetime(from), datetime(to));
    format!("Waktu TOTAL yang dibutuhkan {took} detik {from} s/d {to}")
}

/// Formats a dictionary of results as Python does; a failed task is `None`.
#[must_use]
pub fn results_dict<'a>(results: impl IntoIterator<Item = (&'a str, Option<Duration>)>) -> String {
    let entries = results.into_iter().map(|(name, took)| {
        let value = took.map_or_else(|| "None".to_owned(), timedelta_repr);
        format!("{}: {value}", str_repr(name))
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

/// Formats a string as Python's `repr` does.
#[must_use]
pub fn str_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut repr = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => repr.push_str("\\\\"),
            c if c == quote => repr.extend(['\\', c]),
            c if is_safe_to_show(c) => repr.push(c),
            c => push_escape(c, &mut repr),
        }
    }
    repr.push(quote);
    repr
}

/// Appends bytes as `repr` prints them between its quotes; `quote` is `'` or `"`.
pub fn push_bytes_repr(bytes: &[u8], quote: u8, out: &mut String) {
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if byte == quote => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
}

/// Returns the quote that Python puts around bytes, given which quotes they contain.
#[must_use]
pub fn bytes_quote(has_single: bool, has_double: bool) -> u8 {
    if has_single && !has_double { b'"' } else { b'\'' }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_python_prints_them() {
        for (micros, text, repr) in [
            (0, "0:00:00", "datetime.timedelta(0)"),
            (2_216_464, "0:00:02.216464", "datetime.timedelta(seconds=2, microseconds=216464)"),
            (2_088_917, "0:00:02.088917", "datetime.timedelta(seconds=2, microseconds=88917)"),
            (5_000_000, "0:00:05", "datetime.timedelta(seconds=5)"),
            (
                90_061_000_001,
                "1 day, 1:01:01.000001",
                "datetime.timedelta(days=1, seconds=3661, microseconds=1)",
            ),
        ] {
            assert_eq!(timedelta(Duration::from_micros(micros)), text);
            assert_eq!(timedelta_repr(Duration::from_micros(micros)), repr);
        }
    }

    #[test]
    fn lines_have_the_seeds_shape() {
        let from: Timestamp = "2021-07-19T16:05:18.675978Z".parse().unwrap();
        let to: Timestamp = "2021-07-19T16:05:20.892442Z".parse().unwrap();
        let line = writing_line("logo-its-1.png", from, to);
        assert!(
            line.starts_with("writing logo-its-1.png dalam waktu 0:00:02.216464 2021-07-"),
            "{line}"
        );
        assert!(line.contains(".675978 s/d 2021-07-") && line.ends_with(".892442"), "{line}");
        assert!(
            total_line(from, to)
                .starts_with("Waktu TOTAL yang dibutuhkan 0:00:02.216464 detik 2021-")
        );
    }

    #[test]
    fn values_as_python_prints_them() {
        let results = [("its", Some(Duration::from_micros(2_088_917))), ("it's", None)];
        assert_eq!(
            results_dict(results),
            "{'its': datetime.timedelta(seconds=2, microseconds=88917), \"it's\": None}"
        );
        assert_eq!(str_repr("a\\\n\u{9b}\u{202e}é"), r"'a\\\n\x9b\u202eé'");
        let mut out = String::new();
        push_bytes_repr(b"\x89PNG\r\n\x1a\n\0'\\", b'"', &mut out);
        assert_eq!(out, r"\x89PNG\r\n\x1a\n\x00'\\");
    }
}
