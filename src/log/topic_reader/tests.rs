//! What a reader tells of runs that were trimmed, and what becomes of the cursor behind that.
use super::*;
use crate::base::limits::CURSOR_POSITION_COUNT_MAX;
use crate::base::{Digest, Head, Signature};
use crate::log::seek::tests::Replica;
use crate::wire::merge::{Merged, Merger};

#[test]
fn a_cursor_stays_small_behind_thousands_of_runs_that_were_trimmed() {
    let mut replica = Replica::new();
    replica.take(1, 0, true, 1..3, 0);
    let cluster = ClusterId([9; 16]);
    let behind = Position { peer: replica.id.peer, run: RunId(1), next: Seq(3) };
    let cursor = Cursor { positions: vec![behind], ..Cursor::start(cluster, replica.id.topic) };
    // While the consumer was away each of so many starts of the peer wrote two entries, and retention took them.
    let count = CURSOR_POSITION_COUNT_MAX as u64 + 1_000;
    let log = replica.store.log(&replica.id).unwrap();
    for run in 2..2 + count {
        let (from, until) = (Seq(run * 2 - 1), Seq(run * 2 + 1));
        let (run, parent, time, last) = (RunId(run), RunId(run - 1), Timestamp(run), Digest::ZERO);
        let head = Head { log: log.id, run, parent, from, start: until, until, time, last, is_sealed: true };
        log.change().add_head(head, Signature([0; 64]));
    }
    let start = Start::Cursor(cursor.clone());
    let mut reader =
        TopicReader::open(replica.store.clone(), cluster, replica.id.topic, start, false).unwrap();
    let (mut merger, mut gaps) = (Merger::new(cursor), 0);
    loop {
        let items = reader.next(1 << 20).unwrap();
        if items.is_empty() {
            break;
        }
        for item in items {
            let ReadItem::Gap(gap) = item else { panic!("{item:?}") };
            merger.push_gap(gap);
            assert!(matches!(merger.pop(), Some(Merged::Gap(_))));
            assert_eq!(merger.cursor().positions.len(), 1, "behind {gap:?}");
            gaps += 1;
        }
    }
    assert_eq!((gaps, merger.cursor()), (count, &reader.cursor()));
}
