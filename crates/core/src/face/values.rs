//! Values with a unit on a command line: durations, sizes and rates, in one notation for all
//! programs.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Parses a duration such as `2s`, `300ms` or `1m30s`; `0` needs no unit.
///
/// # Errors
/// The text is no duration, or a negative one.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = jiff::SignedDuration::from_str(text)
        .map_err(|_| "expected a duration such as 2s or 300ms".to_owned())?;
    duration.try_into().map_err(|_| "a duration cannot be negative".to_owned())
}

/// Parses the address and port of a server.
pub(super) fn bind_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let expected = "expected ADDRESS:PORT such as 0.0.0.0:5005";
        match (text.trim_start_matches(':').parse::<u16>(), text.parse::<IpAddr>()) {
            (Ok(port), _) => format!("{expected}: did you mean 0.0.0.0:{port}?"),
            (_, Ok(address)) => {
                format!("{expected}: did you mean {}?", SocketAddr::new(address, 5005))
            }
            _ => expected.to_owned(),
        }
    })
}

/// Parses a size such as `64MiB`; returns bytes.
///
/// # Errors
/// The text is no size.
pub fn size(text: &str) -> Result<u64, String> {
    bytesize::ByteSize::from_str(text)
        .map(|size| size.as_u64())
        .map_err(|_| "expected a size such as 64MiB".to_owned())
}

/// Parses a buffer size in bytes: the kernel counts it in 32 bits, and doubles it.
pub(super) fn buffer_size(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).ok().filter(|bytes| *bytes <= 1 << 30);
    bytes.ok_or_else(|| "at most 1GiB".to_owned())
}

/// Parses a rate in bits per second in the notation of `tc`, such as `100mbit`; returns bytes per
/// second.
///
/// # Errors
/// The text is no rate, or less than a byte per second.
pub fn rate(text: &str) -> Result<u64, String> {
    let error = || "expected a rate such as 100mbit".to_owned();
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_suffix("bit").ok_or_else(error)?;
    let (number, factor) = match number.as_bytes().last() {
        Some(b'k') => (&number[..number.len() - 1], 1e3),
        Some(b'm') => (&number[..number.len() - 1], 1e6),
        Some(b'g') => (&number[..number.len() - 1], 1e9),
        _ => (number, 1.0),
    };
    let bits = number.trim().parse::<f64>().map_err(|_| error())? * factor;
    if bits.is_finite() && bits >= 8.0 { Ok((bits / 8.0) as u64) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_address_is_completed() {
        assert_eq!(bind_address("[::]:5005"), Ok("[::]:5005".parse().unwrap()));
        assert!(bind_address("5005").unwrap_err().contains("0.0.0.0:5005?"));
        assert!(bind_address(":6000").unwrap_err().contains("0.0.0.0:6000?"));
        assert!(bind_address("10.0.0.1").unwrap_err().contains("10.0.0.1:5005?"));
        assert!(bind_address("here").unwrap_err().contains("expected ADDRESS:PORT"));
    }

    #[test]
    fn values_with_units() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("-2s").is_err() && duration("2").is_err());
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(rate("100mbit"), Ok(12_500_000));
        assert_eq!(rate("8bit"), Ok(1));
        assert!(rate("fast").is_err() && rate("-1mbit").is_err() && rate("100").is_err());
    }
}
