//! What replication costs: its state machines alone, wired together in one process, with every message counted.
//!
//! ```text
//! stores ──messages and batches, each a hop──> queue ──> stores       a batch is durable at once where it came
//! ```
//!
//! There are no files, no signatures and no network: bytes are those that messages say they take on their way
//! (`wire_bytes`), without what QUIC adds. An entry stands alone in its batch, which is the dearest it can be.
use conveyor::base::{ClusterId, LogId, PeerId, RunId, Seq, StoreId, TopicId, TopicName};
use conveyor::replication::held::{Held, HeldRange};
use conveyor::replication::{PeerInput, PeerOutput, Replication, ReplicationConfig};
use conveyor::wire::peer::{PeerMessage, Prefix, RunRange, SentEnd};
use std::collections::VecDeque;

const CLUSTER: ClusterId = ClusterId([9; 16]);
/// A batch around an entry: statement, signature, envelope, and the header of its chunk.
const BATCH_BYTES: u64 = 256 + 16;
/// A peer's certificate.
const CERTIFICATE_BYTES: usize = 600;

/// Messages, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub messages: u64,
    /// What they take on their way.
    pub bytes: u64,
    /// One-way delays until the last store had what was appended.
    pub hops: u64,
}

/// What is on its way.
enum Load {
    Message(PeerMessage),
    /// A batch that was asked for.
    Batch(RunRange),
    /// One that was not, with its number.
    Push(u64, RunRange),
}

/// Stores, and what is on its way between them.
pub struct Wires {
    stores: Vec<Replication>,
    links: Vec<(usize, usize)>,
    /// From whom, to whom, and with which hop since whatever began it.
    queue: VecDeque<(usize, usize, u64, Load)>,
    /// The hop that is being taken.
    hop: u64,
    now_ms: u64,
    entry_bytes: u64,
    count: Count,
}

fn store_id(index: usize) -> StoreId {
    StoreId(index as u64 + 1)
}

fn topic(number: u64) -> TopicName {
    TopicName::new(&format!("topic/{number}")).expect("a legal name")
}

/// The log of the `peer`th peer in a topic.
fn log(number: u64, peer: usize) -> LogId {
    let key = crate::random::Random::key(peer as u64);
    LogId { topic: TopicId::of(CLUSTER, topic(number).as_str()), peer: PeerId(key) }
}

/// Entries of the `peer`th peer in a topic.
fn entries(number: u64, peer: usize, from: u64, until: u64) -> HeldRange {
    let (log, run) = (log(number, peer), RunId(peer as u64 + 1));
    let range = RunRange { log, run, from: Seq(from), until: Seq(until) };
    HeldRange { range, parent: RunId::NONE, begin: Seq::FIRST, link: 0 }
}

impl Wires {
    /// So many stores without sessions; entries of this size.
    pub fn new(count: usize, entry_bytes: u64) -> Self {
        let store = |index| Replication::new(ReplicationConfig::default(), CLUSTER, store_id(index));
        let (queue, count_of) = (VecDeque::new(), Count::default());
        let stores = (0..count).map(store).collect();
        Self { stores, links: Vec::new(), queue, hop: 0, now_ms: 1_000, entry_bytes, count: count_of }
    }

    /// A session between two.
    pub fn connect(&mut self, a: usize, b: usize) {
        self.links.push((a, b));
        for (at, other) in [(a, b), (b, a)] {
            let peer = PeerId(crate::random::Random::key(other as u64));
            self.input(at, PeerInput::Up(store_id(other), peer));
        }
        self.settle();
    }

    /// Sessions between all.
    pub fn connect_all(&mut self) {
        for a in 0..self.stores.len() {
            (0..a).for_each(|b| self.connect(a, b));
        }
    }

    /// Sessions with the next on a ring and with some far ones, so that all are reached in few hops.
    pub fn connect_some(&mut self) {
        let count = self.stores.len();
        let far = count.isqrt().max(2);
        for a in 0..count {
            for b in [(a + 1) % count, (a + far) % count] {
                let is_new = a != b && !self.links.contains(&(a, b)) && !self.links.contains(&(b, a));
                if is_new {
                    self.connect(a, b);
                }
            }
        }
    }

    /// A store has entries, and tells nobody: from before its sessions began.
    pub fn put(&mut self, at: usize, number: u64, peer: usize, from: u64, until: u64) {
        let held = entries(number, peer, from, until);
        self.stores[at].handle(self.now_ms, PeerInput::Held(topic(number), held), &mut Vec::new());
    }

    /// A peer appends, and everybody has his say.
    pub fn append(&mut self, at: usize, number: u64, seq: u64) {
        self.input(at, PeerInput::Held(topic(number), entries(number, at, seq, seq + 1)));
        self.settle();
    }

