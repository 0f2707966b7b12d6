//! A small world around engines, for tests: a topic with its logs, what each peer holds of it, appends, copies and readers, each
//! done when the test says so.
// tidy: long file because a peer in small, with all that the engine asks of it
use crate::base::{
    ClusterId, Cursor, EntryId, GroupName, Now, PeerId, Position, ProducerId, RunId, Seq, Timestamp, TopicId,
    TopicName,
};
use crate::group::engine::Engine;
use crate::group::io::{Ask, GroupConfig, Input, Meta, Output, Reading, Ticket};
use crate::group::write::{Done, GroupWrite};
use crate::wire::group::{
    Delivery, GroupAnswer, GroupError, GroupInfo, GroupMessage, GroupSettings, Lease, LeaseError,
};
use crate::wire::outcome::AppendError;
use std::collections::{BTreeMap, VecDeque};

pub const CLUSTER: ClusterId = ClusterId([9; 16]);

pub fn peer(byte: u8) -> PeerId {
    PeerId([byte; 32])
}

pub fn topic() -> TopicName {
    TopicName::new("jobs").unwrap()
}

pub fn topic_id() -> TopicId {
    TopicId::of(CLUSTER, "jobs")
}

pub fn name(text: &str) -> GroupName {
    GroupName::new(text).unwrap()
}

pub fn start() -> Cursor {
    Cursor::start(CLUSTER, topic_id())
}

/// A position that names logs: (peer, run, next).
pub fn cursor(positions: &[(u8, u64, u64)]) -> Cursor {
    let position =
        |(of, run, next): &(u8, u64, u64)| Position { peer: peer(*of), run: RunId(*run), next: Seq(*next) };
    Cursor { positions: positions.iter().map(position).collect(), ..start() }
}

pub fn entry(of: u8, run: u64, seq: u64) -> EntryId {
    EntryId { topic: topic_id(), peer: peer(of), run: RunId(run), seq: Seq(seq) }
}

pub fn config(of: u8) -> GroupConfig {
    GroupConfig {
        cluster: CLUSTER,
        peer: peer(of),
        topic: topic(),
        topic_id: topic_id(),
        drawn: u64::from(of) << 32,
        window_count_max: 64,
        span_count_max: 1 << 20,
        waiting_count_max: 100,
        dispense_wait_ms_max: 1000,
        group_count_max: 10,
    }
}

/// A write that is an entry.
pub type Entry = (EntryId, Timestamp, GroupWrite);

#[derive(Debug)]
struct Reader {
    /// For each log the index of the next entry.
    next: BTreeMap<PeerId, usize>,
    base: Cursor,
    wants: Option<usize>,
    told_end: bool,
}

/// A copy that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub id: EntryId,
    pub to: TopicName,
    pub why: Done,
    pub attempts: u32,
}

/// One peer.
pub struct Site {
    pub me: u8,
    pub run: u64,
    pub engine: Engine,
    pub config: GroupConfig,
    pub now: Now,
    /// What is held of the topic, by log.
    pub logs: BTreeMap<PeerId, Vec<Meta>>,
    /// What is held of `$groups/…`, by log; the number of the first is what was trimmed.
    pub writes: BTreeMap<PeerId, VecDeque<Entry>>,
    readers: BTreeMap<Reading, Reader>,
    pub appends: VecDeque<(Ticket, GroupWrite)>,
    pub copies: VecDeque<(Ticket, Copied)>,
    pub copied: Vec<Copied>,
    pub tells: VecDeque<(PeerId, GroupMessage)>,
    pub answers: BTreeMap<Ticket, Result<GroupAnswer, GroupError>>,
    pub listed: Vec<GroupInfo>,
    pub trims: Vec<EntryId>,
    pub reads_held: bool,
    pub read_count: usize,
    next_ticket: Ticket,
    next_seq: u64,
    clock: u64,
}

impl Site {
    pub fn new(me: u8) -> Self {
        Self::with(config(me))
    }

