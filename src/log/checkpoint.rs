//! The checkpoint: all that must be known of every log at one position of the journal, so that opening reads this and
//! the journal behind it, and no log.
//!
//! It is written to a file of its own, synced, and put in the place of the one before. Only then the journal files it
//! covers are used again.
use crate::base::bytes_io::{Reader, Truncated, put_var_bytes, put_varint};
use crate::base::fork::FORK_BYTES;
use crate::base::statement::{HEAD_BYTES, LOST_BYTES};
use crate::base::{
    Digest, Fork, Head, LogId, Lost, PeerId, RunId, Seq, Signature, Timestamp, TopicId, TopicName,
};
use crate::disk::{DiskFile, OpenMode};
use crate::log::place::{CHECKPOINT, CHECKPOINT_NEW, Place, TOPICS_DIR, topic_dir};
use crate::log::rebuild::{dir_of, is_unnamed, unescape, unnamed};
use crate::log::record::Lsn;
use crate::log::state::{LogState, Range, Run, Span};
use crate::log::store::{Log, Store};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// The version of what a data directory holds, which stands in its checkpoint: of the journal, the indexes and what the engine
/// remembers too. Those before it were never part of a release.
pub const VERSION: u8 = 4;
const MAGIC: [u8; 4] = *b"CVYC";

/// From so many bytes on, a part of a checkpoint is handed to the file.
const WRITE_BYTES: usize = 1 << 20;

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk failed.
    #[error("the checkpoint cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// It is whole, and another version of the program wrote it. What follows it is not looked at.
    #[error("the checkpoint is of version {found}, and version {VERSION} is known here")]
    Version {
        /// The version that it says.
        found: u8,
    },
    /// Its checksum is wrong or a field makes no sense.
    #[error("the checkpoint is damaged")]
    Damaged,
}

impl From<Truncated> for CheckpointError {
    fn from(_: Truncated) -> Self {
        Self::Damaged
    }
}

/// What stands in a checkpoint beside the logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointHead {
    /// Records from here on are not covered.
    pub journal_from: Lsn,
    /// What the engine asked to be remembered.
    pub engine: Vec<u8>,
}

/// Encodes all logs of `store` as they are now, covering the journal up to `journal_from`.
/// The writer calls it between two steps, when nothing is being noted.
pub fn snapshot(store: &Store, journal_from: Lsn) -> Vec<u8> {
    // A log that only a step not yet written knows of is none.
    let is_known = |log: &Arc<Log>| {
        !log.look().runs.is_empty() || !log.look().heads.is_empty() || !log.look().forks.is_empty()
    };
    let logs: Vec<_> = store.logs().into_iter().filter(is_known).collect();
    let mut out = Vec::with_capacity(256 + logs.len() * 384);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    out.extend_from_slice(&journal_from.0.to_le_bytes());
    let topics = store.topics();
    put_varint(&mut out, topics.len() as u64);
    for (id, name) in topics {
        out.extend_from_slice(&id.0);
        put_var_bytes(&mut out, name.as_str().as_bytes());
    }
    let certificates = store.certificates();
    put_varint(&mut out, certificates.len() as u64);
    for (peer, der) in certificates {
        out.extend_from_slice(&peer.0);
        put_var_bytes(&mut out, &der);
    }
    put_varint(&mut out, logs.len() as u64);
    for log in logs {
        put_log(&mut out, &log.id, &log.look());
    }
    out
}

/// The segments below which a checkpoint made now knows of everything, log by log.
pub fn covered(store: &Store) -> Vec<(LogId, u32)> {
    let of = |log: Arc<Log>| Some((log.id, log.look().next_place?.segment));
    store.logs().into_iter().filter_map(of).collect()
}

/// Hands out bytes piece by piece, which are never in memory as a whole. It is called twice and says the same twice: the
/// length stands before the bytes.
pub type Pieces<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8]));

