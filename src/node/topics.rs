//! Changes to the catalog: making, setting and deleting topics.
use crate::base::{
    Chunk, ChunkBuilder, Codec, Entry, EntryId, LogId, Lost, Now, PeerId, RunId, Seq, Timestamp, TopicName,
    TopicSettings, Work,
};
use crate::node::engine::Node;
use crate::node::io::{Answer, Output, Release, Ticket};
use crate::node::own_log::OwnLog;
use crate::topic::catalog::{CatalogWrite, LogEnd};
use crate::wire::outcome::{Deleted, TopicChange, TopicChanged, TopicError};
use std::collections::{BTreeMap, BTreeSet};

/// What is held of one log of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLog {
    /// Its peer.
    pub peer: PeerId,
    /// The run reached.
    pub run: RunId,
    /// The first number kept.
    pub start: Seq,
    /// The number behind the last.
    pub until: Seq,
    /// Whether this is not what its peer goes on with: a restore or a copy left it.
    pub is_branch: bool,
}

/// What is held of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldTopic {
    /// Its logs.
    pub logs: Vec<HeldLog>,
    /// What is damaged of the log that a change is about, our own unless it names another; as (run, from, until).
    pub damaged: Vec<(RunId, Seq, Seq)>,
}

impl HeldTopic {
    /// Whether any entry is held.
    pub fn has_entries(&self) -> bool {
        self.logs.iter().any(|log| log.start < log.until)
    }
}

impl Node {
    /// The answer to a change of the catalog: a refusal at once, all else with the step that is being gathered.
    pub(super) fn answer_change(&self, ticket: Ticket, result: Result<TopicChanged, TopicError>) -> Output {
        let release = if result.is_ok() { Release::Durable(self.step) } else { Release::Now };
        Output::Answer { ticket, release, answer: Answer::Changed(result) }
    }

    pub(super) fn change(
        &mut self,
        now: Now,
        change: TopicChange,
        held: &HeldTopic,
    ) -> Result<TopicChanged, TopicError> {
        if self.is_removed() {
            return Err(TopicError::Removed);
        }
        let topic = change.topic().clone();
        let topic = match &change {
            // Of our own topics too, damage can be given up.
            TopicChange::Lost { .. } => topic,
            _ => TopicName::new(topic.as_str())?,
        };
        let exists =
            self.catalog.settings(&topic).is_some() || held.has_entries() || self.is_changing(&topic);
        match change {
            TopicChange::Create { .. } if exists => Err(TopicError::Exists { topic }),
            TopicChange::Create { settings, .. } | TopicChange::Set { settings, .. } => {
                let by = self.write_catalog(now, topic, Some(settings), vec![]);
                Ok(TopicChanged { by: Some(by), deleted: None })
            }
            TopicChange::Delete { .. } if !exists => Err(TopicError::Unknown { topic }),
            TopicChange::Delete { .. } => Ok(self.delete(now, topic, held)),
            TopicChange::Lost { peer, run, from, until, .. } => {
                let log = LogId { peer, ..self.log_id(&topic) };
                self.declare_lost(
                    now,
                    Lost { log, run, from, until, time: Timestamp::ZERO, signer: self.config.peer },
                    held,
                )
            }
        }
    }

    /// Only what is damaged here, of our own or of a log that we succeeded to: whoever declares it lost says that there is
    /// nothing to wait for.
    fn declare_lost(&mut self, now: Now, lost: Lost, held: &HeldTopic) -> Result<TopicChanged, TopicError> {
        let Lost { run, from, until, .. } = lost;
        let is_damaged = |&(r, f, u): &(RunId, Seq, Seq)| r == run && f <= from && from < until && until <= u;
        if !self.may_trim(lost.log.peer) || !held.damaged.iter().any(is_damaged) {
            return Err(TopicError::NotDamaged { run, from, until });
        }
        let time = Timestamp::from_ms(now.unix_ms);
        self.gather.push(Work::Lost(Lost { time, ..lost }));
        Ok(TopicChanged { by: None, deleted: None })
    }

