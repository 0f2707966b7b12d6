//! Every decoder over its corpus, and over thousands of mutations of it: the fuzz targets without a fuzzer.
#![allow(clippy::disallowed_methods, reason = "this test reads its corpora")]
#[path = "fuzz/decoders.rs"]
mod decoders;
use std::path::Path;

/// SplitMix64 (Steele, Lea, Flood 2014): the same mutations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            3 => bytes.insert(at, random.next() as u8),
            4 if bytes.len() >= 8 => {
                let at = random.below(bytes.len() - 7);
                let huge = [u64::MAX, u64::MAX / 2, 1 << 32, 0, 0x8080_8080_8080_8080][random.below(5)];
                bytes[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            }
            _ if !bytes.is_empty() => {
                let from = random.below(bytes.len());
                let copy = bytes[from..].to_vec();
                bytes.truncate(at);
                bytes.extend(copy);
            }
            _ => {}
        }
    }
    bytes
}

#[test]
fn no_decoder_panics_on_its_corpus_or_on_what_is_near_it() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, decoder) in decoders::DECODERS {
        let files = std::fs::read_dir(corpora.join(name)).unwrap_or_else(|_| panic!("{name} has a corpus"));
        let mut seeds: Vec<Vec<u8>> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty(), "the corpus of {name} has a seed");
        seeds.push(Vec::new());
        let mut random = Random(name.len() as u64);
        for seed in &seeds {
            decoder(seed);
            for _ in 0..2000 {
                decoder(&mutate(seed, &mut random));
            }
        }
    }
}

/// What reads bytes of strangers, and the decoder of the table that it is fuzzed by. Two things that read strangers' bytes have
/// other names: `Decoder` of src/wire/frame.rs, and `Reader` of src/cli/transfer/file.rs.
const READERS: &[(&str, &str)] = &[
    ("base/batch.rs::parse", "batch"),
    ("base/chunk.rs::parse", "chunk"),
    ("base/cursor.rs::decode", "cursor"),
    ("base/entry.rs::parse", "entry"),
    ("base/fork.rs::decode", "fork"),
    ("base/hex.rs::decode", "names"),
    ("base/ids.rs::parse", "names"),
    ("base/name.rs::parse", "names"),
    ("base/percent.rs::decode", "words"),
    ("base/removal.rs::decode", "removal"),
    ("base/statement.rs::decode", "statements"),
    ("base/units.rs::parse_bytes", "words"),
    ("base/units.rs::parse_ms", "words"),
    ("base/units.rs::parse_duration", "words"),
    ("group/write.rs::decode", "group_write"),
    ("identity/certificate.rs::parse", "certificate"),
    ("log/checkpoint.rs::parse", "checkpoint"),
    ("log/journal.rs::scan", "journal"),
    ("log/record.rs::decode", "journal"),
    ("log/segment.rs::decode_index", "index"),
    ("node/memory.rs::decode", "memory"),
    ("topic/catalog.rs::decode", "catalog"),
    ("topic/producers.rs::decode", "memory"),
    ("wire/data.rs::read_batch", "data"),
    ("wire/data.rs::read_entry", "data"),
    ("wire/facts.rs::decode", "facts"),
    ("wire/facts.rs::open", "facts"),
    ("wire/frame.rs::decode", "frames"),
    ("wire/json/entry.rs::parse_line", "words"),
    ("wire/message.rs::decode", "request"),
    ("wire/peer_frame.rs::take", "peer_message"),
    ("wire/when.rs::parse_from", "words"),
    ("wire/when.rs::parse_at", "words"),
];

/// What arrives as one message in bincode, and the decoder for it.
const MESSAGES: &[(&str, &str)] =
    &[("Answer", "greeting"), ("Greeting", "greeting"), ("Reply", "reply"), ("Request", "request")];

fn sources(dir: &Path, each: &mut dyn FnMut(&str, &str)) {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        // What is typed by whoever runs the program is his own.
        if path.is_dir() && name != "cli" && name != "server/config" {
            sources(&path, each);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            each(name, text.split("#[cfg(test)]\nmod tests").next().unwrap());
        }
    }
}

