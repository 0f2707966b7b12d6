//! Every decoder of bytes that come from a disk, a peer or a client, each ready to be given anything.
//!
//! A decoder may answer what it likes; it must not panic, hang, or ask for more memory than its limits allow. Where a
//! value comes out, what stands below it must hold too.
use bytes::Bytes;
use conveyor::base::{
    Batch, Chunk, Cursor, EntryRef, EntryView, Head, Lost, PeerName, SignedRemoval, Statement, TopicId,
    TopicName,
};
use conveyor::identity::certificate::Certificate;
use conveyor::log::{journal, segment};
use conveyor::node::memory::Memory;
use conveyor::topic::catalog::Catalog;
use conveyor::wire::data;
use conveyor::wire::frame::{Decoder, Kind};
use conveyor::wire::message::{Reply, Request, decode, encode};

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
    ("removal", removal),
    ("memory", memory),
    ("certificate", certificate),
    ("frames", frames),
    ("request", request),
    ("reply", reply),
    ("data", data),
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

/// A certificate of any bytes.
pub fn certificate(bytes: &[u8]) {
    let _ = Certificate::parse(bytes);
}

/// Frames, cut in two at every place the first byte says.
pub fn frames(bytes: &[u8]) {
    let (cut, rest) = match bytes.split_first() {
        Some((cut, rest)) => (usize::from(*cut).min(rest.len()), rest),
        None => return,
    };
    let mut decoder = Decoder::new(&[Kind::Request, Kind::Reply, Kind::Chunk, Kind::Batch, Kind::Entry]);
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

/// A request that reads writes and reads again.
pub fn request(bytes: &[u8]) {
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
