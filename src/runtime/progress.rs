//! How this peer stands to others: what it lacks, what they lack of its own, and why an entry is not here.
use crate::base::name::PeerRef;
use crate::base::{EntryRef, PeerId, StoreId, TopicId};
use crate::log::state::{LogState, Range};
use crate::replication::{Progress, Source};
use crate::runtime::core::Request;
use crate::runtime::handle::Handle;
use crate::runtime::shared::lock;
use crate::wire::outcome::{Alone, AloneIn, Explained, Holder, ReadError, Why};
use crate::wire::peer::RunRange;
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use tokio::time::Duration;

/// What is asked of the core.
pub(super) enum Question {
    Progress(oneshot::Sender<Vec<Progress>>),
    /// Who has an entry that is not here; `named` is its peer, where that is known.
    Sources {
        id: EntryRef,
        topic: TopicId,
        named: Option<PeerId>,
        reply: oneshot::Sender<Vec<Source>>,
    },
    /// Which of our own entries nobody else holds.
    Alone {
        wait_ms: u64,
        reply: oneshot::Sender<Option<Vec<RunRange>>>,
    },
    /// Nothing is to be taken any more.
    Close(oneshot::Sender<()>),
}

/// What others hold and this peer does not, as of the last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// So many entries.
    pub entries: u64,
    /// For how long there have been any.
    pub behind: Option<Duration>,
}

impl Handle {
    async fn question<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answered) = oneshot::channel();
        self.requests.send(Request::Ask(ask(reply))).await.ok()?;
        answered.await.ok()
    }

    /// What others hold and this peer does not. It costs nothing.
    pub fn missing(&self) -> Missing {
        let live = lock(&self.shared.live);
        Missing { entries: live.missing_count, behind: live.behind.map(|since| since.elapsed()) }
    }

    /// How it stands to each other peer that it has a session with; nothing of a peer that has stopped.
    pub async fn progress(&self) -> Vec<Progress> {
        self.question(Question::Progress).await.unwrap_or_default()
    }

    /// Which of this peer's own entries no other peer says to hold, within `wait` for those who are asked. Those of others
    /// that it holds are not looked at.
    pub async fn alone(&self, wait: Duration) -> Alone {
        let wait_ms = wait.as_millis() as u64;
        let Some(ranges) = self.question(|reply| Question::Alone { wait_ms, reply }).await.flatten() else {
            return Alone { is_known: false, topics: vec![] };
        };
        let mut topics: BTreeMap<TopicId, u64> = BTreeMap::new();
        for RunRange { log, from, until, .. } in ranges {
            *topics.entry(log.topic).or_default() += until.since(from);
        }
        let named = |(topic, entries)| AloneIn { topic: self.store().topic_name(topic), entries };
        Alone { is_known: true, topics: topics.into_iter().map(named).collect() }
    }

    /// Takes no appends and no changes any more: what is asked for from now on is refused, as by a peer that stops. What was
    /// taken goes on, and is on the disk when this resolves.
    pub async fn close(&self) {
        // One that has stopped takes nothing anyway.
        let _ = self.question(Question::Close).await;
    }

    /// Whether it takes nothing any more, since it is about to stop.
    pub fn is_closing(&self) -> bool {
        lock(&self.shared.live).is_closing
    }

    /// Why an entry is not here, and who has it.
    pub async fn explain(&self, id: &EntryRef) -> Explained {
        let topic = TopicId::of(self.shared.about.cluster, id.topic.as_str());
        let named = match &id.peer {
            PeerRef::Key(key) => Some(*key),
            PeerRef::Name(name) => {
                let logs = self.store().logs_of(topic);
                let called = |peer: &PeerId| self.shared.name_of(peer).as_ref() == Some(name);
                let mut fits = logs.iter().map(|log| log.id.peer).filter(called);
                fits.next().filter(|_| fits.next().is_none())
            }
        };
        let why = self.why(id, topic, named).await;
        let ask = |reply| Question::Sources { id: id.clone(), topic, named, reply };
        let sources = self.question(ask).await.unwrap_or_default();
        // Whoever asks knows sessions too, and names all by both.
        let holder = |(store, peer): (StoreId, PeerId)| Holder { peer, store, name: None };
        let all = |pick: fn(Source) -> Vec<(StoreId, PeerId)>| {
            let mut all: Vec<_> = sources.iter().cloned().flat_map(pick).collect();
            all.sort_unstable();
            all.dedup();
            all.into_iter().map(holder).collect::<Vec<Holder>>()
        };
        let writer = named.or_else(|| sources.first().map(|source| source.key.0.peer));
        let (offered_by, asked_of) = (all(|source| source.offered_by), all(|source| source.asked_of));
        Explained {
            why,
            writer,
            is_writer_removed: writer.is_some_and(|peer| self.removal_of(&peer).is_some()),
            offered_by,
            asked_of,
        }
    }

    async fn why(&self, id: &EntryRef, topic: TopicId, named: Option<PeerId>) -> Why {
        if self.is_among(id, topic, named, LogState::set_aside) {
            return Why::SetAside;
        }
        match self.get(id).await {
            Ok(_) => Why::Here,
            Err(ReadError::IdAhead { until, .. }) => Why::Ahead { until },
            Err(ReadError::Damaged { .. })
                if !self.is_among(id, topic, named, |state| state.damaged.clone()) =>
            {
                Why::Hole
            }
            Err(error) => Why::Error(error),
        }
    }

    /// Whether an entry is among some ranges of a log of its topic here.
    fn is_among(
        &self,
        id: &EntryRef,
        topic: TopicId,
        named: Option<PeerId>,
        ranges: impl Fn(&LogState) -> Vec<Range>,
    ) -> bool {
        let is_it = |range: &Range| id.fits_run(range.run) && (range.from..range.until).contains(&id.seq);
        let logs = self.store().logs_of(topic);
        let mut logs = logs.iter().filter(|log| named.is_none_or(|named| named == log.id.peer));
        logs.any(|log| ranges(&log.look()).iter().any(is_it))
    }
}
