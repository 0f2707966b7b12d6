//! Forks of runs, as far as they need the disk: where a batch belongs, where two stores differ first, and what a run holds
//! behind its fork.
//!
//! ```text
//! a batch that does not go on from what is held, or an end with another link
//!    A ── AskStatement: 900 ──> B          by halving: each answer is a statement and its signature, and says whether the
//!    A <── Statement ────────── B          first difference lies before it or behind; where it is, the two are the proof
//! ```
//!
//! One search is open for each other store, and each ends after some sixty questions at most.
use crate::base::fork::Side;
use crate::base::limits::FORKS_MAX;
use crate::base::statement::branch_of;
use crate::base::{Batch, Digest, Fork, LogId, RunId, Seq, Statement, StoreId, TopicName};
use crate::disk::Lane;
use crate::identity::sign::verify_with;
use crate::log::Store;
use crate::log::read::{self, Found};
use crate::log::state::{LogState, Run};
use crate::log::store::Log;
use crate::runtime::lanes::{Event, Jobs};
use crate::wire::peer::PeerMessage;
use std::collections::BTreeMap;
use tokio::time::{Duration, Instant};

mod behind;

/// What is to be thought of a batch that another store sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what its peer signed; and whether it is known to go on from what is held.
    Good { is_placed: bool },
    /// Its signature or its bytes are wrong.
    Bad,
    /// It is of a branch that is not known here, or not of the run that it says.
    Misplaced,
    /// It is signed, and so is another that is held: they differ, at this entry or before.
    Differs(Seq),
}

/// The batch that is held and has an entry.
fn held_at(store: &Store, log: &Log, run: RunId, seq: Seq) -> Option<Batch> {
    match read::read(store, log, run, seq, 1, &mut None) {
        Ok(Found::Batches(batches)) => batches.into_iter().next(),
        _ => None,
    }
}

/// Where a batch belongs that is what its peer signed. What goes on at the end of its run is judged without the disk.
pub(super) fn judge(store: &Store, batch: &Batch) -> Verdict {
    match judge_place(store, batch) {
        Verdict::Good { is_placed: false } => Verdict::Good { is_placed: is_second(store, batch) },
        verdict => verdict,
    }
}

/// Whether a batch goes on from the first of its branch, which the fork tells of, whether that is here or not.
fn is_second(store: &Store, batch: &Batch) -> bool {
    let s = batch.statement();
    let Some(log) = store.log(&s.log) else { return false };
    let state = log.look();
    let sides = state.fork_of(s.run).into_iter().flat_map(Fork::ends);
    sides.into_iter().any(|(branch, until, link)| (branch, until, link) == (s.run, s.first_seq, s.previous))
}

fn judge_place(store: &Store, batch: &Batch) -> Verdict {
    let (s, is_branch) = (*batch.statement(), batch.statement().signed.is_some());
    let (good, misplaced) = (Verdict::Good { is_placed: false }, Verdict::Misplaced);
    let Some(log) = store.log(&s.log) else { return if is_branch { misplaced } else { good } };
    let link = batch.link();
    let end = {
        let state = log.look();
        if let Some(fork) = state.fork_of(s.run).filter(|_| is_branch) {
            if branch_of(&link) == s.run {
                let is_first = s.first_seq == fork.from();
                return if is_first { Verdict::Good { is_placed: true } } else { misplaced };
            }
        } else if is_branch || state.cut_of(s.run).is_some_and(|cut| cut < s.until()) {
            return misplaced;
        }
        if state.forks.len() >= FORKS_MAX && !is_branch {
            // Its peer cheats: of what it signs the first that comes is kept.
            return good;
        }
        let Some(run) = state.run(s.run) else { return good };
        if begins_elsewhere(&state, run, &s) {
            return misplaced;
        }
        (run.until, run.link)
    };
    let is_known = end.1 != Digest::ZERO;
    match s.first_seq.cmp(&end.0) {
        std::cmp::Ordering::Greater => good,
        std::cmp::Ordering::Equal if !is_known => good,
        std::cmp::Ordering::Equal if end.1 == s.previous => Verdict::Good { is_placed: true },
        std::cmp::Ordering::Equal => Verdict::Differs(Seq(s.first_seq.0 - 1)),
        std::cmp::Ordering::Less if is_known && s.until() == end.0 && link != end.1 => {
            Verdict::Differs(s.first_seq)
        }
        std::cmp::Ordering::Less => judge_within(store, &log, batch, link),
    }
}

