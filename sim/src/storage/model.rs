//! The reference model: what every id was ever given to, and what a directory must still hold.
//!
//! ```text
//! attempted ──> written (buffered: survives the process) ──> durable (survives power) ──> trimmed
//! ```
//!
//! It knows nothing of files. An entry that was attempted and never acknowledged may be there or not; if it is, it has
//! the bytes that were attempted, and once it was seen it is held to what was seen.
use conveyor::base::{EntryId, LogId, RunId, Seq, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What an id was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// From which the payload follows.
    pub nonce: u64,
    /// Bytes of the payload, 8 at least.
    pub bytes: u32,
    /// The entry's time.
    pub time: Timestamp,
    /// The first number of its batch.
    pub batch: Seq,
}

impl Fact {
    /// The payload: its nonce, then bytes that follow from it, which compress.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = vec![(self.nonce % 251) as u8; self.bytes as usize];
        payload[..8].copy_from_slice(&self.nonce.to_le_bytes());
        if let Some(last) = payload.last_mut().filter(|_| self.bytes > 8) {
            *last = (self.nonce % 241) as u8;
        }
        payload
    }
}

/// Every id of a run and what it was given to.
#[derive(Debug, Default)]
pub struct Names {
    facts: BTreeMap<EntryId, Vec<Fact>>,
}

impl Names {
    /// Takes note that `id` is about to be given to `fact`. A number whose step was refused may be given again.
    pub fn attempt(&mut self, id: EntryId, fact: Fact) {
        self.facts.entry(id).or_default().push(fact);
    }

    /// The entry is acknowledged: from now on the id means what it was given to last.
    pub fn pin(&mut self, id: EntryId) {
        if let Some(facts) = self.facts.get_mut(&id) {
            facts.drain(..facts.len() - 1);
        }
    }

    /// Checks what was read under `id`, and holds the id to it from now on.
    pub fn check(&mut self, id: EntryId, time: Timestamp, payload: &[u8]) {
        let facts = self.facts.get_mut(&id).unwrap_or_else(|| panic!("{id:?} was read and never written"));
        facts.retain(|fact| fact.time == time && fact.payload() == payload);
        assert!(
            !facts.is_empty(),
            "P2: {id:?} was read with another time or other bytes than it was written with"
        );
    }

    /// The time of an entry that was read.
    pub fn time_of(&self, id: &EntryId) -> Option<Timestamp> {
        self.facts.get(id)?.last().map(|fact| fact.time)
    }

    /// The batch that holds `id`.
    pub fn batch_of(&self, id: &EntryId) -> Option<(RunId, Seq)> {
        self.facts.get(id)?.last().map(|fact| (id.run, fact.batch))
    }
}

/// How much an acknowledged entry survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A crash of the process.
    Written,
    /// Power loss.
    Durable,
}

/// What one directory must hold.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    entries: BTreeMap<EntryId, Level>,
    starts: BTreeMap<(LogId, RunId), Seq>,
}

impl Expected {
    /// The entry was acknowledged at `level`, or seen by a reader.
    pub fn acknowledge(&mut self, id: EntryId, level: Level) {
        let known = self.entries.entry(id).or_insert(level);
        *known = level.max(*known);
    }

    /// Everything acknowledged of `log` is durable.
    pub fn sync(&mut self, log: LogId) {
        self.of_log_mut(log).for_each(|(_, level)| *level = Level::Durable);
    }

    /// Power is lost.
    pub fn lose_power(&mut self) {
        self.entries.retain(|_, level| *level == Level::Durable);
    }

    /// What `is_trimmed` need no longer be there; when the trim is durable, what was signed of runs never goes back.
    pub fn trim(&mut self, log: LogId, starts: &[(RunId, Seq)], is_trimmed: impl Fn(&EntryId) -> bool) {
        self.entries.retain(|id, _| id.log() != log || !is_trimmed(id));
        for (run, start) in starts {
            let known = self.starts.entry((log, *run)).or_insert(*start);
            *known = (*start).max(*known);
        }
    }

    /// These are no longer expected: their damage was told.
    pub fn forget(&mut self, ids: &BTreeSet<EntryId>) {
        self.entries.retain(|id, _| !ids.contains(id));
    }

    /// What was durably trimmed is not known any more: the checkpoint was lost to damage.
    pub fn forget_starts(&mut self) {
        self.starts.clear();
    }

    /// Whether `id` must be there.
    pub fn holds(&self, id: &EntryId) -> bool {
        self.entries.contains_key(id)
    }

    /// What must be there.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryId, &Level)> {
        self.entries.iter()
    }

    /// Where logs start at least.
    pub fn starts(&self) -> impl Iterator<Item = (&(LogId, RunId), &Seq)> {
        self.starts.iter()
    }

    /// How many entries must be there.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    fn of_log_mut(&mut self, log: LogId) -> impl Iterator<Item = (&EntryId, &mut Level)> {
        let id = |run, seq| EntryId { topic: log.topic, peer: log.peer, run, seq };
        self.entries.range_mut(id(RunId(0), Seq(0))..=id(RunId(u64::MAX), Seq(u64::MAX)))
    }
}
