//! Sectors that cannot be read, for a while or for good, and bytes that only look like a batch.
use super::*;
use crate::base::{ClusterId, Retention};
use crate::log::retention;
use crate::log::topic_reader::{ReadItem, Start, TopicReader};
use crate::wire::outcome::{BlockedReason, GapReason};

fn is_served(peer: &Peer, seq: u64) -> bool {
    matches!(peer.get(seq), Single::Entry(..))
}

#[test]
fn an_unreadable_sector_takes_the_batches_it_is_in_when_a_later_round_cannot_read_it_either() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().insert(3);
    let mut scrub = peer.scrub();
    let first = Peer::round_of(&mut scrub, 1 << 20);
    assert_eq!((first.damaged, first.errors, peer.damaged()), (0, 1, vec![]));
    let second = Peer::round_of(&mut scrub, 1 << 20);
    // Bytes 12 288 to 16 384 of batches of some 3 300.
    assert_eq!((second.damaged, second.errors, peer.damaged()), (1, 0, vec![(10, 16)]));
    assert!(is_served(&peer, 9) && is_served(&peer, 16));
    let third = Peer::round_of(&mut scrub, 1 << 20);
    assert_eq!((third.damaged, third.errors), (0, 0), "it is told once");
}

#[test]
fn what_was_set_aside_and_is_well_again_is_served_again() {
    for bytes_max in [1, 1 << 20] {
        let peer = Peer::new();
        peer.bad.lock().unwrap().insert(3);
        let mut scrub = peer.scrub();
        for _ in 0..2 {
            Peer::round_of(&mut scrub, bytes_max);
        }
        assert_eq!(peer.damaged(), [(10, 16)]);
        peer.bad.lock().unwrap().clear();
        assert_eq!(Peer::round_of(&mut scrub, bytes_max).healed.len(), 2);
        assert_eq!(peer.damaged(), []);
        assert!((1..1 + 3 * BATCHES).all(|seq| is_served(&peer, seq)));
    }
}

#[test]
fn what_cannot_be_read_is_compared_with_the_round_before_however_much_it_is() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().extend([1, 3, 5, 7, 9]);
    let mut scrub = peer.scrub();
    scrub.failed_max = 2;
    for _ in 0..6 {
        assert!(Peer::round_of(&mut scrub, 1 << 20).is_round_done);
    }
    assert_eq!(peer.damaged(), [(4, 16), (19, 31), (34, 40)]);
}

#[test]
fn an_outage_takes_nothing_whether_or_not_the_first_sector_is_still_in_memory() {
    for first_bad in [0, 1] {
        let peer = Peer::new();
        peer.bad.lock().unwrap().extend(first_bad..1000);
        let mut scrub = peer.scrub();
        let round = Peer::round_of(&mut scrub, 1 << 20);
        assert_eq!((round.damaged, round.errors, peer.damaged()), (0, 1, vec![]), "from sector {first_bad}");
        peer.bad.lock().unwrap().clear();
        assert_eq!((Peer::round_of(&mut scrub, 1 << 20).errors, peer.damaged()), (0, vec![]));
        // Another outage, after a round that read everything.
        peer.bad.lock().unwrap().extend(1..1000);
        Peer::round_of(&mut scrub, 1 << 20);
        assert_eq!(peer.damaged(), []);
    }
    // Nor does an error that does not come again take anything.
    let peer = Peer::new();
    peer.control.inject(Fault::read_error().nth(2));
    assert_eq!((peer.round(10_000).errors, peer.damaged()), (0, vec![]));
}

#[test]
fn a_piece_ends_where_many_sectors_cannot_be_read_and_the_next_goes_on_there() {
    let mut peer = Peer::open(MemDisk::new(1));
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(vec![7; 400_000])).unwrap();
    peer.append_chunk(1, builder);
    flush::flush(&peer.store).unwrap();
    peer.bad.lock().unwrap().extend(1..90);
    let mut scrub = peer.scrub();
    let mut pieces = 0;
    loop {
        pieces += 1;
        if scrub.piece(1 << 20).is_round_done {
            break;
        }
    }
    assert!((3..20).contains(&pieces), "{pieces} pieces");
    assert_eq!(peer.damaged(), []);
}

