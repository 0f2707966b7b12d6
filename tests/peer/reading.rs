//! Readers of what lies on the disk: called off, or met by errors, they lose nothing.
use crate::{HeldLane, chunk, config, env, read, topic};
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry, EntryRef, Seq};
use conveyor::disk::{Disk, IoExec, Lane, MemDisk, OpenMode, ThreadLanes};
use conveyor::identity::sign::Ed25519Signer;
use conveyor::runtime::{Env, Handle, ReadItem, start};
use conveyor::wire::outcome::{BlockedReason, ReadError, ReadFrom};
use std::sync::Arc;

/// A peer whose entries are on the disk and not in memory: 40 of 20 KiB, in segments of a few.
async fn peer_with_old_entries(disk: MemDisk, io: Arc<dyn IoExec>) -> Handle {
    let signer = Ed25519Signer::from_seed(&[7; 32]);
    let mut config = config(&signer);
    config.log.segment_bytes = 64 << 10;
    config.log.tail_bytes_max = 0;
    let control = disk.control();
    let first = start(env(disk), Arc::new(Ed25519Signer::from_seed(&[7; 32])), config.clone()).unwrap().0;
    for number in 0..40 {
        let payload = format!("{number:020480}");
        first.append(topic("jobs"), None, chunk(&[payload.as_str()], None)).await.unwrap();
    }
    first.shutdown().await;
    let env = Env { io, ..env(control.crash()) };
    let peer = start(env, Arc::new(signer), config).unwrap().0;
    // What was replayed stays in memory until the first checkpoint.
    while peer.store().counters.checkpoints.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    peer
}

#[tokio::test]
async fn a_read_that_was_called_off_is_taken_up_where_it_was() {
    let io = Arc::new(HeldLane::new(Lane::Read));
    let peer = peer_with_old_entries(MemDisk::new(1), io.clone()).await;
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    let mut seen = Vec::new();
    for round in 0.. {
        let before = reader.cursor();
        io.hold();
        tokio::select! {
            biased;
            _ = reader.next(1) => assert_eq!(seen.len(), 40, "only the end is known without the disk"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(reader.cursor(), before, "round {round}: nothing was handed out");
        if io.let_go() == 0 {
            break;
        }
        for item in reader.next(1).await.unwrap() {
            let ReadItem::Batch { batch, from, .. } = item else { panic!("{item:?}") };
            assert_eq!(from, batch.statement().first_seq);
            seen.push(batch.statement().first_seq);
        }
    }
    assert_eq!(seen, (1..=40).map(Seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_disk_that_fails_now_and_then_takes_nothing_from_a_reader_that_asks_again() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let peer = peer_with_old_entries(disk, Arc::new(ThreadLanes::start(2).unwrap())).await;
    control.inject(conveyor::disk::Fault::read_error());
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    let waits = |item: &ReadItem| matches!(item, ReadItem::Blocked(b) if b.reason == BlockedReason::Io);
    assert!(reader.next(1 << 20).await.unwrap().iter().all(waits), "nothing can be read");
    control.clear_faults();
    control.inject(conveyor::disk::Fault::read_error().one_in(2));
    for _ in 0..10 {
        let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
        let mut next = Seq::FIRST;
        while next < Seq(41) {
            match reader.next(1 << 20).await {
                Ok(items) => {
                    for item in items.into_iter().filter(|item| !waits(item)) {
                        let ReadItem::Batch { batch, .. } = item else { panic!("{item:?}") };
                        assert_eq!(batch.statement().first_seq, next);
                        next = batch.statement().until();
                    }
                }
                Err(ReadError::Io { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(peer.status().damaged_count, 0);
}

#[tokio::test]
async fn what_a_reader_takes_at_once_is_counted_unpacked() {
    let peer = crate::peer(MemDisk::new(1));
    for _ in 0..20 {
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from("x".repeat(100 << 10))).unwrap();
        let chunk = Chunk::parse(builder.finish(Codec::Zstd)).unwrap();
        peer.append(topic("jobs"), None, chunk).await.unwrap();
    }
    let mut reader = peer.reader(&topic("jobs"), ReadFrom::Start, false).await.unwrap();
    let mut batch_count = 0;
    while batch_count < 20 {
        let items = reader.next(256 << 10).await.unwrap();
        assert!((1..=3).contains(&items.len()), "{} batches, small as they are stored", items.len());
        batch_count += items.len();
    }
}

/// Takes every fourth index away, and makes something else wrong with the others.
fn spoil(disk: &MemDisk, paths: &[String]) {
    let open = |path: &str| disk.open(path, OpenMode::Create).unwrap();
    let bytes_of = |path: &str| {
        let file = open(path);
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    };
    let stale = bytes_of(&paths[0]);
    for (turn, path) in paths.iter().enumerate() {
        let mut bytes = bytes_of(path);
        match turn % 4 {
            // Of another segment, as one that a backup brought back may be.
            1 => bytes.clone_from(&stale),
            2 => bytes[20] ^= 1,
            3 => {
                bytes[4] = 9;
                let at = bytes.len() - 4;
                let crc = crc32c::crc32c(&bytes[..at]).to_le_bytes();
                bytes[at..].copy_from_slice(&crc);
            }
            _ => {
                disk.remove(path).unwrap();
                continue;
            }
        }
        open(path).set_len(0).unwrap();
        open(path).write_at(0, &[&bytes]).unwrap();
    }
}

#[tokio::test]
async fn an_index_that_is_missing_stale_damaged_or_of_another_version_costs_nothing_but_a_walk() {
    let disk = MemDisk::new(1);
    let control = disk.control();
    let begin = |disk: MemDisk| {
        let signer = Ed25519Signer::from_seed(&[7; 32]);
        let mut config = config(&signer);
        config.log.segment_bytes = 128 << 10;
        start(env(disk), Arc::new(signer), config).unwrap().0
    };
    let peer = begin(disk);
    let payloads: Vec<String> = (0..60).map(|number| format!("{number:020000}")).collect();
    let mut times = Vec::new();
    for payload in &payloads {
        let appended = peer.append(topic("jobs"), None, chunk(&[payload], None)).await.unwrap();
        times.push((appended.first_time, appended.run));
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let indexes = || -> Vec<String> {
        let image = control.image();
        image.files().filter(|path| path.ends_with(".index")).map(str::to_owned).collect()
    };
    while indexes().len() < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    peer.shutdown().await;
    drop(peer);
    spoil(&control.disk(), &indexes());
    let again = begin(control.disk());
    for at in (0..payloads.len()).step_by(7) {
        let (time, run) = times[at];
        let from_time = read(&again, "jobs", ReadFrom::Time { unix_ms: time.ms() }).await;
        assert!(from_time == payloads[at..], "from the time of entry {at}: {}", from_time.len());
        let id = EntryRef::parse(&format!("jobs/alpha.{}/{}", run.short(), at + 1)).unwrap();
        assert!(read(&again, "jobs", ReadFrom::Id(id)).await == payloads[at..], "from entry {at}");
    }
    assert_eq!(again.status().damaged_count, 0);
}