    fn delete(&mut self, now: Now, topic: TopicName, held: &HeldTopic) -> TopicChanged {
        let own = self.log_id(&topic);
        // Our own log also has what was numbered and is not on the disk yet, and maybe the run of that neither.
        let tip = self.own.get(&own).map(OwnLog::tip).filter(|tip| tip.run.is_some());
        let ours = tip.map(|tip| LogEnd { peer: own.peer, run: tip.run, until: tip.until });
        let on_disk = held.logs.iter().map(|log| LogEnd { peer: log.peer, run: log.run, until: log.until });
        let is_ours = |end: &LogEnd| ours.is_some_and(|ours| (ours.peer, ours.run) == (end.peer, end.run));
        let ends: Vec<LogEnd> = ours.into_iter().chain(on_disk.filter(|end| !is_ours(end))).collect();
        let others = held.logs.iter().map(|log| log.peer).filter(|peer| !self.may_trim(*peer));
        let deleted = Deleted {
            until: ends.iter().map(|end| (end.peer, end.run, end.until)).collect(),
            not_asked: others.collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let start = self.own_until(&own);
        let by = self.write_catalog(now, topic, None, ends);
        self.trim_own(now, own, None, start);
        let is_left =
            |log: &&HeldLog| if log.peer == own.peer { log.is_branch } else { self.may_trim(log.peer) };
        let others: Vec<HeldLog> = held.logs.iter().filter(is_left).copied().collect();
        for log in others {
            self.trim_own(now, LogId { peer: log.peer, ..own }, Some(log.run), log.until);
        }
        TopicChanged { by: Some(by), deleted: Some(deleted) }
    }

    /// Trims a log of our own, or one that we succeeded to; others see to their own.
    pub(super) fn trim_own(&mut self, now: Now, log: LogId, run: Option<RunId>, start: Seq) {
        if start > Seq::FIRST && self.may_trim(log.peer) {
            self.gather.push(Work::Trim { log, run, start, time: Timestamp::from_ms(now.unix_ms) });
        }
    }

    /// Applies deletions that were asked for and may not have been carried out before the last stop, or of which the
    /// entries came back since; also of logs that we succeeded to. `is_left` answers whether something is still to be
    /// trimmed.
    pub fn resume_deletions(&mut self, now: Now, is_left: impl Fn(&LogId, RunId, Seq) -> bool) {
        let deletions = self.catalog.deletions().filter(|(_, end)| self.may_trim(end.peer));
        let ends: Vec<(LogId, RunId, Seq)> = deletions
            .map(|(topic, end)| (LogId { peer: end.peer, ..self.log_id(topic) }, end.run, end.until))
            .collect();
        for (log, run, until) in ends {
            if is_left(&log, run, until) {
                self.trim_own(now, log, Some(run), until);
            }
        }
    }

    /// A deletion that is durable: retries of what it took away are not recognised any more. That is what is below the ends
    /// that it names, in these runs and those they go on from; what was written beside them stays, and is recognised.
    pub(super) fn forget_producers(&mut self, topic: &TopicName, ends: &[LogEnd]) {
        let log = self.log_id(topic);
        let held = self.replication.held().log(&log);
        let mut gone: BTreeMap<RunId, Seq> = BTreeMap::new();
        for end in ends.iter().filter(|end| end.peer == log.peer) {
            let (mut run, mut until) = (end.run, end.until);
            while gone.get(&run).is_none_or(|known| *known < until) {
                gone.insert(run, until);
                let Some(of_run) = held.and_then(|held| held.run(run)) else { break };
                (run, until) = (of_run.parent, until.min(of_run.from));
            }
        }
        if !gone.is_empty() {
            let is_gone = |run: RunId, first: Seq| gone.get(&run).is_some_and(|until| first < *until);
            self.producers.forget(log.topic, |chunk| is_gone(chunk.run, chunk.first_seq));
        }
    }

    fn write_catalog(
        &mut self,
        now: Now,
        topic: TopicName,
        settings: Option<TopicSettings>,
        until: Vec<LogEnd>,
    ) -> EntryId {
        let replaces = self.catalog.known(&topic);
        let write = CatalogWrite { topic, settings, until, replaces };
        let catalog = TopicName::catalog();
        let log = self.log_id(&catalog);
        let appended = self.number(now, catalog, log, chunk_of(&write), false, true);
        let id = EntryId { topic: log.topic, peer: log.peer, run: appended.run, seq: appended.first_seq };
        self.remember_catalog(id, appended.first_time, write);
        id
    }
}

fn chunk_of(write: &CatalogWrite) -> Chunk {
    let mut builder = ChunkBuilder::new();
    let entry = Entry { kind: write.kind(), ..Entry::from(write.encode()) };
    builder.push(&entry).expect("a catalog entry is far below every limit");
    Chunk::parse(builder.finish(Codec::None)).expect("what was just built reads back")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, ProducerId, StoreId};
    use crate::node::NodeConfig;
    use crate::node::memory::Memory;
    use crate::node::own_log::Tip;
    use crate::replication::PeerInput;
    use crate::replication::held::HeldRange;
    use crate::topic::producers::{Known, Remembered};
    use crate::wire::peer::RunRange;