/// Adds what the engine asked to be remembered, writes all of it durably, and puts it in place.
pub fn write(store: &Store, mut snapshot: Vec<u8>, engine: Pieces<'_>) -> io::Result<()> {
    let mut engine_bytes = 0;
    engine(&mut |piece| engine_bytes += piece.len() as u64);
    put_varint(&mut snapshot, engine_bytes);
    let file = store.disk.open(CHECKPOINT_NEW, OpenMode::Create)?;
    file.set_len(0)?;
    let mut out = Pending { file, at: 0, crc: 0, bytes: snapshot, result: Ok(()) };
    engine(&mut |piece| out.add(piece));
    out.finish()?.sync_data()?;
    store.disk.rename(CHECKPOINT_NEW, CHECKPOINT)?;
    store.disk.sync_dir("")
}

/// A checkpoint that is being written: what was not handed to the file yet, and what was said of the rest.
struct Pending {
    file: Arc<dyn DiskFile>,
    at: u64,
    crc: u32,
    bytes: Vec<u8>,
    /// The first error; nothing is written after it.
    result: io::Result<()>,
}

impl Pending {
    fn add(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() >= WRITE_BYTES {
            self.crc = crc32c::crc32c_append(self.crc, &self.bytes);
            self.write();
        }
    }

    fn write(&mut self) {
        if self.result.is_ok() {
            self.result = self.file.write_at(self.at, &[&self.bytes]);
        }
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
    }

