//! Messages between peers as frames, and back.
//!
//! Batches are their own bytes, so that none is copied on its way; everything else is bincode with a byte limit. What
//! comes is refused where its numbers contradict each other, before anybody looks at it.
use crate::base::Seq;
use crate::base::limits::PEER_MESSAGE_BYTES_MAX;
use crate::wire::frame::{self, Frame, Kind, PUSH_PREFIX_BYTES};
use crate::wire::message::MessageError;
use crate::wire::peer::{LogSummary, PeerMessage, Prefix, RunRange};
use bytes::{Buf, Bytes};

/// Why a frame is no message between peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFrameError {
    /// It cannot be read.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It can be read, and says what no peer says.
    #[error("a message says what no peer says: {what}")]
    Senseless {
        /// What that is.
        what: &'static str,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<PEER_MESSAGE_BYTES_MAX>()
}

/// Puts `message` in frames behind what `out` holds. Fails where it is longer than a message may be.
pub fn put(message: &PeerMessage, out: &mut Vec<Bytes>) -> Result<(), MessageError> {
    match message {
        PeerMessage::Batch(batch) => frame::put(Kind::Stored, &[], batch.clone(), out),
        PeerMessage::Push { number, batch } => {
            frame::put(Kind::Push, &number.to_le_bytes(), batch.clone(), out);
        }
        message => match bincode::serde::encode_to_vec(message, config()) {
            Ok(bytes) if bytes.len() <= PEER_MESSAGE_BYTES_MAX => {
                frame::put(Kind::Peer, &[], bytes.into(), out)
            }
            _ => return Err(MessageError::TooLong),
        },
    }
    Ok(())
}

/// The message in a frame of kind `Peer`, `Stored` or `Push`.
pub fn take(frame: Frame) -> Result<PeerMessage, PeerFrameError> {
    let mut payload = frame.payload;
    match frame.kind {
        Kind::Stored => Ok(PeerMessage::Batch(payload)),
        Kind::Push if payload.len() < PUSH_PREFIX_BYTES => {
            Err(PeerFrameError::Senseless { what: "a push without a number" })
        }
        Kind::Push => {
            let number = payload.get_u64_le();
            Ok(PeerMessage::Push { number, batch: payload })
        }
        _ => {
            let (message, read) = bincode::serde::decode_from_slice(&payload, config())
                .map_err(|error| MessageError::Malformed { reason: error.to_string() })?;
            match payload.len() - read {
                0 => check(message),
                count => Err(MessageError::Trailing { count }.into()),
            }
        }
    }
}

/// The message, if its numbers do not contradict each other.
fn check(message: PeerMessage) -> Result<PeerMessage, PeerFrameError> {
    let senseless = |what| Err(PeerFrameError::Senseless { what });
    match &message {
        PeerMessage::Digest { buckets, .. } if !buckets.iter().all(|bucket| is_prefix(&bucket.prefix)) => {
            senseless("a bucket with more digits than there are")
        }
        PeerMessage::Leaves { prefix, .. } if !is_prefix(prefix) => {
            senseless("a bucket with more digits than there are")
        }
        PeerMessage::Logs { held, .. } if !held.iter().all(is_summary) => {
            senseless("ranges of a run that are out of order")
        }
        PeerMessage::Have(range, _)
        | PeerMessage::Gone(range)
        | PeerMessage::Want { range, .. }
        | PeerMessage::Sent { range, .. }
            if !is_range(range) =>
        {
            senseless("a range that ends before it begins")
        }
        PeerMessage::AskStatement { run, seq, .. } | PeerMessage::Statement { run, seq, .. }
            if !run.is_some() || *seq < Seq::FIRST =>
        {
            senseless("an entry without a run or a number")
        }
        _ => Ok(message),
    }
}

fn is_prefix(prefix: &Prefix) -> bool {
    let beyond = u64::MAX.checked_shr(4 * u32::from(prefix.depth)).unwrap_or(0);
    prefix.depth <= 16 && prefix.bits & beyond == 0
}

fn is_range(range: &RunRange) -> bool {
    range.run.is_some() && Seq::FIRST <= range.from && range.from <= range.until
}

fn is_summary(summary: &LogSummary) -> bool {
    summary.runs.iter().all(|run| {
        let mut last = Seq(0);
        run.run.is_some()
            && run.held.iter().all(|(from, until)| {
                let follows = last < *from && from < until;
                last = *until;
                follows
            })
    })
}

#[cfg(test)]
mod tests;
