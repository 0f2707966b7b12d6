//! Counting copies: appends that wait until other peers hold them, and what those peers said they hold.
//!
//! ```text
//! durable here ──> [ of each run: what waits, by number ] ──Have, Logs: enough peers──> Copied
//!                                                        └──its time is over──────────> Late
//! ```
//!
//! What a store says counts while there is a session with it, and once for each peer's key. Of a run it is remembered
//! only while something of that run waits, and only of the numbers that wait: so there is as much of it as there are
//! appends under way. A `Have` may be lost, and of what was there before a session began nobody says it: stores that do
//! not seem to hold what has waited for a while are asked.
//!
//! What waits for the same number of others comes to be held in the order of its numbers, so that the first of them is at
//! hand. That is not so of entries of long ago, some of which nobody may hold: what people look at waits apart, and so does
//! what is appended again, so that nothing new waits behind either.
use crate::base::planted::{self, Bug};
use crate::base::{PeerId, RunId, Seq, StoreId};
use crate::replication::bounds::TOLD_MAX;
use crate::replication::held::tag_of;
use crate::replication::io::{Age, Await, PeerOutput};
use crate::replication::ranges::Ranges;
use crate::replication::session::{RunKey, Session};
use crate::wire::peer::{LogSummary, LogTag, PeerMessage, RunRange};
use std::collections::{BTreeMap, BTreeSet};

/// Time without news of a run after which stores are asked what they hold of it.
const ASK_MS: u64 = 1_000;
/// Time between two parts of what is asked, where it is more than stores answer at once.
const PART_MS: u64 = 20;
/// Runs that are looked at at once, at most.
const LOOKS_MAX: usize = 16 * TOLD_MAX;

/// The sessions that there are now.
type Sessions = BTreeMap<StoreId, Session>;

/// What waits behind each other: for so many other peers, and of this age.
type Class = (u8, Age);

/// What waits, of one run: by its class, its first number, and who asked.
type Place = (Class, Seq, u64);

const FIRST_CLASS: Class = (0, Age::New);

/// The class behind one.
fn after(class: Class) -> Option<Class> {
    match class {
        (others, Age::New) => Some((others, Age::Repeat)),
        (others, Age::Repeat) => Some((others, Age::Looked)),
        (others, Age::Looked) => Some((others.checked_add(1)?, Age::New)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    until: Seq,
    since_ms: u64,
    deadline_ms: u64,
}

#[derive(Debug, Default)]
struct OfRun {
    waiting: BTreeMap<Place, Waiting>,
    /// Behind the last number that waits or did.
    until: Seq,
    /// What each store says it holds of it.
    said: BTreeMap<StoreId, Ranges>,
    /// Where our batches end, as far as that matters, and 64 bits of their links: who holds other batches under these numbers
    /// holds no copies.
    ends: BTreeMap<Seq, u64>,
    /// When stores were asked what they hold of it; not since something came that they are to be asked of at once.
    asked_ms: Option<u64>,
    /// From when on they are asked next.
    due_ms: u64,
}

/// The appends of one peer that wait for copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    runs: BTreeMap<RunKey, OfRun>,
    deadlines: BTreeSet<(u64, RunKey, Place)>,
    /// Runs by when they are looked at next.
    looks: BTreeSet<(u64, RunKey)>,
    /// When a part was asked of what is to be asked, and the rest was not: it is when an answer comes, or time passes.
    part_ms: Option<u64>,
}

#[cfg(test)]
impl Copies {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.deadlines.is_empty() && self.looks.is_empty()
    }

    pub(super) fn said_count(&self) -> usize {
        self.runs.values().flat_map(|of_run| of_run.said.values()).map(|said| said.iter().len()).sum()
    }
}

impl Copies {
    /// Ranges that are remembered of one run and store, of those with the most.
    pub(super) fn said_most(&self) -> usize {
        let of_runs = self.runs.values().flat_map(|of_run| of_run.said.values());
        of_runs.map(|said| said.iter().len()).max().unwrap_or(0)
    }

    /// Some of our entries, which are durable here, wait for others.
    pub(super) fn add(
        &mut self,
        now_ms: u64,
        usual_ms: u64,
        wanted: &[Await],
        sessions: &Sessions,
        out: &mut Vec<PeerOutput>,
    ) {
        for wanted in wanted {
            let Await { ticket, range, others, age, timeout_ms } = *wanted;
            let deadline_ms = now_ms + timeout_ms.unwrap_or(usual_ms);
            let waiting = Waiting { until: range.until, since_ms: now_ms, deadline_ms };
            self.insert((range.log, range.run), ((others, age), range.from, ticket), waiting);
        }
        if wanted.iter().any(|wanted| wanted.age != Age::New) {
            self.ask(now_ms, sessions, out);
        }
        for wanted in wanted {
            self.settle(now_ms, (wanted.range.log, wanted.range.run), sessions, out);
        }
    }

