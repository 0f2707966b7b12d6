//! The names on a memory disk: as programs see them, and as power loss would leave them.
//!
//! A change of names waits until each directory it touches was synced. At a crash every waiting change
//! survives or not by a coin of its own, as a whole (so a rename leaves the old name or the new one), and
//! takes along what it builds on:
//!
//! - earlier changes of the same names;
//! - if it took a directory away, earlier changes inside that directory (what was moved out of it is not
//!   lost);
//! - if it moved a directory, earlier moves of directories (no directory ends up inside itself).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::inode::Inode;
use super::random::SplitMix64;

/// Names one directory, for as long as the disk lives.
pub(super) type DirId = u64;

const ROOT: DirId = 0;

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Inode>),
    Dir(DirId),
}

type Tree = BTreeMap<DirId, BTreeMap<String, Node>>;
type Slot = (DirId, String);

pub(super) struct Names {
    now: Tree,
    durable: Tree,
    waiting: Vec<Change>,
    dir_next: DirId,
}

/// What happens to some names at once.
struct Change {
    slots: BTreeMap<Slot, Option<Node>>,
    /// Directories it touches that were not synced since.
    unsynced: BTreeSet<DirId>,
    /// The directory it takes away, which is empty.
    taken: Option<DirId>,
    moves_dir: bool,
}

impl Names {
    pub(super) fn new() -> Self {
        let tree = Tree::from([(ROOT, BTreeMap::new())]);
        Self { now: tree.clone(), durable: tree, waiting: Vec::new(), dir_next: ROOT + 1 }
    }

