//! Times and places in a log as people type them, see [`crate::wire::when`], by this machine's clock.
use crate::wire::outcome::ReadFrom;
use crate::wire::when;
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::wire::when::show_time;

/// Now, in Unix milliseconds.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// Reads where a read begins.
pub fn parse_from(text: &str) -> Result<ReadFrom, String> {
    when::parse_from(text, unix_ms())
}

/// Reads when something is to happen, as Unix milliseconds: a time, or a duration from now (`10m`, `+10m`).
#[cfg(test)]
pub fn parse_at(text: &str) -> Result<u64, String> {
    when::parse_at(text, unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_say_where_is_told_from_the_others() {
        let time = |unix_ms| Ok(ReadFrom::Time { unix_ms });
        assert_eq!(parse_from("start"), Ok(ReadFrom::Start));
        assert_eq!(parse_from("1769860800"), time(1_769_860_800_000));
        assert_eq!(parse_from("0.25"), time(250));
        assert!(matches!(parse_from("a/b/alpha.01234567/42"), Ok(ReadFrom::Id(_))));
        assert!(parse_from("cv1_zzz").unwrap_err().contains("cursor"));
        for wrong in ["", "yesterday", "-", "10x", "a/b", "-10m/x", "-600", "2026-13-01", "2026-01-31T"] {
            assert!(parse_from(wrong).unwrap_err().starts_with("give start, now"), "{wrong}");
        }
    }

    #[test]
    fn a_date_may_leave_out_time_seconds_and_zone() {
        let noon = [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00Z",
            "2026-01-31T12:00",
            "2026-01-31 12:00:00",
            "2026-01-31T12:00:00.000Z",
            "2026-01-31T13:00+01:00",
            "2026-01-31T07:00:00-05:00",
        ];
        for text in noon {
            assert_eq!(parse_from(text), Ok(ReadFrom::Time { unix_ms: 1_769_860_800_000 }), "{text}");
        }
        let midnight = 1_769_860_800_000 - 12 * 3_600_000;
        assert_eq!(parse_from("2026-01-31"), Ok(ReadFrom::Time { unix_ms: midnight }));
    }

    #[test]
    fn a_duration_counts_back_where_reading_begins_and_ahead_where_something_happens() {
        let (before, ten_minutes) = (unix_ms(), 600_000);
        for text in ["10m", "-10m"] {
            let Ok(ReadFrom::Time { unix_ms: ago }) = parse_from(text) else { panic!("{text} is a time") };
            assert!(ago + ten_minutes >= before && ago + ten_minutes <= unix_ms(), "{text}");
        }
        let told = parse_from("+10m").unwrap_err();
        assert!(told.contains("ahead of now") && told.contains("give 10m"), "{told}");
        for text in ["99999999999999999999", "9999-01-31"] {
            assert!(parse_from(text).unwrap_err().contains("ahead of now; give now"), "{text}");
        }
        assert!(parse_from(&show_time(before + 30_000)).is_ok(), "clocks are not all the same");
        for text in ["10m", "+10m"] {
            let at = parse_at(text).unwrap();
            assert!(at >= before + ten_minutes && at <= unix_ms() + ten_minutes, "{text}");
        }
        assert!(parse_at("-10m").unwrap() <= unix_ms() - ten_minutes && parse_at("soon").is_err());
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        assert_eq!(show_time(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(parse_at(&show_time(1_769_860_800_123)), Ok(1_769_860_800_123));
    }
}
