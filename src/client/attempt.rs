//! What became of an attempt to connect, in words for people.
use crate::client::error::AttemptError;
use quinn::ConnectionError;

/// The TLS alerts among QUIC's error codes.
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// Why a connection did not come about.
pub(super) fn attempt_error(error: ConnectionError) -> AttemptError {
    let code = match &error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => 0,
    };
    match error {
        ConnectionError::TimedOut => AttemptError::Silent,
        error if CRYPTO_ERRORS.contains(&code) => {
            let is_ours = matches!(error, ConnectionError::TransportError(_));
            AttemptError::Tls { reason: tls_words(is_ours, code - CRYPTO_ERRORS.start, &error) }
        }
        error => AttemptError::Lost { reason: error.to_string() },
    }
}

/// What a TLS alert (RFC 8446, section 6) means here; `is_ours` where this side refused the other's certificate.
fn tls_words(is_ours: bool, alert: u64, error: &ConnectionError) -> String {
    let (whose, who) = match is_ours {
        true => ("the peer's certificate", "this client"),
        false => ("this certificate", "the peer"),
    };
    match alert {
        45 => format!("{whose} is over, or not valid yet"),
        48 => format!("{whose} is of another authority, as of another cluster"),
        42 | 43 | 44 | 46 | 51 => {
            format!("{who} does not take {whose}: it is of another cluster, over, or for another role")
        }
        116 => "the peer wants a certificate".to_owned(),
        120 => "the peer does not speak with clients here".to_owned(),
        _ => error.to_string(),
    }
}
