//! Ranges of a log that its peer declared lost: found by their order, without going through all of them.
use crate::base::{Lost, RunId, Seq, Signature};
use crate::replication::held::{Held, HeldLog};

impl HeldLog {
    /// The first stretch of `from..until` of a run that was not declared lost.
    pub(super) fn first_not_lost(&self, run: RunId, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let lost = self.lost();
        let of_run = &lost[lost.partition_point(|(lost, _)| lost.run < run)..];
        let before =
            of_run.iter().map(|(lost, _)| lost).take_while(|lost| lost.run == run && lost.from < until);
        let mut next = from;
        for lost in before {
            if next < lost.from {
                return Some((next, lost.from));
            }
            next = next.max(lost.until);
        }
        (next < until).then_some((next, until))
    }

    /// Where a declaration stands among all, or would; and whether it does.
    pub(super) fn place_of(&self, lost: &Lost, signature: &Signature) -> (usize, bool) {
        let key = |lost: &Lost| (lost.run, lost.from, lost.until);
        let all = self.lost();
        let first = all.partition_point(|(other, _)| key(other) < key(lost));
        let alike = all[first..].iter().take_while(|(other, _)| key(other) == key(lost));
        let (mut count, mut is_there) = (0, false);
        alike.for_each(|found| (count, is_there) = (count + 1, is_there || *found == (*lost, *signature)));
        (first + count, is_there)
    }

    /// Whether it is known already that a range was declared lost, by this signature.
    pub fn knows_lost(&self, lost: &Lost, signature: &Signature) -> bool {
        self.place_of(lost, signature).1
    }
}

impl Held {
    /// Heads of a log, or ranges of it declared lost, of the log that has the most of either.
    pub(in crate::replication) fn stated_most(&self) -> usize {
        self.logs.values().map(|log| log.heads().len().max(log.lost().len())).max().unwrap_or(0)
    }
}