#[test]
fn entries_behind_more_bad_sectors_than_a_reader_asks_for_are_served() {
    let mut peer = Peer::wide();
    (0..5).for_each(|index| peer.append(1 + 3 * index, 3));
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(vec![7; 400_000])).unwrap();
    peer.append_chunk(16, builder);
    (0..20).for_each(|index| peer.append(17 + 3 * index, 3));
    flush::flush(&peer.store).unwrap();
    // The large batch begins in the fourth sector.
    peer.bad.lock().unwrap().extend(4..95);
    assert!(is_served(&peer, 76));
    let (mut held, mut gaps) = (Vec::new(), Vec::new());
    for item in items(&peer, true) {
        match item {
            ReadItem::Batch { batch, .. } => held.push(batch.statement().first_seq.0),
            ReadItem::Gap(gap) => gaps.push((gap.from.0, gap.until.0)),
            ReadItem::Blocked(blocked) => panic!("{blocked:?}"),
        }
    }
    assert_eq!((held.len(), held.last()), (24, Some(&74)), "{held:?}, {gaps:?}");
    assert_eq!((gaps.first().unwrap().0, gaps.last().unwrap().1), (13, 17));
    assert_eq!(peer.damaged(), [], "it may pass");
}

/// A hundred and ten batches in one segment, of which the disk cannot read the sectors from `bad`; and rot in the
/// hundred and sixth.
fn rotten_behind(bad: std::ops::Range<u64>) -> Peer {
    let mut peer = Peer::wide();
    (0..110).for_each(|index| peer.append(1 + 3 * index, 3));
    flush::flush(&peer.store).unwrap();
    peer.bad.lock().unwrap().extend(bad);
    let bytes = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap().len().unwrap();
    peer.control.flip_at(&peer.path(0), bytes / 110 * 105 + 2000, 3).unwrap();
    peer
}

#[test]
fn rot_behind_many_bad_sectors_is_found_in_the_same_round() {
    for bytes_max in [1, 70_000, 1 << 20] {
        let peer = rotten_behind(17..60);
        peer.round(bytes_max);
        assert_eq!(peer.damaged(), [(316, 319)]);
        // Where the log was trimmed, the place to begin at must be found among them.
        let mut peer = rotten_behind(17..60);
        peer.write(Work::Trim { log: peer.id, run: None, start: Seq(100), time: Timestamp::from_ms(5_000) });
        peer.round(bytes_max);
        assert_eq!(peer.damaged(), [(316, 319)], "pieces of {bytes_max}");
    }
}

#[test]
fn a_search_that_may_ask_for_no_further_sector_pauses_where_it_is() {
    let peer = rotten_behind(17..60);
    let (log, file) = (peer.log(), open_twice(&peer.store, &peer.log(), 0).unwrap());
    let (file, span) = (OverBadSectors::knowing(file, 5, BTreeSet::new()), log.look().spans[0]);
    let stretch = Stretch { store: &peer.store, log: &log, file: &file, span, end: span.end };
    let from = 17 * 4096;
    assert_eq!(stretch.next_good(from, Seq(60), u64::MAX).unwrap(), Search::Paused(from));
}

fn items(peer: &Peer, skip: bool) -> Vec<ReadItem> {
    let (store, cluster) = (peer.store.clone(), ClusterId([1; 16]));
    let mut reader = TopicReader::open(store, cluster, peer.id.topic, Start::Oldest, skip).unwrap();
    let mut all = Vec::new();
    loop {
        let items = reader.next(20_000).unwrap();
        if items.is_empty() {
            return all;
        }
        all.extend(items);
    }
}

#[test]
fn a_reader_goes_over_a_bad_sector_or_waits_before_it_as_it_asked() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().insert(3);
    let gaps: Vec<_> = items(&peer, true)
        .into_iter()
        .filter_map(|item| match item {
            ReadItem::Gap(gap) => Some((gap.from.0, gap.until.0, gap.reason)),
            _ => None,
        })
        .collect();
    // Each batch by itself.
    assert_eq!(gaps.first().map(|gap| gap.0), Some(10));
    assert_eq!(gaps.last().map(|gap| gap.1), Some(16));
    assert!(gaps.iter().all(|gap| gap.2 == GapReason::Damaged));
    let waiting = items(&peer, false);
    let last = waiting.last().unwrap();
    assert!(
        matches!(last, ReadItem::Blocked(b) if b.from == Seq(10) && b.reason == BlockedReason::Io),
        "{last:?}"
    );
    assert_eq!(peer.damaged(), [], "it may pass");
}

#[test]
fn a_reader_sets_rot_aside_behind_a_bad_sector() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().insert(1);
    // Rot: also the header's checksum is wrong.
    let bytes = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap().len().unwrap();
    let offset = 6 * (bytes / peer.batches_in_first() as u64);
    peer.control.flip_at(&peer.path(0), offset + 72, 6).unwrap();
    assert!(matches!(peer.get(19), Single::Damaged));
    let damaged = peer.damaged();
    assert_eq!(damaged.len(), 1);
    assert!(is_served(&peer, 18) && is_served(&peer, 22), "{damaged:?}");
}

