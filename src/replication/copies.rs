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
use crate::base::planted::{self, Bug};
use crate::base::{PeerId, RunId, Seq, StoreId};
use crate::replication::bounds::SAID_RANGES_MAX;
use crate::replication::held::tag_of;
use crate::replication::io::{Await, PeerOutput};
use crate::replication::ranges::Ranges;
use crate::replication::session::{RunKey, Session};
use crate::wire::peer::{LogSummary, LogTag, PeerMessage, RunRange};
use std::collections::{BTreeMap, BTreeSet};

/// Time without news of a run after which stores are asked what they hold of it.
const ASK_MS: u64 = 1_000;
/// Runs that are asked about at once, at most; others follow at the next look.
const ASKS_MAX: usize = 256;

/// The sessions that there are now.
type Sessions = BTreeMap<StoreId, Session>;

/// What waits, of one run: by how many other peers it waits for, its first number, and who asked.
type Place = (u8, Seq, u64);

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
    /// When there was news of it last, or stores were asked.
    looked_ms: u64,
}

/// The appends of one peer that wait for copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    runs: BTreeMap<RunKey, OfRun>,
    deadlines: BTreeSet<(u64, RunKey, Place)>,
    /// Runs by when they were looked at last.
    looks: BTreeSet<(u64, RunKey)>,
}

impl OfRun {
    /// The first that waits for at least so many others.
    fn front(&self, others: u8) -> Option<(Place, Waiting)> {
        let from = self.waiting.range((others, Seq(0), 0)..);
        from.map(|(place, waiting)| (*place, *waiting)).next()
    }

    /// The first number that waits: of those that wait for the same number of others the first is at hand.
    fn first(&self) -> Option<Seq> {
        let next = |place: &Place| self.front(place.0.checked_add(1)?).map(|(place, _)| place);
        let fronts = std::iter::successors(self.front(0).map(|(place, _)| place), next);
        fronts.map(|(_, first, _)| first).min()
    }

    /// Whether a store that says it holds a batch with this end may hold what we do.
    fn may_be_ours(&self, (until, link): (Seq, u64)) -> bool {
        match (self.ends.get(&until), self.ends.first_key_value()) {
            (Some(ours), _) => link == 0 || *ours == 0 || link == *ours,
            // Between batches of ours, or behind them, none of ours ends.
            (None, Some((first, _))) => link == 0 || until <= *first,
            (None, None) => true,
        }
    }

    /// The peers that hold a range, each once, with a store of theirs that does; never the one whose run it is.
    fn holders(&self, key: RunKey, sessions: &Sessions, from: Seq, until: Seq) -> BTreeMap<PeerId, StoreId> {
        let holds = self.said.iter().filter(|(_, ranges)| ranges.holds(from, until));
        let peers = holds.filter_map(|(store, _)| match sessions.get(store) {
            // Whose it was is forgotten: anybody's.
            None if planted::is(Bug::HavesOutliveTheirStore) => Some((PeerId([store.0 as u8; 32]), *store)),
            session => Some((session?.peer, *store)),
        });
        peers.filter(|(peer, _)| *peer != key.0.peer).collect()
    }
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

