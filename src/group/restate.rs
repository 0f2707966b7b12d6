//! Saying again what this peer's own writes say that still counts, so that all before can be trimmed.
//!
//! ```text
//!   own log:  ack grant ack … progress ack │ restate restate │ ack …
//!             may go, once those are durable ^ kept from here on
//! ```
//!
//! Of acknowledgements all is said that is known, whoever said it first: they unite, so that is true as well, and a log whose
//! peer is gone for ever need not be searched. Of epochs and settings each write that counts is said as it was, and of those
//! that were replaced only what they replaced: the last of each kind names it all. Counts of deliveries are said in as many
//! grants as an entry had, under the names of this peer's last ones; who has seen those counts them no second time.
use crate::base::{GroupName, Timestamp};
use crate::group::fold::{Fold, Granted, Named};
use crate::group::set::{Key, Set};
use crate::group::write::{Done, GroupWrite};
use crate::topic::catalog::WriteId;
use std::collections::{BTreeMap, BTreeSet};

/// A write with the entry that said it first, and when.
pub type Said = (WriteId, Timestamp, GroupWrite);

/// Ranges in one write at most.
const RANGE_COUNT_MAX: usize = 1000;
/// Bytes of one entry about.
const BYTES_MAX: usize = 100 << 10;
/// Of writes that were replaced so many names of what they replaced are kept, of each kind: who wrote those has long said its own
/// again.
const REPLACED_COUNT_MAX: usize = 1024;