    pub fn with(config: GroupConfig) -> Self {
        let now = Now { mono_ms: 10_000, unix_ms: 1_000_000 };
        let me = config.peer.0[0];
        let mut site = Self {
            me,
            run: 1,
            engine: Engine::new(config.clone()),
            config,
            now,
            logs: BTreeMap::new(),
            writes: BTreeMap::new(),
            readers: BTreeMap::new(),
            appends: VecDeque::new(),
            copies: VecDeque::new(),
            copied: Vec::new(),
            tells: VecDeque::new(),
            answers: BTreeMap::new(),
            listed: Vec::new(),
            trims: Vec::new(),
            reads_held: false,
            read_count: 0,
            next_ticket: 1,
            next_seq: 1,
            clock: 0,
        };
        site.input(Input::CaughtUp);
        site
    }

    /// The process ends and starts anew, after so long. What is in memory is gone.
    pub fn restart(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        self.run += 1;
        self.config.drawn += 1 << 20;
        self.engine = Engine::new(self.config.clone());
        self.readers.clear();
        self.appends.clear();
        self.copies.clear();
        self.tells.clear();
        let all: Vec<Entry> = self.writes.values().flatten().cloned().collect();
        for (id, time, write) in all {
            self.input(Input::Written { id, time, write });
        }
        self.input(Input::CaughtUp);
    }

