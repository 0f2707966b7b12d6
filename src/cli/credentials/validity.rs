//! From when until when a certificate counts, as it says itself (RFC 5280, section 4.1): read for people, and trusted by nobody.
use crate::identity::IdentityError;
use anyhow::{Context as _, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Both ends, in UTC; `None` where they cannot be read.
pub fn of_file(file: &Path) -> Result<Option<(String, String)>> {
    let text = std::fs::read(file).map_err(|error| IdentityError::File { path: file.into(), error })?;
    let der = CertificateDer::from_pem_slice(&text).with_context(|| format!("{}", file.display()))?;
    Ok(of(&der))
}

fn of(der: &[u8]) -> Option<(String, String)> {
    let (_, certificate, _) = element(der)?;
    let (_, mut signed, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        signed = element(signed)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        signed = element(signed)?.2;
    }
    let (_, validity, _) = element(signed).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (from_tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

/// A tag, its content, and what stands behind that.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, or the same with four digits of the year.
fn time(tag: u8, content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let is_time = rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_digit());
    is_time.then(|| {
        format!("{year}-{}-{}T{}:{}:{}Z", &rest[..2], &rest[2..4], &rest[4..6], &rest[6..8], &rest[8..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ca::{Ca, Validity};

    #[test]
    fn both_ends_are_read_before_and_after_2050() {
        for (now_s, from, until) in
            [(1_700_000_000, "2023-11-14T", "2023-11-24T"), (3_000_000_000, "2065-01-24T", "2065-02-03T")]
        {
            let ca = Ca::create(Validity::days(now_s, 10)).unwrap();
            let (begins, ends) = of(ca.certificate()).unwrap();
            assert!(ends.starts_with(until), "{ends}");
            // It counts a little before it was made, since clocks differ.
            assert!(begins.as_str() <= from || begins.starts_with(from), "{begins}");
        }
        assert_eq!(of(b"no certificate"), None);
        assert_eq!(time(UTC_TIME, b"991231235959Z").as_deref(), Some("1999-12-31T23:59:59Z"));
        assert_eq!(time(UTC_TIME, b"99123123595Z"), None);
    }
}
