//! Acknowledgements on their way into the log.
//!
//! ```text
//!   ask ask ask ask ... ──> gathered ──> one write in flight ──> durable: answered, all together
//! ```
//!
//! Of each reason one write is in flight, and what comes meanwhile shares the next. Whether an id was news is decided when its
//! write leaves, so that of two who say the same the first is told so.
use crate::group::desk::{Ctx, Purpose};
use crate::group::dispense::{Dispense, RETRY_MS};
use crate::group::fold::Group;
use crate::group::io::Ticket;
use crate::group::ready::Place;
use crate::group::set::{Key, Set};
use crate::group::waiters::Waiter;
use crate::group::write::{Done, GroupWrite};
use crate::wire::group::GroupAnswer;
use crate::wire::outcome::AppendError;
use std::collections::{BTreeMap, VecDeque};

/// Ids in one write at most.
pub const ACK_COUNT_MAX: usize = 4096;

/// Whom an acknowledgement is for.
#[derive(Debug)]
pub enum Who {
    /// Somebody who is told of each id whether it was news.
    Told(Ticket),
    /// Somebody who wants entries then, or only to know that it is done.
    Next(Ticket, Option<Box<Waiter>>),
    /// Nobody.
    Nobody,
}

/// Ids that somebody says are done.
#[derive(Debug)]
pub struct Asked {
    /// Who.
    pub who: Who,
    /// Which.
    pub keys: Vec<Key>,
    /// How often the group had begun anew by then: of an epoch that is gone nothing is news.
    pub generation: u64,
    /// Whether each was news; filled in when they leave.
    pub news: Vec<bool>,
}

/// Those of one reason.
#[derive(Debug, Default)]
pub struct Lane {
    /// What waits.
    pub gathered: VecDeque<Asked>,
    /// What is on its way.
    pub in_flight: Option<Vec<Asked>>,
}

impl Lane {
    /// Those that leave with the next write.
    pub fn take(&mut self) -> Vec<Asked> {
        let (mut taken, mut count) = (Vec::new(), 0);
        while let Some(asked) = self.gathered.pop_front_if(|asked| {
            count += asked.keys.len();
            count <= ACK_COUNT_MAX || count == asked.keys.len()
        }) {
            taken.push(asked);
        }
        taken
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Acks {
    /// By reason.
    pub lanes: BTreeMap<Done, Lane>,
    /// How many say so of each entry and were not answered.
    pub keys: BTreeMap<Key, u32>,
}

impl Acks {
    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.gathered.is_empty() && lane.in_flight.is_none())
    }

    /// Takes them in.
    pub fn gather(&mut self, why: Done, asked: Asked) {
        for key in &asked.keys {
            *self.keys.entry(*key).or_default() += 1;
        }
        self.lanes.entry(why).or_default().gathered.push_back(asked);
    }

    /// One who said so of an entry is answered. Says whether that was the last.
    pub fn release(&mut self, key: Key) -> bool {
        match self.keys.get_mut(&key) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => {
                self.keys.remove(&key);
                true
            }
        }
    }
}

impl Dispense {
    /// Somebody says that entries are done. They are handed out to nobody until that is durable.
    pub(super) fn ack(&mut self, ctx: &mut Ctx<'_>, who: Who, keys: Vec<Key>) {
        for key in &keys {
            if !matches!(self.items.place(*key), Some(Place::Leased(_)) | None) {
                self.items.put(*key, Place::Out);
            }
        }
        let (generation, news) = (self.generation, Vec::new());
        self.acks.gather(Done::Acked, Asked { who, keys, generation, news });
        self.former.retain(|_, until| *until > ctx.now.mono_ms);
    }

    /// Whether it is news that an entry is done.
    fn is_news(&self, group: &Group<'_>, generation: u64, why: Done, key: Key) -> bool {
        let leased = matches!(self.items.place(key), Some(Place::Leased(_)));
        if generation != self.generation || group.is_before(key) {
            return false;
        }
        if self.former.contains_key(&key) && !leased {
            // It was leased before the rewind, so it was done before it too: it comes again all the same.
            return false;
        }
        !group.is_done(key) || (why == Done::Acked && group.is_exhausted(key))
    }

