//! What the scrub finds, what it spares, and what it passes over.
use super::*;
use crate::base::step::{AppendWork, Step, Work};
use crate::base::{Chunk, ChunkBuilder, Codec, Entry, PeerId, Timestamp, TopicId, TopicName};
use crate::disk::{Disk, DiskControl, DiskFile, DiskLock, Fault, MemDisk, OpenMode};
use crate::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer, sign_statement};
use crate::log::place::{self, segment_path};
use crate::log::read::{self, Single};
use crate::log::segment::read_batches;
use crate::log::writer::Writer;
use crate::log::{self, LogConfig, flush};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

const RUN: RunId = RunId(5);
const BATCHES: u64 = 40;

struct Peer {
    store: Arc<Store>,
    writer: Writer,
    control: DiskControl,
    /// Sectors of segments that cannot be read.
    bad: Arc<Mutex<BTreeSet<u64>>>,
    /// What happens when the first segment is read next.
    on_read: OnRead,
    id: LogId,
    step: u64,
    _lock: DiskLock,
}

type OnRead = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn name() -> TopicName {
    TopicName::new("jobs").unwrap()
}

impl Peer {
    /// A log of batches of three entries, some 3 KiB each, in three segments, of which nothing is in memory.
    fn new() -> Self {
        let mut peer = Self::open(MemDisk::new(1));
        (0..BATCHES).for_each(|index| peer.append(1 + 3 * index, 3));
        flush::flush(&peer.store).unwrap();
        peer
    }

    fn open(disk: MemDisk) -> Self {
        Self::open_with(disk, 48 << 10)
    }

    /// A log with one segment, which takes all that a test writes.
    fn wide() -> Self {
        Self::open_with(MemDisk::new(1), 2 << 20)
    }

    fn open_with(disk: MemDisk, segment_bytes: u64) -> Self {
        let (control, bad, on_read) = (disk.control(), Arc::default(), OnRead::default());
        let signer = Ed25519Signer::from_seed(&[7; 32]);
        let id = LogId { topic: TopicId([1; 16]), peer: signer.peer() };
        let config = LogConfig { segment_bytes, tail_bytes_max: 0, ..LogConfig::default() };
        let disk = Arc::new(Sectors { disk, bad: Arc::clone(&bad), on_read: on_read.clone() });
        let opened =
            log::open(disk, config, Arc::new(signer), Arc::new(Ed25519Verifier), &mut |_| {}).unwrap();
        let (store, writer) = (opened.store, opened.writer);
        Self { store, writer, control, bad, on_read, id, step: 0, _lock: opened.lock }
    }

    fn append(&mut self, first_seq: u64, count: usize) {
        let mut builder = ChunkBuilder::new();
        for _ in 0..count {
            builder.push(&Entry::from(vec![7; 1000])).unwrap();
        }
        self.append_chunk(first_seq, builder);
    }

    fn append_chunk(&mut self, first_seq: u64, builder: ChunkBuilder) {
        self.write(Work::Append(AppendWork {
            topic: name(),
            log: self.id,
            run: RUN,
            parent: RunId::NONE,
            opens_run: first_seq == 1,
            first_seq: Seq(first_seq),
            first_time: Timestamp::from_ms(1_000 + first_seq),
            chunks: vec![Chunk::parse(builder.finish(Codec::None)).unwrap()],
            is_buffered: false,
            must_sync: true,
        }));
    }

    fn write(&mut self, work: Work) {
        self.step += 1;
        self.writer.write(Step { number: self.step, work: vec![work] }, || {}).unwrap();
    }

    fn log(&self) -> Arc<Log> {
        self.store.log(&self.id).unwrap()
    }

    fn path(&self, segment: u32) -> String {
        segment_path(&self.log().dir, &self.id, segment)
    }

    fn scrub(&self) -> Scrub {
        let first = LogId { topic: TopicId([9; 16]), peer: PeerId([0; 32]) };
        Scrub::new(self.store.clone(), first)
    }

    /// A whole round, in pieces of any size; what they came to together.
    fn round(&self, bytes_max: u64) -> Piece {
        Self::round_of(&mut self.scrub(), bytes_max)
    }

    fn round_of(scrub: &mut Scrub, bytes_max: u64) -> Piece {
        let mut all = Piece::default();
        for _ in 0..1000 {
            let piece = scrub.piece(bytes_max);
            all.bytes += piece.bytes;
            all.damaged += piece.damaged;
            all.errors += piece.errors;
            all.healed.extend(piece.healed);
            if piece.is_round_done {
                return Piece { is_round_done: true, ..all };
            }
        }
        panic!("a round that does not end");
    }

