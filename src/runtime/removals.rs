//! Removing a peer for good: what is held of it, the request, and the ends of its logs.
use crate::base::removal::RUN_ENDS_MAX;
use crate::base::{Digest, LogId, PeerId, Remains, RunEnds, RunId, Seq, SignedRemoval, Timestamp};
use crate::identity::trust::is_signed_removal;
use crate::log::read::{self, Found};
use crate::log::set_aside::Changed;
use crate::log::state::Range;
use crate::log::store::{Log, Store};
use crate::runtime::core::Request;
use crate::runtime::handle::Handle;
use crate::wire::outcome::{TopicChanged, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a peer is not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// No administrator of this cluster signed it.
    #[error("the removal is not signed by an administrator of this cluster")]
    Unsigned,
    /// It was asked of the peer that it removes, whom nobody hears any more. Ask another.
    #[error("a peer is not removed by asking that peer; ask another")]
    Itself,
    /// It names more runs than fit into one.
    #[error("the removal names {count} runs, the limit is {RUN_ENDS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The peer asked is stopping, was removed itself, or its disk is full.
    #[error(transparent)]
    Refused(#[from] TopicError),
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
            return Err(RemoveError::TooMany { count: signed.removal.ends.len() });
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
        let ends = log.look().ends_by(topic, remains);
        let tips: BTreeMap<_, _> =
            ends.into_iter().filter_map(|(run, end)| Some((run, tip_at(store, log, run, end)?))).collect();
        (log.id, log.change().end_by(topic, remains.clone(), &tips))
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
