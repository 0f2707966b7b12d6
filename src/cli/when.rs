//! Times and places in a log as people type them.
//!
//! ```text
//! start | now | jobs/alpha.01234567/42 | cv1_… | 2026-01-31T12:00:00Z | 1769860800 | -10m
//! ```
use crate::base::{Cursor, EntryRef};
use crate::server::config::parse_ms;
use crate::wire::outcome::ReadFrom;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, in Unix milliseconds.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// Reads where a read begins.
pub fn parse_from(text: &str) -> Result<ReadFrom, String> {
    match text {
        "start" => return Ok(ReadFrom::Start),
        "now" => return Ok(ReadFrom::Now),
        _ => (),
    }
    if Cursor::is_like(text) {
        return text.parse().map(ReadFrom::Cursor).map_err(|error| format!("{error}"));
    }
    if let Ok(unix_ms) = parse_time(text) {
        return Ok(ReadFrom::Time { unix_ms });
    }
    EntryRef::parse(text).map(ReadFrom::Id).map_err(|_| {
        "give start, now, an id (jobs/alpha.01234567/42), a cursor (cv1_…), or a time: \
         2026-01-31T12:00:00Z, Unix seconds, or -10m for ten minutes ago"
            .to_owned()
    })
}

/// Reads a time as Unix milliseconds: RFC 3339, Unix seconds, or a duration from now on (`10m`) or back (`-10m`).
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || {
        "give a time as 2026-01-31T12:00:00Z, Unix seconds, or a duration from now such as -10m".to_owned()
    };
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| wrong());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(seconds) && is_number(fraction) {
        let seconds: f64 = text.parse().map_err(|_| wrong())?;
        return Ok((seconds * 1000.0) as u64);
    }
    match text.strip_prefix('-') {
        Some(back) => parse_ms(back).map(|ms| unix_ms().saturating_sub(ms)),
        None => parse_ms(text.strip_prefix('+').unwrap_or(text)).map(|ms| unix_ms().saturating_add(ms)),
    }
    .map_err(|_| wrong())
}

/// A time as RFC 3339 with milliseconds.
pub fn show_time(unix_ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    // Every 48-bit millisecond has a date, but `time` ends with the year 9999.
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{unix_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_say_where_is_told_from_the_others() {
        let time = |unix_ms| Ok(ReadFrom::Time { unix_ms });
        assert_eq!(parse_from("start"), Ok(ReadFrom::Start));
        assert_eq!(parse_from("1970-01-01T00:00:01.5Z"), time(1_500));
        assert_eq!(parse_from("1970-01-01T01:00:00+01:00"), time(0));
        assert_eq!(parse_from("1769860800"), time(1_769_860_800_000));
        assert_eq!(parse_from("0.25"), time(250));
        assert!(matches!(parse_from("a/b/alpha.01234567/42"), Ok(ReadFrom::Id(_))));
        assert!(parse_from("cv1_zzz").unwrap_err().contains("cursor"));
        for wrong in ["", "yesterday", "-", "10x", "a/b", "-10m/x"] {
            assert!(parse_from(wrong).unwrap_err().starts_with("give start, now"), "{wrong}");
        }
    }

    #[test]
    fn relative_times_count_from_now() {
        let before = unix_ms();
        let ten_minutes_ago = parse_time("-10m").unwrap();
        assert!(ten_minutes_ago + 600_000 >= before && ten_minutes_ago + 600_000 <= unix_ms());
        assert!(parse_time("+1h").unwrap() >= before + 3_600_000);
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        assert_eq!(show_time(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(parse_time(&show_time(1_769_860_800_123)), Ok(1_769_860_800_123));
    }
}