    fn damaged(&self) -> Vec<(u64, u64)> {
        self.log().look().damaged.iter().map(|range| (range.from.0, range.until.0)).collect()
    }

    fn get(&self, seq: u64) -> Single {
        let id = crate::base::EntryId { topic: self.id.topic, peer: self.id.peer, run: RUN, seq: Seq(seq) };
        read::get(&self.store, &self.log(), &id).unwrap()
    }

    /// Writes batch `index` of segment 0 anew, changed.
    fn change(&self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.control.disk().open(&self.path(0), OpenMode::Write).unwrap();
        let batch_bytes = file.len().unwrap() as usize / self.batches_in_first();
        let mut bytes = vec![0; batch_bytes];
        let offset = (index * batch_bytes) as u64;
        file.read_exact_at(offset, &mut bytes).unwrap();
        change(&mut bytes);
        let crc = crc32c::crc32c(&bytes[256..]);
        bytes[248..252].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..252]);
        bytes[252..256].copy_from_slice(&crc.to_le_bytes());
        file.write_at(offset, &[&bytes]).unwrap();
    }

    fn batches_in_first(&self) -> usize {
        let log = self.log();
        let state = log.look();
        let first = state.spans.iter().find(|span| span.segment == 0).unwrap();
        (first.until.since(first.from) / 3) as usize
    }
}

/// A disk of which some sectors cannot be read.
struct Sectors {
    disk: MemDisk,
    bad: Arc<Mutex<BTreeSet<u64>>>,
    on_read: OnRead,
}

struct SectorsFile(Arc<dyn DiskFile>, Arc<Mutex<BTreeSet<u64>>>, OnRead);

impl Disk for Sectors {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let is_segment = path.ends_with("-00000000.segment");
        Ok(if is_segment {
            Arc::new(SectorsFile(file, self.bad.clone(), self.on_read.clone()))
        } else {
            file
        })
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn lock(&self) -> io::Result<DiskLock> {
        self.disk.lock()
    }
}

impl DiskFile for SectorsFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let happens = self.2.lock().unwrap().take();
        happens.into_iter().for_each(|happens| happens());
        let sectors = offset / 4096..(offset + buf.len() as u64).div_ceil(4096);
        if self.1.lock().unwrap().range(sectors).next().is_some() {
            return Err(io::Error::other("an unreadable sector"));
        }
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        self.0.write_at(offset, parts)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[test]
fn a_round_over_sound_segments_reads_all_of_them_and_finds_nothing() {
    let peer = Peer::new();
    let stored = peer.log().look().stored_bytes();
    for bytes_max in [1, 5_000, 1 << 20] {
        let round = peer.round(bytes_max);
        assert_eq!((round.damaged, round.errors, peer.damaged()), (0, 0, vec![]));
        // Small reads are rounded up.
        assert!((stored..stored * 2).contains(&round.bytes), "{} of {stored}", round.bytes);
    }
    assert!(peer.log().look().spans.len() == 3, "over more than one segment");
    assert_eq!(peer.store.counters.damage_found.load(Ordering::Relaxed), 0);
}

