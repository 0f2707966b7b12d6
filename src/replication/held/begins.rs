//! Where a run begins that was not known.
use crate::base::{RunId, Seq};
use crate::replication::held::HeldLog;

impl HeldLog {
    /// The first number of a run that is heard of only now, and where it starts: it is trimmed as far as its head, and the
    /// runs that go on from it, say. Where nothing was ever trimmed nobody is asked, so that the thousands of runs of a
    /// peer which was started so often are taken in without looking at each for each.
    pub(super) fn begins(&self, run: RunId) -> (Seq, Seq) {
        if self.heads().is_empty() {
            return (Seq::FIRST, Seq::FIRST);
        }
        #[cfg(test)]
        super::tests::LOOKED_AT.with(|count| count.set(count.get() + self.runs.len()));
        let (from, start) = self.head(run).map_or((Seq::FIRST, Seq::FIRST), |(h, _)| (h.from, h.start));
        let children = self.runs.iter().filter(|(_, other)| other.parent == run);
        (from, children.map(|(_, child)| child.start.min(child.from)).fold(start, Seq::max))
    }
}
