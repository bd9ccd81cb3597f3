//! Times as people give them: RFC 3339, or relative to now.

use super::ClientError;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::Value;

/// `2026-03-01T14:30:00+01:00`, `now`, `-90s`, `-10m`, `-2h`, `-1d`; as RFC 3339 in UTC.
pub fn parse(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, ClientError> {
    let wrong = || {
        ClientError::Usage(format!("{option}: write a time such as 2026-03-01T14:30:00+01:00, or -10m, -2h, -1d, now"))
    };
    if text == "now" {
        return Ok(now);
    }
    let Some(back) = text.strip_prefix('-') else { return text.parse().map_err(|_| wrong()) };
    let (number, unit) = back.split_at_checked(back.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let back = number.checked_mul(seconds).filter(|back| *back >= 0).ok_or_else(wrong)?;
    now.checked_sub(SignedDuration::from_secs(back)).map_err(|_| wrong())
}

/// A time of the hub's as a person reads it, in the named zone; UTC when this machine does not know it.
pub fn local(value: &Value, zone: &str) -> String {
    let Some(at) = value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else { return String::new() };
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_absolute_times_are_read() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let second = |text| parse("--from", text, now).map(Timestamp::as_second).ok();
        assert_eq!(second("now"), Some(1_000_000));
        assert_eq!(second("-10m"), Some(999_400));
        assert_eq!(second("-1d"), Some(913_600));
        assert_eq!(second("1970-01-01T01:00:00+01:00"), Some(0));
        for wrong in ["10m", "-m", "-", "-5x", "--5m", "2026-03-01", "", "-9223372036854775807d", "-5è"] {
            assert_eq!(second(wrong), None, "{wrong}");
        }
    }
}