    /// An append is durable here and waits for others.
    pub(super) fn add(
        &mut self,
        now_ms: u64,
        usual_ms: u64,
        wanted: Await,
        sessions: &Sessions,
        out: &mut Vec<PeerOutput>,
    ) {
        let Await { ticket, range, others, is_old, timeout_ms } = wanted;
        let timeout_ms = timeout_ms.unwrap_or(usual_ms);
        let key = (range.log, range.run);
        let looks = &mut self.looks;
        let of_run = self.runs.entry(key).or_insert_with(|| {
            // Of what is old the others have said that they hold it, if they do: they are asked at once.
            let looked_ms = if is_old { now_ms.saturating_sub(ASK_MS) } else { now_ms };
            looks.insert((looked_ms, key));
            OfRun { looked_ms, ..OfRun::default() }
        });
        let (place, deadline_ms) = ((others, range.from, ticket), now_ms + timeout_ms);
        of_run.until = of_run.until.max(range.until);
        of_run.waiting.insert(place, Waiting { until: range.until, since_ms: now_ms, deadline_ms });
        self.deadlines.insert((deadline_ms, key, place));
        if is_old {
            self.ask(now_ms, sessions, out);
        }
        self.settle(now_ms, key, sessions, out);
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
        let said = of_run.said.entry(from).or_default();
        if said.iter().len() < SAID_RANGES_MAX {
            said.insert(range.from.max(first), range.until.min(until));
        }
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
        let looked_ms = now_ms.saturating_sub(ASK_MS);
        for (place, waiting) in moved {
            self.remove(now_ms, run, place);
            let looks = &mut self.looks;
            let of_branch = self.runs.entry(key).or_insert_with(|| {
                looks.insert((looked_ms, key));
                OfRun { looked_ms, ..OfRun::default() }
            });
            of_branch.until = of_branch.until.max(waiting.until);
            of_branch.waiting.insert(place, waiting);
            self.deadlines.insert((waiting.deadline_ms, key, place));
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
            let holders = of_run.holders(key, sessions, place.1, waiting.until).into_iter().collect();
            let others: BTreeSet<PeerId> = sessions.values().map(|session| session.peer).collect();
            let available = 1 + others.iter().filter(|peer| **peer != key.0.peer).count();
            out.push(PeerOutput::Late { ticket: place.2, holders, available });
            self.remove(now_ms, key, place);
            self.settle(now_ms, key, sessions, out);
        }
        self.ask(now_ms, sessions, out);
    }

    /// Lets go of all that enough peers hold: of what waits for the same number of them, the first goes first.
    fn settle(&mut self, now_ms: u64, key: RunKey, sessions: &Sessions, out: &mut Vec<PeerOutput>) {
        let mut others = 0;
        while let Some(of_run) = self.runs.get(&key)
            && let Some((place, waiting)) = of_run.front(others)
        {
            let holders = of_run.holders(key, sessions, place.1, waiting.until);
            if holders.len() < usize::from(place.0) {
                // Those that wait for more peers wait apart.
                let Some(more) = place.0.checked_add(1) else { return };
                others = more;
                continue;
            }
            let (holders, waited_ms) = (holders.into_iter().collect(), now_ms - waiting.since_ms);
            out.push(PeerOutput::Copied { ticket: place.2, holders, waited_ms });
            self.remove(now_ms, key, place);
        }
    }

    fn remove(&mut self, now_ms: u64, key: RunKey, place: Place) {
        let Some(of_run) = self.runs.get_mut(&key) else { return };
        if let Some(waiting) = of_run.waiting.remove(&place) {
            self.deadlines.remove(&(waiting.deadline_ms, key, place));
        }
        self.looks.remove(&(of_run.looked_ms, key));
        if of_run.waiting.is_empty() {
            self.runs.remove(&key);
        } else {
            of_run.looked_ms = now_ms;
            self.looks.insert((now_ms, key));
        }
    }

    /// Asks stores what they hold of runs of which there was no news for a while.
    fn ask(&mut self, now_ms: u64, sessions: &Sessions, out: &mut Vec<PeerOutput>) {
        let mut asks: BTreeMap<StoreId, BTreeSet<LogTag>> = BTreeMap::new();
        for _ in 0..ASKS_MAX {
            let is_due = |first: &(u64, RunKey)| first.0 + ASK_MS <= now_ms;
            let Some(first) = self.looks.first().copied().filter(is_due) else { break };
            let key = first.1;
            self.looks.remove(&first);
            self.looks.insert((now_ms, key));
            let Some(of_run) = self.runs.get_mut(&key) else { continue };
            of_run.looked_ms = now_ms;
            let (Some(from), until) = (of_run.first(), of_run.until) else { continue };
            let others = sessions.iter().filter(|(_, session)| session.peer != key.0.peer);
            for (store, _) in others {
                if !of_run.said.get(store).is_some_and(|said| said.holds(from, until)) {
                    asks.entry(*store).or_default().insert(tag_of(&key.0));
                }
            }
        }
        let ask = |(store, ask): (StoreId, BTreeSet<LogTag>)| {
            PeerOutput::Send(store, PeerMessage::Logs { held: vec![], ask: ask.into_iter().collect() })
        };
        out.extend(asks.into_iter().map(ask));
    }
}

#[cfg(test)]
mod tests;
