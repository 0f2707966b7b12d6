//! Bugs put in on purpose, to show that the simulation finds what it is for. Some are played by the disk below the code under
//! test, by the random bits it is given, or by whoever reads; others are in it, and most of those have stories of their own.
use crate::cluster::{Cluster, Setup, ways::Ways};
use crate::storage::planted;
use conveyor::base::planted::Bug;
use std::sync::Arc;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Appends are acknowledged before the journal is synced.
    AckBeforeSync,
    /// A copied directory draws the same runs as the one it was copied from.
    SameRuns,
    /// A reader's cursor does not move.
    CursorStandsStill,
    /// Peers do not bring each other what they lack: the network stays cut.
    NeverHeals,
    /// Whoever is told of entries is heard to hold them at once.
    ForgedCopies,
    /// One of the code under test.
    Code(Bug),
}

/// All of them.
pub const PLANTS: [Plant; 9] = [
    Plant::AckBeforeSync,
    Plant::SameRuns,
    Plant::CursorStandsStill,
    Plant::NeverHeals,
    Plant::ForgedCopies,
    Plant::Code(Bug::HaveBeforeDurable),
    Plant::Code(Bug::RelaysKeepToThemselves),
    Plant::Code(Bug::ClockAlwaysTrusted),
    Plant::Code(Bug::KeepsTooFew),
];

impl Plant {
    /// Changes what kind of run it is.
    pub fn prepare(self, setup: &mut Setup) {
        if matches!(self, Self::NeverHeals | Self::ForgedCopies) {
            setup.converges = true;
            setup.peer_count = setup.peer_count.max(2);
        }
        if let Self::Code(bug) = self {
            (setup.bug, setup.peer_count) = (Some(bug), setup.peer_count.max(2));
        }
    }

    /// The promises of which it must break one.
    pub fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::AckBeforeSync => &["P1", "P2"],
            Self::SameRuns => &["P2"],
            Self::CursorStandsStill => &["P5"],
            Self::NeverHeals => &["P1", "P4"],
            Self::ForgedCopies | Self::Code(Bug::HaveBeforeDurable) => &["P3"],
            Self::Code(Bug::RelaysKeepToThemselves) => &["P1", "P4"],
            Self::Code(_) => &["P1", "P5", "P7"],
        }
    }

    /// Puts it in.
    pub fn put_in(self, cluster: &Arc<Cluster>) {
        for site in 0..cluster.site_count() {
            cluster.with_site(site, |site| {
                site.plant = (self == Self::AckBeforeSync).then_some(planted::Plant::AckBeforeSync);
                site.draws_again = self == Self::SameRuns;
            });
        }
        cluster.network.forge_copies(self == Self::ForgedCopies);
        if self == Self::NeverHeals {
            let count = cluster.site_count();
            let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
            Ways { kind: "cut for good", closed: pairs.collect(), closed_ms: u64::MAX >> 20 }.close(cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::swarm::run_planted;

    /// Seeds in which each bug is found at the latest.
    const SEEDS_MAX: u64 = 60;

    #[test]
    fn every_planted_bug_is_found_by_one_of_the_first_seeds() {
        for plant in PLANTS {
            let is_found = |seed: &u64| {
                let failure = run_planted(*seed, plant).failure.unwrap_or_default();
                plant.breaks().iter().any(|promise| failure.contains(&format!("{promise}:")))
            };
            let found = (0..SEEDS_MAX).find(is_found);
            assert!(found.is_some(), "{plant:?} is not found by {SEEDS_MAX} seeds");
            println!("{plant:?}: found by seed {found:?}");
        }
    }
}