    const OURS: PeerId = PeerId([1; 32]);
    const PRODUCER: ProducerId = ProducerId(7);

    /// The disk was lost after 1..1000 of run 1: run 3 begins at 1 again. Run 2 goes on from run 1 at 600, and was left.
    fn node() -> (Node, TopicName, LogId) {
        let topic = TopicName::new("jobs").unwrap();
        let config = NodeConfig { auto_create: false, ..NodeConfig::new(ClusterId([0; 16]), OURS) };
        let log = LogId { topic: crate::base::TopicId::of(config.cluster, "jobs"), peer: OURS };
        let tip = Tip { run: RunId(3), until: Seq(120), last_time: Timestamp::ZERO };
        let own = [(log, topic.clone(), tip)].into_iter();
        let mut node = Node::new(config, StoreId(1), Memory::default(), own, Box::new(|| 9));
        for (run, parent, from, until) in [(1, 0, 1, 1_000), (2, 1, 600, 700), (3, 0, 1, 120)] {
            let range = RunRange { log, run: RunId(run), from: Seq(from), until: Seq(until) };
            let held = HeldRange { range, parent: RunId(parent), begin: Seq(from), link: 0 };
            let now = Now { mono_ms: 0, unix_ms: 0 };
            node.on_peer(now, PeerInput::Held(topic.clone(), held), &mut Vec::new());
        }
        (node, topic, log)
    }

    fn end(run: u64, until: u64) -> LogEnd {
        LogEnd { peer: OURS, run: RunId(run), until: Seq(until) }
    }

    #[test]
    fn retries_are_forgotten_of_what_a_deletion_names_and_of_nothing_beside_it() {
        let chunks = [(1, 500), (1, 650), (2, 650), (3, 3), (3, 110)];
        let left = |ends: &[LogEnd]| {
            let (mut node, topic, log) = node();
            for (number, (run, seq)) in (0..).zip(chunks) {
                let (run, first_seq, first_time) = (RunId(run), Seq(seq), Timestamp::ZERO);
                let chunk = Remembered { number, count: 1, run, first_seq, first_time, step: 1 };
                node.producers.add(log.topic, PRODUCER, chunk);
            }
            node.forget_producers(&topic, ends);
            let look = |number| node.producers.look(log.topic, PRODUCER, number, 1);
            let known = (0..).zip(chunks).filter(|(number, _)| matches!(look(*number), Known::Repeat(_)));
            known.map(|(_, chunk)| chunk).collect::<Vec<_>>()
        };
        assert_eq!(left(&[end(1, 1_000)]), [(2, 650), (3, 3), (3, 110)]);
        assert_eq!(left(&[end(2, 700)]), [(1, 650), (3, 3), (3, 110)], "run 1 up to where 2 goes on from it");
        assert_eq!(left(&[end(1, 600), end(3, 105)]), [(1, 650), (2, 650), (3, 110)]);
        assert_eq!(left(&[LogEnd { peer: PeerId([2; 32]), ..end(3, 1_000) }]), chunks);
    }

    #[test]
    fn a_topic_is_there_as_long_as_entries_are_that_its_deletion_does_not_name() {
        let exists = |ends: &[LogEnd]| {
            let (mut node, topic, log) = node();
            let write =
                CatalogWrite { topic: topic.clone(), settings: None, until: ends.to_vec(), replaces: vec![] };
            let id = EntryId { topic: log.topic, peer: OURS, run: RunId(9), seq: Seq(1) };
            node.catalog.apply_write(id, Timestamp(1), write);
            node.takes(&topic)
        };
        assert!(!exists(&[end(3, 120)]));
        assert!(exists(&[end(1, 600), end(3, 105)]), "15 of them are not named");
        assert!(exists(&[end(1, 600)]));
    }
}
