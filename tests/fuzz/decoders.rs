//! Every decoder of bytes that come from a disk, a peer or a client, each ready to be given anything.
//!
//! A decoder may answer what it likes; it must not panic, hang, or ask for more memory than its limits allow. Where a
//! value comes out, what stands below it must hold too.
use bytes::Bytes;
use conveyor::base::fork::FORK_BYTES;
use conveyor::base::{
    Batch, Chunk, ClusterId, Cursor, EntryRef, EntryView, Fork, Head, Lost, PeerId, PeerName, Signature,
    SignedRemoval, Statement, TopicId, TopicName,
};
use conveyor::base::{percent, units};
use conveyor::cli::export_file;
use conveyor::disk::MemDisk;
use conveyor::group::GroupWrite;
use conveyor::identity::certificate::{Certificate, CertificateError};
use conveyor::identity::sign::{Ed25519Verifier, Verifier};
use conveyor::identity::trust::Trust;
use conveyor::identity::{self, Authority, Ca, Rights, Role, Validity};
use conveyor::log::{LogConfig, Store, checkpoint, journal, segment};
use conveyor::node::memory::Memory;
use conveyor::topic::catalog::Catalog;
use conveyor::wire::contents::Contents;
use conveyor::wire::data;
use conveyor::wire::facts::Facts;
use conveyor::wire::frame::{Decoder, Frame, Kind};
use conveyor::wire::greeting::{Answer, Greeting};
use conveyor::wire::message::{GroupAsk, Reply, Request, decode, encode};
use conveyor::wire::peer_frame;
use conveyor::wire::{json, when};
use std::sync::{Arc, OnceLock};

/// A decoder and its name.
type Named = (&'static str, fn(&[u8]));

/// The decoders by name.
pub const DECODERS: &[Named] = &[
    ("entry", entry),
    ("chunk", chunk),
    ("batch", batch),
    ("statements", statements),
    ("cursor", cursor),
    ("names", names),
    ("journal", journal),
    ("index", index),
    ("catalog", catalog),
    ("group_write", group_write),
    ("removal", removal),
    ("memory", memory),
    ("checkpoint", checkpoint),
    ("fork", fork),
    ("export", export),
    ("certificate", certificate),
    ("token", token),
    ("words", words),
    ("frames", frames),
    ("request", request),
    ("reply", reply),
    ("data", data),
    ("peer_message", peer_message),
    ("facts", facts),
    ("greeting", greeting),
];

/// One value has one encoding: what reads writes back the same.
pub fn entry(bytes: &[u8]) {
    if let Ok(view) = EntryView::parse(bytes) {
        let mut again = Vec::new();
        view.to_entry().encode(&mut again).expect("what was read can be written");
        assert_eq!(again, view.raw);
    }
}

/// A chunk that reads has a digest for each entry.
pub fn chunk(bytes: &[u8]) {
    if let Ok(chunk) = Chunk::parse(Bytes::copy_from_slice(bytes)) {
        assert_eq!(chunk.leaves().len(), chunk.header().entry_count as usize);
    }
}

/// A batch that reads can be checked and walked.
pub fn batch(bytes: &[u8]) {
    if let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) {
        let mut count = 0;
        let walked = batch.for_each_entry(|_, _, _| {
            count += 1;
            true
        });
        if walked.is_ok() {
            assert_eq!(count, batch.statement().entry_count);
        }
        let _ = Contents::open(&batch);
        let _ = (batch.check_body(), batch.check_entries(), batch.for_each_chunk(|_, _| {}));
    }
}

/// Statements that read write back the same.
pub fn statements(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<160>()
        && let Ok(statement) = Statement::decode(bytes)
    {
        assert_eq!(statement.encode(), *bytes);
    }
    if let Some(bytes) = bytes.first_chunk::<136>()
        && let Ok(head) = Head::decode(bytes)
    {
        assert_eq!(head.encode(), *bytes);
    }
    if let Some(bytes) = bytes.first_chunk::<120>()
        && let Ok(lost) = Lost::decode(bytes)
    {
        assert_eq!(lost.encode(), *bytes);
    }
}

/// A cursor that reads prints as itself.
pub fn cursor(bytes: &[u8]) {
    if let Ok(cursor) = Cursor::decode(bytes) {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Cursor>();
    }
}

/// Names and ids that read print as themselves.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = TopicName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(id) = EntryRef::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    let nearest = PeerName::nearest(text);
    assert_eq!(PeerName::new(nearest.as_str()), Ok(nearest));
}

