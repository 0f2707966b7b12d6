//! docs/format.md is true: its example decodes, verifies, and is what this program writes.
use conveyor::base::batch::state;
use conveyor::base::{
    Batch, Chunk, ChunkBuilder, ClusterId, Codec, Digest, Entry, Fork, LogId, RunId, Seq, Statement,
    Timestamp, TopicId,
};
use conveyor::identity::sign::{Ed25519Signer, Signer, sign_statement, verify_signed};

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
