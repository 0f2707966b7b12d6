use super::*;
use crate::base::limits::PRODUCER_WINDOW;

fn chunk(number: u64, count: u32, seq: u64) -> Remembered {
    Remembered { number, count, run: RunId(1), first_seq: Seq(seq), first_time: Timestamp(seq), step: seq }
}

const P: ProducerId = ProducerId(7);
const T: TopicId = TopicId([1; 16]);

#[test]
fn a_retry_is_answered_as_the_first_attempt_was() {
    let mut producers = Producers::default();
    assert_eq!(producers.look(T, P, 0, 3), Known::New);
    producers.add(T, P, chunk(0, 3, 10));
    assert_eq!(producers.look(T, P, 0, 3), Known::Repeat(chunk(0, 3, 10)));
    assert_eq!(producers.look(T, P, 3, 1), Known::New);
    assert_eq!(producers.look(T, P, 2, 2), Known::Mixed);
    assert_eq!(producers.look(T, P, 0, 2), Known::Mixed);
}

#[test]
fn numbers_beyond_the_window_are_forgotten_not_appended_again() {
    let mut producers = Producers::default();
    for number in 0..3000 {
        producers.add(T, P, chunk(number, 1, number + 1));
    }
    assert_eq!(producers.look(T, P, 0, 1), Known::Forgotten);
    assert_eq!(
        producers.look(T, P, 2999 - PRODUCER_WINDOW + 2, 1),
        Known::Repeat(chunk(2999 - 1022, 1, 1978))
    );
    let kept = producers.topics[&T].windows[&P].chunks().count() as u64;
    assert!((PRODUCER_WINDOW..=PRODUCER_WINDOW + 2).contains(&kept), "{kept}");
}

#[test]
fn the_producer_used_least_recently_is_forgotten_first() {
    let mut producers = Producers::default();
    for id in 0..PRODUCER_COUNT_MAX as u64 {
        producers.add(T, ProducerId(id), chunk(0, 1, id + 1));
    }
    producers.add(T, ProducerId(0), chunk(1, 1, 99_999));
    producers.add(T, ProducerId(u64::MAX), chunk(0, 1, 100_000));
    assert_eq!(producers.topics[&T].windows.len(), PRODUCER_COUNT_MAX);
    assert!(producers.topics[&T].windows.contains_key(&ProducerId(0)));
    assert!(!producers.topics[&T].windows.contains_key(&ProducerId(1)));
}

#[test]
fn what_a_refused_step_held_can_be_appended_again() {
    let mut producers = Producers::default();
    producers.add(T, P, chunk(0, 1, 1));
    producers.add(T, P, chunk(1, 1, 2));
    producers.forget_from(2);
    assert_eq!(producers.look(T, P, 1, 1), Known::New);
    assert!(matches!(producers.look(T, P, 0, 1), Known::Repeat(_)));
}

#[test]
fn what_is_remembered_survives_a_checkpoint() {
    let mut producers = Producers::default();
    producers.add(T, P, chunk(5, 2, 9));
    let mut out = Vec::new();
    producers.encode(&mut out);
    let again = Producers::decode(&mut Reader::new(&out)).unwrap();
    assert_eq!(again.look(T, P, 5, 2), Known::Repeat(Remembered { step: 0, ..chunk(5, 2, 9) }));
    assert!(Producers::decode(&mut Reader::new(&out[..out.len() - 1])).is_err());
}

#[test]
fn numbers_count_on_within_a_chunk_or_are_no_numbers() {
    assert_eq!(numbers_of(&[(P, 4), (P, 5)]), Some((P, 4)));
    assert_eq!(numbers_of(&[(P, 4), (P, 6)]), None);
    assert_eq!(numbers_of(&[(P, 4), (ProducerId(8), 5)]), None);
    assert_eq!(numbers_of(&[]), None);
}

#[test]
fn over_the_bound_the_costliest_topic_forgets_its_oldest_and_says_so() {
    let mut producers = Producers::default();
    let small = TopicId([2; 16]);
    producers.add(small, P, chunk(0, 1, 1));
    let fits = PRODUCER_CHUNKS_MAX as u64 / PRODUCER_WINDOW + 10;
    for id in 0..fits {
        (0..PRODUCER_WINDOW).for_each(|number| producers.add(T, ProducerId(id), chunk(number, 1, number)));
    }
    assert!(producers.cost <= PRODUCER_CHUNKS_MAX && producers.cost > PRODUCER_CHUNKS_MAX / 2);
    assert_eq!(producers.cost, producers.topics.values().map(|topic| topic.cost).sum::<usize>());
    assert!(matches!(producers.look(small, P, 0, 1), Known::Repeat(_)), "a small topic pays for no other");
    assert!(matches!(producers.look(T, ProducerId(fits - 1), 0, 1), Known::Repeat(_)));
    let old = ProducerId(0);
    let last = PRODUCER_WINDOW - 1;
    assert!(matches!(producers.look(T, old, last, 1), Known::Repeat(_)), "the newest stay longest");
    assert_eq!(producers.look(T, old, 0, 1), Known::Forgotten, "and not: new");
    let mut out = Vec::new();
    producers.encode(&mut out);
    let again = Producers::decode(&mut Reader::new(&out)).unwrap();
    assert_eq!(again.look(T, old, 0, 1), Known::Forgotten);
}

