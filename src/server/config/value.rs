//! Settings as people write them, each with its bounds: `64 MiB`, `10s`, `none`.
use crate::base::units::{BadValue, parse_bytes, parse_ms};

/// A whole number within bounds.
pub(super) fn count(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let digits = text.replace('_', "");
    bounded(digits.parse().ok(), min, max, &format!("a whole number from {min} to {max}"))
}

/// A size within bounds, both given in bytes.
pub(super) fn bytes(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let remedy = format!("a size from {} to {}, such as \"64 MiB\"", show_bytes(min), show_bytes(max));
    bounded(parse_bytes(text).ok(), min, max, &remedy)
}

/// A duration within bounds, both given in milliseconds.
pub(super) fn ms(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let remedy = format!("a duration from {min} ms to {max} ms, such as \"10s\" or \"1h\"");
    bounded(parse_ms(text).ok(), min, max, &remedy)
}

/// A value or the word `none`.
pub(super) fn optional<T>(
    text: &str,
    some: impl FnOnce(&str) -> Result<T, BadValue>,
) -> Result<Option<T>, BadValue> {
    match text {
        "none" | "off" => Ok(None),
        text => some(text).map(Some).map_err(|bad| BadValue::new(format!("{}, or \"none\"", bad.remedy))),
    }
}

/// `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, BadValue> {
    text.parse().map_err(|_| BadValue::new("true or false"))
}

fn bounded(value: Option<u64>, min: u64, max: u64, remedy: &str) -> Result<u64, BadValue> {
    value.filter(|value| (min..=max).contains(value)).ok_or_else(|| BadValue::new(remedy))
}

fn show_bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift);
    match fits {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_in_words_of_their_kind() {
        assert_eq!(
            bytes("1", 1 << 20, 1 << 40).unwrap_err().remedy,
            "a size from 1 MiB to 1 TiB, such as \"64 MiB\""
        );
        assert_eq!(count("0", 1, 9).unwrap_err().remedy, "a whole number from 1 to 9");
        assert_eq!(optional("none", |t| count(t, 1, 9)), Ok(None));
        assert_eq!(
            optional("x", |t| count(t, 1, 9)).unwrap_err().remedy,
            "a whole number from 1 to 9, or \"none\""
        );
    }
}
