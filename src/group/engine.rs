//! The engine of a topic's groups: takes in what happens, one thing after the other, and says what is to be done.
//!
//! Each input changes the fold, or one group's hand-out, or what is under way; then every group that was touched settles. A group
//! whose time has come settles too, whatever the input is. Nothing is looked for among all groups or all entries.
mod changes;
mod others;
mod restating;

use changes::check;
use restating::{OWN_COUNT_MAX, Restating};

use crate::base::{Cursor, EntryId, GroupName, Now, PeerId, Timestamp};
use crate::group::desk::{Append, Ctx, Desk, Purpose};
use crate::group::dispense::Dispense;
use crate::group::fold::{Fold, Group};
use crate::group::io::{Ask, GroupConfig, Input, Meta, Output, Reading, Ticket};
use crate::group::net::Net;
use crate::group::write::GroupWrite;
use crate::topic::catalog::WriteId;
use crate::wire::group::{GroupAnswer, GroupError};
use crate::wire::outcome::AppendError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The groups of one topic, at one peer.
#[derive(Debug)]
pub struct Engine {
    config: GroupConfig,
    fold: Fold,
    groups: BTreeMap<GroupName, Dispense>,
    desk: Desk,
    net: Net,
    /// What was asked before all writes were brought.
    early: Option<Vec<(Ticket, GroupName, Ask)>>,
    /// Who asked for all groups before that.
    early_lists: Vec<Ticket>,
    /// Changes of each group that were asked for: the first is being written.
    changes: BTreeMap<GroupName, VecDeque<(Ticket, Ask)>>,
    touched: BTreeSet<GroupName>,
    wakes: BTreeSet<(u64, GroupName)>,
    wake_of: BTreeMap<GroupName, u64>,
    is_stopped: bool,
    /// Own writes since what counts was last said again.
    own_count: usize,
    /// From how many on it is said again.
    own_count_max: usize,
    restating: Option<Restating>,
}

impl Engine {
    /// An engine that knows of no group yet.
    pub fn new(config: GroupConfig) -> Self {
        let (fold, net) = (Fold::new(config.peer), Net::new(config.peer));
        let (desk, early) = (Desk::new(config.drawn), Some(Vec::new()));
        let (groups, changes, touched, wakes, wake_of) = Default::default();
        let (is_stopped, own_count, own_count_max, restating) = (false, 0, OWN_COUNT_MAX, None);
        Self {
            config,
            fold,
            groups,
            desk,
            net,
            early,
            early_lists: Vec::new(),
            changes,
            touched,
            wakes,
            wake_of,
            is_stopped,
            own_count,
            own_count_max,
            restating,
        }
    }

    /// Takes in one thing, and says what is to be done.
    pub fn handle(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        while let Some((_, name)) = self.wakes.first().filter(|wake| wake.0 <= now.mono_ms).cloned() {
            self.wake_at(&name, None);
            self.touched.insert(name);
        }
        if self.net.forgive(now.mono_ms) {
            self.peers_changed(now, outputs);
        }
        self.take_in(now, input, outputs);
        self.settle(now, outputs);
        self.restate(outputs);
    }

    /// When it wants to be told that time has passed, by the clock that never jumps.
    pub fn next_wake(&self, _now: Now) -> Option<u64> {
        self.wakes.first().map(|wake| wake.0)
    }

