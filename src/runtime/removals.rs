//! Removing a peer for good: what is held of it, the request, and the ends of its logs.
use crate::base::removal::RUN_ENDS_MAX;
use crate::base::{Batch, Digest, LogId, PeerId, Remains, RunEnds, RunId, Seq, SignedRemoval, Timestamp};
use crate::identity::trust::is_signed_removal;
use crate::log::read::{self, Found};
use crate::log::set_aside::Changed;
use crate::log::state::Range;
use crate::log::store::{Log, Store};
use crate::runtime::core::Request;
use crate::runtime::handle::Handle;
use crate::runtime::shared::{Shared, lock};
use crate::wire::outcome::{Aside, HeldOf, ReadError, RemoveError, TopicChanged, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

/// Bytes of batches that are read at once of what is set aside.
const ASIDE_BYTES: usize = 1 << 20;

/// A removal that counts here.
#[derive(Debug, Clone)]
pub(super) struct KnownRemoval {
    pub(super) signed: Arc<SignedRemoval>,
    pub(super) since: Instant,
}

/// Takes note of removals for whoever asks: of several of one peer the newest.
pub(super) fn note(shared: &Shared, signed: &SignedRemoval) {
    let removed = &mut lock(&shared.live).removed;
    let known = removed.get(&signed.removal.peer);
    if known.is_none_or(|known| known.signed.removal.said() < signed.removal.said()) {
        let since = known.map_or_else(Instant::now, |known| known.since);
        removed.insert(signed.removal.peer, KnownRemoval { signed: Arc::new(signed.clone()), since });
    }
}

impl Handle {
    /// Where the runs of a peer end here, in all topics, with what is set aside of them: what its removal is to leave is what
    /// the holders that can be reached have of them together.
    pub fn run_ends(&self, peer: PeerId) -> RunEnds {
        let mut ends = RunEnds::new();
        for log in self.store().logs().iter().filter(|log| log.id.peer == peer) {
            let runs = log.look();
            ends.extend(runs.runs.iter().map(|run| ((log.id.topic, run.id), runs.whole(run).until)));
        }
        ends
    }

    /// Removes a peer for good, as an administrator signed; resolves when that is durable here. Others hear of it as of any
    /// entry.
    pub async fn remove_peer(&self, signed: SignedRemoval) -> Result<TopicChanged, RemoveError> {
        if signed.removal.ends.len() > RUN_ENDS_MAX {
            return Err(RemoveError::TooMany { count: signed.removal.ends.len() as u64 });
        }
        if !is_signed_removal(&*self.shared.trust, self.shared.about.cluster, &signed) {
            return Err(RemoveError::Unsigned);
        }
        if signed.removal.peer == self.shared.about.peer {
            return Err(RemoveError::Itself);
        }
        let stopped = || TopicError::Stopped { reason: "it was stopped".to_owned() };
        let (reply, answered) = oneshot::channel();
        let request = Request::Remove { removal: Box::new(signed), reply };
        self.requests.send(request).await.map_err(|_| stopped())?;
        Ok(answered.await.unwrap_or_else(|_| Err(stopped()))?)
    }

    /// The newest removal of a peer that is known here, and how long it has been, in this start.
    pub fn removal_of(&self, peer: &PeerId) -> Option<(Arc<SignedRemoval>, Duration)> {
        let live = lock(&self.shared.live);
        live.removed.get(peer).map(|known| (known.signed.clone(), known.since.elapsed()))
    }

    /// Takes in a removal that another peer passed on, as far as an administrator signed it. This is how a peer that nobody
    /// speaks to any more hears of its own.
    pub async fn hear_removal(&self, signed: SignedRemoval) {
        if !is_signed_removal(&*self.shared.trust, self.shared.about.cluster, &signed) {
            let (peer, by) = (signed.removal.peer, signed.removal.signer);
            tracing::warn!(%peer, %by, "a removal that another peer told of is not signed by an administrator, and counts for nothing");
            return;
        }
        // A peer that has stopped hears nothing.
        let _ = self.requests.send(Request::Heard { removal: Box::new(signed) }).await;
    }

    /// What is held here of the logs of a peer, whole.
    pub fn held_of(&self, peer: PeerId) -> HeldOf {
        let ends = self.run_ends(peer).into_iter().map(|((topic, run), end)| (topic, run, end)).collect();
        let of_peer = self.set_aside().into_iter().filter(|(log, _)| log.peer == peer);
        let counts = of_peer.flat_map(|(_, ranges)| ranges).map(|range| range.until.since(range.from));
        HeldOf { is_removed: self.removal_of(&peer).is_some(), aside_count: counts.sum(), ends }
    }

    /// The same as [`Self::set_aside`], named.
    pub fn asides(&self) -> Vec<Aside> {
        let named = |(log, ranges): (LogId, Vec<Range>)| {
            let (topic, name) = (self.store().topic_name(log.topic), self.shared.name_of(&log.peer));
            let named = move |Range { run, from, until }: Range| Aside {
                topic: topic.clone(),
                peer: log.peer,
                name: name.clone(),
                run,
                from,
                until,
            };
            ranges.into_iter().map(named)
        };
        self.set_aside().into_iter().flat_map(named).collect()
    }

    /// Batches of a log that are set aside, from the one that holds `seq` on; none where they cannot be read.
    pub async fn read_aside(&self, log: LogId, run: RunId, seq: Seq) -> Result<Vec<Batch>, ReadError> {
        let store = self.store().clone();
        let read = move || {
            let Some(log) = store.log(&log) else { return Vec::new() };
            match read::read_aside(&store, &log, run, seq, ASIDE_BYTES) {
                Ok(Found::Batches(batches)) => batches,
                // Damage that nobody else is asked to mend.
                _ => Vec::new(),
            }
        };
        self.in_lane(crate::disk::Lane::Read, read).await
    }

    /// What is on this disk of logs whose peers were removed, beyond what their removal leaves.
    pub fn set_aside(&self) -> Vec<(LogId, Vec<Range>)> {
        let of_log = |log: &Arc<Log>| (log.id, log.look().set_aside());
        let logs = self.store().logs();
        logs.iter().map(of_log).filter(|(_, ranges)| !ranges.is_empty()).collect()
    }
}

/// Lets the logs of a removed peer end where its removal says, and answers what that changed.
pub(super) fn leave(store: &Store, peer: PeerId, remains: &Arc<Remains>) -> Vec<(LogId, Changed)> {
    store.note_removed(peer, remains.clone());
    let logs = store.logs();
    let end = |log: &Arc<Log>| {
        let topic = log.id.topic;
        loop {
            let ends = log.look().ends_by(topic, remains);
            let tip = |(run, end): &(RunId, Seq)| Some((*run, tip_at(store, log, *run, *end)?));
            let tips: BTreeMap<_, _> = ends.iter().filter_map(tip).collect();
            let mut state = log.change();
            // What came while that was read changes what is to be read.
            if state.ends_by(topic, remains) == ends {
                return (log.id, state.end_by(topic, remains.clone(), &tips));
            }
        }
    };
    logs.iter().filter(|log| log.id.peer == peer).map(end).collect()
}

/// The time of the entry before `end`, and what a batch behind it would name as `previous`.
fn tip_at(store: &Store, log: &Log, run: RunId, end: Seq) -> Option<(Timestamp, Digest)> {
    let last = Seq(end.0.checked_sub(1)?);
    let Ok(Found::Batches(batches)) = read::read(store, log, run, last, 1, &mut None) else { return None };
    let batch = batches.into_iter().find(|batch| batch.statement().until() == end)?;
    Some((batch.statement().last_time(), batch.link()))
}
