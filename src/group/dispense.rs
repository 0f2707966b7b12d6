//! One group's hand-out at this peer: what is read, what is ready, who has what, who waits.
//!
//! All of it is memory, made anew from the fold and the topic when somebody asks for entries, and dropped when for a minute
//! nobody did. What happens is first taken in (`heard`, `read`, what consumers ask), then [`Dispense::settle`] draws the
//! consequences: leases that ended, entries that are due, waiters that can be served, what is to be read and logged.
//!
//! [`Dispense::place`] is where it is decided what becomes of an entry that nobody has.
mod info;
mod news;
mod placing;

use crate::base::{Cursor, GroupName, PeerId, Seq};
use crate::group::acks::{Acks, Asked, Who};
use crate::group::desk::{Copying, Ctx};
use crate::group::far::Far;
use crate::group::fold::Group;
use crate::group::grants::Grants;
use crate::group::io::{self, Meta, Output, Ticket};
use crate::group::leases::Leases;
use crate::group::progress::Progress;
use crate::group::reading::Reading;
use crate::group::ready::{Again, Items, Place};
use crate::group::set::{Key, key, ranges_of};
use crate::group::twins::Twins;
use crate::group::waiters::Waiters;
use crate::group::write::{Acks as Ranges, Done, GroupWrite};
use crate::topic::catalog::WriteId;
use crate::wire::group::{GroupSettings, Redelivered, WhenExhausted};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After so long without anybody who asks for entries a group's hand-out is dropped, in milliseconds.
pub const IDLE_MS: u64 = 60_000;
/// How long an entry waits at most for another that one producer appended under the same number, in milliseconds: that one may
/// never be done, where it is trimmed, say.
const TWIN_MS: u64 = 600_000;
/// How long the entries of others wait after the peers that are connected changed, in milliseconds: who was just begun is not
/// connected to anybody, and others may hand them out.
const CONNECT_MS: u64 = 3_000;
/// How long what could not be written or copied waits before it is tried again, in milliseconds.
pub const RETRY_MS: u64 = 1_000;
/// Entries that one read asks for at most.
pub const READ_COUNT_MAX: usize = 1024;
/// Entries that are being copied elsewhere at once, for one group.
const COPY_COUNT_MAX: usize = 64;
/// Of those that wait for a time so many windows are kept in memory.
const LATER_WINDOWS: usize = 4;

/// One group at this peer.
#[derive(Debug)]
pub struct Dispense {
    pub(super) name: GroupName,
    /// The epochs that all of this is about.
    pub(super) epochs: Vec<WriteId>,
    /// How often it began anew.
    pub(super) generation: u64,
    /// Whether the fold may say something else by now.
    pub(super) is_stale: bool,
    pub(super) settings: GroupSettings,
    pub(super) readings: Vec<Reading>,
    is_full: bool,
    pub(super) items: Items,
    pub(super) leases: Leases,
    pub(super) waiters: Waiters,
    pub(super) acks: Acks,
    pub(super) grants: Grants,
    pub(super) progress: Progress,
    pub(super) twins: Twins,
    copying: BTreeSet<Key>,
    to_copy: VecDeque<(Key, Done)>,
    /// What was leased when the group began anew, until when: what is said of it then is about the epoch before.
    pub(super) former: BTreeMap<Key, u64>,
    /// Until when the entries of each log wait, since others may have them: as long as what was there when this peer came to
    /// hand them out was not read to its end.
    grace: BTreeMap<PeerId, u64>,
    is_grace_over: bool,
    /// Logs whose entries came, and whether this peer hands them out.
    pub(super) logs: BTreeMap<PeerId, bool>,
    pub(super) redelivered: Redelivered,
    pub(super) is_used: bool,
    /// When somebody last asked for entries.
    pub(super) asked_ms: u64,
    /// What is said between peers.
    pub(super) far: Far,
}

impl Dispense {
    /// Nothing is known yet.
    pub fn new(name: GroupName) -> Self {
        Self {
            name,
            epochs: Vec::new(),
            generation: 0,
            is_stale: true,
            settings: GroupSettings::default(),
            readings: Vec::new(),
            is_full: false,
            items: Items::default(),
            leases: Leases::default(),
            waiters: Waiters::default(),
            acks: Acks::default(),
            grants: Grants::default(),
            progress: Progress::default(),
            twins: Twins::default(),
            copying: BTreeSet::new(),
            to_copy: VecDeque::new(),
            former: BTreeMap::new(),
            grace: BTreeMap::new(),
            is_grace_over: false,
            logs: BTreeMap::new(),
            redelivered: Redelivered::default(),
            is_used: false,
            asked_ms: 0,
            far: Far::default(),
        }
    }

