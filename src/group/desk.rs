//! What is under way for all groups of a topic: who was not answered yet, what is being appended, copied and read. Numbers are
//! drawn here, so that answers find their way back.
use crate::base::{GroupName, Now, PeerId};
use crate::group::io::{Consumer, GroupConfig, Output, Reading, Ticket};
use crate::group::net::Net;
use crate::group::set::Key;
use crate::group::write::{Done, GroupWrite};
use crate::wire::group::{GroupAnswer, GroupError, GroupMessage};
use std::collections::{BTreeMap, BTreeSet};

/// Why something is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody asked for a change of a group.
    Change(Ticket),
    /// Entries are done.
    Acks(Done),
    /// Entries were handed out, or are kept longer.
    Grants,
    /// All lies behind a position.
    Progress,
    /// This peer rests.
    Rest,
    /// What still counts is said again.
    Restate,
}

/// Something that is being appended.
#[derive(Debug)]
pub struct Append {
    /// What.
    pub write: GroupWrite,
    /// Why.
    pub purpose: Purpose,
}

/// Something that is being copied to another topic.
#[derive(Debug)]
pub struct Copying {
    /// For which group.
    pub group: GroupName,
    /// Which entry.
    pub key: Key,
    /// Why.
    pub why: Done,
    /// How often the group had begun anew.
    pub generation: u64,
}

/// Questions to other peers whose answers are known when they come: those that are lost are forgotten some time.
const TOLD_COUNT_MAX: usize = 10_000;

#[derive(Debug)]
struct Asked {
    group: GroupName,
    waits: bool,
}

/// All that is under way.
#[derive(Debug)]
pub struct Desk {
    next: u64,
    next_lease: u64,
    asked: BTreeMap<Ticket, Asked>,
    waiting_count: usize,
    /// What is being appended, in order.
    pub appends: BTreeMap<Ticket, Append>,
    /// What is being copied.
    pub copies: BTreeMap<Ticket, Copying>,
    /// What is being read, and for whom.
    pub readings: BTreeMap<Reading, GroupName>,
    /// What other peers were asked, and for which group.
    pub told: BTreeMap<Ticket, GroupName>,
    /// The groups in which a consumer may have something.
    consumers: BTreeMap<Consumer, BTreeSet<GroupName>>,
    /// Until when what was there at the start is not handed out again, in each group where this peer may have handed it out
    /// before, by the clock that never jumps.
    pub start_grace: BTreeMap<GroupName, u64>,
}

impl Desk {
    /// Nothing is under way. Leases are numbered from `drawn` on.
    pub fn new(drawn: u64) -> Self {
        let (asked, waiting_count, appends, copies) = Default::default();
        let (readings, told, consumers, start_grace) = Default::default();
        Self {
            next: 1,
            next_lease: drawn,
            asked,
            waiting_count,
            appends,
            copies,
            readings,
            told,
            consumers,
            start_grace,
        }
    }

    /// A number that was not given before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The number of a new lease.
    pub fn lease(&mut self) -> u64 {
        self.next_lease = self.next_lease.wrapping_add(1);
        self.next_lease
    }

    /// Somebody asks something of a group.
    pub fn open(&mut self, ticket: Ticket, group: &GroupName) {
        self.asked.insert(ticket, Asked { group: group.clone(), waits: false });
    }

    /// Somebody who asked will wait for entries, if there is room for more of them.
    pub fn wait(&mut self, ticket: Ticket, count_max: usize) -> bool {
        let Some(asked) = self.asked.get_mut(&ticket).filter(|_| self.waiting_count < count_max) else {
            return false;
        };
        self.waiting_count += usize::from(!asked.waits);
        asked.waits = true;
        true
    }

    /// Whether somebody still waits for an answer.
    pub fn is_open(&self, ticket: Ticket) -> bool {
        self.asked.contains_key(&ticket)
    }

    /// Another peer was asked something: its answer is about this group. Of very many only the last are known.
    pub fn expect(&mut self, ticket: Ticket, group: &GroupName) {
        self.told.insert(ticket, group.clone());
        while self.told.len() > TOLD_COUNT_MAX {
            self.told.pop_first();
        }
    }

    /// Somebody is answered or gone. Says which group that was about.
    pub fn close(&mut self, ticket: Ticket) -> Option<GroupName> {
        let asked = self.asked.remove(&ticket)?;
        self.waiting_count -= usize::from(asked.waits);
        Some(asked.group)
    }

    /// A consumer may have something of a group.
    pub fn note_consumer(&mut self, consumer: Consumer, group: &GroupName) {
        if consumer == 0 || self.consumers.get(&consumer).is_some_and(|groups| groups.contains(group)) {
            return;
        }
        self.consumers.entry(consumer).or_default().insert(group.clone());
    }

    /// A consumer is gone. Says in which groups it may have something.
    pub fn left(&mut self, consumer: Consumer) -> BTreeSet<GroupName> {
        self.consumers.remove(&consumer).unwrap_or_default()
    }
}

/// What one group is handed when something happens: the time, the rest of the engine, and where effects go.
pub struct Ctx<'a> {
    /// The time.
    pub now: Now,
    /// What the engine was told at its making.
    pub config: &'a GroupConfig,
    /// What is under way.
    pub desk: &'a mut Desk,
    /// The other peers.
    pub net: &'a mut Net,
    /// Whether nothing is leased any more.
    pub is_stopped: bool,
    /// Effects.
    pub outputs: &'a mut Vec<Output>,
}

impl Ctx<'_> {
    /// Answers somebody, if they still wait.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<GroupAnswer, GroupError>) {
        if self.desk.close(ticket).is_some() {
            self.outputs.push(Output::Answer { ticket, answer });
        }
    }

    /// Appends to `$groups/<topic>`.
    pub fn append(&mut self, write: GroupWrite, purpose: Purpose) -> Ticket {
        let ticket = self.desk.number();
        self.outputs.push(Output::Append { ticket, write: write.clone() });
        self.desk.appends.insert(ticket, Append { write, purpose });
        ticket
    }

    /// Tells another peer something, if it is connected.
    pub fn tell(&mut self, to: PeerId, message: GroupMessage) {
        if self.net.connected().contains(&to) {
            self.outputs.push(Output::Tell { to, message });
        }
    }

    /// That there is no such group.
    pub fn unknown(&self, group: &GroupName) -> GroupError {
        GroupError::Unknown { topic: self.config.topic.clone(), group: group.clone() }
    }
}
