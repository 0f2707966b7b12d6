//! Damage beside damage: what was fetched again, what is well again, and sound neighbours stay served.
use super::*;
use crate::base::Lost;

fn is_served(peer: &Peer, seq: u64) -> bool {
    matches!(peer.get(seq), Single::Entry(..))
}

/// The bytes of batch `index` of the first segment.
fn batch(peer: &Peer, index: usize) -> Batch {
    let file = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap();
    let bytes = file.len().unwrap() as usize / peer.batches_in_first();
    let mut image = vec![0; bytes];
    file.read_exact_at((index * bytes) as u64, &mut image).unwrap();
    Batch::parse(image.into()).unwrap()
}

/// Flips a bit of batch `index` of the first segment, at byte `at` of it.
fn rot(peer: &Peer, index: usize, at: u64) {
    let file = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap();
    let bytes = file.len().unwrap() / peer.batches_in_first() as u64;
    peer.control.flip_at(&peer.path(0), index as u64 * bytes + at, 3).unwrap();
}

#[test]
fn damage_that_grows_spares_what_was_fetched_again() {
    for (by_reader, at) in [(false, 100), (false, 2000), (true, 100), (true, 2000)] {
        let mut peer = Peer::new();
        let good: Vec<Batch> = [6, 7].map(|index| batch(&peer, index)).into();
        [6, 7].iter().for_each(|index| rot(&peer, *index, at));
        peer.round(1 << 20);
        assert_eq!(peer.damaged(), [(19, 25)]);
        good.into_iter().for_each(|batch| peer.write(Work::Foreign { topic: name(), batch }));
        flush::flush(&peer.store).unwrap();
        assert_eq!(peer.damaged(), []);
        rot(&peer, 5, at);
        rot(&peer, 8, at);
        if by_reader {
            assert!(matches!(peer.get(16), Single::Damaged));
            assert!(matches!(peer.get(25), Single::Damaged));
        } else {
            assert_eq!(peer.round(1 << 20).damaged, 2);
        }
        assert_eq!(peer.damaged(), [(16, 19), (25, 28)], "by reader: {by_reader}, byte {at}");
        assert!((19..25).chain([15, 28]).all(|seq| is_served(&peer, seq)));
        assert_eq!((peer.round(1 << 20).damaged, peer.damaged().len()), (0, 2));
    }
}

#[test]
fn a_reader_that_finds_rot_spares_what_lies_behind_a_batch_that_cannot_be_read() {
    let mut peer = Peer::wide();
    (0..5).for_each(|index| peer.append(1 + 3 * index, 3));
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(vec![7; 400_000])).unwrap();
    peer.append_chunk(16, builder);
    (0..20).for_each(|index| peer.append(17 + 3 * index, 3));
    flush::flush(&peer.store).unwrap();
    assert!(is_served(&peer, 76), "its index is made");
    // The large batch begins in the fourth sector; rot takes the tenth behind it.
    peer.bad.lock().unwrap().extend(4..95);
    let bytes = peer.control.disk().open(&peer.path(0), OpenMode::Read).unwrap().len().unwrap();
    let small = (bytes - 400_000) / 25;
    peer.control.flip_at(&peer.path(0), bytes - 11 * small + 2000, 3).unwrap();
    assert!(matches!(peer.get(44), Single::Damaged));
    assert_eq!(peer.damaged(), [(44, 47)]);
}

#[test]
fn a_reader_that_finds_rot_leaves_what_cannot_be_read_before_it_to_a_later_round() {
    let mut peer = Peer::wide();
    (0..3).for_each(|index| peer.append(1 + 20 * index, 20));
    flush::flush(&peer.store).unwrap();
    // In the body of the first batch, of some 20 300 bytes; and rot in that of the second.
    peer.bad.lock().unwrap().insert(2);
    peer.control.flip_at(&peer.path(0), 26_000, 3).unwrap();
    assert!(matches!(peer.get(30), Single::Damaged));
    assert_eq!(peer.damaged(), [(21, 41)]);
    peer.bad.lock().unwrap().clear();
    assert!((1..21).chain(41..61).all(|seq| is_served(&peer, seq)));
}