#[test]
fn a_piece_is_as_long_as_it_may_be_or_one_batch() {
    let peer = Peer::new();
    let mut scrub = peer.scrub();
    // The first look finds that there is no log behind the one it begins at.
    assert!(scrub.piece(1).bytes < 8_000);
    let piece = scrub.piece(20_000);
    assert!((16_000..26_000).contains(&piece.bytes) && !piece.is_round_done, "{piece:?}");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is_and_its_neighbours_are_served() {
    let first = Peer::new().batches_in_first();
    let batch_bytes = Peer::new().control.disk().open(&Peer::new().path(0), OpenMode::Read).unwrap().len();
    let batch_bytes = batch_bytes.unwrap() / first as u64;
    // In the header and in the body of the first batch, of one in the middle, and of the last of a full segment.
    for (index, at) in [(0, 100), (0, 1000), (5, 3), (5, 250), (5, 2000), (first - 1, 2), (first - 1, 3000)] {
        let peer = Peer::new();
        peer.control.flip_at(&peer.path(0), index as u64 * batch_bytes + at, 3).unwrap();
        let round = peer.round(10_000);
        let from = 1 + 3 * index as u64;
        assert_eq!((round.damaged, peer.damaged()), (1, vec![(from, from + 3)]), "batch {index}, byte {at}");
        let served = |seq| matches!(peer.get(seq), Single::Entry(..));
        let missing: Vec<u64> = (1..1 + 3 * BATCHES).filter(|seq| !served(*seq)).collect();
        assert_eq!(missing, [from, from + 1, from + 2]);
        assert!(matches!(peer.get(from), Single::Damaged));
        assert_eq!(peer.round(10_000).damaged, 0, "it is told once");
    }
}

#[test]
fn bytes_with_good_checksums_that_are_not_what_was_signed_are_set_aside() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("an entry", |bytes| bytes[600] ^= 1),
        ("the signature", |bytes| bytes[170] ^= 1),
        ("the time", |bytes| bytes[80] ^= 1),
    ];
    for (what, change) in changes {
        for index in [0, 3] {
            let peer = Peer::new();
            peer.change(index, change);
            let from = 1 + 3 * index as u64;
            assert!(matches!(peer.get(from), Single::Entry(..)), "a reader checks the checksum");
            peer.round(1 << 20);
            assert_eq!(peer.damaged(), [(from, from + 3)], "{what} of batch {index}");
            assert!(matches!(peer.get(from), Single::Damaged));
            let before = Peer::new();
            before.change(index, change);
            before.round(1);
            assert_eq!(before.damaged(), [(from, from + 3)], "also when it is read batch by batch");
        }
    }
}

#[test]
fn a_batch_in_the_place_of_another_is_set_aside_though_its_peer_signed_it() {
    for bytes_max in [1, 1 << 20] {
        let peer = Peer::new();
        // The same entries at another time, as a history would have them that never was told.
        peer.change(1, |bytes| {
            let mut statement = *Batch::parse(bytes.clone().into()).unwrap().statement();
            statement.first_time = statement.first_time.plus(1);
            let signature = sign_statement(&Ed25519Signer::from_seed(&[7; 32]), &statement);
            bytes[..160].copy_from_slice(&statement.encode());
            bytes[160..224].copy_from_slice(&signature.0);
        });
        peer.round(bytes_max);
        assert_eq!(peer.damaged(), [(4, 7)], "the one behind names another");
    }
}

#[test]
fn what_is_trimmed_between_two_pieces_is_no_damage() {
    let mut peer = Peer::new();
    let mut scrub = peer.scrub();
    assert!(scrub.piece(20_000).bytes > 0);
    let trim = Work::Trim { log: peer.id, run: None, start: Seq(100), time: Timestamp::from_ms(5_000) };
    peer.write(trim);
    let rotation = peer.writer.rotate_now().unwrap();
    flush::checkpoint(&peer.store, &peer.writer.slots(), rotation, &|_| {}).unwrap();
    assert!(!peer.control.disk().list(&peer.log().dir).unwrap().iter().any(|n| n.ends_with("00.segment")));
    let mut pieces = std::iter::from_fn(|| Some(scrub.piece(20_000)));
    let end = pieces.find(|piece| piece.is_round_done || piece.damaged + piece.errors > 0).unwrap();
    assert_eq!((end.damaged, end.errors, peer.damaged()), (0, 0, vec![]));
}

#[test]
fn what_is_trimmed_while_it_is_read_is_no_damage_and_a_segment_that_vanished_is() {
    let peer = Peer::new();
    let log = peer.log();
    let span = log.look().spans[0];
    // The scrub looked where the span lies; then it was trimmed, and its file removed.
    log.change().spans.remove(0);
    let range = Range { run: RUN, from: span.from, until: span.until };
    assert_eq!(peer.scrub().set_aside(&log, &span, range, "gone"), 0);
    assert_eq!(peer.damaged(), []);
    let peer = Peer::new();
    peer.store.files.forget(&peer.path(0));
    peer.control.disk().remove(&peer.path(0)).unwrap();
    assert_eq!(peer.round(1 << 20).damaged, 1);
    assert_eq!(peer.damaged(), [(span.from.0, span.until.0)]);
}

#[test]
fn what_is_in_memory_alone_waits_for_the_next_round() {
    let mut peer = Peer::open(MemDisk::new(1));
    (0..5).for_each(|index| peer.append(1 + 3 * index, 3));
    let read = |peer: &Peer| peer.round(1 << 20).bytes > 0;
    assert!(!read(&peer));
    flush::flush(&peer.store).unwrap();
    assert!(read(&peer));
    assert_eq!(peer.damaged(), []);
}

mod astray;
mod growing;
mod unreadable;
