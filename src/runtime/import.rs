//! Taking over batches that were signed elsewhere or earlier: checked here, then queued like appends.
//!
//! Several may be under way at once, and are stored in the order in which they were handed in. One batch is never under
//! way twice: whoever brings it again, after a lost connection say, waits for the first and is told that it is held.
use crate::base::{Batch, LogId, PeerName, RunId, Seq, Statement, TopicId, TopicName};
use crate::disk::Lane;
use crate::identity::sign::verify_with;
use crate::log::state::LogState;
use crate::node::Looked;
use crate::runtime::core::Request;
use crate::runtime::forks::{Verdict, judge};
use crate::runtime::handle::Handle;
use crate::runtime::handle::Taken;
use crate::runtime::shared::lock;
use crate::wire::outcome::{AppendsState, ImportError, Imported};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};

/// What an import waits with: resolves to what became of the batch, when that is durable.
/// Dropping it does not take the import back.
#[derive(Debug)]
pub struct ImportTicket(Wait);

#[derive(Debug)]
enum Wait {
    Known(Imported),
    Asked(oneshot::Receiver<Result<(), ImportError>>),
}

impl Future for ImportTicket {
    type Output = Result<Imported, ImportError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Wait::Known(outcome) => Poll::Ready(Ok(*outcome)),
            Wait::Asked(answered) => Pin::new(answered).poll(context).map(|answer| match answer {
                Ok(taken) => taken.map(|()| Imported::New),
                Err(_) => Err(ImportError::Stopped),
            }),
        }
    }
}

/// The first entry of a batch, which no other batch of its run has.
type Key = (LogId, RunId, Seq);

/// Batches under way.
#[derive(Debug, Default)]
pub(super) struct Importing {
    keys: Mutex<BTreeSet<Key>>,
    ended: Notify,
}

/// One batch under way: the room it takes, and its place among those that may not come twice.
#[derive(Debug)]
pub(super) struct UnderWay {
    importing: Arc<Importing>,
    key: Key,
    _room: Taken,
}

impl Importing {
    /// Waits until the batch is not under way, and says that it is.
    async fn begin(self: &Arc<Self>, batch: &Batch, room: Taken) -> Box<UnderWay> {
        let statement = batch.statement();
        let key = (statement.log, statement.run, statement.first_seq);
        loop {
            let ended = self.ended.notified();
            if lock(&self.keys).insert(key) {
                return Box::new(UnderWay { importing: self.clone(), key, _room: room });
            }
            ended.await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.importing.keys).remove(&self.key);
        self.importing.ended.notify_waiters();
    }
}

impl Handle {
    /// Takes over a batch that was signed by a peer of this cluster, and says what became of it.
    pub async fn import(
        &self,
        certificate: &[u8],
        topic: TopicName,
        batch: Batch,
    ) -> Result<Imported, ImportError> {
        self.submit_import(certificate, topic, batch).await?.await
    }

    /// Checks a batch, waits until there is room, and queues it. Batches are stored in the order in which
    /// these calls resolve: make one after the other where that matters.
    pub async fn submit_import(
        &self,
        certificate: &[u8],
        topic: TopicName,
        batch: Batch,
    ) -> Result<ImportTicket, ImportError> {
        let name = self.check_import(certificate, &topic, &batch)?;
        let log = batch.statement().log;
        let room = self.room.take(batch.cost_bytes()).await.map_err(|_| ImportError::Stopped)?;
        let under_way = self.importing.begin(&batch, room).await;
        if let Some(known) = self.shared.store.log(&log).and_then(|log| known(&log.look(), batch.statement()))
        {
            return Ok(ImportTicket(Wait::Known(known)));
        }
        let looked = self.look_where(&batch).await?;
        lock(&self.shared.names).insert(log.peer, name);
        let certificate = match self.shared.store.certificate(&log.peer) {
            Some(_) => None,
            None => Some(certificate.into()),
        };
        let (reply, answered) = oneshot::channel();
        let request = Request::Import { topic, batch, looked, certificate, reply, under_way };
        self.requests.send(request).await.map_err(|_| ImportError::Stopped)?;
        Ok(ImportTicket(Wait::Asked(answered)))
    }

    /// Compares a batch with what is held of its run; answers what must be known of that.
    async fn look_where(&self, batch: &Batch) -> Result<Looked, ImportError> {
        let (shared, batch) = (self.shared.clone(), batch.clone());
        let (tell, told) = oneshot::channel();
        let step = self.shared.durable.load(Ordering::Acquire);
        // Whoever gave up waiting is not told.
        let job = move || {
            let _ = tell.send(judge(&shared.store, &batch));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
        match told.await.map_err(|_| ImportError::Stopped)? {
            Verdict::Good { is_placed } => Ok(Looked { is_placed, step }),
            Verdict::Bad => Err(ImportError::Signature),
            Verdict::Misplaced | Verdict::Differs(_) => Err(ImportError::Forked),
        }
    }

    /// Whether a batch may be taken now, and is what a peer of this cluster signed.
    fn check_import(
        &self,
        certificate: &[u8],
        topic: &TopicName,
        batch: &Batch,
    ) -> Result<PeerName, ImportError> {
        let (about, log) = (&self.shared.about, batch.statement().log);
        {
            let live = lock(&self.shared.live);
            let (free_bytes, reserve_bytes) = (live.free_bytes, self.shared.reserve_bytes);
            match live.appends {
                AppendsState::Open => {}
                AppendsState::DiskFull => return Err(ImportError::DiskFull { free_bytes, reserve_bytes }),
                AppendsState::Stopped { .. } => return Err(ImportError::Stopped),
            }
        }
        let trust = &*self.shared.trust;
        let (peer, name) = trust.peer_of(certificate).map_err(|_| ImportError::Certificate)?;
        if peer != log.peer {
            return Err(ImportError::Certificate);
        }
        if TopicId::of(about.cluster, topic.as_str()) != log.topic {
            return Err(ImportError::Topic);
        }
        let is_good = verify_with(trust, batch.statement(), batch.signature())
            && batch.check_body().is_ok()
            && batch.check_entries().is_ok();
        if is_good { Ok(name) } else { Err(ImportError::Signature) }
    }
}

/// What can be said of a batch without asking the engine.
fn known(state: &LogState, s: &Statement) -> Option<Imported> {
    // What is trimmed may still lie on the disk for a while: nobody reads it there.
    if state.run(s.run).is_some_and(|run| s.until() <= state.begin_of(run)) {
        return Some(Imported::Trimmed);
    }
    state.holds(s).then_some(Imported::Held)
}
