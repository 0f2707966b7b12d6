//! How much a store remembers of what others said and sent, to be compared with its bounds: see `bounds.rs`.
use crate::replication::engine::Replication;
use crate::replication::session::Session;

/// Counts of what is remembered, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Memory of batches that were taken and are not durable yet.
    pub taken_bytes: usize,
    /// Sessions.
    pub sessions: usize,
    /// Runs that all sessions together offer.
    pub offered_runs: usize,
    /// Runs that the session with the most offers.
    pub offered_runs_of_one: usize,
    /// Ranges of the run in the most pieces that a session offers.
    pub offered_ranges_of_run: usize,
    /// Names of topics of which nothing is held.
    pub names: usize,
    /// Runs of which nothing is held and it is known what they go on from.
    pub origins: usize,
    /// Runs of which it is remembered how much is asked for at once.
    pub pieces: usize,
    /// Heads of a log, or ranges declared lost, of that which has the most of either.
    pub stated_of_log: usize,
    /// Neighbors of the session that has the most.
    pub neighbors_of_one: usize,
    /// Ranges that are asked for.
    pub wants: usize,
    /// Answers with batches that are open to the session that has the most.
    pub serves_of_one: usize,
    /// Ranges that others said they hold of what waits for copies, of the run and the store with the most.
    pub said_of_one: usize,
    /// Peers of whom the session with the most has what they write from elsewhere.
    pub elsewhere_of_one: usize,
    /// Peers of whom it is known who pushes what they write.
    pub pushers: usize,
    /// Ranges that were told of, and that a push is expected to bring.
    pub told_of: usize,
    /// Pairs of a store and a peer for which it is known whom to tell.
    pub listeners: usize,
}

impl Replication {
    /// How much is remembered of others. Looks at everything: for tests and the simulator.
    pub fn remembered(&self) -> Remembered {
        let most = |of: fn(&Session) -> usize| self.sessions.values().map(of).max().unwrap_or(0);
        let pieces_of =
            |session: &Session| session.offers.values().map(|ranges| ranges.iter().len()).max().unwrap_or(0);
        let (told_of, pushers) = self.relays.counts();
        Remembered {
            elsewhere_of_one: most(|session| session.elsewhere.len()),
            pushers,
            told_of,
            taken_bytes: self.taken_bytes,
            sessions: self.sessions.len(),
            offered_runs: self.sessions.values().map(|session| session.offers.len()).sum(),
            offered_runs_of_one: most(|session| session.offers.len().max(session.ready.len())),
            offered_ranges_of_run: most(pieces_of),
            names: self.names.len(),
            origins: self.parents.len(),
            pieces: self.pieces.len(),
            stated_of_log: self.held.stated_most(),
            neighbors_of_one: most(|session| session.neighbors.len()),
            wants: self.lease_count,
            serves_of_one: self.serving.values().copied().max().unwrap_or(0),
            said_of_one: self.copies.said_most(),
            listeners: self.listeners.len(),
        }
    }
}
