//! Sizes and times as people write them: `64 MiB`, `10s`, `1h30m`.

/// Why a text is no value of its kind: what would be one, as the end of a sentence that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give {remedy}")]
pub struct BadValue {
    /// What to give instead.
    pub remedy: String,
}

impl BadValue {
    /// Says what to give instead.
    pub fn new(remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into() }
    }
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const MS_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// A number of bytes: `67108864`, `64 MiB`, `1.5GB`.
pub fn parse_bytes(text: &str) -> Result<u64, BadValue> {
    let remedy = "a size such as \"64 MiB\", \"1 GB\" or a number of bytes";
    with_unit(text, BYTE_UNITS).ok_or_else(|| BadValue::new(remedy))
}

/// A number of milliseconds: `10000`, `10s`, `1.5h`, `1h30m`, `7d`.
pub fn parse_ms(text: &str) -> Result<u64, BadValue> {
    let remedy = "a duration such as \"500ms\", \"10s\", \"1h\", \"7d\" or a number of milliseconds";
    with_unit(text, MS_UNITS).or_else(|| parts_ms(text)).ok_or_else(|| BadValue::new(remedy))
}

/// A duration in parts, the larger unit first: `1h30m`.
fn parts_ms(text: &str) -> Option<u64> {
    let (mut rest, mut sum, mut unit_before) = (text.trim(), 0u64, u64::MAX);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let end = rest[unit_at..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| unit_at + at);
        let (part, behind) = rest.split_at(end);
        let unit = part[unit_at..].trim();
        let (_, unit_ms) =
            MS_UNITS.iter().find(|(name, _)| *name == unit).filter(|(_, ms)| *ms < unit_before)?;
        sum = sum.checked_add(with_unit(part, MS_UNITS)?)?;
        (rest, unit_before) = (behind, *unit_ms);
    }
    (unit_before < u64::MAX).then_some(sum)
}

/// A duration as people type it, in milliseconds: as [`parse_ms`], but never without its unit, since `7` may be meant for days.
pub fn parse_duration(text: &str) -> Result<u64, BadValue> {
    let has_unit = text.trim().ends_with(|last: char| last.is_ascii_alphabetic());
    if has_unit || text.trim() == "0" {
        return parse_ms(text);
    }
    Err(BadValue::new("a duration with its unit, such as \"500ms\", \"10s\", \"1h\" or \"7d\""))
}

/// Number and unit, counted in the smallest unit; whole results only.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = (text[..split].replace('_', ""), text[split..].trim());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty()
        || number.ends_with('.')
        || fraction.len() > 9
        || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let counted = digits.checked_mul(u128::from(*factor))?;
    if counted % scale == 0 { u64::try_from(counted / scale).ok() } else { None }
}

/// A duration as people read it.
pub fn show_ms(ms: u64) -> String {
    const UNITS: &[(u64, &str)] = &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.iter().find(|(length, _)| ms >= *length && ms.is_multiple_of(*length));
    match unit {
        Some((length, name)) => format!("{} {name}", ms / length),
        None if ms >= 1_000 => format!("{:.1} s", ms as f64 / 1000.0),
        None => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        let sizes = [("0", 0), ("64 MiB", 64 << 20), ("64MiB", 64 << 20), ("1.5 kB", 1500), ("1_000", 1000)];
        for (text, bytes) in sizes {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for (text, ms) in [("250", 250), ("10s", 10_000), ("1.5h", 5_400_000), ("7 d", 604_800_000)] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
        for (text, ms) in [("1h30m", 5_400_000), ("1d 12h", 129_600_000), ("1m 2s 3ms", 62_003)] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn a_duration_that_people_type_has_its_unit() {
        assert_eq!((parse_duration("7d"), parse_duration("0")), (Ok(604_800_000), Ok(0)));
        assert!(parse_duration("7").is_err() && parse_duration("d").is_err());
    }

    #[test]
    fn what_is_neither_is_refused_rather_than_guessed() {
        for bad in
            ["", "MiB", "-1", "1.", ".5s", "1 mib", "1e9", "0.5", "99999999999999999999 TiB", "1.5.2 GB"]
        {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "-10s", "10 seconds", "0.5", "1h30", "30m1h", "1h1h", "1h.5m", "1h30m5"] {
            assert!(parse_ms(bad).is_err(), "{bad}");
        }
    }
}
