//! docs/format.md is true: its examples decode, verify, and are what this program writes.
use conveyor::base::batch::state;
use conveyor::base::statement::link;
use conveyor::base::{
    Batch, Chunk, ChunkBuilder, ClusterId, Codec, Cursor, Digest, Entry, Fork, Head, LogId, Lost, Position,
    ProducerId, Removal, RunEnds, RunId, Seq, SignedRemoval, Statement, Timestamp, TopicId, TopicName,
};
use conveyor::cli::export_file::{Frame, Reader, Writer};
use conveyor::disk::MemDisk;
use conveyor::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer, sign_statement, verify_signed};
use conveyor::log::record::{HEADER_BYTES, Lsn, RecordHeader, RecordKind};
use conveyor::log::segment::{IndexMark, SegmentIndex, decode_index, encode_index};
use conveyor::log::{LogConfig, Store, checkpoint};
use conveyor::node::memory::Memory;
use conveyor::topic::producers::Remembered;
use std::sync::Arc;

/// Two batches of one run that its peer signed.
fn forked() -> Fork {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let of = example();
    let side = |payload: &str| {
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(payload.to_owned())).unwrap();
        let statement = state(of.statement(), &[Chunk::parse(builder.finish(Codec::None)).unwrap()]);
        (statement, sign_statement(&signer, &statement))
    };
    Fork::of(of.statement().run, &side("hello"), &side("world")).expect("they differ")
}

#[test]
fn the_fork_in_the_document_is_what_we_write_and_its_branches_are_named_there() {
    let document = include_str!("../docs/format.md");
    let (_, rest) = document.split_once("## Forks").expect("the document tells of forks");
    let (text, rest) = rest.split_once("```hex\n").expect("with an example");
    let (hex, _) = rest.split_once("\n```").expect("the example ends");
    let [one, other] = forked().branches();
    let (encoded, names) = (hex_of(&forked().encode()), format!("`{one}` and\n`{other}`"));
    assert!(hex == encoded && text.contains(&names), "write this:\n{names}\n{encoded}");
    assert_eq!(Fork::decode(&forked().encode()), Ok(forked()));
    let is_signed = |(statement, signature): &(Statement, _)| verify_signed(statement, signature);
    assert!(forked().sides().iter().all(is_signed));
}

fn example() -> Batch {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from("hello")).unwrap();
    builder.push(&Entry { key: "k".into(), ..Entry::from("world") }).unwrap();
    let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
    let blank = Statement {
        log: LogId { topic: TopicId::of(ClusterId([1; 16]), "greetings"), peer: signer.peer() },
        run: RunId(0x0123_4567_89ab_cdef),
        parent: RunId::NONE,
        opens_run: true,
        first_seq: Seq::FIRST,
        first_time: Timestamp::from_ms(1_800_000_000_000),
        entry_count: 0,
        raw_bytes: 0,
        previous: Digest::ZERO,
        root: Digest::ZERO,
        signed: None,
    };
    let statement = state(&blank, &chunks);
    Batch::assemble(statement, sign_statement(&signer, &statement), &chunks)
}