/// A journal file of any bytes has records in order, within it.
pub fn journal(bytes: &[u8]) {
    if let Some(found) = journal::scan(&Bytes::copy_from_slice(bytes)) {
        let ends = found.records.iter().filter(|r| r.payload.is_some());
        let ends: Vec<u64> =
            ends.map(|r| r.header.lsn.offset() + u64::from(r.header.payload_bytes)).collect();
        assert!(ends.is_sorted() && ends.iter().all(|end| *end <= bytes.len() as u64));
    }
}

/// An index of any bytes.
pub fn index(bytes: &[u8]) {
    let _ = segment::decode_index(bytes);
}

/// An entry of the catalog of any bytes.
pub fn catalog(bytes: &[u8]) {
    let id = conveyor::base::EntryId {
        topic: TopicId([0; 16]),
        peer: conveyor::base::PeerId([0; 32]),
        run: conveyor::base::RunId(1),
        seq: conveyor::base::Seq(1),
    };
    let mut catalog = Catalog::new(conveyor::base::PeerId([0; 32]));
    if let Some(write) = catalog.apply(id, conveyor::base::Timestamp::ZERO, bytes) {
        assert_eq!(catalog.settings(&write.topic), write.settings);
    }
}

/// One removal has one encoding: what reads writes back the same.
pub fn removal(bytes: &[u8]) {
    if let Ok(signed) = SignedRemoval::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
    }
}

/// What the engine remembers, of any bytes.
pub fn memory(bytes: &[u8]) {
    let memory = Memory::decode(bytes);
    let again = Memory::decode(&memory.encode());
    assert_eq!(again.encode(), memory.encode());
}

/// A checkpoint of any bytes, with the checksum that fits them: it would hide all that stands behind it.
pub fn checkpoint(bytes: &[u8]) {
    let store = Store::empty(Arc::new(MemDisk::new(1)), LogConfig::default(), Arc::new(Ed25519Verifier));
    let summed = [bytes, &crc32c(bytes)].concat();
    if let Ok(head) = checkpoint::parse(&store, &summed) {
        let again = checkpoint::snapshot(&store, head.journal_from);
        let store = Store::empty(Arc::new(MemDisk::new(1)), LogConfig::default(), Arc::new(Ed25519Verifier));
        let again = [again.as_slice(), &[0]].concat();
        let again = [again.as_slice(), &crc32c(&again)].concat();
        assert!(checkpoint::parse(&store, &again).is_ok(), "what was read is written so that it can be read");
    }
    let _ = checkpoint::parse(&store, bytes);
}

/// CRC32C (Castagnoli, bit by bit), as files of ours end with it.
fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    (!bytes.iter().fold(u32::MAX, byte)).to_le_bytes()
}

/// A fork that reads writes back the same, whichever side comes first.
pub fn fork(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<FORK_BYTES>()
        && let Ok(fork) = Fork::decode(bytes)
    {
        assert_eq!(Fork::decode(&fork.encode()), Ok(fork));
        assert_ne!(fork.branches()[0], fork.branches()[1]);
    }
}

