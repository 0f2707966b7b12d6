//! What a reader was given, and what must hold of it at once: nothing twice, nothing out of order, nothing that was never
//! written.
use crate::cluster::lock;
use crate::whole::Stack;
use conveyor::base::{EntryId, LogId, PeerId, ProducerId, RunId, Seq};
use conveyor::client::{Item, Record};
use std::collections::{BTreeMap, BTreeSet};

/// What a reader was given so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Entries, and from what their payloads follow.
    pub entries: BTreeMap<EntryId, u64>,
    reached: BTreeMap<(LogId, RunId), Seq>,
    numbers: BTreeMap<(LogId, ProducerId), u64>,
    /// Logs that waited for something.
    pub blocked_count: u64,
}

impl Seen {
    /// Takes in an item that came out of a read by `who`.
    pub fn take(&mut self, stack: &Stack, who: &str, item: Item) {
        match item {
            Item::Entry(record) => self.take_entry(stack, who, &record),
            Item::Gap(gap) => panic!("P5: {who} is told of a gap, and nothing was trimmed: {gap:?}"),
            // The peer that it reads at now has less of that log than the one before; it comes.
            Item::Blocked(blocked) => {
                self.blocked_count += 1;
                stack.recorder.note(format_args!("{who} waits: {blocked:?}"));
            }
        }
    }

    fn take_entry(&mut self, stack: &Stack, who: &str, record: &Record) {
        let (id, log) = (record.id, record.id.log());
        let mut model = lock(&stack.model);
        let nonce = model.meet(id, record.time, &record.entry.payload);
        let has_doubts = model.has_doubts();
        drop(model);
        assert_eq!(record.signed_run, id.run, "P2: nobody signs two things under one name");
        assert!(self.entries.insert(id, nonce).is_none(), "P5: {id:?} came twice to {who}");
        let reached = self.reached.insert((log, id.run), id.seq);
        assert!(reached < Some(id.seq), "P5: {id:?} came to {who} behind {reached:?}");
        let (producer, number) = record.entry.producer.expect("the library numbers what it sends");
        let before = self.numbers.insert((log, producer), number);
        // Who lost his disk forgot what he took, and takes it again.
        let is_in_order = before < Some(number) || has_doubts;
        assert!(
            is_in_order,
            "P5: in the log of {:?} number {number} of a producer comes behind {before:?}",
            id.peer
        );
    }

    /// How many payloads came under two names or more, since their client went on at another peer before the first one's
    /// answer came, which it was told. One peer takes nothing twice.
    pub fn double_count(&self, stack: &Stack) -> usize {
        let mut takers: BTreeMap<u64, BTreeSet<PeerId>> = BTreeMap::new();
        let mut count = 0;
        for (id, nonce) in &self.entries {
            let peers = takers.entry(*nonce).or_default();
            count += usize::from(!peers.is_empty());
            let is_first = peers.insert(id.peer);
            assert!(
                is_first || lock(&stack.model).has_doubts(),
                "{:?} took one append twice: {id:?}",
                id.peer
            );
        }
        let model = lock(&stack.model);
        for (nonce, peers) in takers.iter().filter(|(_, peers)| peers.len() > 1) {
            let untold = peers.iter().find(|peer| !model.may_be_at(*nonce, peer));
            assert!(untold.is_none(), "P5: {nonce} is at {untold:?} too, and nobody was told");
        }
        count
    }
}