    /// Appends what was gathered, where nothing of its kind is on its way.
    pub(super) fn send_acks(&mut self, ctx: &mut Ctx<'_>, group: &Group<'_>) {
        let whys: Vec<Done> = self.acks.lanes.keys().copied().collect();
        for why in whys {
            while let Some(mut asked) = self.take_lane(why) {
                let mut set = Set::default();
                for one in &mut asked {
                    let news = |key: &Key| self.is_news(group, one.generation, why, *key) && set.add(*key);
                    one.news = one.keys.iter().map(news).collect();
                }
                if set.is_empty() {
                    self.answer_acks(ctx, group, asked, None);
                    continue;
                }
                if why == Done::Acked {
                    self.hint(ctx, &set);
                }
                let (group, epochs, acks) = (self.name.clone(), self.epochs.clone(), set.list());
                ctx.append(GroupWrite::Ack { group, epochs, acks, why }, Purpose::Acks(why));
                if let Some(lane) = self.acks.lanes.get_mut(&why) {
                    lane.in_flight = Some(asked);
                }
            }
        }
    }

    fn take_lane(&mut self, why: Done) -> Option<Vec<Asked>> {
        let lane = self.acks.lanes.get_mut(&why).filter(|lane| lane.in_flight.is_none())?;
        let taken = lane.take();
        (!taken.is_empty()).then_some(taken)
    }

    /// Of a group that is no more nothing is news: whoever waits is told so.
    pub(super) fn acks_without_group(&mut self, ctx: &mut Ctx<'_>) {
        let whys: Vec<Done> = self.acks.lanes.keys().copied().collect();
        for why in whys {
            while let Some(asked) = self.take_lane(why) {
                for asked in asked {
                    asked.keys.iter().for_each(|key| {
                        self.acks.release(*key);
                    });
                    if let Who::Told(ticket) | Who::Next(ticket, _) = asked.who {
                        let error = ctx.unknown(&self.name);
                        ctx.answer(ticket, Err(error));
                    }
                }
            }
        }
    }

    /// What became of the write that was on its way.
    pub fn acked(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: Option<&Group<'_>>,
        why: Done,
        error: Option<AppendError>,
    ) {
        let lane = self.acks.lanes.get_mut(&why);
        let Some(asked) = lane.and_then(|lane| lane.in_flight.take()) else {
            return;
        };
        match group {
            Some(group) => self.answer_acks(ctx, group, asked, error),
            None => {
                // It was durable before the group went, or nobody minds any more.
                if let Some(lane) = self.acks.lanes.get_mut(&why) {
                    asked.into_iter().rev().for_each(|asked| lane.gathered.push_front(asked));
                }
            }
        }
    }

    fn answer_acks(
        &mut self,
        ctx: &mut Ctx<'_>,
        group: &Group<'_>,
        asked: Vec<Asked>,
        error: Option<AppendError>,
    ) {
        for asked in asked {
            let is_nobody = matches!(asked.who, Who::Nobody);
            for key in asked.keys {
                let is_last = self.acks.release(key);
                if is_last && self.items.place(key) == Some(Place::Out) && !group.is_done(key) {
                    // As if it had not been said; what this peer said by itself, it says again after a while.
                    self.hold(ctx, group, key, if is_nobody { RETRY_MS } else { 0 });
                }
            }
            match (asked.who, &error) {
                (Who::Nobody, _) => {}
                (Who::Told(ticket) | Who::Next(ticket, _), Some(error)) => {
                    ctx.answer(ticket, Err(error.clone().into()));
                }
                (Who::Told(ticket), None) => ctx.answer(ticket, Ok(GroupAnswer::Acked(asked.news))),
                (Who::Next(ticket, None), None) => ctx.answer(ticket, Ok(GroupAnswer::Leased(Vec::new()))),
                (Who::Next(ticket, Some(waiter)), None) if ctx.desk.is_open(ticket) => {
                    self.wait(ctx, *waiter)
                }
                (Who::Next(..), None) => {}
            }
        }
    }
}
