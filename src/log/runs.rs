//! The runs of a log: in the order in which they were heard of, and found by their names.
//!
//! A log of a peer that is started often has thousands of them, most logs one: so there is no map, but the places of the
//! runs in the order of their names, four bytes for each.
use crate::base::{Digest, RunId, Seq, Statement};
use crate::log::state::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// The runs of a log.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    list: Vec<Run>,
    /// Places in `list`, in order of the runs' names.
    by_id: Vec<u32>,
    changes: u64,
    /// The place of the run that grew last, or was heard of after that.
    growing: u32,
}

impl Deref for Runs {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        &self.list
    }
}

impl From<Vec<Run>> for Runs {
    fn from(list: Vec<Run>) -> Self {
        let mut runs = Self::default();
        list.into_iter().for_each(|run| runs.push(run));
        runs
    }
}

impl Runs {
    /// The place of the run called `id`.
    pub fn index_of(&self, id: RunId) -> Option<usize> {
        let at = self.by_id.binary_search_by_key(&id, |at| self.list[*at as usize].id).ok()?;
        Some(self.by_id[at] as usize)
    }

    /// The run called `id`.
    pub fn get_by_id(&self, id: RunId) -> Option<&Run> {
        self.index_of(id).map(|index| &self.list[index])
    }

    /// Adds a run that was not known.
    pub fn push(&mut self, run: Run) {
        // Room for four would be most of what a small log costs.
        if self.list.len() < 4 {
            self.list.reserve_exact(1);
            self.by_id.reserve_exact(1);
        }
        let at = self.by_id.partition_point(|at| self.list[*at as usize].id < run.id);
        self.by_id.insert(at, self.list.len() as u32);
        self.growing = self.list.len() as u32;
        self.list.push(run);
        self.changes += 1;
    }

    /// The run at `index`, to be changed; its name stays.
    pub fn change(&mut self, index: usize) -> &mut Run {
        self.changes += 1;
        &mut self.list[index]
    }

    /// The run at `index` is trimmed up to `start`, if it was not that far before.
    pub fn start_at(&mut self, index: usize, start: Seq) {
        let run = &mut self.list[index];
        // A start before the first number is no change to whoever reads; one at it says that all before is trimmed.
        self.changes += u64::from(run.start < start && run.from <= start);
        run.start = run.start.max(start);
    }

    /// What the first batch of the run at `index` goes on from, which no reader asks for.
    pub fn set_previous(&mut self, index: usize, previous: Digest) {
        self.list[index].previous = previous;
    }

    /// The run at `index` goes on with a batch.
    pub fn grow(&mut self, index: usize, s: &Statement, link: Digest) {
        // What one run goes on with is looked for by whoever waits for it; that another does from now on is a change.
        self.changes += u64::from(self.growing != index as u32);
        self.growing = index as u32;
        let run = &mut self.list[index];
        run.until = s.until();
        run.last_time = s.last_time();
        run.link = link;
    }

    /// Brings them into an order in which each comes behind the one it goes on from, and otherwise as they were. Those
    /// that go on from each other in a circle, which no peer writes, stay behind the others.
    pub fn settle(&mut self) {
        let mut children: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
        let mut next: BTreeSet<usize> = BTreeSet::new();
        for (index, run) in self.list.iter().enumerate() {
            match self.index_of(run.parent).filter(|parent| *parent != index) {
                Some(_) => children.entry(run.parent).or_default().push(index),
                None => drop(next.insert(index)),
            }
        }
        let (mut settled, mut is_settled) = (Vec::new(), vec![false; self.list.len()]);
        while let Some(index) = next.pop_first() {
            settled.push(self.list[index]);
            is_settled[index] = true;
            next.extend(children.remove(&self.list[index].id).unwrap_or_default());
        }
        settled.extend(
            self.list.iter().zip(&is_settled).filter(|(_, is_settled)| !**is_settled).map(|(run, _)| *run),
        );
        *self = Self { changes: self.changes + 1, ..Self::from(settled) };
    }

    /// For each run what its chain begins with: a run that is not known, or [`RunId::NONE`].
    pub fn roots(&self) -> Vec<RunId> {
        let mut roots: Vec<Option<RunId>> = vec![None; self.list.len()];
        for index in 0..self.list.len() {
            let (mut at, mut way) = (index, Vec::new());
            let root = loop {
                if let Some(root) = roots[at] {
                    break root;
                }
                // Runs that go on from each other in a circle, which no peer writes, begin with one of them.
                roots[at] = Some(self.list[at].id);
                way.push(at);
                match self.index_of(self.list[at].parent) {
                    Some(parent) => at = parent,
                    None => break self.list[at].parent,
                }
            };
            way.into_iter().for_each(|at| roots[at] = Some(root));
        }
        roots.into_iter().map(|root| root.unwrap_or(RunId::NONE)).collect()
    }

    /// Grows whenever anything changes but the end of the run that [is growing](Self::growing).
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The place of the run that grew last, and the number behind its last entry. 0 and 1 where there is none.
    pub fn growing(&self) -> (usize, Seq) {
        let index = self.growing as usize;
        (index, self.list.get(index).map_or(Seq::FIRST, |run| run.until))
    }
}