    fn insert(&mut self, key: RunKey, place: Place, waiting: Waiting) {
        let of_run = self.runs.entry(key).or_default();
        of_run.until = of_run.until.max(waiting.until);
        of_run.waiting.insert(place, waiting);
        if place.0.1 == Age::Looked {
            // People wait for it.
            of_run.asked_ms = None;
        }
        self.deadlines.insert((waiting.deadline_ms, key, place));
        self.plan(key);
    }

    /// Plans the next look at a run.
    fn plan(&mut self, key: RunKey) {
        let Some(of_run) = self.runs.get_mut(&key) else { return };
        self.looks.remove(&(of_run.due_ms, key));
        of_run.due_ms = of_run.next_look_ms();
        self.looks.insert((of_run.due_ms, key));
    }

    /// Batches of ours end there, with 64 bits of their links; 0 where that is not known.
    pub(super) fn note_ends(&mut self, key: RunKey, ends: impl IntoIterator<Item = (Seq, u64)>) {
        let Some(of_run) = self.runs.get_mut(&key) else { return };
        of_run.ends.extend(ends);
        if let Some(first) = of_run.first() {
            of_run.ends = of_run.ends.split_off(&first.after(1));
        }
    }

    /// A store holds a range, which ends with the batch of this link; 0 where that is not known.
    pub(super) fn say(
        &mut self,
        now_ms: u64,
        from: StoreId,
        (range, link): (&RunRange, u64),
        sessions: &Sessions,
        out: &mut Vec<PeerOutput>,
    ) {
        let key = (range.log, range.run);
        let Some(of_run) = self.runs.get_mut(&key) else { return };
        let (Some(first), until) = (of_run.first(), of_run.until) else { return };
        if !of_run.may_be_ours((range.until, link)) && !planted::is(Bug::ForksUnseen) {
            return;
        }
        of_run.note(from, range.from.max(first), range.until.min(until));
        self.settle(now_ms, key, sessions, out);
    }

    /// What waits of a run from `from` on is of a branch of it: the run forked. What others said of it they said of a name that
    /// stood for two things, so they are asked anew.
    pub(super) fn rename(
        &mut self,
        now_ms: u64,
        run: RunKey,
        from: Seq,
        branch: RunId,
        sessions: &Sessions,
        out: &mut Vec<PeerOutput>,
    ) {
        let Some(of_run) = self.runs.get(&run) else { return };
        let moved: Vec<(Place, Waiting)> = of_run
            .waiting
            .iter()
            .filter(|(place, _)| from <= place.1)
            .map(|(place, waiting)| (*place, *waiting))
            .collect();
        if moved.is_empty() {
            return;
        }
        let key = (run.0, branch);
        for (place, waiting) in moved {
            self.remove(run, place);
            self.insert(key, place, waiting);
        }
        if let Some(of_branch) = self.runs.get_mut(&key) {
            self.looks.remove(&(of_branch.due_ms, key));
            of_branch.due_ms = now_ms;
            self.looks.insert((now_ms, key));
        }
        self.ask(now_ms, sessions, out);
    }

    /// A store says all that it holds of a log.
    pub(super) fn say_all(
        &mut self,
        now_ms: u64,
        from: StoreId,
        summary: &LogSummary,
        sessions: &Sessions,
        out: &mut Vec<PeerOutput>,
    ) {
        let of_log = self.runs.range_mut((summary.log, RunId(0))..);
        for (_, of_run) in of_log.take_while(|(key, _)| key.0 == summary.log) {
            of_run.said.remove(&from);
        }
        for of_run in &summary.runs {
            let last = of_run.held.last();
            for held in &of_run.held {
                let (first, until) = *held;
                let range = RunRange { log: summary.log, run: of_run.run, from: first, until };
                let link = if Some(held) == last { of_run.link } else { 0 };
                self.say(now_ms, from, (&range, link), sessions, out);
            }
        }
        if self.part_ms.is_some_and(|part_ms| part_ms + PART_MS <= now_ms) {
            self.ask(now_ms, sessions, out);
        }
    }

    /// A store holds a range no more.
    pub(super) fn take_back(&mut self, from: StoreId, range: &RunRange) {
        let said = self.runs.get_mut(&(range.log, range.run)).and_then(|of_run| of_run.said.get_mut(&from));
        if let Some(said) = said {
            said.remove(range.from, range.until);
        }
    }

