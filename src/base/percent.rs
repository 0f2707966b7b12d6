//! Bytes as text in which all but some are `%` and two hexadecimal digits, as addresses on the web have them (RFC 3986).
use std::fmt;

/// Shows bytes so: letters, digits, `-._~` and those in `keep` stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Percent<'a> {
    /// What is shown.
    pub bytes: &'a [u8],
    /// What stays as it is beside letters, digits and `-._~`.
    pub keep: &'static [u8],
}

impl fmt::Display for Percent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.bytes {
            let is_kept = byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || self.keep.contains(byte);
            if is_kept { write!(f, "{}", *byte as char)? } else { write!(f, "%{byte:02X}")? }
        }
        Ok(())
    }
}

/// The bytes that such text stands for; none where a `%` has no two digits behind it.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let (digits, tail) = rest.split_first_chunk::<2>()?;
            let digit = |byte: u8| (byte as char).to_digit(16);
            out.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
            rest = tail;
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_survive_being_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        for keep in [&b""[..], b"/:"] {
            let text = Percent { bytes: &bytes, keep }.to_string();
            assert!(text.is_ascii() && decode(text.as_bytes()) == Some(bytes.clone()));
        }
        assert_eq!(Percent { bytes: "a/é%".as_bytes(), keep: b"" }.to_string(), "a%2F%C3%A9%25");
        for bad in ["%", "%4", "%4g", "a%"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