    /// Whether there is nothing that anybody would miss.
    pub fn is_idle(&self) -> bool {
        let has_none = self.readings.is_empty() && self.leases.is_empty() && self.waiters.is_empty();
        let has_none = has_none && self.far.is_idle();
        has_none && !self.is_used && self.acks.is_empty() && self.items.is_empty()
    }

    /// Draws the consequences of what was taken in, and of the time.
    pub fn settle(&mut self, ctx: &mut Ctx<'_>, group: Option<Group<'_>>) {
        let Some(group) = group else {
            self.end(ctx);
            self.acks_without_group(ctx);
            return;
        };
        self.refresh(ctx, &group);
        while let Some(number) = self.leases.ended(ctx.now.mono_ms) {
            self.lease_over(ctx, &group, number, Again::Expired, true, self.settings.retry_delay_ms);
        }
        while let Some(key) = self.items.due(ctx.now.mono_ms, ctx.now.unix_ms) {
            self.place(ctx, &group, key);
        }
        while let Some(key) = self.items.expired(ctx.now.unix_ms) {
            if !matches!(self.items.place(key), Some(Place::Leased(_) | Place::Out) | None) {
                self.place(ctx, &group, key);
            }
        }
        self.open(ctx, &group);
        self.serve(ctx, &group);
        self.read_on(ctx);
        self.talk(ctx);
        self.answer_late(ctx);
        self.send_acks(ctx, &group);
        self.send_copies(ctx);
        self.send_grants(ctx, &group);
        self.send_progress(ctx);
        self.rest_when_idle(ctx);
    }

    /// Begins anew where the group did since.
    pub(super) fn refresh(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        if self.is_stale {
            self.renew(ctx, group);
        }
    }

    /// When it wants to settle next, by the clock that never jumps.
    pub fn next_wake(&self, ctx: &Ctx<'_>) -> Option<u64> {
        let (held, unix) = self.items.next_due();
        // The other clock may be set meanwhile, so it is looked at once a minute at least.
        let unix = unix.map(|at| ctx.now.mono_ms + at.saturating_sub(ctx.now.unix_ms).clamp(1, 60_000));
        let idle = (!self.readings.is_empty() && self.waiters.is_empty()).then_some(self.asked_ms + IDLE_MS);
        let idle = idle.filter(|at| *at > ctx.now.mono_ms || self.may_rest());
        let late = self.waiters.next_late(ctx.now.mono_ms);
        let wakes = [
            self.leases.first_end(),
            held,
            unix,
            idle,
            late,
            self.grants.next_wake(),
            self.progress.next_wake(),
            self.far_wake(ctx),
        ];
        wakes.into_iter().flatten().min()
    }

    /// Takes over what the fold says, and begins anew where that is about other epochs.
    fn renew(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        self.is_stale = false;
        self.settings = group.settings();
        if self.epochs == group.current() {
            return;
        }
        let goes_on = self.epochs.iter().all(|id| group.current().contains(id));
        if !goes_on || self.epochs.is_empty() {
            self.begin_anew(ctx);
        } else {
            // Another creation of the same name: what was read is wanted still, and more may be.
            self.close(ctx);
            let keys: Vec<Key> = self.items.iter().map(|(key, _)| *key).collect();
            keys.into_iter().filter(|key| group.is_done(*key)).for_each(|key| self.drop_done(key));
        }
        self.epochs = group.current().to_vec();
    }

    /// The group is no more, here or at all: whoever waits is told.
    fn end(&mut self, ctx: &mut Ctx<'_>) {
        self.begin_anew(ctx);
        self.end_far(ctx);
        self.epochs.clear();
        self.is_stale = true;
        for waiter in self.waiters.take_all() {
            ctx.answer(waiter.ticket, Err(ctx.unknown(&self.name)));
        }
    }

    fn begin_anew(&mut self, ctx: &mut Ctx<'_>) {
        self.generation += 1;
        self.close(ctx);
        self.former.retain(|_, until| *until > ctx.now.mono_ms);
        self.former.extend(self.leases.iter().map(|(_, held)| (held.key, held.until_ms)));
        self.leases = Leases::default();
        self.items.clear();
        self.grants.begin_anew();
        self.progress.begin_anew();
        self.twins = Twins::default();
        self.copying.clear();
        self.to_copy.clear();
        self.logs.clear();
    }