    fn finish(mut self) -> io::Result<Arc<dyn DiskFile>> {
        let crc = crc32c::crc32c_append(self.crc, &self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.write();
        self.result.map(|()| self.file)
    }
}

/// Reads the checkpoint into `store`; `None` when there is none.
pub fn load(store: &Store) -> Result<Option<CheckpointHead>, CheckpointError> {
    let file = match store.disk.open(CHECKPOINT, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        answered => answered?,
    };
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(0, &mut bytes)?;
    parse(store, &bytes).map(Some)
}

/// Reads the bytes of a checkpoint into `store`. After an error what is in `store` is not to be believed.
pub fn parse(store: &Store, bytes: &[u8]) -> Result<CheckpointHead, CheckpointError> {
    let at = bytes.len().checked_sub(4).ok_or(CheckpointError::Damaged)?;
    let (covered, crc) = bytes.split_at(at);
    if crc != crc32c::crc32c(covered).to_le_bytes() {
        return Err(CheckpointError::Damaged);
    }
    read(store, &mut Reader::new(covered))
}

fn read(store: &Store, r: &mut Reader<'_>) -> Result<CheckpointHead, CheckpointError> {
    if r.array::<4>()? != MAGIC {
        return Err(CheckpointError::Damaged);
    }
    // The checksum was right: this is no rot.
    match r.array::<4>()? {
        [VERSION, 0, 0, 0] => (),
        [found, ..] => return Err(CheckpointError::Version { found }),
    }
    let journal_from = Lsn(r.u64()?);
    for _ in 0..r.varint()? {
        let id = TopicId(r.array()?);
        let name = std::str::from_utf8(r.var_bytes(255)?).map_err(|_| CheckpointError::Damaged)?;
        store.add_topic(id, TopicName::system(name).map_err(|_| CheckpointError::Damaged)?);
    }
    for _ in 0..r.varint()? {
        let peer = PeerId(r.array()?);
        store.add_certificate(peer, r.var_bytes(1 << 16)?.into());
    }
    let made_up = made_up_dirs(store)?;
    for _ in 0..r.varint()? {
        let (id, state) = read_log(r)?;
        let name = store.topic_name(id.topic).ok_or(CheckpointError::Damaged)?;
        // A name that was made up, after the true one was lost, does not say where the files are; nor does the true one where it
        // was learned again behind that.
        let then = topic_dir(&unnamed(id.topic));
        let found = match is_unnamed(&name) {
            true => dir_of(store, id.topic)?,
            false => Some(then).filter(|dir| made_up.contains(dir)),
        };
        store.put_log(Log::new(id, found.unwrap_or_else(|| topic_dir(&name)).into(), state));
    }
    let engine = r.var_bytes(usize::MAX)?.to_vec();
    if r.is_empty() { Ok(CheckpointHead { journal_from, engine }) } else { Err(CheckpointError::Damaged) }
}

/// The directories of topics whose names were made up that hold segments.
fn made_up_dirs(store: &Store) -> io::Result<BTreeSet<String>> {
    let topics = match store.disk.list(TOPICS_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
        listed => listed?,
    };
    let mut made_up = BTreeSet::new();
    for dir in topics.into_iter().map(|dir| format!("{TOPICS_DIR}/{dir}")) {
        let is_made_up = unescape(&dir).is_some_and(|name| is_unnamed(&name));
        if is_made_up && store.disk.list(&dir)?.iter().any(|file| file.ends_with(".segment")) {
            made_up.insert(dir);
        }
    }
    Ok(made_up)
}

/// Set in the first number of a run that is only guessed.
const GUESSED: u64 = 1 << 63;

fn put_log(out: &mut Vec<u8>, id: &LogId, state: &LogState) {
    let put = |out: &mut Vec<u8>, fields: &[u64]| {
        fields.iter().for_each(|f| out.extend_from_slice(&f.to_le_bytes()))
    };
    out.extend_from_slice(&id.topic.0);
    out.extend_from_slice(&id.peer.0);
    let next = state.next_place.unwrap_or(Place { segment: 0, offset: 0 });
    put(out, &[u64::from(next.segment), next.offset]);
    put_varint(out, state.runs.len() as u64);
    for run in state.runs.iter().map(|run| state.whole(run)) {
        let guessed = if state.guessed.contains(&run.id) { GUESSED } else { 0 };
        put(out, &[run.id.0, run.parent.0, run.from.0 | guessed, run.until.0, run.start.0, run.last_time.0]);
        out.extend_from_slice(&run.link.0);
        out.extend_from_slice(&run.previous.0);
    }
    put_varint(out, state.spans.len() as u64);
    for span in &state.spans {
        put(out, &[span.run.0, u64::from(span.segment), span.from.0, span.until.0]);
        put(out, &[span.offset, span.end, span.first_time.0, span.last_time.0]);
    }
    put_varint(out, state.damaged.len() as u64);
    for range in &state.damaged {
        put(out, &[range.run.0, range.from.0, range.until.0]);
    }
    put_varint(out, state.lost.len() as u64);
    for (lost, signature) in &state.lost {
        out.extend_from_slice(&lost.encode());
        out.extend_from_slice(&signature.0);
    }
    put_varint(out, state.heads.iter().len() as u64);
    for (head, signature) in state.heads.iter() {
        out.extend_from_slice(&head.encode());
        out.extend_from_slice(&signature.0);
    }
    put_varint(out, state.forks.len() as u64);
    state.forks.iter().for_each(|fork| out.extend_from_slice(&fork.encode()));
}

fn read_log(r: &mut Reader<'_>) -> Result<(LogId, LogState), CheckpointError> {
    let id = LogId { topic: TopicId(r.array()?), peer: PeerId(r.array()?) };
    let mut state = LogState::new();
    let next = Place { segment: segment(r)?, offset: r.u64()? };
    state.covered = next.segment;
    state.next_place = Some(next).filter(|next| *next != Place { segment: 0, offset: 0 });
    for _ in 0..r.varint()? {
        let (id, parent, from) = (RunId(r.u64()?), RunId(r.u64()?), r.u64()?);
        if from & GUESSED != 0 {
            state.guessed.insert(id);
        }
        state.runs.push(Run {
            id,
            parent,
            from: Seq(from & !GUESSED),
            until: Seq(r.u64()?),
            start: Seq(r.u64()?),
            last_time: Timestamp(r.u64()?),
            link: Digest(r.array()?),
            previous: Digest(r.array()?),
        });
    }
    for _ in 0..r.varint()? {
        if state.spans.len() < 4 {
            state.spans.reserve_exact(1);
        }
        state.spans.push(Span {
            run: RunId(r.u64()?),
            segment: segment(r)?,
            from: Seq(r.u64()?),
            until: Seq(r.u64()?),
            offset: r.u64()?,
            end: r.u64()?,
            first_time: Timestamp(r.u64()?),
            last_time: Timestamp(r.u64()?),
        });
    }
    for _ in 0..r.varint()? {
        state.damaged.push(Range { run: RunId(r.u64()?), from: Seq(r.u64()?), until: Seq(r.u64()?) });
    }
    for _ in 0..r.varint()? {
        let lost = Lost::decode(&r.array::<LOST_BYTES>()?).map_err(|_| CheckpointError::Damaged)?;
        state.lost.push((lost, Signature(r.array()?)));
    }
    for _ in 0..r.varint()? {
        let head = Head::decode(&r.array::<HEAD_BYTES>()?).map_err(|_| CheckpointError::Damaged)?;
        state.heads.keep(head, Signature(r.array()?));
    }
    for _ in 0..r.varint()? {
        let fork = Fork::decode(&r.array::<FORK_BYTES>()?).map_err(|_| CheckpointError::Damaged)?;
        state.forks.push(fork);
    }
    state.set_start();
    Ok((id, state))
}

fn segment(r: &mut Reader<'_>) -> Result<u32, CheckpointError> {
    u32::try_from(r.u64()?).map_err(|_| CheckpointError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AppendWork, Chunk, ChunkBuilder, Codec, Entry, Step, Work};
    use crate::disk::{FileDisk, MemDisk};
    use crate::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer};
    use crate::log::read::{self, Found};
    use crate::log::{self, LogConfig, flush};

