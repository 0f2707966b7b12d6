//! From what people write to what the log knows: abbreviated ids, beginnings of reads.
use crate::base::name::PeerRef;
use crate::base::{Cursor, EntryId, EntryRef, LogId, Position, Seq, Timestamp, TopicId};
use crate::log::read::{self, Single};
use crate::log::store::Log;
use crate::log::topic_reader::Start;
use crate::runtime::shared::Shared;
use crate::wire::outcome::{ReadError, ReadFrom};
use std::io;
use std::sync::Arc;

/// What an id may mean.
pub(super) enum Meant {
    /// This entry, which is within its log's numbers.
    Entry(EntryId),
    /// An entry that this peer does not hold yet: the id, and where the log ends here.
    Ahead(EntryId, Seq),
}

/// The one entry that `id` fits.
pub(super) fn resolve(shared: &Shared, id: &EntryRef) -> Result<Meant, ReadError> {
    let topic = TopicId::of(shared.about.cluster, id.topic.as_str());
    let (mut fits, mut ahead) = (Vec::new(), Vec::new());
    for log in shared.store.logs_of(topic) {
        if !is_peer(shared, &log, &id.peer) {
            continue;
        }
        for run in log.look().runs.iter().filter(|run| id.fits_run(run.id)) {
            let entry = EntryId { topic, peer: log.id.peer, run: run.id, seq: id.seq };
            if id.seq >= run.until {
                ahead.push((entry, run.until));
            } else if id.seq >= run.from {
                fits.push(entry);
            }
        }
    }
    match (fits.as_slice(), ahead.as_slice()) {
        ([one], _) => Ok(Meant::Entry(*one)),
        ([], [(entry, until)]) => Ok(Meant::Ahead(*entry, *until)),
        ([], []) => Err(ReadError::IdUnknown { id: id.to_string() }),
        ([], many) => {
            Err(ReadError::IdAmbiguous { id: id.to_string(), fits: many.iter().map(|(id, _)| *id).collect() })
        }
        (many, _) => Err(ReadError::IdAmbiguous { id: id.to_string(), fits: many.to_vec() }),
    }
}

fn is_peer(shared: &Shared, log: &Log, peer: &PeerRef) -> bool {
    match peer {
        PeerRef::Key(key) => *key == log.id.peer,
        PeerRef::Name(name) => shared.name_of(&log.id.peer).as_ref() == Some(name),
    }
}

/// Reads one entry by its id.
pub(super) fn get(shared: &Shared, id: &EntryRef) -> Result<crate::runtime::Found, ReadError> {
    let entry = match resolve(shared, id)? {
        Meant::Entry(entry) => entry,
        Meant::Ahead(_, until) => return Err(ReadError::IdAhead { id: id.to_string(), until }),
    };
    match single(shared, &entry).map_err(io_error)? {
        Single::Entry(time, raw) => Ok(crate::runtime::Found { id: entry, time, raw }),
        Single::Trimmed(start) => Err(ReadError::IdTrimmed { id: id.to_string(), start }),
        Single::Damaged => Err(ReadError::Damaged { id: id.to_string() }),
        Single::Lost => Err(ReadError::IdLost { id: id.to_string() }),
        Single::Ahead(until) => Err(ReadError::IdAhead { id: id.to_string(), until }),
        Single::Unknown => Err(ReadError::IdUnknown { id: id.to_string() }),
    }
}

fn single(shared: &Shared, id: &EntryId) -> io::Result<Single> {
    let log: LogId = id.log();
    match shared.store.log(&log) {
        Some(log) => read::get(&shared.store, &log, id),
        None => Ok(Single::Unknown),
    }
}

pub(super) fn io_error(error: io::Error) -> ReadError {
    ReadError::Io { reason: error.to_string() }
}

/// Where a read begins, in the log's terms.
pub(super) fn start(shared: &Arc<Shared>, topic: TopicId, from: ReadFrom) -> Result<Start, ReadError> {
    let now = || Timestamp::from_ms(shared.env.clock.unix_ms());
    match from {
        ReadFrom::Start => Ok(Start::Oldest),
        ReadFrom::Now => Ok(Start::Now(now())),
        ReadFrom::Time { unix_ms } => Ok(Start::Time(Timestamp::from_ms(unix_ms))),
        ReadFrom::Cursor(cursor) => {
            cursor.check(shared.about.cluster, topic)?;
            Ok(Start::Cursor(cursor))
        }
        ReadFrom::Id(id) => match resolve(shared, &id)? {
            Meant::Ahead(entry, _) => Ok(Start::Cursor(at(shared, &entry, now()))),
            Meant::Entry(entry) => match single(shared, &entry).map_err(io_error)? {
                Single::Entry(time, _) => Ok(Start::Entry(entry, time)),
                Single::Trimmed(start) => Err(ReadError::IdTrimmed { id: id.to_string(), start }),
                // The reader is told what stands in the way when it gets there.
                _ => Ok(Start::Cursor(at(shared, &entry, now()))),
            },
        },
    }
}

/// The cursor just before `entry`.
fn at(shared: &Shared, entry: &EntryId, floor: Timestamp) -> Cursor {
    let position = Position { peer: entry.peer, run: entry.run, next: entry.seq };
    Cursor { cluster: shared.about.cluster, topic: entry.topic, floor, positions: vec![position] }
}
