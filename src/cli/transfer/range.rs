//! Where an export ends: before an entry or a time, or after so many entries. Batches stay whole, so it may end a little behind.
use crate::base::{Batch, EntryId, EntryRef, PeerId, RunId, Timestamp};
use crate::cli::exit::{Exit, failure};
use crate::cli::when::{parse_from, unix_ms};
use crate::client::{Client, ClientError};
use crate::wire::outcome::{Gap, ReadFrom};
use anyhow::Result;
use std::collections::BTreeSet;

/// What `--until` names.
#[derive(Debug, Clone)]
pub(super) enum Until {
    Time { unix_ms: u64 },
    Id(EntryRef),
}

/// Reads where an export ends.
pub(super) fn parse_until(text: &str) -> Result<Until, String> {
    match parse_from(text)? {
        ReadFrom::Time { unix_ms } => Ok(Until::Time { unix_ms }),
        ReadFrom::Now => Ok(Until::Time { unix_ms: unix_ms() }),
        ReadFrom::Id(id) => Ok(Until::Id(id)),
        _ => Err("give an id, or a time: 10m for ten minutes ago, 2026-01-31, or Unix seconds".to_owned()),
    }
}

/// The end of an export, as it is reached.
pub(super) struct End {
    time: Timestamp,
    entry: Option<EntryId>,
    entries_left: u64,
    /// Runs of which a batch lay behind the end: what is missing of them from there on is not missed.
    passed: BTreeSet<(PeerId, RunId)>,
}

impl End {
    /// Asks the peer when an entry came that is to end the others' logs too.
    pub(super) async fn find(client: &Client, until: Option<Until>, limit: Option<u64>) -> Result<Self> {
        let (time, entry) = match until {
            None => (Timestamp(u64::MAX), None),
            Some(Until::Time { unix_ms }) => (Timestamp::from_ms(unix_ms), None),
            Some(Until::Id(id)) => match client.get(std::slice::from_ref(&id), None).await?.pop() {
                Some(found) => {
                    let record = found.map_err(ClientError::Read)?;
                    (record.time, Some(record.id))
                }
                None => return Err(failure(Exit::NotFound, format!("{id} is not known"))),
            },
        };
        Ok(Self { time, entry, entries_left: limit.unwrap_or(u64::MAX), passed: BTreeSet::new() })
    }

    /// Whether as many entries were taken as are wanted.
    pub(super) fn is_reached(&self) -> bool {
        self.entries_left == 0
    }

    /// Whether a batch begins before the end; it counts then.
    pub(super) fn takes(&mut self, batch: &Batch) -> bool {
        let s = batch.statement();
        let is_before = match self.entry {
            Some(id) if (id.peer, id.run) == (s.log.peer, s.run) => s.first_seq < id.seq,
            _ => s.first_time < self.time,
        };
        if is_before {
            self.entries_left = self.entries_left.saturating_sub(s.until().since(s.first_seq));
        } else {
            self.passed.insert((s.log.peer, s.run));
        }
        is_before
    }

    /// Whether what is missing may lie before the end. When it came nobody knows: it counts where nothing of its run lay
    /// behind the end before it.
    pub(super) fn misses(&self, gap: &Gap) -> bool {
        let is_behind =
            self.entry.is_some_and(|id| (id.peer, id.run) == (gap.peer, gap.run) && id.seq <= gap.from);
        !is_behind && !self.passed.contains(&(gap.peer, gap.run))
    }
}
