//! What everybody agrees on: the fold of `$groups/<topic>`.
//!
//! ```text
//! name ─┬─ epochs that nothing replaced ── the current ones ─── of each a book: done, progress, grants
//!       │   (Create, Rewind)                a rewind alone,
//!       │                                   or all creations together
//!       └─ settings that nothing replaced ─ the latest
//! ```
//!
//! A replaced write never wins. Among epochs that did not know of each other the latest rewind wins over all else; creations
//! are one group, which hands out what lies behind the start of any. Books are kept by epoch, so that what was acknowledged in
//! one that is gone is gone with it. Writes come in any order between logs, and some twice: they are known by their ids. What is
//! said of an epoch before that itself has come is kept, for the [`UNKNOWN_EPOCHS_MAX`] heard of last; what was said of others
//! is forgotten, so that their entries are handed out again.
//!
//! Nothing here fails, and nothing looks at a clock.
mod book;
mod view;

pub use book::{Book, Granted};
pub use view::Group;

use crate::base::{Cursor, GroupName, PeerId, Position, RunId, Seq, Timestamp};
use crate::group::set::{Key, Set};
use crate::group::write::{Acks, GroupWrite};
use crate::topic::catalog::WriteId;
use crate::wire::group::{GroupSettings, LEASE_MS_MAX};
use book::grant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Epochs of which something was said before they came themselves, at most.
pub const UNKNOWN_EPOCHS_MAX: usize = 64;
/// Entries of a group that are listed since they were handed out too often, at most.
pub const EXHAUSTED_COUNT_MAX: usize = 1024;

/// An epoch that nothing replaced.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// When it was opened.
    pub time: Timestamp,
    /// Where it begins.
    pub start: Cursor,
    /// Whether a rewind opened it.
    pub is_rewind: bool,
}

impl Epoch {
    /// The first number of a run that it hands out; `None` where that depends on the time of entries.
    fn first(&self, peer: PeerId, run: RunId) -> Option<Seq> {
        let of_log = || self.start.positions.iter().filter(|at| at.peer == peer);
        let of_run = of_log().find(|at| at.run == run).map(|at| at.next);
        // Numbers go on from one run of a log to the next.
        let of_any = of_run.or_else(|| of_log().map(|at| at.next).max());
        of_any.or((self.start.floor == Timestamp::ZERO).then_some(Seq(0)))
    }
}

/// All that is known of a name.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) epochs: BTreeMap<WriteId, Epoch>,
    pub(super) settings: BTreeMap<WriteId, (Timestamp, GroupSettings)>,
    /// The latest there ever were: for a group that was rewound while somebody deleted it.
    settings_ever: Option<(Timestamp, WriteId, GroupSettings)>,
    /// Follows from `epochs`.
    pub(super) current: Vec<WriteId>,
    /// Who handed entries out and did not say since that it rests, and how long its last leases were.
    pub(super) granting: BTreeMap<PeerId, u64>,
    /// What this peer itself wrote of epochs and settings, for when it is said again.
    pub(super) own: BTreeMap<WriteId, (Timestamp, GroupWrite)>,
    /// The last grants of this peer.
    pub(super) own_grants: VecDeque<(WriteId, Timestamp)>,
    pub(super) own_rest: Option<(WriteId, Timestamp, GroupWrite)>,
}

impl Named {
    fn choose(&mut self) {
        let rewinds = self.epochs.iter().filter(|(_, epoch)| epoch.is_rewind);
        self.current = match rewinds.max_by_key(|(id, epoch)| (epoch.time, **id)) {
            Some((id, _)) => vec![*id],
            None => self.epochs.keys().copied().collect(),
        };
    }
}

/// The fold.
#[derive(Debug)]
pub struct Fold {
    pub(super) me: PeerId,
    pub(super) groups: BTreeMap<GroupName, Named>,
    pub(super) books: BTreeMap<WriteId, Book>,
    /// Those of the books whose epoch has not come, in the order in which they were heard of.
    unknown: VecDeque<WriteId>,
    epochs_replaced: BTreeSet<WriteId>,
    settings_replaced: BTreeSet<WriteId>,
    /// All that came.
    seen: Set,
    /// The last write of this peer.
    pub(super) own_last: Option<(WriteId, Timestamp)>,
}

/// Grants of this peer whose names are kept: an entry's count is said again as far as that.
const OWN_GRANTS_KEPT: usize = 64;

impl Fold {
    /// Nothing yet, at this peer.
    pub fn new(me: PeerId) -> Self {
        let (groups, books, unknown) = Default::default();
        let (epochs_replaced, settings_replaced, seen) = Default::default();
        Self { me, groups, books, unknown, epochs_replaced, settings_replaced, seen, own_last: None }
    }