#[test]
fn a_topic_that_is_over_the_bound_by_itself_keeps_what_it_took_last() {
    let mut producers = Producers::default();
    for topic in 0..1000u64 {
        let topic = TopicId(u128::from(topic).to_le_bytes());
        (0..600).for_each(|number| {
            producers.add(topic, P, chunk(number, 1, number));
            assert!(matches!(producers.look(topic, P, number, 1), Known::Repeat(_)));
        });
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut producers = Producers::default();
    producers.add(T, P, chunk(0, 1, 1));
    let snapshot = producers.clone();
    producers.add(T, P, chunk(1, 1, 2));
    assert_eq!(snapshot.look(T, P, 1, 1), Known::New);
    assert!(matches!(producers.look(T, P, 1, 1), Known::Repeat(_)));
}

#[test]
fn a_deleted_topic_is_forgotten_and_what_came_after_is_not() {
    let mut producers = Producers::default();
    producers.add(T, P, chunk(0, 1, 1));
    producers.add(T, P, chunk(1, 1, 2));
    producers.forget(T, |chunk| chunk.first_seq < Seq(2));
    assert!(matches!(producers.look(T, P, 1, 1), Known::Repeat(_)));
    producers.forget(T, |chunk| chunk.first_seq < Seq(3));
    assert_eq!(producers.look(T, P, 1, 1), Known::New);
    assert!(producers.topics.is_empty() && producers.by_cost.is_empty() && producers.cost == 0);
}

#[test]
fn the_last_numbers_there_are_overflow_nothing() {
    let mut producers = Producers::default();
    producers.add(T, P, chunk(u64::MAX - 1, 2, 1));
    producers.add(T, P, chunk(u64::MAX, 1, 3));
    assert!(matches!(producers.look(T, P, u64::MAX - 1, 2), Known::Repeat(_)));
    assert_eq!(producers.look(T, P, u64::MAX, 9), Known::New);
    producers.forget_from(2);
}

/// As 500 clients that append to one topic in turn, and then to ten thousand, make them.
#[test]
fn half_a_million_chunks_take_some_twelve_bytes_each() {
    let mut producers = Producers::default();
    let mut seq = 0;
    let mut add = |producers: &mut Producers, topic, producer, number| {
        seq += 1;
        let chunk = Remembered {
            run: RunId(0x1234_5678_9abc_def0),
            first_time: Timestamp::from_ms(1_790_000_000_000 + seq / 10).plus(seq % 10),
            step: 70_000 + seq / 100,
            ..chunk(number, 1, seq)
        };
        producers.add(topic, ProducerId(producer), chunk);
    };
    (1..=1000).for_each(|n| (0..490).for_each(|producer| add(&mut producers, T, producer, n)));
    let bytes = producers.bytes();
    assert!(bytes < 490_000 * 13, "{bytes} bytes in {} windows", producers.topics[&T].windows.len());

    let mut producers = Producers::default();
    let topic = |number: u128| TopicId(number.to_le_bytes());
    (1..=40).for_each(|n| (0..10_000).for_each(|at| add(&mut producers, topic(at), at as u64, n)));
    let chunks: usize =
        producers.topics.values().map(|t| t.windows.values().map(|w| w.held()).sum::<usize>()).sum();
    assert_eq!(chunks, 400_000);
    let bytes = producers.bytes();
    assert!(bytes < chunks * 13 + 10_000 * 200, "{bytes} bytes");
}

#[test]
fn a_snapshot_and_its_pieces_say_the_same() {
    let mut producers = Producers::default();
    for topic in 0..3 {
        (0..100).for_each(|n| producers.add(TopicId([topic; 16]), P, chunk(n, 1, n)));
    }
    let (mut whole, mut pieces) = (Vec::new(), 0);
    producers.encode_pieces(&mut |piece| {
        whole.extend_from_slice(piece);
        pieces += 1;
    });
    let mut at_once = Vec::new();
    producers.encode(&mut at_once);
    assert!(whole == at_once && pieces > 3);
    assert!(Producers::decode(&mut Reader::new(&[0])).is_ok_and(|none| none.topics.is_empty()));
    let mut none = Vec::new();
    Producers::default().encode(&mut none);
    assert_eq!(none, [0]);
}

#[test]
fn what_was_appended_behind_a_fork_is_answered_by_the_name_of_its_branch() {
    let (mut producers, branch) = (Producers::default(), RunId(9));
    (0..300).for_each(|number| producers.add(T, P, chunk(number, 1, number + 1)));
    let before = producers.clone();
    producers.rename(T, RunId(1), Seq(200), branch);
    producers.rename(T, RunId(2), Seq(1), RunId(3));
    for number in 0..300 {
        let chunk = chunk(number, 1, number + 1);
        let run = if chunk.first_seq < Seq(200) { chunk.run } else { branch };
        assert_eq!(producers.look(T, P, number, 1), Known::Repeat(Remembered { run, ..chunk }));
        assert_eq!(before.look(T, P, number, 1), Known::Repeat(chunk), "a snapshot stays as it was");
    }
    assert_eq!(producers.look(T, P, 300, 1), Known::New);
}