    /// Time passes, second by second.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            for at in 0..self.stores.len() {
                let mut out = Vec::new();
                self.stores[at].tick(self.now_ms, &mut out);
                self.carry(at, out);
            }
            self.settle();
        }
    }

    /// What was sent since the last look.
    pub fn take(&mut self) -> Count {
        std::mem::take(&mut self.count)
    }

    /// What a store holds.
    pub fn held(&self, at: usize) -> &Held {
        self.stores[at].held()
    }

    /// Whether all stores hold what the first does.
    pub fn are_alike(&self) -> bool {
        let leaves = |store: &Replication| store.held().leaves(7, Prefix::ALL).collect::<Vec<_>>();
        let first = leaves(&self.stores[0]);
        self.stores.iter().all(|store| leaves(store) == first)
    }

    fn input(&mut self, at: usize, input: PeerInput) {
        let mut out = Vec::new();
        self.stores[at].handle(self.now_ms, input, &mut out);
        self.carry(at, out);
    }

    fn send(&mut self, from: usize, to: StoreId, message: PeerMessage) {
        self.put_on_its_way(from, to, message.wire_bytes() as u64, Load::Message(message));
    }

    fn put_on_its_way(&mut self, from: usize, to: StoreId, bytes: u64, load: Load) {
        self.count.messages += 1;
        self.count.bytes += bytes;
        self.queue.push_back((from, to.0 as usize - 1, self.hop + 1, load));
    }

    fn carry(&mut self, at: usize, out: Vec<PeerOutput>) {
        for output in out {
            match output {
                PeerOutput::Send(to, message) => self.send(at, to, message),
                PeerOutput::Serve { to, range, certificate, .. } => self.serve(at, to, range, certificate),
                PeerOutput::Push { to, range } => {
                    let bytes = 16 + BATCH_BYTES + self.entry_bytes;
                    let push = |(to, number)| self.put_on_its_way(at, to, bytes, Load::Push(number, range));
                    to.into_iter().for_each(push);
                }
                output => unreachable!("nothing is trimmed, and nobody waits: {output:?}"),
            }
        }
    }

    /// The batches of a range, one for each entry.
    fn serve(&mut self, at: usize, to: StoreId, range: RunRange, certificate: bool) {
        if certificate {
            let (peer, der) = (range.log.peer, vec![0; CERTIFICATE_BYTES].into());
            self.send(at, to, PeerMessage::Certificate { peer, der });
        }
        for seq in range.from.0..range.until.0 {
            let one = RunRange { from: Seq(seq), until: Seq(seq + 1), ..range };
            self.put_on_its_way(at, to, BATCH_BYTES + self.entry_bytes, Load::Batch(one));
        }
        self.send(at, to, PeerMessage::Sent { range, until: range.until, end: SentEnd::Enough });
        self.input(at, PeerInput::Served(to));
    }

    /// The batch of a range came, which nobody asked for.
    fn pushed(&mut self, from: usize, at: usize, number: u64, range: RunRange) {
        self.input(at, PeerInput::Pushed(store_id(from), number));
        if self.stores[at].takes_push(store_id(from), &range) {
            self.take_in(from, at, range, true);
        } else {
            self.input(at, PeerInput::NotTaken(store_id(from), range, 0));
        }
    }

    /// A batch is where it was asked for, checked and durable.
    fn came(&mut self, from: usize, at: usize, range: RunRange) {
        if self.stores[at].wants(store_id(from), &range) {
            self.take_in(from, at, range, false);
        }
    }

    fn take_in(&mut self, from: usize, at: usize, range: RunRange, is_pushed: bool) {
        let name = self.stores[at].topic_of(&range.log).expect("it is known").clone();
        self.input(at, PeerInput::Took { from: store_id(from), range, bytes: 0, is_pushed });
        let parent = RunId::NONE;
        self.input(at, PeerInput::Held(name, HeldRange { range, parent, begin: Seq::FIRST, link: 0 }));
        self.count.hops = self.count.hops.max(self.hop);
    }

    /// Until nothing is on its way.
    fn settle(&mut self) {
        while let Some((from, to, hop, load)) = self.queue.pop_front() {
            self.hop = hop;
            match load {
                Load::Message(message) => self.input(to, PeerInput::Message(store_id(from), message)),
                Load::Batch(range) => self.came(from, to, range),
                Load::Push(number, range) => self.pushed(from, to, number, range),
            }
        }
        self.hop = 0;
    }
}