    /// Takes in a write, and says whether it is the first time: another time changes nothing.
    pub fn apply(&mut self, id: WriteId, time: Timestamp, write: &GroupWrite) -> bool {
        let is_new = self.seen.add((id.peer, id.run, id.seq));
        if is_new {
            self.take_in(id, time, write, true);
        }
        is_new
    }

    fn take_in(&mut self, id: WriteId, time: Timestamp, write: &GroupWrite, is_new: bool) {
        if id.peer == self.me && self.own_last.is_none_or(|last| last.1 <= time) {
            self.own_last = Some((id, time));
        }
        if id.peer == self.me && is_about_epochs(write) {
            let named = self.named(write.group().expect("these name their group"));
            named.own.insert(id, (time, write.clone()));
        }
        match write {
            GroupWrite::Create { group, start, settings, replaces } => {
                self.replace(group, replaces, replaces);
                self.open(group, id, Epoch { time, start: start.clone(), is_rewind: false });
                self.set(group, id, time, settings);
            }
            GroupWrite::Set { group, settings, replaces } => {
                self.replace(group, &[], replaces);
                self.set(group, id, time, settings);
            }
            GroupWrite::Rewind { group, start, replaces } => {
                self.replace(group, replaces, &[]);
                self.open(group, id, Epoch { time, start: start.clone(), is_rewind: true });
            }
            GroupWrite::Delete { group, replaces } => self.replace(group, replaces, replaces),
            GroupWrite::Ack { epochs, acks, why, .. } => {
                self.each_book(epochs, |book| book.ack(acks, *why));
            }
            GroupWrite::Grant { .. } if is_new => self.granted(id, time, write),
            GroupWrite::Grant { .. } => {}
            GroupWrite::Rest { group, held } if is_new => self.rest(group, id, time, held, write),
            GroupWrite::Rest { .. } => {}
            GroupWrite::Progress { group, epochs, done } => {
                self.each_book(epochs, |book| book.progress(id, time, done));
                self.prune(group, epochs, &done.positions);
            }
            GroupWrite::Restate { writes } => {
                // Who says again says what he said himself, and one within another would be somebody's joke.
                for (of, time, write) in writes.iter().filter(|(of, ..)| of.peer == id.peer) {
                    let id = of;
                    if !matches!(write, GroupWrite::Restate { .. }) {
                        // Several may be said under one name.
                        let is_new = self.seen.add((id.peer, id.run, id.seq));
                        self.take_in(*id, *time, write, is_new);
                    }
                }
            }
        }
    }

    fn granted(&mut self, id: WriteId, time: Timestamp, write: &GroupWrite) {
        let GroupWrite::Grant { group, epochs, grants, lease_ms, is_extension } = write else {
            return;
        };
        let lease_ms = &(*lease_ms).min(LEASE_MS_MAX);
        let granting = &mut self.named(group).granting;
        match is_extension {
            // It says nothing of how long those are that are not logged yet.
            true => granting.entry(id.peer).or_insert(*lease_ms),
            false => granting.entry(id.peer).insert_entry(*lease_ms).into_mut(),
        };
        let is_own = id.peer == self.me;
        if is_own && !is_extension {
            let kept = &mut self.named(group).own_grants;
            kept.push_back((id, time));
            kept.drain(..kept.len().saturating_sub(OWN_GRANTS_KEPT));
        }
        let granted = Granted {
            count: u32::from(!is_extension),
            own: u32::from(!is_extension && is_own),
            by: id.peer,
            lease_ms: *lease_ms,
            until_unix_ms: time.ms().saturating_add(*lease_ms),
        };
        self.each_book(epochs, |book| grant(book, grants, granted));
    }