    fn take_in(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Written { id, time, write } => self.apply(now, id.into(), time, &write, outputs),
            Input::CaughtUp => self.caught_up(now, outputs),
            Input::Asked { ticket, group, ask } => self.asked(now, ticket, group, ask, outputs),
            Input::List { ticket } => self.list(now, ticket, outputs),
            Input::Gone { ticket } => self.gone(ticket),
            Input::Left { consumer } => {
                for name in self.desk.left(consumer) {
                    self.with(now, outputs, &name, |dispense, ctx, group| {
                        if let Some(group) = group {
                            dispense.left(ctx, &group, consumer);
                        }
                    });
                }
            }
            Input::Read { reading, entries, behind, at_end } => {
                self.read(now, reading, entries, behind, at_end, outputs);
            }
            Input::Grew { reading } => {
                if let Some(name) = self.desk.readings.get(&reading).cloned() {
                    self.with(now, outputs, &name, |dispense, _, _| dispense.grew(reading));
                }
            }
            Input::Appended { ticket, result } => self.appended(now, ticket, result, outputs),
            Input::Copied { ticket, is_done } => {
                if let Some(copying) = self.desk.copies.remove(&ticket) {
                    self.with(now, outputs, &copying.group, |dispense, ctx, group| {
                        if let Some(group) = group {
                            dispense.copied(ctx, &group, &copying, is_done);
                        }
                    });
                }
            }
            Input::Peers(peers) => {
                if self.net.connect(now.mono_ms, peers) {
                    self.peers_changed(now, outputs);
                }
            }
            Input::Heard { from, message } => self.heard(now, from, message, outputs),
            Input::Tick => {}
            Input::Rest => self.rest(now, outputs),
        }
    }

    /// Runs over one group's hand-out, which then settles.
    fn with<R>(
        &mut self,
        now: Now,
        outputs: &mut Vec<Output>,
        name: &GroupName,
        f: impl FnOnce(&mut Dispense, &mut Ctx<'_>, Option<Group<'_>>) -> R,
    ) -> Option<R> {
        let dispense = self.groups.get_mut(name)?;
        let Self { config, desk, net, is_stopped, .. } = self;
        let mut ctx = Ctx { now, config, desk, net, is_stopped: *is_stopped, outputs };
        let result = f(dispense, &mut ctx, self.fold.group(name));
        if !self.touched.contains(name) {
            self.touched.insert(name.clone());
        }
        Some(result)
    }

    fn wake_at(&mut self, name: &GroupName, at: Option<u64>) {
        if self.wake_of.get(name).copied() == at {
            return;
        }
        if let Some(old) = self.wake_of.remove(name) {
            self.wakes.remove(&(old, name.clone()));
        }
        if let Some(at) = at {
            self.wake_of.insert(name.clone(), at);
            self.wakes.insert((at, name.clone()));
        }
    }

    fn settle(&mut self, now: Now, outputs: &mut Vec<Output>) {
        while let Some(name) = self.touched.pop_first() {
            let Some(dispense) = self.groups.get_mut(&name) else {
                continue;
            };
            let Self { config, desk, net, is_stopped, .. } = self;
            let mut ctx = Ctx { now, config, desk, net, is_stopped: *is_stopped, outputs };
            dispense.settle(&mut ctx, self.fold.group(&name));
            let wake = dispense.next_wake(&ctx);
            if dispense.is_idle() {
                self.groups.remove(&name);
                self.wake_at(&name, None);
            } else {
                self.wake_at(&name, wake);
            }
        }
    }

    /// Takes in a write: an entry that came, or one of ours that is durable.
    fn apply(
        &mut self,
        now: Now,
        id: WriteId,
        time: Timestamp,
        write: &GroupWrite,
        outputs: &mut Vec<Output>,
    ) {
        if !self.fold.apply(id, time, write) {
            return;
        }
        if id.peer == self.config.peer {
            let is_again = matches!(write, GroupWrite::Restate { .. });
            self.own_count = if is_again && self.early.is_some() { 0 } else { self.own_count + 1 };
        }
        self.tell(now, id.peer, true, write, outputs);
        if let GroupWrite::Restate { writes } = write {
            for (id, _, write) in writes {
                self.tell(now, id.peer, false, write, outputs);
            }
        }
    }

    fn tell(&mut self, now: Now, by: PeerId, is_new: bool, write: &GroupWrite, outputs: &mut Vec<Output>) {
        if let Some(name) = write.group() {
            self.with(now, outputs, name, |dispense, ctx, group| {
                dispense.heard(ctx, group.as_ref(), by, is_new, write);
            });
        }
    }

    fn caught_up(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let Some(early) = self.early.take() else {
            return;
        };
        self.net.begin(now.mono_ms);
        for name in self.fold.names() {
            let group = self.fold.group(name).expect("it was just named");
            if let Some(lease_ms) = group.granting(self.config.peer) {
                let grace = now.mono_ms + lease_ms.max(group.settings().lease_ms);
                self.desk.start_grace.insert(name.clone(), grace);
            }
        }
        for ticket in std::mem::take(&mut self.early_lists) {
            self.list(now, ticket, outputs);
        }
        for (ticket, group, ask) in early {
            self.asked(now, ticket, group, ask, outputs);
        }
    }

    fn gone(&mut self, ticket: Ticket) {
        if let Some(early) = &mut self.early {
            early.retain(|(early, ..)| *early != ticket);
            self.early_lists.retain(|early| *early != ticket);
        }
        if let Some(name) = self.desk.close(ticket)
            && let Some(dispense) = self.groups.get_mut(&name)
        {
            dispense.gone(ticket);
            self.touched.insert(name);
        }
    }

    fn asked(&mut self, now: Now, ticket: Ticket, name: GroupName, ask: Ask, outputs: &mut Vec<Output>) {
        // What was handed out may be said to be done, or given back, to the end.
        let is_heard = matches!(
            ask,
            Ask::Ack(_) | Ask::Nack { .. } | Ask::Extend { .. } | Ask::Info | Ask::Next { count_max: 0, .. }
        );
        let stopped = if self.is_stopped && !is_heard { Err(GroupError::Stopped) } else { Ok(()) };
        let checked = check(&ask).and(stopped);
        if let Err(error) = checked {
            outputs.push(Output::Answer { ticket, answer: Err(error) });
            return;
        }
        if let Some(early) = &mut self.early {
            match early.len() < self.config.waiting_count_max {
                true => early.push((ticket, name, ask)),
                false => outputs.push(Output::Answer { ticket, answer: Err(GroupError::Busy) }),
            }
            return;
        }
        self.desk.open(ticket, &name);
        match ask {
            Ask::Create { .. } | Ask::Set(_) | Ask::Rewind { .. } | Ask::Delete => {
                let queue = self.changes.entry(name.clone()).or_default();
                queue.push_back((ticket, ask));
                if queue.len() == 1 {
                    self.change(now, &name, outputs);
                }
            }
            _ => self.ask(now, ticket, &name, ask, outputs),
        }
    }

    /// Something of a group that is there.
    fn ask(&mut self, now: Now, ticket: Ticket, name: &GroupName, ask: Ask, outputs: &mut Vec<Output>) {
        if self.fold.group(name).is_none() {
            let (topic, group) = (self.config.topic.clone(), name.clone());
            self.desk.close(ticket);
            outputs.push(Output::Answer { ticket, answer: Err(GroupError::Unknown { topic, group }) });
            return;
        }
        if !self.groups.contains_key(name) {
            self.groups.insert(name.clone(), Dispense::new(name.clone()));
        }
        self.with(now, outputs, name, |dispense, ctx, group| {
            let group = group.expect("it was just looked up");
            dispense.ask(ctx, &group, ticket, ask);
        });
    }

    fn list(&mut self, now: Now, ticket: Ticket, outputs: &mut Vec<Output>) {
        if self.early.is_some() && self.early_lists.len() < self.config.waiting_count_max {
            self.early_lists.push(ticket);
            return;
        }
        let names: Vec<GroupName> = self.fold.names().cloned().collect();
        let mut groups = Vec::with_capacity(names.len());
        for name in names {
            let Self { config, desk, net, is_stopped, .. } = self;
            let mut ctx = Ctx { now, config, desk, net, is_stopped: *is_stopped, outputs };
            let group = self.fold.group(&name).expect("it was just named");
            let info = match self.groups.get(&name) {
                Some(dispense) => dispense.info(&mut ctx, &group),
                None => Dispense::new(name).info(&mut ctx, &group),
            };
            groups.push(info);
        }
        outputs.push(Output::Listed { ticket, groups });
    }

    fn read(
        &mut self,
        now: Now,
        reading: Reading,
        entries: Vec<Meta>,
        behind: Cursor,
        at_end: bool,
        outputs: &mut Vec<Output>,
    ) {
        let Some(name) = self.desk.readings.get(&reading).cloned() else {
            return;
        };
        self.with(now, outputs, &name, |dispense, ctx, group| {
            if let Some(group) = group {
                dispense.read(ctx, &group, reading, entries, behind, at_end);
            }
        });
    }

    fn appended(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(EntryId, Timestamp), AppendError>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(Append { write, purpose }) = self.desk.appends.remove(&ticket) else {
            return;
        };
        self.restated(ticket, purpose == Purpose::Restate, result.as_ref().ok().map(|one| one.0), outputs);
        let error = match result {
            Ok((id, time)) => {
                self.apply(now, id.into(), time, &write, outputs);
                None
            }
            Err(error) => Some(error),
        };
        if let Purpose::Change(asked) = purpose {
            self.changed(now, asked, write.group(), error, outputs);
            return;
        }
        let Some(name) = write.group() else {
            return;
        };
        self.with(now, outputs, name, |dispense, ctx, group| match purpose {
            Purpose::Acks(why) => dispense.acked(ctx, group.as_ref(), why, error),
            Purpose::Grants => dispense.grants_logged(),
            Purpose::Progress => dispense.progress_logged(),
            Purpose::Change(_) | Purpose::Rest | Purpose::Restate => {}
        });
    }

    fn rest(&mut self, now: Now, outputs: &mut Vec<Output>) {
        self.is_stopped = true;
        for (ticket, ..) in self.early.take().into_iter().flatten() {
            outputs.push(Output::Answer { ticket, answer: Err(GroupError::Stopped) });
        }
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        for name in names {
            self.with(now, outputs, &name, |dispense, ctx, group| {
                if let Some(group) = group {
                    dispense.rest(ctx, &group);
                }
            });
        }
    }
}

#[cfg(test)]
mod several;
#[cfg(test)]
mod tests;