/// Two stores in a session that hold the same of so many logs.
pub fn alike(logs: u64) -> Wires {
    let mut wires = Wires::new(2, 1 << 10);
    for number in 0..logs {
        (0..2).for_each(|at| wires.put(at, number, 0, 1, 1_000_000 + number));
    }
    wires.connect(0, 1);
    wires.pass(5);
    wires.take();
    wires
}

/// What an entry costs, on average of some appended one after the other, once its log is known everywhere.
pub fn entry_costs(mut wires: Wires) -> Count {
    const ENTRIES: u64 = 20;
    wires.append(0, 0, 1);
    wires.pass(10);
    wires.take();
    (2..2 + ENTRIES).for_each(|seq| wires.append(0, 0, seq));
    let Count { messages, bytes, hops } = wires.take();
    assert!(wires.are_alike(), "all came to hold all");
    Count { messages: messages / ENTRIES, bytes: bytes / ENTRIES, hops }
}

/// The table of docs/replication.md.
pub fn report() -> String {
    let head = ["| peers | sessions of each | messages | bytes | one-way delays |", "|---|---|---|---|---|"]
        .map(str::to_owned);
    head.into_iter().chain([3, 10, 50, 100].into_iter().flat_map(rows)).collect::<Vec<_>>().join("\n")
}

/// Its rows for so many peers: each in session with all, and with some where that is fewer.
fn rows(count: usize) -> Vec<String> {
    let mut rows = Vec::new();
    for is_full in [true, false] {
        let mut wires = Wires::new(count, 1 << 10);
        if is_full {
            wires.connect_all()
        } else {
            wires.connect_some()
        }
        let links = wires.links.len();
        if is_full || links < count * (count - 1) / 2 {
            let Count { messages, bytes, hops } = entry_costs(wires);
            let sessions = 2 * links / count;
            rows.push(format!("| {count} | {sessions} | {messages} | {bytes} | {hops} |"));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_peers_with_ten_thousand_equal_logs_say_little() {
        let mut wires = alike(10_000);
        wires.pass(50);
        let Count { messages, bytes, .. } = wires.take();
        assert!(messages <= 20 && bytes <= 10 * 2_048, "{messages} messages, {bytes} bytes in ten intervals");
    }

    #[test]
    fn ten_logs_that_differ_among_ten_thousand_cost_little_to_find() {
        let mut wires = alike(10_000);
        for number in 0..10 {
            // Nobody was told: the comparison has to find them.
            wires.put(1, number * 997, 0, 1_000_000 + number * 997, 1_000_001 + number * 997);
        }
        assert!(!wires.are_alike());
        wires.pass(5);
        assert!(wires.are_alike());
        let Count { bytes, .. } = wires.take();
        let batches = 10 * (BATCH_BYTES + wires.entry_bytes);
        assert!(bytes - batches < 32 << 10, "{bytes} bytes, {batches} of them batches");
    }

    #[test]
    fn the_document_says_what_is_counted() {
        let document = include_str!("../../docs/replication.md");
        for row in [3, 10].into_iter().flat_map(rows) {
            assert!(document.lines().any(|line| line == row), "docs/replication.md lacks {row:?}");
        }
    }

    #[test]
    fn an_entry_goes_to_each_peer_once_and_is_told_back_once() {
        for count in [3, 10] {
            let mut wires = Wires::new(count, 1 << 10);
            wires.connect_all();
            let Count { messages, bytes, .. } = entry_costs(wires);
            let others = count as u64 - 1;
            // The batch, and Have; now and then Follow.
            assert!(messages <= 2 * others + others / 2, "{messages} messages for {others} others");
            assert!(bytes <= others * (BATCH_BYTES + 1_024 + 112), "{bytes} bytes for {others} others");
        }
    }

    #[test]
    fn in_a_chain_an_entry_takes_one_delay_from_each_to_the_next() {
        let mut wires = Wires::new(4, 1 << 10);
        (1..4).for_each(|at| wires.connect(at - 1, at));
        let Count { messages, bytes, hops } = entry_costs(wires);
        assert_eq!(hops, 3);
        assert!(
            messages <= 5,
            "{messages} messages: three pushes, Have to the peer that appended, now and then Follow"
        );
        assert!(bytes <= 3 * (BATCH_BYTES + 1_024 + 112), "{bytes} bytes");
    }

    #[test]
    fn where_not_all_are_in_session_with_all_an_entry_goes_to_each_peer_once() {
        let mut wires = Wires::new(10, 1 << 10);
        wires.connect_some();
        let Count { bytes, .. } = entry_costs(wires);
        let batches = 9 * (BATCH_BYTES + 1_024);
        assert!(bytes >= batches && bytes < batches + batches / 3, "{bytes} bytes, batches are {batches}");
    }
}