    /// There is no session with a store any more, or a new one: what it said counts no longer.
    pub(super) fn forget(&mut self, store: StoreId) {
        if planted::is(Bug::HavesOutliveTheirStore) {
            return;
        }
        self.runs.values_mut().for_each(|of_run| drop(of_run.said.remove(&store)));
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now_ms: u64, sessions: &Sessions, out: &mut Vec<PeerOutput>) {
        while let Some(late) = self.deadlines.first().copied().filter(|late| late.0 <= now_ms) {
            let (_, key, place) = late;
            let Some(of_run) = self.runs.get(&key) else { unreachable!("who waits is of a run that waits") };
            let Some(waiting) = of_run.waiting.get(&place) else {
                unreachable!("a deadline is of who waits")
            };
            let holders: Vec<_> = of_run.holders(key, sessions, place.1, waiting.until).into_iter().collect();
            let others: BTreeSet<PeerId> = sessions.values().map(|session| session.peer).collect();
            let available = 1 + others.iter().filter(|peer| **peer != key.0.peer).count();
            let (ticket, waited_ms) = (place.2, now_ms - waiting.since_ms);
            out.push(match holders.len() >= usize::from(place.0.0) {
                // It waited behind another that nobody holds.
                true => PeerOutput::Copied { ticket, holders, waited_ms },
                false => PeerOutput::Late { ticket, holders, available },
            });
            self.remove(key, place);
            self.settle(now_ms, key, sessions, out);
        }
        self.ask(now_ms, sessions, out);
    }

    /// Lets go of all that enough peers hold: of each class the first goes first.
    fn settle(&mut self, now_ms: u64, key: RunKey, sessions: &Sessions, out: &mut Vec<PeerOutput>) {
        let mut class = FIRST_CLASS;
        while let Some(of_run) = self.runs.get(&key)
            && let Some((place, waiting)) = of_run.front(class)
        {
            let holders = of_run.holders(key, sessions, place.1, waiting.until);
            if holders.len() < usize::from(place.0.0) {
                // The other classes wait apart.
                let Some(next) = after(place.0) else { return };
                class = next;
                continue;
            }
            let (holders, waited_ms) = (holders.into_iter().collect(), now_ms - waiting.since_ms);
            out.push(PeerOutput::Copied { ticket: place.2, holders, waited_ms });
            self.remove(key, place);
        }
    }

    fn remove(&mut self, key: RunKey, place: Place) {
        let Some(of_run) = self.runs.get_mut(&key) else { return };
        if let Some(waiting) = of_run.waiting.remove(&place) {
            self.deadlines.remove(&(waiting.deadline_ms, key, place));
        }
        if of_run.waiting.is_empty() {
            self.looks.remove(&(of_run.due_ms, key));
            self.runs.remove(&key);
        } else {
            self.plan(key);
        }
    }

    /// Asks stores what they hold of runs that they are to be asked of by now: of each log once, and of as many as they
    /// answer.
    fn ask(&mut self, now_ms: u64, sessions: &Sessions, out: &mut Vec<PeerOutput>) {
        let mut asks: BTreeMap<StoreId, BTreeSet<LogTag>> = BTreeMap::new();
        self.part_ms = None;
        for looked in 0.. {
            let Some((_, key)) = self.looks.first().copied().filter(|look| look.0 <= now_ms) else { break };
            let Some(of_run) = self.runs.get_mut(&key) else { unreachable!("what is looked at waits") };
            let tag = tag_of(&key.0);
            let is_full = |asks: &BTreeSet<LogTag>| asks.len() >= TOLD_MAX && !asks.contains(&tag);
            if looked == LOOKS_MAX || asks.values().any(is_full) {
                self.part_ms = Some(now_ms);
                break;
            }
            let (Some(from), until) = (of_run.first(), of_run.until) else { unreachable!("it waits") };
            let others = sessions.iter().filter(|(_, session)| session.peer != key.0.peer);
            for (store, _) in others {
                if !of_run.said.get(store).is_some_and(|said| said.holds(from, until)) {
                    asks.entry(*store).or_default().insert(tag);
                }
            }
            of_run.asked_ms = Some(now_ms);
            self.plan(key);
        }
        let ask = |(store, ask): (StoreId, BTreeSet<LogTag>)| {
            PeerOutput::Send(store, PeerMessage::Logs { held: vec![], ask: ask.into_iter().collect() })
        };
        out.extend(asks.into_iter().map(ask));
    }
}

mod of_run;
#[cfg(test)]
mod tests;