fn hex_of(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(conveyor::base::hex::encode);
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_in_the_document_decodes_verifies_and_is_what_we_write() {
    let document = include_str!("../docs/format.md");
    let (_, rest) = document.split_once("```hex\n").expect("the document has an example");
    let (hex, _) = rest.split_once("\n```").expect("the example ends");
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = pairs
        .map(|pair| {
            u8::from_str_radix(pair, 16)
                .unwrap_or_else(|_| panic!("write this:\n{}", hex_of(example().bytes())))
        })
        .collect();
    let batch = Batch::parse(bytes.into()).expect("the example is a batch");
    batch.check_body().unwrap();
    batch.check_entries().unwrap();
    assert!(verify_signed(batch.statement(), batch.signature()));
    let mut seen = Vec::new();
    batch
        .for_each_entry(|id, time, view| {
            seen.push((id.seq.0, time.ms(), view.key.to_vec(), view.payload.to_vec()));
            true
        })
        .unwrap();
    let t = 1_800_000_000_000;
    assert_eq!(seen, [(1, t, vec![], b"hello".to_vec()), (2, t, b"k".to_vec(), b"world".to_vec())]);
    assert_eq!(batch.bytes(), example().bytes());
}

const TIME_MS: u64 = 1_800_000_000_000;

/// The bytes of the example that stands under a heading of the document, which are to be those that `ours` is.
fn shown(heading: &str, ours: &[u8]) -> Vec<u8> {
    let document = include_str!("../docs/format.md");
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = rest.split("\n#").next().unwrap();
    let hex = section.split_once("```hex\n").and_then(|(_, rest)| rest.split_once("\n```"));
    let (hex, _) = hex.unwrap_or_else(|| panic!("{heading}: write this:\n{}", hex_of(ours)));
    assert_eq!(hex, hex_of(ours), "{heading}: write this:\n{}", hex_of(ours));
    let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(&[7; 32])
}

#[test]
fn the_head_in_the_document_is_what_we_write_and_is_signed() {
    let batch = example();
    let of = batch.statement();
    let head = Head {
        log: of.log,
        run: of.run,
        parent: RunId::NONE,
        from: Seq::FIRST,
        start: Seq(2),
        until: of.until(),
        time: Timestamp::from_ms(TIME_MS + 1000),
        last: link(&of.encode(), batch.signature()),
        is_sealed: true,
    };
    let signature = sign_statement(&signer(), &head);
    let bytes = shown("### A head", &[head.encode().as_slice(), &signature.0].concat());
    assert_eq!(Head::decode(bytes[..136].try_into().unwrap()), Ok(head));
    assert!(bytes[136..] == signature.0 && verify_signed(&head, &signature));
}

#[test]
fn the_lost_statement_in_the_document_is_what_we_write_and_is_signed() {
    let of = *example().statement();
    let (from, until, time) = (Seq(1), Seq(3), Timestamp::from_ms(TIME_MS + 2000));
    let lost = Lost { log: of.log, run: of.run, from, until, time, signer: of.log.peer };
    let signature = sign_statement(&signer(), &lost);
    let bytes = shown("### A lost statement", &[lost.encode().as_slice(), &signature.0].concat());
    assert_eq!(Lost::decode(bytes[..120].try_into().unwrap()), Ok(lost));
    assert!(bytes[120..] == signature.0 && verify_signed(&lost, &signature));
}

#[test]
fn the_removal_in_the_document_is_what_we_write_and_is_signed() {
    let (of, admin) = (*example().statement(), Ed25519Signer::from_seed(&[8; 32]));
    let removal = Removal {
        cluster: ClusterId([1; 16]),
        peer: of.log.peer,
        successor: None,
        time: Timestamp::from_ms(TIME_MS + 3000),
        signer: admin.peer(),
        ends: RunEnds::from([((of.log.topic, of.run), Seq(3))]),
    };
    let signature = sign_statement(&admin, &removal);
    // The certificate, which would follow, is made anew in every run.
    let signed = SignedRemoval { removal, signature, certificate: [].into() };
    let bytes = shown("### A removal", &signed.encode());
    assert_eq!(SignedRemoval::decode(&bytes), Ok(signed.clone()));
    assert!(verify_signed(&signed.removal, &signed.signature));
}

#[test]
fn the_cursor_in_the_document_is_what_we_write() {
    let of = *example().statement();
    let positions = vec![Position { peer: of.log.peer, run: of.run, next: Seq(3) }];
    let cluster = ClusterId([1; 16]);
    let cursor = Cursor { cluster, topic: of.log.topic, floor: Timestamp::ZERO, positions };
    let bytes = shown("## Cursor", &cursor.encode());
    assert_eq!(Cursor::decode(&bytes), Ok(cursor.clone()));
    let document = include_str!("../docs/format.md");
    assert!(document.contains(&format!("`{cursor}`")), "write this:\n{cursor}");
}

#[test]
fn the_journal_record_in_the_document_is_what_we_write() {
    let topic = example().statement().log.topic;
    let payload = [topic.0.as_slice(), b"greetings"].concat();
    let lsn = Lsn::new(2, 96);
    let header = RecordHeader {
        kind: RecordKind::Topic,
        lsn,
        synced_until: Lsn::new(2, 0),
        payload_bytes: payload.len() as u32,
        payload_crc: crc32c::crc32c(&payload),
        segment: 0,
        offset: 0,
    };
    let padding = vec![0; header.record_bytes() as usize - HEADER_BYTES - payload.len()];
    let bytes = shown("### A record", &[header.encode().as_slice(), &payload, &padding].concat());
    assert_eq!(RecordHeader::decode(bytes[..48].try_into().unwrap()), Some(header));
    assert_eq!(bytes.len(), 80);
}

#[test]
fn the_index_in_the_document_is_what_we_write() {
    let batch = example();
    let of = batch.statement();
    let marks = vec![IndexMark { run: of.run, seq: of.first_seq, time: of.first_time, offset: 0 }];
    let last_crc = crc32c::crc32c(&batch.bytes()[256..]);
    let ours =
        encode_index(&SegmentIndex { marks: marks.clone(), until: batch.bytes().len() as u64, last_crc });
    let found = decode_index(&shown("### An index", &ours)).expect("an index");
    assert_eq!((found.marks, found.until, found.last_crc), (marks, 292, last_crc));
}

#[test]
fn what_the_engine_remembers_is_in_the_document_as_we_write_it() {
    let of = *example().statement();
    let mut memory = Memory { unix_ms: TIME_MS, accepted_ms: 0, ..Memory::default() };
    let (run, first_seq, first_time) = (of.run, Seq(1), of.first_time);
    let chunk = Remembered { number: 300, count: 2, run, first_seq, first_time, step: 0 };
    memory.producers.add(of.log.topic, ProducerId(9), chunk);
    let read = Memory::decode(&shown("### What the engine remembers", &memory.encode()));
    assert_eq!((read.unix_ms, read.encode()), (TIME_MS, memory.encode()));
    let known = read.producers.look(of.log.topic, ProducerId(9), 300, 2);
    assert_eq!(known, conveyor::topic::producers::Known::Repeat(chunk));
}

#[test]
fn the_kinds_of_records_in_the_document_are_those_we_write() {
    let document = include_str!("../docs/format.md");
    let (_, rest) = document.split_once("| kind | payload |\n|---|---|\n").expect("a table of kinds");
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    let mut told: Vec<String> = rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect();
    let mut ours: Vec<String> = RecordKind::ALL
        .iter()
        .map(|kind| format!("{} {}", *kind as u8, format!("{kind:?}").to_lowercase()))
        .collect();
    told.sort();
    ours.sort();
    assert_eq!(told, ours);
}

/// Written here field by field, as the table has it.
#[test]
fn the_checkpoint_in_the_document_is_what_we_read_and_write() {
    let (batch, batch_bytes) = (example(), example().bytes().len() as u64);
    let of = batch.statement();
    let numbers = |fields: &[u64]| fields.iter().flat_map(|field| field.to_le_bytes()).collect::<Vec<u8>>();
    let mut memory = Memory { unix_ms: TIME_MS, ..Memory::default() };
    let (run, first_seq, first_time) = (of.run, Seq(1), of.first_time);
    let chunk = Remembered { number: 300, count: 2, run, first_seq, first_time, step: 0 };
    memory.producers.add(of.log.topic, ProducerId(9), chunk);
    let engine = memory.encode();
    let journal_from = Lsn::new(2, 0);
    let mut ours = [b"CVYC".as_slice(), &[4, 0, 0, 0], &numbers(&[journal_from.0])].concat();
    ours.extend([&[1], of.log.topic.0.as_slice(), &[9], b"greetings", &[0]].concat());
    ours.extend([&[1], of.log.topic.0.as_slice(), &of.log.peer.0, &numbers(&[0, batch_bytes])].concat());
    let times = [of.first_time.0, of.last_time().0];
    ours.extend([vec![1], numbers(&[run.0, 0, 1, 3, 1, times[1]])].concat());
    ours.extend([link(&of.encode(), batch.signature()).0, Digest::ZERO.0].concat());
    ours.extend([vec![1], numbers(&[run.0, 0, 1, 3, 0, batch_bytes, times[0], times[1]])].concat());
    // Nothing damaged, nothing lost, no heads, no forks.
    ours.extend([0, 0, 0, 0]);
    let books = ours.len();
    ours.extend([&[engine.len() as u8], &engine[..]].concat());
    ours.extend(crc32c::crc32c(&ours).to_le_bytes());
    let disk = Arc::new(MemDisk::new(1));
    let store = Store::empty(disk, LogConfig::default(), Arc::new(Ed25519Verifier));
    let head = checkpoint::parse(&store, &shown("### A checkpoint", &ours)).expect("it is one");
    assert_eq!((head.journal_from, head.engine), (journal_from, engine));
    assert_eq!(checkpoint::snapshot(&store, journal_from), ours[..books], "we write the same");
    let log = store.log(&of.log).expect("it is in it");
    assert_eq!((log.look().start, log.look().until()), (Seq(1), Seq(3)));
}

#[test]
fn the_exported_file_in_the_document_is_what_we_write_and_read() {
    let topic = TopicName::new("greetings").unwrap();
    let mut writer = Writer::begin(Vec::new(), ClusterId([1; 16]), &topic).unwrap();
    // The certificate, which would come first, is made anew in every run.
    writer.batch(&example()).unwrap();
    let (ours, ..) = writer.end().unwrap();
    let bytes = shown("## An exported file", &ours);
    let mut file = Reader::begin(&bytes[..]).unwrap();
    assert_eq!((file.cluster, &file.topic), (ClusterId([1; 16]), &topic));
    let Ok(Some(Frame::Batch(batch))) = file.take() else { panic!("a batch") };
    assert_eq!(batch.bytes(), example().bytes());
    assert!(matches!(file.take(), Ok(None)), "and the end");
}
