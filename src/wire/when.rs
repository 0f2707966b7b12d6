//! Times and places in a log as people type them.
//!
//! ```text
//! start | now | jobs/alpha.01234567/42 | cv1_… | 2026-01-31 | 2026-01-31T12:00:00Z | 1769860800 | 10m | -10m
//! ```
//!
//! A duration counts back where reading begins (`10m` is ten minutes ago, as with other programs' `--since`), and ahead
//! where something is to happen (`deliver_at`); a sign says it outright.
use crate::base::units::parse_duration;
use crate::base::{Cursor, EntryRef};
use crate::wire::outcome::ReadFrom;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How far a time may lie ahead where reading begins: what a peer wrote just now may bear one, by its own clock.
const AHEAD_MS_MAX: u64 = 60_000;

/// Reads where a read begins, at this Unix time in milliseconds.
pub fn parse_from(text: &str, now_ms: u64) -> Result<ReadFrom, String> {
    match text {
        "start" => return Ok(ReadFrom::Start),
        "now" => return Ok(ReadFrom::Now),
        _ => (),
    }
    if Cursor::is_like(text) {
        return text.parse().map(ReadFrom::Cursor).map_err(|error| format!("{error}"));
    }
    if let Some(ms) = parse_absolute(text) {
        let is_ahead = ms > now_ms.saturating_add(AHEAD_MS_MAX);
        let refused = || format!("{text} is ahead of now; give now for what comes");
        return if is_ahead { Err(refused()) } else { Ok(ReadFrom::Time { unix_ms: ms }) };
    }
    if text.strip_prefix('+').is_some_and(|ahead| parse_duration(ahead).is_ok()) {
        let ago = &text[1..];
        return Err(format!("{text} is ahead of now; give {ago} for so long ago, or now for what comes"));
    }
    if let Ok(ms) = parse_duration(text.strip_prefix('-').unwrap_or(text)) {
        return Ok(ReadFrom::Time { unix_ms: now_ms.saturating_sub(ms) });
    }
    EntryRef::parse(text).map(ReadFrom::Id).map_err(|_| {
        "give start, now, an id (jobs/alpha.01234567/42), a cursor (cv1_…), or a time: 10m for ten minutes ago, \
         2026-01-31, 2026-01-31T12:00:00Z, or Unix seconds"
            .to_owned()
    })
}

/// Reads when something is to happen, as Unix milliseconds, where `now_ms` is now: a time, or a duration from now (`10m`, `+10m`).
pub fn parse_at(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Some(unix_ms) = parse_absolute(text) {
        return Ok(unix_ms);
    }
    match text.strip_prefix('-') {
        Some(back) => parse_duration(back).map(|ms| now_ms.saturating_sub(ms)),
        None => parse_duration(text.strip_prefix('+').unwrap_or(text)).map(|ms| now_ms.saturating_add(ms)),
    }
    .map_err(|_| {
        "give a time as 2026-01-31T12:00:00Z, 2026-01-31, Unix seconds, or a duration from now such as 10m"
            .to_owned()
    })
}

/// A time that does not depend on now: Unix seconds, a date, or date and time, which are UTC unless they name a zone.
fn parse_absolute(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(seconds) && is_number(fraction) {
        return text.parse::<f64>().ok().map(|seconds| (seconds * 1000.0) as u64);
    }
    let time = OffsetDateTime::parse(&completed(text), &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// A date, or date and time, with what RFC 3339 wants and people leave out: the time of day, seconds, the zone.
fn completed(text: &str) -> String {
    let Some((date, rest)) = text.split_once(['T', 't', ' ']) else { return format!("{text}T00:00:00Z") };
    let (clock, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    let zone = if zone.is_empty() { "Z" } else { zone };
    format!("{date}T{clock}{seconds}{zone}")
}

/// A time as RFC 3339 with milliseconds.
pub fn show_time(unix_ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    // Every 48-bit millisecond has a date, but `time` ends with the year 9999.
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{unix_ms} ms"))
}
