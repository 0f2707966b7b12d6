//! Bytes that are not where they belong, or not what was read a moment ago.
use super::*;

/// A write that went astray left the beginning of a large batch in the place of a small one: its header says that the next
/// batch begins far behind those that do.
#[test]
fn a_part_of_a_batch_in_the_place_of_another_hides_nothing_behind_it() {
    for reads_first in [true, false] {
        let mut peer = Peer::wide();
        peer.append(1, 1);
        peer.append(2, 10);
        (12..32).for_each(|seq| peer.append(seq, 1));
        flush::flush(&peer.store).unwrap();
        let file = peer.control.disk().open(&peer.path(0), OpenMode::Write).unwrap();
        let batches = read_batches(&*file, &peer.id, 0, file.len().unwrap(), 1 << 20).unwrap();
        let at = |seq| batches.iter().find(|(_, batch)| batch.statement().first_seq == Seq(seq)).unwrap();
        let part = at(2).1.bytes().slice(..400);
        file.write_at(at(12).0, &[&part]).unwrap();
        let missing = |peer: &Peer| -> Vec<u64> {
            (1..32).filter(|seq| !matches!(peer.get(*seq), Single::Entry(..))).collect()
        };
        if reads_first {
            assert_eq!(missing(&peer), [12]);
        }
        let rounds = [1, 1 << 20].map(|bytes_max| peer.round(bytes_max).damaged);
        assert_eq!(rounds, [u64::from(!reads_first), 0]);
        assert_eq!((peer.damaged(), missing(&peer)), (vec![(12, 13)], vec![12]));
    }
}

/// Seed 5677: what was stored anew rotted too, and what it had taken the place of was well again, in the same segment.
#[test]
fn of_two_copies_in_one_segment_the_one_that_counts_is_read() {
    for bytes_max in [1, 1 << 20] {
        let mut peer = Peer::wide();
        (1..20).for_each(|seq| peer.append(seq, 1));
        flush::flush(&peer.store).unwrap();
        let file = peer.control.disk().open(&peer.path(0), OpenMode::Write).unwrap();
        let batches = read_batches(&*file, &peer.id, 0, file.len().unwrap(), 1 << 20).unwrap();
        let (offset, batch) = batches[5].clone();
        file.write_at(offset, &[b"rotten"]).unwrap();
        assert_eq!((peer.round(bytes_max).damaged, peer.damaged()), (1, vec![(6, 7)]));
        peer.write(Work::Foreign { topic: name(), batch: batch.clone() });
        flush::flush(&peer.store).unwrap();
        assert_eq!((peer.round(bytes_max).damaged, peer.damaged()), (0, vec![]));
        file.write_at(offset, &[batch.bytes()]).unwrap();
        let newest = peer.log().look().spans.iter().map(|span| span.offset).max().unwrap();
        assert!(newest > offset, "it lies behind the others");
        file.write_at(newest, &[b"rotten"]).unwrap();
        assert_eq!((peer.round(bytes_max).damaged, peer.damaged()), (1, vec![(6, 7)]), "{bytes_max}");
    }
}

/// A bit that turns over once, as segments are walked for want of a checkpoint, must not stay in the books as what the
/// next batch has to name: the scrub would set the last batch aside for ever.
#[test]
fn where_a_run_ends_is_not_taken_from_bytes_that_one_read_got_wrong() {
    let mut peer = Peer::open(MemDisk::new(1));
    (0..3).for_each(|index| peer.append(1 + 3 * index, 3));
    flush::flush(&peer.store).unwrap();
    let end = |peer: &Peer| peer.log().look().run(RUN).map(|run| (run.until, run.link));
    let (expected, image) = (end(&peer), peer.control.image());
    let mut told = 0;
    for (nth, seed) in (4..9).flat_map(|nth| (0..3).map(move |seed| (nth, seed))) {
        let disk = MemDisk::from_image(seed, &image);
        disk.open(place::CHECKPOINT, OpenMode::Create).unwrap().write_at(0, &[b"rotten"]).unwrap();
        for name in disk.list(place::JOURNAL_DIR).unwrap() {
            disk.remove(&format!("{}/{name}", place::JOURNAL_DIR)).unwrap();
        }
        disk.control().inject(Fault::rot_on_read().nth(nth));
        let again = Peer::open(disk);
        again.control.clear_faults();
        let found = again.store.log(&peer.id).and_then(|_| end(&again));
        if found.map(|(until, _)| until) == expected.map(|(until, _)| until) {
            assert_eq!(found, expected, "read {nth}, seed {seed}");
            told += 1;
        }
    }
    assert!(told > 5, "{told}");
}
