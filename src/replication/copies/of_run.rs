//! One run of which something waits: what comes first, when stores are asked, and who holds what.
use crate::base::planted::{self, Bug};
use crate::base::{PeerId, Seq, StoreId};
use crate::replication::bounds::SAID_RANGES_MAX;
use crate::replication::copies::{ASK_MS, Class, FIRST_CLASS, OfRun, Place, Sessions, Waiting, after};
use crate::replication::io::Age;
use crate::replication::session::RunKey;
use std::collections::BTreeMap;

impl OfRun {
    /// The first that waits of this class or one behind it.
    pub(super) fn front(&self, class: Class) -> Option<(Place, Waiting)> {
        let from = self.waiting.range((class, Seq(0), 0)..);
        from.map(|(place, waiting)| (*place, *waiting)).next()
    }

    /// The first of each class.
    pub(super) fn fronts(&self) -> impl Iterator<Item = (Place, Waiting)> + '_ {
        let next = |front: &(Place, Waiting)| self.front(after(front.0.0)?);
        std::iter::successors(self.front(FIRST_CLASS), next)
    }

    /// The first number that waits.
    pub(super) fn first(&self) -> Option<Seq> {
        self.fronts().map(|((_, first, _), _)| first).min()
    }

    /// The first number of an append that waits; behind all where none does.
    pub(super) fn first_appended(&self) -> Seq {
        let appended = self.fronts().filter(|((class, ..), _)| class.1 != Age::Looked);
        appended.map(|((_, first, _), _)| first).min().unwrap_or(Seq(u64::MAX))
    }

    /// From when on stores are to be asked: at once of what is old, and of what is new once it has waited for a while.
    pub(super) fn next_look_ms(&self) -> u64 {
        let patience = |age: Age| if age == Age::New { ASK_MS } else { 0 };
        let waits = self.fronts().map(|((class, ..), waiting)| waiting.since_ms + patience(class.1)).min();
        match self.asked_ms {
            Some(asked_ms) => waits.unwrap_or(0).max(asked_ms + ASK_MS),
            None => waits.unwrap_or(0),
        }
    }

    /// Takes note that a store holds a range. In many pieces only the last are remembered, if appends wait for those.
    pub(super) fn note(&mut self, store: StoreId, from: Seq, until: Seq) {
        let appended = self.first_appended();
        let said = self.said.entry(store).or_default();
        said.insert(from, until);
        if said.iter().len() > SAID_RANGES_MAX {
            let oldest = said.iter().next().filter(|(_, until)| *until <= appended);
            let (from, until) = oldest.unwrap_or((from, until));
            said.remove(from, until);
        }
    }

    /// Whether a store that says it holds a batch with this end may hold what we do.
    pub(super) fn may_be_ours(&self, (until, link): (Seq, u64)) -> bool {
        match (self.ends.get(&until), self.ends.first_key_value()) {
            (Some(ours), _) => link == 0 || *ours == 0 || link == *ours,
            // Between batches of ours, or behind them, none of ours ends.
            (None, Some((first, _))) => link == 0 || until <= *first,
            (None, None) => true,
        }
    }

    /// The peers that hold a range, each once, with a store of theirs that does; never the one whose run it is.
    pub(super) fn holders(
        &self,
        key: RunKey,
        sessions: &Sessions,
        from: Seq,
        until: Seq,
    ) -> BTreeMap<PeerId, StoreId> {
        let holds = self.said.iter().filter(|(_, ranges)| ranges.holds(from, until));
        let peers = holds.filter_map(|(store, _)| match sessions.get(store) {
            // Whose it was is forgotten: anybody's.
            None if planted::is(Bug::HavesOutliveTheirStore) => Some((PeerId([store.0 as u8; 32]), *store)),
            session => Some((session?.peer, *store)),
        });
        peers.filter(|(peer, _)| *peer != key.0.peer).collect()
    }
}
