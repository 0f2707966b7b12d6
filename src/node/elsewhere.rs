//! Runs of our own that another process writes too.
//!
//! Runs are drawn at every start, so no two starts share one. But a machine that is resumed from a snapshot, or cloned while
//! it runs, has a process that is started already: two of them then write one run. Each leaves it as soon as it hears of
//! entries there that it did not number, and goes on in a run that is drawn anew.
use crate::base::planted::{self, Bug};
use crate::base::{RunId, Seq, Statement};
use crate::node::engine::Node;
use crate::replication::PeerInput;
use crate::wire::peer::{PeerMessage, RunRange};

impl Node {
    /// Looks in what another store says for entries of the runs that are written here.
    pub(super) fn hear(&mut self, input: &PeerInput) {
        match input {
            PeerInput::Message(_, PeerMessage::Have(range, _)) => self.hear_of(range, false),
            PeerInput::Message(_, PeerMessage::Logs { held, .. }) => {
                let own = self.config.peer;
                for summary in held.iter().filter(|summary| summary.log.peer == own) {
                    for run in &summary.runs {
                        if let Some((from, until)) = run.held.last().copied() {
                            let range = RunRange { log: summary.log, run: run.run, from, until };
                            self.hear_of(&range, false);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// A batch that another store sent, signed by its peer, is to be stored; answers whether it may be. What was numbered
    /// here and is on its way to the disk has its names.
    pub(super) fn hear_batch(&mut self, s: &Statement) -> bool {
        let range = RunRange { log: s.log, run: s.run, from: s.first_seq, until: s.until() };
        self.hear_of(&range, true);
        if planted::is(Bug::RunsAreNeverLeft) {
            return self.own.get(&s.log).is_none_or(|own| own.tip().run != s.run);
        }
        !self.own.get(&s.log).is_some_and(|own| own.collides(s))
    }

    fn hear_of(&mut self, range: &RunRange, is_signed: bool) {
        if planted::is(Bug::RunsAreNeverLeft) {
            return;
        }
        let RunRange { log, run, until, .. } = *range;
        if let Some(own) = self.own.get_mut(&log)
            && own.hear(run, until, is_signed)
        {
            let (topic, run) = (&own.topic, run.short());
            tracing::error!(
                %topic, run, %until, is_signed,
                "another process writes the run that this one writes: was a machine resumed from a snapshot, or \
                 cloned? This one goes on in a run of its own"
            );
        }
    }

    /// The runs that are written here, each with the one that it goes on from.
    #[cfg(feature = "planted")]
    pub fn open_runs(&self) -> std::collections::BTreeMap<RunId, RunId> {
        self.own.values().filter_map(|own| own.open_run()).collect()
    }

    /// Draws the name of a new run of one of our logs: none that is known here, whatever the machine's random bits are worth.
    pub(super) fn draw_run(
        entropy: &mut dyn FnMut() -> u64,
        parent: RunId,
        first: Seq,
        is_known: impl Fn(RunId) -> bool,
    ) -> RunId {
        // One draw in 2^64 is zero, which names no run.
        let mut drawn =
            std::iter::repeat_with(entropy).map(|drawn| RunId::of(drawn, parent, first)).take(DRAWS_MAX);
        let run = drawn.find(|run| run.is_some() && !is_known(*run));
        run.expect("the operating system draws other bits each time")
    }
}

/// Draws in which a run is found that is not known, unless the random bits are none.
const DRAWS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_known_is_not_drawn_again() {
        let mut bits = [7, 7, 9].into_iter();
        let mut entropy = || bits.next().unwrap_or(0);
        let of = |drawn| RunId::of(drawn, RunId(3), Seq(5));
        let drawn = Node::draw_run(&mut entropy, RunId(3), Seq(5), |run| run == of(7));
        assert_eq!(drawn, of(9));
    }

    #[test]
    fn machines_that_draw_the_same_bits_name_runs_alike_that_begin_alike_and_no_others() {
        let draw = |parent, first| Node::draw_run(&mut || 7, RunId(parent), Seq(first), |_| false);
        assert_eq!(draw(3, 5), draw(3, 5));
        assert_ne!(draw(3, 5), draw(3, 6));
        assert_ne!(draw(3, 5), draw(4, 5));
    }
}