/// Whether a function with these parameters is given bytes or text to read, and not room to read into.
fn takes_bytes(parameters: &str) -> bool {
    let types = [
        ": &[u8",
        ": &'a [u8]",
        ": Bytes",
        ": &Bytes",
        ": &mut Bytes",
        ": &str",
        ": &mut Reader<",
        ": Frame",
    ];
    types.iter().any(|of| parameters.contains(of))
}

#[test]
fn whatever_reads_bytes_of_strangers_has_a_decoder_in_the_table() {
    let (mut readers, mut messages) = (Vec::new(), Vec::new());
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |file, text| {
        for (at, _) in text.match_indices("pub fn ") {
            let rest = &text[at + "pub fn ".len()..];
            let (name, rest) = rest.split_at(rest.find(['(', '<']).unwrap());
            let prefixes = ["decode", "parse", "scan", "open", "take", "read"];
            let parameters = rest[rest.find('(').unwrap()..].split(')').next().unwrap();
            // Readers of bytes hand out pieces of them: it is those who read with them that make sense of it.
            let is_reader =
                prefixes.iter().any(|prefix| name.starts_with(prefix)) && file != "base/bytes_io.rs";
            if is_reader && takes_bytes(parameters) {
                readers.push(format!("{file}::{name}"));
            }
        }
        for (at, found) in text.match_indices(".message::<") {
            messages.push(text[at + found.len()..].split('>').next().unwrap().to_owned());
        }
        let is_known = ["wire/message.rs", "wire/peer_frame.rs"].contains(&file);
        assert!(is_known || !text.contains("bincode::"), "{file} reads bincode by itself");
    });
    readers.dedup();
    let listed: Vec<&str> = READERS.iter().map(|(reader, _)| *reader).collect();
    assert_eq!(readers, listed, "add what is new to READERS, with a decoder for it");
    let is_listed = |message: &String| MESSAGES.iter().any(|(listed, _)| message == listed);
    assert!(!messages.is_empty() && messages.iter().all(is_listed), "{messages:?}");
    for (reader, decoder) in READERS.iter().chain(MESSAGES) {
        assert!(decoders::DECODERS.iter().any(|(name, _)| name == decoder), "{reader} has no decoder");
    }
}

#[test]
fn every_decoder_has_a_fuzz_target_that_is_built_as_it_is_here() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let read = |name: &str| std::fs::read_to_string(fuzz.join(name)).unwrap_or_default();
    let manifest = read("Cargo.toml");
    let mut names: Vec<String> = decoders::DECODERS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    for (name, _) in decoders::DECODERS {
        // All that a target adds to what is compiled here is one line.
        let target = read(&format!("fuzz_targets/{name}.rs"));
        let wanted = format!("libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::{name}(bytes));\n");
        assert!(
            target.ends_with(&wanted) && target.contains("#[path = \"../decoders.rs\"]"),
            "{name}: {target}"
        );
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
    let targets = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
    let mut targets: Vec<String> =
        targets.map(|target| target.unwrap().file_name().into_string().unwrap()).collect();
    targets.sort();
    names.sort();
    assert_eq!(targets, names);
}

/// Name and version of each package of a lock file.
fn locked(text: &str) -> Vec<(&str, &str)> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("name = ") {
            found.push((name, lines.next().and_then(|line| line.strip_prefix("version = ")).unwrap()));
        }
    }
    found
}

#[test]
fn what_is_fuzzed_is_built_of_the_crates_that_are_shipped() {
    let (ours, theirs) = (locked(include_str!("../Cargo.lock")), locked(include_str!("fuzz/Cargo.lock")));
    for (name, version) in &theirs {
        let is_ours = |(our, _): &&(&str, &str)| our == name;
        let versions: Vec<&str> = ours.iter().filter(is_ours).map(|(_, version)| *version).collect();
        let is_same = versions.is_empty() || versions.contains(version);
        assert!(
            is_same,
            "{name} is {version} there and {versions:?} here: `cargo update --manifest-path \
                          tests/fuzz/Cargo.toml -p {name} --precise …`"
        );
    }
    let is_there = |wanted: &str| theirs.iter().any(|(name, _)| *name == wanted);
    assert!(
        ["\"conveyor\"", "\"libfuzzer-sys\"", "\"quinn\"", "\"chitchat\"", "\"clap\""]
            .into_iter()
            .all(is_there)
    );
}