    fn named(&mut self, group: &GroupName) -> &mut Named {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), Named::default());
        }
        self.groups.get_mut(group).expect("it is there now")
    }

    fn replace(&mut self, group: &GroupName, epochs: &[WriteId], settings: &[WriteId]) {
        for id in epochs {
            self.epochs_replaced.insert(*id);
            self.books.remove(id);
            self.unknown.retain(|unknown| unknown != id);
        }
        self.settings_replaced.extend(settings);
        let named = self.named(group);
        epochs.iter().for_each(|id| {
            named.epochs.remove(id);
        });
        settings.iter().for_each(|id| {
            named.settings.remove(id);
        });
        named.choose();
    }

    fn open(&mut self, group: &GroupName, id: WriteId, epoch: Epoch) {
        if self.epochs_replaced.contains(&id) {
            return;
        }
        self.unknown.retain(|unknown| *unknown != id);
        let book = self.books.entry(id).or_default();
        // How far it is may have come before it.
        let runs: Vec<(PeerId, RunId)> = book.floors.keys().copied().collect();
        for (peer, run) in runs {
            if let Some(first) = epoch.first(peer, run) {
                book.prune(peer, run, first);
            }
        }
        let named = self.named(group);
        named.epochs.insert(id, epoch);
        named.choose();
    }

    fn set(&mut self, group: &GroupName, id: WriteId, time: Timestamp, settings: &GroupSettings) {
        let is_replaced = self.settings_replaced.contains(&id);
        let named = self.named(group);
        if named.settings_ever.as_ref().is_none_or(|ever| (ever.0, ever.1) < (time, id)) {
            named.settings_ever = Some((time, id, settings.clone()));
        }
        if !is_replaced {
            named.settings.insert(id, (time, settings.clone()));
        }
    }

    /// Runs over the books of these epochs, those that were replaced left out.
    fn each_book(&mut self, epochs: &[WriteId], mut f: impl FnMut(&mut Book)) {
        for id in epochs {
            if self.epochs_replaced.contains(id) {
                continue;
            }
            let unknown = &mut self.unknown;
            let book = self.books.entry(*id).or_insert_with(|| {
                unknown.push_back(*id);
                Book::default()
            });
            f(book);
        }
        while self.unknown.len() > UNKNOWN_EPOCHS_MAX {
            let oldest = self.unknown.pop_front();
            oldest.map(|id| self.books.remove(&id));
        }
    }

    fn rest(&mut self, group: &GroupName, id: WriteId, time: Timestamp, held: &[Acks], write: &GroupWrite) {
        let me = self.me;
        let mut kept = Set::default();
        kept.insert_all(held);
        let named = self.named(group);
        named.granting.remove(&id.peer);
        if id.peer == me {
            named.own_rest = Some((id, time, write.clone()));
        }
        let epochs: Vec<WriteId> = named.epochs.keys().copied().collect();
        self.each_book(&epochs, |book| {
            for (key, granted) in &mut book.granted {
                if granted.by == id.peer && !kept.holds(*key) {
                    (granted.lease_ms, granted.until_unix_ms) = (0, 0);
                }
            }
        });
    }

    /// What lies between where an epoch begins and its progress need not be listed any more.
    fn prune(&mut self, group: &GroupName, epochs: &[WriteId], positions: &[Position]) {
        let Some(named) = self.groups.get(group) else {
            return;
        };
        for id in epochs {
            let (Some(epoch), Some(book)) = (named.epochs.get(id), self.books.get_mut(id)) else {
                continue;
            };
            for Position { peer, run, .. } in positions {
                if let Some(first) = epoch.first(*peer, *run) {
                    book.prune(*peer, *run, first);
                }
            }
        }
    }

    /// How a group is now; `None` when there is none of this name.
    pub fn group<'a>(&'a self, name: &GroupName) -> Option<Group<'a>> {
        let named = self.groups.get(name)?;
        (!named.current.is_empty()).then_some(Group { fold: self, named })
    }

    /// The position before which all is done of what these epochs hand out, where anybody said so: all such words together.
    pub(super) fn progress_of(&self, start: &Cursor, epochs: &[WriteId]) -> Option<Cursor> {
        let books = epochs.iter().filter_map(|id| self.books.get(id));
        let words: Vec<_> = books.flat_map(|book| book.progress.values()).collect();
        let latest = words.iter().max_by_key(|word| (word.0, word.1))?;
        let mut positions: BTreeMap<(PeerId, RunId), Seq> = BTreeMap::new();
        for at in words.iter().flat_map(|word| &word.2.positions).chain(&start.positions) {
            let next = positions.entry((at.peer, at.run)).or_default();
            *next = (*next).max(at.next);
        }
        let position = |((peer, run), next)| Position { peer, run, next };
        let positions = positions.into_iter().map(position).collect();
        let joined = Cursor { positions, ..start.clone() };
        // Where there are too many runs to name, the latest word by itself says less, and is true as well.
        Some(if joined.check_positions().is_ok() { joined } else { latest.2.clone() })
    }

    /// The names of all groups, in order.
    pub fn names(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.iter().filter(|(_, named)| !named.current.is_empty()).map(|(name, _)| name)
    }

    /// The epochs and settings of a name that a new write about it replaces.
    pub fn known(&self, name: &GroupName) -> (Vec<WriteId>, Vec<WriteId>) {
        let Some(named) = self.groups.get(name) else {
            return Default::default();
        };
        (named.epochs.keys().copied().collect(), named.settings.keys().copied().collect())
    }
}

fn is_about_epochs(write: &GroupWrite) -> bool {
    use GroupWrite::{Create, Delete, Rewind, Set};
    matches!(write, Create { .. } | Set { .. } | Rewind { .. } | Delete { .. })
}

#[cfg(test)]
mod tests;
