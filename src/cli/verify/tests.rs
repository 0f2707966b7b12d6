//! A directory as a peer leaves it, and what is told when some of it is gone.
use super::{Finding, Scan, chains};
use crate::base::step::{AppendWork, Step, Work};
use crate::base::{
    Chunk, ChunkBuilder, ClusterId, Codec, Entry, LogId, RunId, Seq, Timestamp, TopicId, TopicName,
};
use crate::disk::FileDisk;
use crate::identity::sign::{Ed25519Signer, Ed25519Verifier, Signer};
use crate::log::{self, LogConfig, flush, place};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const RUN: RunId = RunId(5);

fn name() -> TopicName {
    TopicName::new("jobs").unwrap()
}

/// Appends of one large entry each; such a batch goes straight to its segment.
fn append(log: LogId, seq: u64, bytes: usize) -> Work {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(vec![7; bytes])).unwrap();
    Work::Append(AppendWork {
        topic: name(),
        log,
        run: RUN,
        parent: RunId::NONE,
        opens_run: seq == 1,
        first_seq: Seq(seq),
        first_time: Timestamp::from_ms(1_000 + seq),
        chunks: vec![Chunk::parse(builder.finish(Codec::None)).unwrap()],
        is_buffered: false,
        must_sync: true,
    })
}

/// A directory with four entries: two that the checkpoint knows of, a large one and a small one behind it.
fn directory() -> (tempfile::TempDir, PathBuf) {
    directory_of(&[&[(1, 100), (2, 100)], &[(3, 20_000), (4, 100)]])
}

/// A directory of a peer that was started once for each of `starts`, and wrote entries of so many bytes.
fn directory_of(starts: &[&[(u64, usize)]]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed(&[7; 32]));
    let log = LogId { topic: TopicId::of(ClusterId([1; 16]), name().as_str()), peer: signer.peer() };
    let config = LogConfig { journal_file_bytes: 1 << 20, bulk_bytes_min: 8 << 10, ..LogConfig::default() };
    for steps in starts {
        let disk = Arc::new(FileDisk::open(dir.path()).unwrap());
        let mut opened =
            log::open(disk, config, signer.clone(), Arc::new(Ed25519Verifier), &mut |_| {}).unwrap();
        let slots = opened.writer.slots();
        flush::checkpoint(&opened.store, &slots, opened.rotation, &|_| {}).unwrap();
        for (seq, bytes) in *steps {
            let step = Step { number: *seq, work: vec![append(log, *seq, *bytes)] };
            opened.writer.write(step, || ()).unwrap();
        }
        opened.writer.finish().unwrap();
    }
    let segment = dir.path().join(place::segment_path(&place::topic_dir(&name()), &log, 0));
    (dir, segment)
}

fn findings(dir: &Path) -> Vec<String> {
    let mut scan = Scan::of(FileDisk::open(dir).unwrap(), ProgressBar::hidden()).unwrap();
    chains(&mut scan).unwrap();
    scan.findings.into_iter().map(|Finding { what, .. }| what).collect()
}

fn has(found: &[String], words: &str) -> bool {
    found.iter().any(|what| what.contains(words))
}

#[test]
fn what_a_peer_leaves_is_all_good() {
    assert_eq!(findings(directory().0.path()), Vec::<String>::new());
}

#[test]
fn what_the_journal_has_whole_may_be_missing_between_two_large_entries() {
    let (dir, _) = directory_of(&[&[(1, 20_000), (2, 100), (3, 20_000), (4, 100), (5, 100), (6, 20_000)]]);
    assert_eq!(findings(dir.path()), Vec::<String>::new());
}

#[test]
fn a_segment_that_is_missing_is_told_with_what_was_in_it() {
    let (dir, segment) = directory();
    std::fs::remove_file(segment).unwrap();
    let found = findings(dir.path());
    assert!(has(&found, "it is missing") && has(&found, "entries 1 up to 4"), "{found:?}");
}

#[test]
fn a_segment_that_is_shorter_than_the_checkpoint_and_the_journal_say_is_told() {
    let (dir, segment) = directory();
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    // Only what lies in the journal whole is left out: it is not lost.
    file.set_len(file.metadata().unwrap().len() - 1_000).unwrap();
    let found = findings(dir.path());
    assert!(has(&found, "it ends at byte") && has(&found, "entries 3 up to 4"), "{found:?}");
    file.set_len(300).unwrap();
    let found = findings(dir.path());
    assert!(has(&found, "entries 1 up to 4") || has(&found, "entries 2 up to 4"), "{found:?}");
}

#[test]
fn a_checkpoint_that_is_missing_is_told() {
    let (dir, _) = directory();
    std::fs::remove_file(dir.path().join(place::CHECKPOINT)).unwrap();
    assert!(has(&findings(dir.path()), "there are segments"));
}