    #[test]
    fn what_is_written_in_pieces_is_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FileDisk::open(dir.path()).unwrap());
        let signer = Arc::new(Ed25519Signer::from_seed(&[7; 32]));
        let opened =
            log::open(disk, LogConfig::default(), signer, Arc::new(Ed25519Verifier), &mut |_| {}).unwrap();
        let store = &opened.store;
        for count in [0u8, 1, 200] {
            let pieces = (0..count).map(|piece| vec![piece; 20_000]);
            let of = snapshot(store, Lsn::new(3, 0));
            write(store, of.clone(), &|each| pieces.clone().for_each(|piece| each(&piece))).unwrap();
            let head = load(store).unwrap().unwrap();
            assert_eq!(head.journal_from, Lsn::new(3, 0));
            assert!(head.engine == pieces.flatten().collect::<Vec<_>>(), "{count} pieces");
            let bytes = store.disk.open(CHECKPOINT, OpenMode::Read).unwrap().len().unwrap() as usize;
            let length = crate::base::bytes_io::varint_bytes(head.engine.len() as u64);
            assert_eq!(bytes, of.len() + length + head.engine.len() + 4);
        }
    }

    /// Seed 2568: the true name is learned, and said by the checkpoint, while the files stay where the one that was made up says.
    #[test]
    fn files_of_a_topic_whose_name_was_learned_again_are_found_where_they_were_written() {
        let disk = MemDisk::new(1);
        let control = disk.control();
        let open = |disk| {
            let signer = Arc::new(Ed25519Signer::from_seed(&[7; 32]));
            log::open(Arc::new(disk), LogConfig::default(), signer, Arc::new(Ed25519Verifier), &mut |_| {})
        };
        let mut opened = open(disk).unwrap();
        let peer = Ed25519Signer::from_seed(&[7; 32]).peer();
        let id = LogId { topic: TopicId([1; 16]), peer };
        let names = [unnamed(id.topic), TopicName::new("jobs").unwrap()];
        for (topic, number) in names.into_iter().zip(1u64..) {
            let mut builder = ChunkBuilder::new();
            builder.push(&Entry::from("x")).unwrap();
            let append = AppendWork {
                topic,
                log: id,
                run: RunId(1),
                parent: RunId::NONE,
                opens_run: number == 1,
                first_seq: Seq(number),
                first_time: Timestamp(number),
                must_sync: true,
                is_buffered: false,
                chunks: vec![Chunk::parse(builder.finish(Codec::None)).unwrap()],
            };
            opened.writer.write(Step { number, work: vec![Work::Append(append)] }, || {}).unwrap();
        }
        assert_eq!(opened.store.topic_name(id.topic).unwrap().as_str(), "jobs");
        let rotation = opened.writer.rotate_now().unwrap();
        flush::checkpoint(&opened.store, &opened.writer.slots(), rotation, &|_| {}).unwrap();
        drop(opened);
        let opened = open(control.crash()).unwrap();
        let log = opened.store.log(&id).unwrap();
        let found = read::read(&opened.store, &log, RunId(1), Seq(1), 1 << 20, &mut None).unwrap();
        assert!(matches!(&found, Found::Batches(batches) if batches.len() == 2), "{found:?}");
    }
}
