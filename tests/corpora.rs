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

#[test]
fn there_is_a_fuzz_target_for_every_decoder() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets");
    for (name, _) in decoders::DECODERS {
        assert!(targets.join(format!("{name}.rs")).exists(), "{name}");
    }
}