    /// Stops reading; what is here stays.
    pub(super) fn close(&mut self, ctx: &mut Ctx<'_>) {
        self.grace.clear();
        self.is_grace_over = false;
        for reading in self.readings.drain(..) {
            ctx.desk.readings.remove(&reading.name);
            ctx.outputs.push(Output::Close { reading: reading.name });
        }
    }

    fn is_wanted(&self, ctx: &Ctx<'_>) -> bool {
        !self.waiters.is_empty() || (self.asked_ms > 0 && ctx.now.mono_ms < self.asked_ms + IDLE_MS)
    }

    fn open(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        if !self.readings.is_empty() || !self.is_wanted(ctx) || ctx.is_stopped {
            return;
        }
        for (start, epochs) in group.starts() {
            let name = io::Reading(ctx.desk.number());
            ctx.desk.readings.insert(name, self.name.clone());
            let from = group.progress(start, &epochs);
            self.readings.push(Reading::new(name, epochs));
            ctx.outputs.push(Output::Open { reading: name, from });
        }
        self.is_full = false;
    }

    fn read_on(&mut self, ctx: &mut Ctx<'_>) {
        let window = ctx.config.window_count_max.max(1);
        let (ready, all) = (self.items.ready_now(), self.items.ready_count() + self.items.later_count());
        if ready >= window || all >= LATER_WINDOWS * window {
            self.is_full = true;
        } else if ready <= window / 2 && all - ready <= (LATER_WINDOWS - 1) * window {
            self.is_full = false;
        }
        if self.is_full || !self.is_wanted(ctx) || ctx.is_stopped {
            return;
        }
        let count_max = (window - ready).clamp(1, READ_COUNT_MAX);
        for reading in self.readings.iter_mut().filter(|reading| !reading.is_asked && !reading.is_at_end) {
            reading.is_asked = true;
            ctx.outputs.push(Output::Read { reading: reading.name, count_max });
        }
    }

    /// Whether it is known that nothing more is to be had now.
    pub(super) fn is_read_up(&self) -> bool {
        self.is_full || self.readings.iter().all(|reading| reading.is_at_end && !reading.is_asked)
    }

    /// There may be more to read.
    pub fn grew(&mut self, name: io::Reading) {
        if let Some(reading) = self.readings.iter_mut().find(|reading| reading.name == name) {
            reading.is_at_end = false;
        }
    }

    /// What was asked for came.
    pub fn read(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        name: io::Reading,
        entries: Vec<Meta>,
        behind: Cursor,
        at_end: bool,
    ) {
        let Some(index) = self.readings.iter().position(|reading| reading.name == name) else {
            return;
        };
        let reading = &mut self.readings[index];
        (reading.is_asked, reading.is_at_end) = (false, at_end);
        let mut open = Vec::with_capacity(entries.len());
        for meta in entries {
            let key = key(meta.id);
            self.logs.insert(key.0, ctx.net.is_ours(key.0));
            let is_done = group.is_done(key);
            let later = self.note_twin(ctx, group, &meta);
            if !is_done {
                open.push(key);
                self.take_in(ctx, group, meta);
            }
            if let Some(later) = later {
                self.place(ctx, group, later);
            }
        }
        let reading = &mut self.readings[index];
        reading.came(open.into_iter(), behind);
        reading.was_at_end |= at_end;
        self.is_grace_over |= self.readings.iter().all(|reading| reading.was_at_end);
    }

    fn may_rest(&self) -> bool {
        let nobody_has = self.leases.is_empty() && self.waiters.is_empty();
        nobody_has && self.items.iter().all(|(_, item)| item.again.is_none())
    }

    fn rest_when_idle(&mut self, ctx: &mut Ctx<'_>) {
        if self.readings.is_empty() || self.is_wanted(ctx) || !self.may_rest() {
            return;
        }
        self.close(ctx);
        self.items.clear();
        self.twins = Twins::default();
        self.copying.clear();
        self.to_copy.clear();
    }

    /// Whoever asked does not wait any more.
    pub fn gone(&mut self, ticket: Ticket) {
        self.waiters.remove(ticket);
    }
}