/// Whether a batch is of a run that was begun twice, at two numbers, which proves nothing: what was here first is kept.
fn begins_elsewhere(state: &LogState, run: &Run, s: &Statement) -> bool {
    let is_before = s.first_seq < run.from && run.previous != Digest::ZERO;
    let is_behind = s.opens_run && state.spans_of(run.id).iter().any(|span| span.from < s.first_seq);
    is_before || is_behind
}

/// The same for one that lies before the end of what is held: it fills a hole, or is held already.
fn judge_within(store: &Store, log: &Log, batch: &Batch, link: Digest) -> Verdict {
    let s = *batch.statement();
    let same = |other: &Batch| other.link() == link;
    let at = |seq: Seq| held_at(store, log, s.run, seq);
    if at(s.first_seq).is_some_and(|other| !same(&other)) {
        return Verdict::Differs(s.first_seq);
    }
    let before = at(Seq(s.first_seq.0 - 1)).filter(|before| !same(before));
    if before.as_ref().is_some_and(|before| before.link() != s.previous) && !s.opens_run {
        return Verdict::Differs(Seq(s.first_seq.0 - 1));
    }
    let goes_on =
        |after: &Batch| after.statement().first_seq == s.until() && after.statement().previous == link;
    match at(s.until()).filter(|after| !same(after)) {
        Some(after) if !goes_on(&after) => Verdict::Differs(s.first_seq),
        after => Verdict::Good { is_placed: before.is_some() || after.is_some() },
    }
}

/// What was asked of another store: log, run and entry.
pub(super) type Asked = (LogId, RunId, Seq);

/// What a comparison of two statements came to.
#[derive(Debug)]
pub(super) enum Compared {
    /// They are the same: all before the next entry is.
    Same(Seq),
    /// They differ; and at no entry behind this one they may differ first.
    Differ(Seq),
    /// They are the first that differ.
    Fork(TopicName, Box<Fork>),
    /// Nothing can be said.
    Unknown,
}

/// Time after which a search that is not answered is given up.
const SEARCH_TIME: Duration = Duration::from_secs(10);
/// Questions of one search: numbers have 64 bits.
const QUESTIONS_MAX: u32 = 70;
/// Questions of one store that are answered at once.
const TOLD_AT_ONCE: usize = 4;

#[derive(Debug)]
struct Search {
    asked: Asked,
    /// All before this is the same.
    from: Seq,
    /// The first difference is not behind this.
    until: Seq,
    questions: u32,
    since: Instant,
}

/// The searches for first differences.
#[derive(Debug, Default)]
pub(super) struct Searches {
    open: BTreeMap<StoreId, Search>,
    telling: BTreeMap<StoreId, usize>,
}

impl Searches {
    /// Begins one, unless one with that store is under way; answers what to ask.
    pub(super) fn begin(
        &mut self,
        with: StoreId,
        log: LogId,
        run: RunId,
        at: Seq,
        from: Seq,
    ) -> Option<Asked> {
        let now = Instant::now();
        if at < from || self.open.get(&with).is_some_and(|open| now < open.since + SEARCH_TIME) {
            return None;
        }
        let asked = (log, run, at);
        self.open.insert(with, Search { asked, from, until: at, questions: 1, since: now });
        Some(asked)
    }

    /// Whether this was asked of that store.
    pub(super) fn expects(&self, with: StoreId, asked: &Asked) -> bool {
        self.open.get(&with).is_some_and(|open| open.asked == *asked)
    }