fn kept_from(ms: u64) -> std::ops::Range<Timestamp> {
    Timestamp::from_ms(ms)..Timestamp::from_ms(100_000)
}

#[test]
fn retention_goes_over_a_bad_sector() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().insert(3);
    let rules = [(Some(5), None, None), (None, Some(60_000), None), (Some(5), Some(60_000), Some(1_014))];
    for (count, bytes, ms) in rules {
        let retention = Retention { age_ms: ms.map(|_| 1), bytes, count };
        let kept = retention::plan(&peer.store, &peer.id, &retention, ms.map(kept_from)).unwrap();
        assert_eq!(kept.len(), 1, "{count:?} {bytes:?} {ms:?}");
        assert!(count.is_none() || kept[0].start >= Seq(116));
    }
    // By age alone it stops before what cannot be read.
    let retention = Retention { age_ms: Some(1), bytes: None, count: None };
    let dated = Some(kept_from(1_014));
    let kept = retention::plan(&peer.store, &peer.id, &retention, dated.clone()).unwrap();
    assert!((Seq(2)..=Seq(14)).contains(&kept[0].start), "{kept:?}");
    // Nothing of the first segment can be read: what needs no disk holds.
    peer.bad.lock().unwrap().extend(0..1000);
    let retention = Retention { age_ms: Some(1), bytes: None, count: Some(100) };
    let kept = retention::plan(&peer.store, &peer.id, &retention, dated).unwrap();
    assert_eq!(kept[0].start, Seq(21));
}

/// A batch image of this run with another first number and checksums that are right, which nobody signed.
fn forged(peer: &Peer, first_seq: u64) -> Vec<u8> {
    let file = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes[6] = 0;
    bytes[96] = 1;
    bytes[72..80].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..252]);
    bytes[252..256].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn what_an_entry_holds_is_no_batch_though_everything_is_found_by_walking() {
    for claimed in [1_000_000, 9] {
        let mut peer = Peer::open(MemDisk::new(1));
        peer.append(1, 3);
        flush::flush(&peer.store).unwrap();
        let begin = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap().len().unwrap();
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(forged(&peer, claimed))).unwrap();
        peer.append_chunk(4, builder);
        (0..5).for_each(|index| peer.append(5 + 3 * index, 3));
        flush::flush(&peer.store).unwrap();
        peer.control.flip_at(&peer.path(0), begin + 200, 0).unwrap();
        let control = peer.control.clone();
        drop(peer);
        let disk = control.disk();
        disk.remove("checkpoint").unwrap();
        for name in disk.list("journal").unwrap() {
            disk.remove(&format!("journal/{name}")).unwrap();
        }
        let peer = Peer::open(disk);
        assert_eq!((peer.log().look().until(), peer.damaged()), (Seq(20), vec![(4, 5)]), "claimed {claimed}");
        assert!((1..20).filter(|seq| *seq != 4).all(|seq| is_served(&peer, seq)));
        peer.round(1 << 20);
        assert_eq!(peer.damaged(), [(4, 5)]);
    }
}

#[test]
fn what_an_entry_holds_is_no_batch_though_it_it_looks_like_one() {
    for (by_reader, claimed) in [(false, 1_000_000), (true, 1_000_000), (false, 9), (true, 9)] {
        let mut peer = Peer::open(MemDisk::new(1));
        peer.append(1, 3);
        flush::flush(&peer.store).unwrap();
        let begin = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap().len().unwrap();
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(forged(&peer, claimed))).unwrap();
        peer.append_chunk(4, builder);
        (0..5).for_each(|index| peer.append(5 + 3 * index, 3));
        flush::flush(&peer.store).unwrap();
        // One bit of the header of the batch with entry 4.
        peer.control.flip_at(&peer.path(0), begin + 200, 0).unwrap();
        if by_reader {
            assert!(matches!(peer.get(4), Single::Damaged));
        } else {
            assert_eq!(peer.round(1 << 20).damaged, 1);
        }
        assert_eq!(peer.damaged(), [(4, 5)], "by reader: {by_reader}, claimed {claimed}");
        peer.append(20, 3);
        flush::flush(&peer.store).unwrap();
        assert!((5..23).all(|seq| is_served(&peer, seq)));
        peer.round(1 << 20);
        assert_eq!(peer.damaged(), [(4, 5)]);
    }
}