impl Fold {
    /// What is to be written, so that nothing is lost when all before it goes.
    pub fn restate(&mut self) -> Vec<GroupWrite> {
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        let mut said = Vec::new();
        for name in names {
            self.restate_epochs(&name, &mut said);
            // Grants count under the first write of their name, and acknowledgements under any.
            self.restate_grants(&name, &mut said);
            self.restate_books(&name, &mut said);
        }
        let mut parts: Vec<Vec<Said>> = vec![Vec::new()];
        let mut bytes = 0;
        for one in said {
            let more = one.2.encode().len() + 200;
            if bytes + more > BYTES_MAX && bytes > 0 {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            parts.last_mut().expect("there is one").push(one);
        }
        parts.into_iter().map(|writes| GroupWrite::Restate { writes }).collect()
    }

    fn restate_epochs(&mut self, name: &GroupName, said: &mut Vec<Said>) {
        let named = self.groups.get_mut(name).expect("it was just listed");
        let counts =
            |named: &Named, id: &WriteId| named.epochs.contains_key(id) || named.settings.contains_key(id);
        let mut kept = BTreeMap::new();
        // By kind the last that does not count any more, with all that its kind replaced.
        let mut replaced: BTreeMap<u8, (WriteId, Timestamp, GroupWrite, BTreeSet<WriteId>)> = BTreeMap::new();
        for (id, (time, write)) in std::mem::take(&mut named.own) {
            let Some((kind, replaces)) = kind(&write) else {
                continue;
            };
            if counts(named, &id) {
                kept.insert(id, (time, write));
                continue;
            }
            let of_kind = replaced.entry(kind).or_insert_with(|| (id, time, write.clone(), BTreeSet::new()));
            of_kind.3.extend(replaces);
            if (of_kind.1, of_kind.0) < (time, id) {
                (of_kind.0, of_kind.1, of_kind.2) = (id, time, write);
            }
        }
        for (id, time, write, replaces) in replaced.into_values() {
            kept.insert(id, (time, with_replaces(write, replaces)));
        }
        let mut all: Vec<Said> = kept.iter().map(|(id, (time, write))| (*id, *time, write.clone())).collect();
        all.sort_by_key(|(id, time, _)| (*time, *id));
        said.extend(all);
        named.own = kept;
    }

    fn restate_books(&self, name: &GroupName, said: &mut Vec<Said>) {
        let (Some(named), Some((id, time))) = (self.groups.get(name), self.own_last) else {
            return;
        };
        for (epoch, opened) in &named.epochs {
            let Some(book) = self.books.get(epoch) else {
                continue;
            };
            let mut done = book.done.clone();
            let exhausted: Set = book.exhausted.iter().copied().collect();
            for (peer, run, from, until) in exhausted.ranges() {
                done.remove(peer, run, from, until);
            }
            for (why, set) in [(Done::Acked, done), (Done::Exhausted, exhausted)] {
                for acks in set.lists(RANGE_COUNT_MAX) {
                    let (group, epochs) = (name.clone(), vec![*epoch]);
                    said.push((id, time, GroupWrite::Ack { group, epochs, acks, why }));
                }
            }
            if let Some(done) = self.progress_of(&opened.start, &[*epoch]) {
                let (group, epochs) = (name.clone(), vec![*epoch]);
                said.push((id, time, GroupWrite::Progress { group, epochs, done }));
            }
        }
    }

    fn restate_grants(&self, name: &GroupName, said: &mut Vec<Said>) {
        let Some(named) = self.groups.get(name) else {
            return;
        };
        let mut ids = named.own_grants.iter().rev();
        // Epochs that are one group have been granted together, for the most part.
        let mut together: Vec<(BTreeMap<Key, Granted>, Vec<WriteId>)> = Vec::new();
        let (current, other): (Vec<&WriteId>, Vec<&WriteId>) =
            named.epochs.keys().partition(|id| named.current.contains(id));
        for epoch in current.into_iter().chain(other) {
            let granted = self.books.get(epoch).into_iter().flat_map(|book| &book.granted);
            let own = |(key, granted): (&Key, &Granted)| (granted.own > 0).then_some((*key, *granted));
            let granted: BTreeMap<Key, Granted> = granted.filter_map(own).collect();
            match together.iter_mut().find(|(of, _)| *of == granted) {
                Some((_, epochs)) => epochs.push(*epoch),
                None => together.push((granted, vec![*epoch])),
            }
        }
        for (granted, epochs) in &together {
            for level in 1.. {
                let granted = || granted.iter().filter(|(_, granted)| granted.own >= level);
                let set: Set = granted().map(|(key, _)| *key).collect();
                let lease_ms = granted().map(|(_, granted)| granted.lease_ms).max().unwrap_or_default();
                let lists = set.lists(RANGE_COUNT_MAX);
                if lists.is_empty() {
                    break;
                }
                for grants in lists {
                    let Some((id, time)) = ids.next() else {
                        break;
                    };
                    let (group, epochs, is_extension) = (name.clone(), epochs.clone(), false);
                    let write = GroupWrite::Grant { group, epochs, grants, lease_ms, is_extension };
                    said.push((*id, *time, write));
                }
            }
        }
        match (named.granting.get(&self.me), named.own_grants.back()) {
            (Some(lease_ms), Some((id, time))) => {
                // That it may have more out than it said, even where all that it said is done. Those of before are seen as
                // often as they are here, so this one has a name too.
                let (group, epochs, grants) = (name.clone(), Vec::new(), Vec::new());
                let (lease_ms, is_extension) = (*lease_ms, true);
                said.push((*id, *time, GroupWrite::Grant { group, epochs, grants, lease_ms, is_extension }));
            }
            _ => said.extend(named.own_rest.clone()),
        }
    }
}

fn kind(write: &GroupWrite) -> Option<(u8, Vec<WriteId>)> {
    match write {
        GroupWrite::Create { replaces, .. } => Some((0, replaces.clone())),
        GroupWrite::Set { replaces, .. } => Some((1, replaces.clone())),
        GroupWrite::Rewind { replaces, .. } => Some((2, replaces.clone())),
        GroupWrite::Delete { replaces, .. } => Some((3, replaces.clone())),
        _ => None,
    }
}

fn with_replaces(mut write: GroupWrite, all: BTreeSet<WriteId>) -> GroupWrite {
    if let GroupWrite::Create { replaces, .. }
    | GroupWrite::Set { replaces, .. }
    | GroupWrite::Rewind { replaces, .. }
    | GroupWrite::Delete { replaces, .. } = &mut write
    {
        let mut newest: Vec<WriteId> = all.into_iter().collect();
        newest.sort_by_key(|id| std::cmp::Reverse(id.seq));
        newest.truncate(REPLACED_COUNT_MAX);
        *replaces = newest;
    }
    write
}
