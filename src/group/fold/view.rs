//! A group as it is now: what follows from its epochs, its settings and what was said of them.
use super::*;

/// A group as it is now.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    pub(super) fold: &'a Fold,
    pub(super) named: &'a Named,
}

impl<'a> Group<'a> {
    /// The epochs that count, in order.
    pub fn current(&self) -> &'a [WriteId] {
        &self.named.current
    }

    /// The one of them that people are shown: the earliest.
    pub fn epoch(&self) -> (WriteId, &'a Epoch) {
        let opened = self.named.current.iter().filter_map(|id| Some((*id, self.named.epochs.get(id)?)));
        opened.min_by_key(|(id, epoch)| (epoch.time, *id)).expect("a group has an epoch")
    }

    /// Each start of theirs, with the epochs that begin there.
    pub fn starts(&self) -> Vec<(&'a Cursor, Vec<WriteId>)> {
        let mut starts: Vec<(&Cursor, Vec<WriteId>)> = Vec::new();
        for id in &self.named.current {
            let Some(epoch) = self.named.epochs.get(id) else {
                continue;
            };
            match starts.iter_mut().find(|(start, _)| **start == epoch.start) {
                Some((_, ids)) => ids.push(*id),
                None => starts.push((&epoch.start, vec![*id])),
            }
        }
        starts
    }

    fn books(&self) -> impl Iterator<Item = &'a Book> {
        self.named.current.iter().filter_map(|id| self.fold.books.get(id))
    }

    /// How it hands out.
    pub fn settings(&self) -> GroupSettings {
        let latest = self.named.settings.iter().max_by_key(|(id, (time, _))| (*time, **id));
        let ever = || self.named.settings_ever.as_ref().map(|ever| ever.2.clone());
        latest.map(|(_, (_, settings))| settings.clone()).or_else(ever).unwrap_or_default()
    }

    /// Whether an entry is done.
    pub fn is_done(&self, key: Key) -> bool {
        let covers = |id: &WriteId| {
            let Some(book) = self.fold.books.get(id) else {
                return false;
            };
            let is_below = || book.is_below(key);
            // What lies before where an epoch begins it never handed out: its progress says nothing of that.
            let is_its_own = || {
                let epoch = self.named.epochs.get(id);
                epoch.and_then(|epoch| epoch.first(key.0, key.1)).is_some_and(|first| first <= key.2)
            };
            book.done.holds(key) || (is_below() && (self.named.current.len() == 1 || is_its_own()))
        };
        self.named.current.iter().any(covers)
    }

    /// Whether an entry is listed as handed out too often.
    pub fn is_exhausted(&self, key: Key) -> bool {
        self.books().any(|book| book.exhausted.contains(&key))
    }

    /// Those, in order.
    pub fn exhausted(&self) -> BTreeSet<Key> {
        self.books().flat_map(|book| book.exhausted.iter().copied()).take(EXHAUSTED_COUNT_MAX).collect()
    }

    /// Whether an entry lies before where all of the epochs begin.
    pub fn is_before(&self, (peer, run, seq): Key) -> bool {
        let passed = |start: &Cursor| {
            let of_run = start.positions.iter().find(|at| (at.peer, at.run) == (peer, run));
            of_run.is_some_and(|at| seq < at.next)
        };
        self.starts().iter().all(|(start, _)| passed(start))
    }

    /// How an entry was handed out, as far as the log says.
    pub fn granted(&self, key: Key) -> Option<Granted> {
        let granted = self.books().filter_map(|book| book.granted.get(&key).copied());
        granted.max_by_key(|granted| (granted.count, granted.until_unix_ms))
    }

    /// How long the last leases of a peer were, unless it said since that it rests, or never leased any.
    pub fn granting(&self, peer: PeerId) -> Option<u64> {
        self.named.granting.get(&peer).copied()
    }

    /// How long the last leases were of those who may have leased entries of another's log: everybody but this peer.
    pub fn granting_others(&self) -> Option<u64> {
        let others = self.named.granting.iter().filter(|(peer, _)| **peer != self.fold.me);
        others.map(|(_, lease_ms)| *lease_ms).max()
    }

    /// The position before which all is done of what these epochs hand out.
    pub fn progress(&self, start: &Cursor, epochs: &[WriteId]) -> Cursor {
        self.fold.progress_of(start, epochs).unwrap_or_else(|| start.clone())
    }

    /// Ranges that are done behind the first entry that is not.
    pub fn hole_count(&self) -> u64 {
        self.books().map(|book| book.done.range_count()).max().unwrap_or_default() as u64
    }

    /// About how many entries are done since it began: numbers are dense along a log, so what progress passed need not be
    /// counted one by one.
    pub fn done_count(&self) -> u64 {
        let mut ends: BTreeMap<PeerId, Seq> = BTreeMap::new();
        for ((peer, _), next) in self.books().flat_map(|book| &book.floors) {
            let end = ends.entry(*peer).or_default();
            *end = (*end).max(*next);
        }
        let (_, epoch) = self.epoch();
        let begin = |peer: PeerId| {
            let of_log = epoch.start.positions.iter().filter(|at| at.peer == peer);
            of_log.map(|at| at.next).max().unwrap_or(Seq::FIRST)
        };
        let passed: u64 = ends.iter().map(|(peer, end)| end.since(begin(*peer))).sum();
        let mut books = self.books();
        let first = books.next();
        let mut done = first.map(|book| book.done.clone()).unwrap_or_default();
        for (peer, run, from, until) in books.flat_map(|book| book.done.ranges().collect::<Vec<_>>()) {
            done.insert(peer, run, from, until);
        }
        for ((peer, run), floor) in self.books().flat_map(|book| &book.floors) {
            done.remove(*peer, *run, Seq(0), *floor);
        }
        let beyond = |until: Seq, peer| ends.get(&peer).is_none_or(|end| until > *end);
        passed + done.counts().filter(|(peer, _, _, until)| beyond(*until, *peer)).map(|at| at.2).sum::<u64>()
    }
}