    pub fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.engine.handle(self.now, input, &mut outputs);
        outputs.into_iter().for_each(|output| self.take(output));
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Answer { ticket, answer } => {
                assert!(self.answers.insert(ticket, answer).is_none(), "{ticket} was answered twice");
            }
            Output::Listed { groups, .. } => self.listed = groups,
            Output::Append { ticket, write } => {
                let again = GroupWrite::decode(&write.encode());
                assert_eq!(again.as_ref(), Some(&write), "it reads back what it wrote");
                self.appends.push_back((ticket, write));
            }
            Output::Copy { ticket, id, to, why, attempts, .. } => {
                self.copies.push_back((ticket, Copied { id, to, why, attempts }));
            }
            Output::Open { reading, from } => {
                let of = |peer: &PeerId| {
                    let at = from.positions.iter().filter(|at| at.peer == *peer).map(|at| at.next.0).max();
                    at.map_or(0, |next| next as usize - 1)
                };
                let next = (1..=9).map(|byte| (peer(byte), of(&peer(byte)))).collect();
                self.readers.insert(reading, Reader { next, base: from, wants: None, told_end: false });
            }
            Output::Read { reading, count_max } => {
                let reader = self.readers.get_mut(&reading).expect("it was opened");
                assert!(reader.wants.is_none() && count_max > 0, "one read at a time");
                reader.wants = Some(count_max);
            }
            Output::Close { reading } => assert!(self.readers.remove(&reading).is_some()),
            Output::Trim { before } => {
                self.trims.push(before);
                if let Some(log) = self.writes.get_mut(&before.peer) {
                    let at = log.iter().position(|entry| entry.0 == before).expect("what is kept is held");
                    log.drain(..at);
                }
            }
            Output::Tell { to, message } => self.tells.push_back((to, message)),
        }
    }

    /// The next entry of the own log of `$groups/…` is this.
    fn number(&mut self, write: GroupWrite) -> Entry {
        let topic = self.config.groups_topic();
        let id = EntryId { topic, peer: peer(self.me), run: RunId(self.run), seq: Seq(self.next_seq) };
        self.next_seq += 1;
        self.clock = self.clock.max(self.now.unix_ms << 16) + 1;
        (id, Timestamp(self.clock), write)
    }

    /// The first append that waits is durable.
    pub fn append_one(&mut self, error: Option<AppendError>, written_first: bool) -> Option<Entry> {
        let (ticket, write) = self.appends.pop_front()?;
        if let Some(error) = error {
            self.input(Input::Appended { ticket, result: Err(error) });
            return None;
        }
        let entry = self.number(write);
        self.writes.entry(peer(self.me)).or_default().push_back(entry.clone());
        let (id, time, write) = entry.clone();
        let appended = Input::Appended { ticket, result: Ok((id, time)) };
        let written = Input::Written { id, time, write };
        let both = if written_first { [written, appended] } else { [appended, written] };
        both.into_iter().for_each(|input| self.input(input));
        Some(entry)
    }

    /// An entry that another peer wrote is here now.
    pub fn replicate(&mut self, entry: &Entry) {
        let log = self.writes.entry(entry.0.peer).or_default();
        if log.iter().all(|held| held.0 != entry.0) {
            log.push_back(entry.clone());
        }
        let (id, time, write) = entry.clone();
        self.input(Input::Written { id, time, write });
    }

    /// A read that waits is answered. Says whether there was one.
    pub fn read_one(&mut self) -> bool {
        let wants = self.readers.iter().find(|(_, reader)| reader.wants.is_some());
        let Some(reading) = wants.map(|(reading, _)| *reading) else {
            return false;
        };
        self.read_count += 1;
        let logs = &self.logs;
        let reader = self.readers.get_mut(&reading).unwrap();
        let count_max = reader.wants.take().unwrap();
        let mut entries = Vec::new();
        while entries.len() < count_max {
            let first = |(peer, next): (&PeerId, &usize)| Some((logs.get(peer)?.get(*next)?, *peer));
            let Some((meta, of)) =
                reader.next.iter().filter_map(first).min_by_key(|(meta, peer)| (meta.time, *peer))
            else {
                break;
            };
            entries.push(*meta);
            *reader.next.get_mut(&of).unwrap() += 1;
        }
        let last = |(peer, next): (&PeerId, &usize)| {
            let run = logs.get(peer)?.get(next.checked_sub(1)?)?.id.run;
            Some(Position { peer: *peer, run, next: Seq(*next as u64 + 1) })
        };
        let positions = reader.next.iter().filter_map(last).collect();
        let behind = Cursor { positions, ..reader.base.clone() };
        let at_end =
            reader.next.iter().all(|(peer, next)| logs.get(peer).is_none_or(|log| log.len() <= *next));
        reader.told_end = at_end;
        // A cursor of the wire is good to read from.
        behind.check_positions().unwrap();
        self.input(Input::Read { reading, entries, behind, at_end });
        true
    }

    /// Does all that waits.
    pub fn run_all(&mut self) {
        for _ in 0..100_000 {
            let read = !self.reads_held && self.read_one();
            let copied = self.copies.pop_front();
            if let Some((ticket, copied)) = &copied {
                self.copied.push(copied.clone());
                self.input(Input::Copied { ticket: *ticket, is_done: true });
            }
            if self.append_one(None, self.next_seq.is_multiple_of(2)).is_none() && !read && copied.is_none() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Entries of a log are held that were not before: of this peer and run, with this priority.
    pub fn add(&mut self, of: u8, run: u64, count: usize, priority: u8) -> Vec<EntryId> {
        (0..count).map(|_| self.add_one(of, run, |meta| meta.priority = priority)).collect()
    }

    pub fn add_one(&mut self, of: u8, run: u64, with: impl FnOnce(&mut Meta)) -> EntryId {
        let log = self.logs.entry(peer(of)).or_default();
        let id = entry(of, run, log.len() as u64 + 1);
        let mut meta = Meta {
            id,
            time: Timestamp(self.now.unix_ms << 16).plus(log.len() as u64),
            priority: 4,
            bytes: 100,
            deliver_at_ms: None,
            expire_at_ms: None,
            producer: None,
        };
        with(&mut meta);
        log.push(meta);
        self.grew();
        id
    }

    /// All entries of a log that another peer holds are held here too.
    pub fn fetch(&mut self, of: u8, from: &Site) {
        let theirs = from.logs.get(&peer(of)).cloned().unwrap_or_default();
        let ours = self.logs.entry(peer(of)).or_default();
        if ours.len() < theirs.len() {
            *ours = theirs;
            self.grew();
        }
    }

    /// So much of a log is held.
    pub fn take_log(&mut self, of: PeerId, log: Vec<Meta>) {
        self.logs.insert(of, log);
        self.grew();
    }

    fn grew(&mut self) {
        let ended: Vec<Reading> = self
            .readers
            .iter_mut()
            .filter_map(|(name, r)| std::mem::take(&mut r.told_end).then_some(*name))
            .collect();
        ended.into_iter().for_each(|reading| self.input(Input::Grew { reading }));
    }

    /// Time passes, in steps that the engine asked for.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..100_000 {
            self.run_all();
            let wake = self.engine.next_wake(self.now).map_or(end, |at| at.max(self.now.mono_ms).min(end));
            self.now.unix_ms += wake - self.now.mono_ms;
            self.now.mono_ms = wake;
            self.input(Input::Tick);
            if self.now.mono_ms >= end && self.engine.next_wake(self.now).is_none_or(|at| at > end) {
                self.run_all();
                return;
            }
        }
        panic!("it wants to be woken for ever");
    }

    /// Asks something, and does not wait.
    pub fn send(&mut self, group: &str, ask: Ask) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.input(Input::Asked { ticket, group: name(group), ask });
        ticket
    }

    /// Asks something, and does all that waits.
    pub fn ask(&mut self, group: &str, ask: Ask) -> Result<GroupAnswer, GroupError> {
        let ticket = self.send(group, ask);
        self.run_all();
        self.answers.remove(&ticket).expect("it is answered at once")
    }

    pub fn create(&mut self, group: &str, settings: GroupSettings) -> bool {
        let ask = Ask::Create { start: start(), settings };
        matches!(self.ask(group, ask), Ok(GroupAnswer::Done { is_changed: true }))
    }

    pub fn next(&mut self, group: &str, count_max: u32) -> Vec<Delivery> {
        self.next_for(group, 1, count_max)
    }

    pub fn next_for(&mut self, group: &str, consumer: u64, count_max: u32) -> Vec<Delivery> {
        let answer = self.ask(group, next(consumer, count_max, 0, vec![]));
        leased(answer)
    }

    pub fn ack(&mut self, group: &str, ids: &[EntryId]) -> Vec<bool> {
        match self.ask(group, Ask::Ack(ids.to_vec())) {
            Ok(GroupAnswer::Acked(news)) => news,
            other => panic!("{other:?}"),
        }
    }

    pub fn nack(
        &mut self,
        group: &str,
        leases: &[Lease],
        delay_ms: Option<u64>,
        counts: bool,
    ) -> Vec<Result<(), LeaseError>> {
        match self.ask(group, Ask::Nack { leases: leases.to_vec(), delay_ms, counts }) {
            Ok(GroupAnswer::Leases(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    pub fn extend(&mut self, group: &str, leases: &[Lease], lease_ms: u64) -> Vec<Result<(), LeaseError>> {
        match self.ask(group, Ask::Extend { leases: leases.to_vec(), lease_ms: Some(lease_ms) }) {
            Ok(GroupAnswer::Leases(outcomes)) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    pub fn info(&mut self, group: &str) -> GroupInfo {
        match self.ask(group, Ask::Info) {
            Ok(GroupAnswer::Info(info)) => *info,
            other => panic!("{other:?}"),
        }
    }

    /// The ids of what all this peer wrote says is done.
    pub fn own_writes(&self) -> impl Iterator<Item = &GroupWrite> {
        self.writes.get(&peer(self.me)).into_iter().flatten().map(|entry| &entry.2)
    }
}

pub fn next(consumer: u64, count_max: u32, wait_ms: u64, acked: Vec<EntryId>) -> Ask {
    Ask::Next { consumer, count_max, bytes_max: 1 << 20, lease_ms: None, wait_ms, acked }
}

pub fn leased(answer: Result<GroupAnswer, GroupError>) -> Vec<Delivery> {
    match answer {
        Ok(GroupAnswer::Leased(leases)) => leases,
        other => panic!("{other:?}"),
    }
}

pub fn ids(leases: &[Delivery]) -> Vec<EntryId> {
    leases.iter().map(|delivery| delivery.lease.id).collect()
}

pub fn leases(deliveries: &[Delivery]) -> Vec<Lease> {
    deliveries.iter().map(|delivery| delivery.lease).collect()
}

pub fn disk_full() -> AppendError {
    AppendError::DiskFull { free_bytes: 1, reserve_bytes: 2 }
}

pub fn produced(number: u64) -> Option<(ProducerId, u64)> {
    Some((ProducerId(7), number))
}
