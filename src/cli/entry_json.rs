//! Entries as JSON, see [`crate::wire::json`], from what the client library brings and by this machine's clock.
use crate::cli::when::unix_ms;
use crate::client::Record;
use crate::wire::json;

pub use crate::wire::json::{EntryJsonError, Line, RecordJson};

impl RecordJson {
    /// Everything that is known of `record`.
    pub fn new(record: &Record) -> Self {
        let Record { topic, id, signed_run, peer_name, time, entry } = record;
        let (id, signed_run, time) = (*id, *signed_run, *time);
        Self::of(&json::Named { topic, id, signed_run, peer_name: peer_name.as_ref(), time }, entry)
    }
}

/// Reads one line of NDJSON.
pub fn parse_line(line: &[u8]) -> Result<Line, EntryJsonError> {
    json::parse_line(line, unix_ms())
}