    /// Goes on with what a comparison came to; answers what to ask next, if the search goes on.
    pub(super) fn go_on(&mut self, with: StoreId, asked: &Asked, compared: &Compared) -> Option<Asked> {
        let mut open = self.open.remove(&with).filter(|open| open.asked == *asked)?;
        match compared {
            Compared::Same(until) => open.from = open.from.max(*until),
            Compared::Differ(until) => open.until = open.until.min(*until),
            Compared::Fork(..) | Compared::Unknown => return None,
        }
        if open.until < open.from || open.questions >= QUESTIONS_MAX {
            return None;
        }
        open.asked.2 = Seq(open.from.0 + open.until.since(open.from) / 2);
        open.questions += 1;
        let asked = open.asked;
        self.open.insert(with, open);
        Some(asked)
    }

    /// A session ended.
    pub(super) fn end(&mut self, with: StoreId) {
        self.open.remove(&with);
    }

    /// Whether one more question of a store is answered now; if so, it is.
    pub(super) fn may_tell(&mut self, to: StoreId) -> bool {
        let telling = self.telling.entry(to).or_default();
        let may = *telling < TOLD_AT_ONCE;
        *telling += usize::from(may);
        may
    }

    /// A question was answered.
    pub(super) fn told(&mut self, to: StoreId) {
        if let Some(telling) = self.telling.get_mut(&to) {
            *telling -= 1;
            if *telling == 0 {
                self.telling.remove(&to);
            }
        }
    }
}

impl Jobs {
    /// Tells a store what was signed of the batch that holds an entry.
    pub(super) fn tell_statement(&self, to: StoreId, log: LogId, run: RunId, seq: Seq) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let job = move || {
            let found = shared.store.log(&log).and_then(|log| held_at(&shared.store, &log, run, seq));
            let side = found.map(|batch| Box::new((batch.statement().as_signed(), *batch.signature())));
            shared.env.peers.send(to, PeerMessage::Statement { log, run, seq, side });
            drop(events.send(Event::Told(to)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }

    /// Compares what another store tells with what is held.
    pub(super) fn compare(&self, with: StoreId, asked: Asked, side: Box<Side>) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let job = move || {
            let is_signed = verify_with(&*shared.trust, &side.0, &side.1);
            let compared = if is_signed { compare(&shared.store, &asked, &side) } else { Compared::Unknown };
            drop(events.send(Event::Compared(with, asked, compared)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }

    /// Reads what a run that forked holds behind the fork.
    pub(super) fn look_behind(&self, fork: Box<Fork>) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let job = move || {
            let found = behind::look_behind(&shared.store, &fork);
            drop(events.send(Event::LookedBehind(fork, found)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }
}

fn compare(store: &Store, (id, run, seq): &Asked, theirs: &Side) -> Compared {
    let log = store.log(id);
    let Some(ours) = log.and_then(|log| held_at(store, &log, *run, *seq)) else { return Compared::Unknown };
    let s = ours.statement().as_signed();
    let t = &theirs.0;
    let is_asked = t.log == *id && t.run == s.run && t.first_seq <= *seq && *seq < t.until();
    let Some(topic) = store.topic_name(id.topic).filter(|_| is_asked) else { return Compared::Unknown };
    if (s, *ours.signature()) == *theirs {
        return Compared::Same(s.until());
    }
    if let Some(fork) = Fork::of(*run, &(s, *ours.signature()), theirs) {
        return Compared::Fork(topic, Box::new(fork));
    }
    let first = s.first_seq.min(t.first_seq);
    let is_before = s.first_seq == t.first_seq || first == *seq;
    Compared::Differ(if is_before { Seq(first.0 - 1) } else { first })
}

/// Tells whoever watches that a peer signed two things under one name.
pub(super) fn tell_fork(store: &Store, topic: &TopicName, fork: &Fork) {
    store.count(&store.counters.forks_found, 1);
    let [one, other] = fork.branches();
    tracing::error!(
        %topic, peer = %fork.log().peer, run = %fork.run, from = %fork.from(), %one, %other,
        "a peer signed two things under one name: was its machine resumed from a snapshot? Both are kept, each as a run \
         of its own"
    );
}

#[cfg(test)]
mod tests;
