//! Bugs put in on purpose, so that the simulator can show that it finds what it is for.
//!
//! Only a build with the feature `planted` has them, which is the simulator's, and there only threads that asked for one.
//! In every other build [`is`] is false before anything is compiled that depends on it.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Others are told that entries are held before they are on the disk.
    HaveBeforeDurable,
    /// A start goes on in the run that it found.
    RunGoesOnAfterRestart,
    /// Whoever says so trims a log: the signature of its peer is not looked at.
    TrimsUnsigned,
    /// The clock decides what cannot be undone, however far it jumped.
    ClockAlwaysTrusted,
    /// What other peers say of the time is not heeded.
    ClocksOfOthersUnheard,
    /// A batch is stored though its entries are not those that were signed.
    EntriesUnchecked,
    /// A batch is stored though its peer did not sign it.
    SignatureUnchecked,
    /// What was found damaged still counts as held.
    DamageStillHeld,
    /// A full disk takes no trims either.
    FullDiskTakesNoTrims,
    /// Comparing peers count logs and do not look at what they hold.
    DigestsAlwaysEqual,
    /// What was declared lost is not passed on.
    LostUntold,
    /// What was asked of a store is never asked of another.
    LeasesNeverExpire,
    /// Places that a cursor names in logs that are not known here are forgotten.
    CursorForgetsUnknownLogs,
    /// Who reads from a time begins in the first run that was heard of, whatever goes on from what.
    SeeksAsHeard,
    /// Steps are written however much waits to be brought into segments.
    NothingWaitsForFlushes,
    /// What others send is taken however much of it is not on the disk yet.
    TakesWithoutRoom,
    /// Whatever another store says it holds is remembered.
    OffersWithoutBound,
    /// What opening found at the journal's end, and is perhaps not on the disk, is taken as it is.
    TailNotRewritten,
    /// A bad record of the journal is where it was torn, whatever later ones say of what was synced.
    RotTakenForTear,
    /// A peer goes on in a run that it hears another process writes.
    RunsAreNeverLeft,
    /// What a peer writes after it was removed is taken all the same.
    RemovedStillCounts,
    /// What peers compare of a run are its numbers alone, and not what it holds under them.
    ForksUnseen,
    /// A reader whose connection is lost begins again where it first began.
    FailsOverToTheStart,
    /// A reader whose connection is lost goes on with what is appended from then on.
    FailsOverPastTheRest,
    /// The gossip ends with the first message for a peer that is lost.
    GossipEndsWithALostPeer,
    /// Who asks for an entry that is not here yet is told that it is lost for good.
    MissingIsCalledLost,
    /// A topic that keeps so many of its newest entries keeps one less.
    KeepsTooFew,
    /// What a store said that it holds counts as a copy after the store is gone.
    HavesOutliveTheirStore,
    /// Settings that were replaced still count, if their time is later.
    ReplacedStillCounts,
    /// Who reads from now on begins at the first entry of each log that is heard of later.
    NowIsForgotten,
    /// A deletion that names numbers far ahead deletes what is written under them later.
    DeletionsReachAhead,
    /// A reader that trims overtook is told of one entry more than was trimmed, and passes over it.
    GapTooWide,
    /// Appends are taken however many bytes of others wait for their answers.
    AppendsWithoutRoom,
    /// What is told of many logs goes into one message, however long.
    TellsAllAtOnce,
    /// Who appends is not told that an entry may be there twice.
    DoublesUntold,
    /// A store tells others of what its own peer wrote, and of nothing else that it holds.
    RelaysKeepToThemselves,
    /// What was acknowledged in a group is not found again after a start.
    AcksForgotten,
    /// A group passes over some entries when it reads.
    GroupsSkipEntries,
}

#[cfg(feature = "planted")]
mod planting {
    use super::Bug;
    use crate::base::RunId;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        static RESUMED: RefCell<BTreeMap<RunId, RunId>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// What starts on this thread from now on goes on in these runs where it finds them, as a machine does that is resumed
    /// from a snapshot in the middle of them; each with the run that it goes on from.
    pub fn resume(runs: BTreeMap<RunId, RunId>) {
        RESUMED.set(runs);
    }

    /// The run that `run` goes on from, where a start goes on in it.
    pub fn resumed(run: RunId) -> Option<RunId> {
        RESUMED.with_borrow(|runs| runs.get(&run).copied())
    }

    /// From now on this thread has `bug`, or none.
    pub fn put_in(bug: Option<Bug>) {
        BUG.set(bug);
    }

    /// Whether this thread has `bug`.
    pub fn is(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use planting::{is, put_in, resume, resumed};

/// Whether this thread has `bug`: never.
#[cfg(not(feature = "planted"))]
pub const fn is(_: Bug) -> bool {
    false
}

/// The run that `run` goes on from, where a start goes on in it: none does.
#[cfg(not(feature = "planted"))]
pub const fn resumed(_: crate::base::RunId) -> Option<crate::base::RunId> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_planted_where_nobody_asked_for_it() {
        assert!(!is(Bug::TrimsUnsigned));
    }
}