    /// The directory at `parts`.
    pub(super) fn dir(&self, parts: &[&str]) -> io::Result<DirId> {
        parts.iter().try_fold(ROOT, |dir, part| match self.get(dir, part) {
            Some(Node::Dir(id)) => Ok(id),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// The directory that has, or would have, the last of `parts`, and that name.
    fn slot(&self, parts: &[&str]) -> io::Result<Slot> {
        let (name, above) = parts.split_last().expect("a checked path to a file has a part");
        Ok((self.dir(above)?, (*name).to_owned()))
    }

    fn get(&self, dir: DirId, name: &str) -> Option<Node> {
        self.now.get(&dir)?.get(name).cloned()
    }

    pub(super) fn find(&self, parts: &[&str]) -> io::Result<Option<Node>> {
        let (dir, name) = self.slot(parts)?;
        Ok(self.get(dir, &name))
    }

    pub(super) fn list(&self, dir: DirId) -> Vec<String> {
        self.now[&dir].keys().cloned().collect()
    }

    /// Gives the new file `inode` a name that is free.
    pub(super) fn create_file(&mut self, parts: &[&str], inode: Arc<Inode>) -> io::Result<()> {
        let slot = self.slot(parts)?;
        self.change([(slot, Some(Node::File(inode)))].into(), None);
        Ok(())
    }

    /// Makes one directory below `parent`, and the name durable also where it was there before.
    pub(super) fn create_dir(&mut self, parent: DirId, name: &str) -> io::Result<DirId> {
        let slot = (parent, name.to_owned());
        let id = match self.get(parent, name) {
            Some(Node::Dir(id)) => id,
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                let id = self.dir_next;
                self.dir_next += 1;
                self.now.insert(id, BTreeMap::new());
                self.change([(slot.clone(), Some(Node::Dir(id)))].into(), None);
                id
            }
        };
        self.settle(|change| change.slots.contains_key(&slot));
        Ok(id)
    }

    pub(super) fn remove_file(&mut self, parts: &[&str]) -> io::Result<()> {
        let slot = self.slot(parts)?;
        match self.get(slot.0, &slot.1) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Node::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) => {}
        }
        self.change([(slot, None)].into(), None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, parts: &[&str]) -> io::Result<()> {
        let slot = self.slot(parts)?;
        let taken = match self.get(slot.0, &slot.1) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            Some(Node::Dir(id)) if !self.now[&id].is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Some(Node::Dir(id)) => id,
        };
        self.change([(slot, None)].into(), Some(taken));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &[&str], to: &[&str]) -> io::Result<()> {
        let (from_slot, to_slot) = (self.slot(from)?, self.slot(to)?);
        let Some(node) = self.get(from_slot.0, &from_slot.1) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if from_slot == to_slot {
            return Ok(());
        }
        if matches!(node, Node::Dir(_)) && to.starts_with(from) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let taken = match (&node, self.get(to_slot.0, &to_slot.1)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => None,
            (Node::Dir(_), Some(Node::Dir(id))) if self.now[&id].is_empty() => Some(id),
            (Node::Dir(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
        };
        self.change([(from_slot, None), (to_slot, Some(node))].into(), taken);
        Ok(())
    }

    fn change(&mut self, slots: BTreeMap<Slot, Option<Node>>, taken: Option<DirId>) {
        let moves_dir = taken.is_some() || slots.values().any(|node| matches!(node, Some(Node::Dir(_))));
        let unsynced = slots.keys().map(|(dir, _)| *dir).collect();
        let change = Change { slots, unsynced, taken, moves_dir };
        change.apply(&mut self.now);
        self.waiting.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: DirId) {
        self.waiting.iter_mut().for_each(|change| _ = change.unsynced.remove(&dir));
        self.settle(|change| change.unsynced.is_empty());
    }

    /// Every waiting change meets its fate; what survives is what there is.
    pub(super) fn crash(&mut self, random: &mut SplitMix64) {
        self.settle(|_| random.one_in(2));
        self.waiting.clear();
        self.now = self.durable.clone();
    }

    /// Every waiting change is durable.
    pub(super) fn keep_all(&mut self) {
        self.settle(|_| true);
    }

    /// Makes durable the waiting changes that `survives` picks, and what they build on.
    fn settle(&mut self, mut survives: impl FnMut(&Change) -> bool) {
        let (mut slots, mut taken, mut moved) = (BTreeSet::new(), BTreeSet::new(), false);
        let mut settled = Vec::new();
        // From the last one back, since a change builds only on earlier ones.
        for (index, change) in self.waiting.iter().enumerate().rev() {
            let built_on = change.slots.keys().any(|slot| slots.contains(slot) || taken.contains(&slot.0))
                || (moved && change.moves_dir);
            if survives(change) || built_on {
                slots.extend(change.slots.keys().cloned());
                taken.extend(change.taken);
                moved |= change.moves_dir;
                settled.push(index);
            }
        }
        let mut index = 0;
        let durable = &mut self.durable;
        self.waiting.retain(|change| {
            let waits = settled.last() != Some(&index);
            if !waits {
                settled.pop();
                change.apply(durable);
            }
            index += 1;
            waits
        });
    }

    /// Replaces every file by what `replace` makes of it, in the order of the names. Nothing may be waiting.
    pub(super) fn replace_files(&mut self, mut replace: impl FnMut(&Inode) -> Arc<Inode>) {
        assert!(self.waiting.is_empty(), "files are replaced after a crash only");
        for node in self.durable.values_mut().flat_map(BTreeMap::values_mut) {
            if let Node::File(inode) = node {
                *inode = replace(inode);
            }
        }
        self.now = self.durable.clone();
    }

    /// Calls `visit` for everything there is, with its path: directories before what is in them.
    pub(super) fn walk(&self, mut visit: impl FnMut(&str, &Node)) {
        let mut open: Vec<(String, DirId)> = vec![(String::new(), ROOT)];
        while let Some((above, dir)) = open.pop() {
            for (name, node) in &self.now[&dir] {
                let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
                visit(&path, node);
                if let Node::Dir(id) = node {
                    open.push((path, *id));
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        for ((dir, name), node) in &self.slots {
            let names = tree.entry(*dir).or_default();
            match node {
                Some(node) => names.insert(name.clone(), node.clone()),
                None => names.remove(name),
            };
            if let Some(Node::Dir(id)) = node {
                // A directory that is new in this tree.
                tree.entry(*id).or_default();
            }
        }
        if let Some(dir) = self.taken {
            tree.remove(&dir);
        }
    }
}