#[test]
fn what_is_well_again_is_served_although_what_follows_it_is_not() {
    let peer = Peer::new();
    peer.bad.lock().unwrap().insert(3);
    let mut scrub = peer.scrub();
    (0..2).for_each(|_| assert!(Peer::round_of(&mut scrub, 1 << 20).is_round_done));
    assert_eq!(peer.damaged(), [(10, 16)]);
    peer.bad.lock().unwrap().clear();
    rot(&peer, 4, 2000);
    for bytes_max in [1 << 20, 1] {
        Peer::round_of(&mut scrub, bytes_max);
        assert_eq!(peer.damaged(), [(13, 16)]);
    }
}

#[test]
fn what_was_declared_lost_and_turns_up_is_served() {
    let mut peer = Peer::new();
    peer.bad.lock().unwrap().insert(3);
    let mut scrub = peer.scrub();
    (0..2).for_each(|_| assert!(Peer::round_of(&mut scrub, 1 << 20).is_round_done));
    let (log, time) = (peer.id, Timestamp::from_ms(9_000));
    peer.write(Work::Lost(Lost { log, run: RUN, from: Seq(10), until: Seq(16), time, signer: log.peer }));
    assert!(matches!(peer.get(12), Single::Lost));
    Peer::round_of(&mut scrub, 1 << 20);
    assert!(matches!(peer.get(12), Single::Lost));
    peer.bad.lock().unwrap().clear();
    assert_eq!(Peer::round_of(&mut scrub, 1 << 20).healed.len(), 2);
    assert!((1..1 + 3 * BATCHES).all(|seq| is_served(&peer, seq)));
}

#[test]
fn a_reader_that_comes_from_before_is_not_given_what_was_set_aside() {
    let peer = Peer::new();
    // Its checksums are right, and it is not what was signed.
    peer.change(3, |bytes| bytes[600] ^= 1);
    peer.round(1 << 20);
    assert_eq!(peer.damaged(), [(10, 13)]);
    let mut hint = None;
    let mut next = Seq(1);
    let mut read = Vec::new();
    while next < Seq(1 + 3 * BATCHES) {
        match read::read(&peer.store, &peer.log(), RUN, next, 1 << 20, &mut hint).unwrap() {
            read::Found::Batches(batches) => {
                read.extend(batches.iter().map(|batch| batch.statement().first_seq.0));
                next = batches.last().unwrap().statement().until();
            }
            read::Found::Damaged(until) => next = until,
            other => panic!("{other:?}"),
        }
    }
    let others: Vec<u64> = (0..BATCHES).filter(|index| *index != 3).map(|index| 1 + 3 * index).collect();
    assert_eq!(read, others);
}

#[test]
fn what_is_stored_anew_while_a_reader_looks_at_rot_is_served_and_not_set_aside() {
    for is_in_memory in [false, true] {
        let peer = Peer::new();
        let good = batch(&peer, 4);
        rot(&peer, 4, 2000);
        let (store, log, again) = (peer.store.clone(), peer.log(), good.clone());
        *peer.on_read.lock().unwrap() = Some(Box::new(move || {
            let (place, s) = (store.next_place(&log), *again.statement());
            store.write_segment(&log, place, &[again.bytes()], false).unwrap();
            let mut state = log.change();
            state.add(&s, again.link(), place, again.bytes().len() as u64);
            if is_in_memory {
                store.keep(&log, &mut state, again, place, false);
            }
        }));
        let found = read::read(&peer.store, &peer.log(), RUN, Seq(13), 1, &mut None).unwrap();
        assert!(matches!(&found, read::Found::Batches(batches) if batches[0] == good), "{found:?}");
        assert_eq!(peer.damaged(), []);
        assert!((1..1 + 3 * BATCHES).all(|seq| is_served(&peer, seq)));
    }
}