/// An exported file of any bytes: as it is, and as frames with the checksums that fit them.
pub fn export(bytes: &[u8]) {
    read_export(bytes);
    let head = [b"CVYEXP1\n".as_slice(), &[7; 16], &4u16.to_le_bytes(), b"jobs"].concat();
    let mut file = head;
    // The first byte of each frame is its kind, the two behind it its length.
    let mut rest = bytes;
    while let Some(([kind, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (payload, after) = after.split_at(length.min(after.len()));
        let frame = [&(payload.len() as u32).to_le_bytes(), [*kind].as_slice(), payload].concat();
        file.extend_from_slice(&frame);
        file.extend_from_slice(&crc32c(&frame));
        rest = after;
    }
    read_export(&file);
}

fn read_export(bytes: &[u8]) {
    let Ok(mut reader) = export_file::Reader::begin(bytes) else { return };
    while let Ok(Some(_)) = reader.take() {}
}

/// A certificate of any bytes.
pub fn certificate(bytes: &[u8]) {
    let _ = Certificate::parse(bytes);
}

/// A token of any bytes, for a cluster that made none of them.
pub fn token(bytes: &[u8]) {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    let authority = AUTHORITY.get_or_init(|| {
        let validity = Validity::days(1_800_000_000, 10);
        let ca = Ca::create(validity).expect("a key is drawn");
        let issued = ca.issue(&Role::Client(Rights::all()), validity).expect("a client's certificate");
        issued.credentials(ca.certificate()).expect("its own").authority().clone()
    });
    if let Ok(word) = std::str::from_utf8(bytes) {
        assert!(identity::token::verify(authority, word, 1_800_000_000).is_err(), "nobody signed it");
    }
}

/// Words in addresses and lines of JSON, as the HTTP interface takes them.
pub fn words(bytes: &[u8]) {
    const NOW_MS: u64 = 1_800_000_000_000;
    if let Some(plain) = percent::decode(bytes) {
        assert!(plain.len() <= bytes.len());
    }
    let _ = json::parse_line(bytes, NOW_MS);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (units::parse_bytes(text), units::parse_ms(text), units::parse_duration(text));
        let _ = (when::parse_from(text, NOW_MS), when::parse_at(text, NOW_MS));
    }
}

/// Frames, cut in two at every place the first byte says.
pub fn frames(bytes: &[u8]) {
    let (cut, rest) = match bytes.split_first() {
        Some((cut, rest)) => (usize::from(*cut).min(rest.len()), rest),
        None => return,
    };
    let mut decoder = Decoder::new(&Kind::ALL);
    for part in [&rest[..cut], &rest[cut..]] {
        let mut input = Bytes::copy_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => assert!(frame.payload.len() <= bytes.len()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.assembled_bytes() <= bytes.len());
    }
    let _ = decoder.finish();
}

/// A write of a group that reads writes and reads again.
pub fn group_write(bytes: &[u8]) {
    if let Some(write) = GroupWrite::decode(bytes) {
        assert_eq!(GroupWrite::decode(&write.encode()), Some(write));
    }
}

/// A request that reads writes and reads again; so does what is asked of a group.
pub fn request(bytes: &[u8]) {
    if let Ok(message) = decode::<GroupAsk>(bytes) {
        let again = encode(&message).expect("what was read can be written");
        assert_eq!(decode::<GroupAsk>(&again), Ok(message));
    }
    if let Ok(message) = decode::<Request>(bytes) {
        let again = encode(&message).expect("what was read can be written");
        assert_eq!(decode::<Request>(&again), Ok(message));
    }
}

/// A reply that reads writes and reads again.
pub fn reply(bytes: &[u8]) {
    if let Ok(message) = decode::<Reply>(bytes) {
        let again = encode(&message).expect("what was read can be written");
        assert_eq!(decode::<Reply>(&again), Ok(message));
    }
}

/// Data frames of any bytes.
pub fn data(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    let _ = data::read_batch(&payload);
    let _ = data::read_entry(TopicId([0; 16]), &payload);
}

/// A message between peers that reads writes and reads again.
pub fn peer_message(bytes: &[u8]) {
    for kind in [Kind::Peer, Kind::Stored, Kind::Push] {
        let payload = Bytes::copy_from_slice(bytes);
        let Ok(message) = peer_frame::take(Frame { kind, payload }) else { continue };
        let mut frames = Vec::new();
        peer_frame::put(&message, &mut frames).expect("what was read can be written");
        let (mut decoder, mut again) = (Decoder::new(&Kind::ALL), None);
        for mut part in frames {
            while let Some(frame) = decoder.decode(&mut part).expect("frames of ours") {
                again = Some(frame);
            }
        }
        let again = again.expect("a message is in frames");
        assert_eq!(peer_frame::take(again), Ok(message));
    }
}

/// Believes everyone: what is behind a signature is looked at as well.
struct Gullible;

impl Verifier for Gullible {
    fn verify(&self, _: PeerId, _: &[u8], _: &Signature) -> bool {
        true
    }
}

impl Trust for Gullible {
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError> {
        Certificate::parse(certificate).map(|found| (found.key, PeerName::nearest("alpha")))
    }

    fn admin_of(&self, certificate: &[u8]) -> Result<PeerId, CertificateError> {
        Certificate::parse(certificate).map(|found| found.key)
    }
}

/// What a peer says of itself: one value has one encoding, but for addresses of version 4 of IP, which have two.
pub fn facts(bytes: &[u8]) {
    if let Some(facts) = Facts::decode(bytes) {
        assert_eq!(Facts::decode(&facts.encode()), Some(facts));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Facts::open(text, ClusterId([1; 16]), &Gullible);
    }
}

/// How two peers greet each other: what reads writes and reads again.
pub fn greeting(bytes: &[u8]) {
    if let Ok(greeting) = decode::<Greeting>(bytes) {
        let again = encode(&greeting).expect("what was read can be written");
        assert_eq!(decode::<Greeting>(&again), Ok(greeting));
    }
    if let Ok(answer) = decode::<Answer>(bytes) {
        let again = encode(&answer).expect("what was read can be written");
        assert_eq!(decode::<Answer>(&again), Ok(answer));
    }
}
