//! The handle: what adapters may ask of a peer. Cheap to clone; calls may be dropped at any time.
use crate::base::bytes_io::Reader;
use crate::base::chunk::ChunkHeader;
use crate::base::limits::FORKS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{
    Chunk, Durability, EntryId, EntryRef, PeerId, RunId, StoreNonce, Timestamp, TopicId, TopicName,
};
use crate::disk::Lane;
use crate::log;
use crate::log::store::{Log, Store};
use crate::runtime::core::Request;
use crate::runtime::groups::Door;
use crate::runtime::import::Importing;
use crate::runtime::lookup;
use crate::runtime::reader::TopicReader;
use crate::runtime::shared::{Shared, lock};
use crate::runtime::step_times::StepTimes;
use crate::wire::outcome::{
    About, AppendError, Appended, AppendsState, ForkInfo, LogInfo, ReadError, ReadFrom, Status, TopicChange,
    TopicChanged, TopicError, TopicInfo,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bytes that one unit of room stands for.
const ROOM_UNIT_BYTES: usize = 256;

/// An entry that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub id: EntryId,
    /// The run that was signed: that of its name, or the one that this is a branch of.
    pub signed_run: RunId,
    /// Its time.
    pub time: Timestamp,
    /// Its raw bytes.
    pub raw: Bytes,
}

/// What an append waits with: resolves when the entries are as durable as was asked.
/// Dropping it does not take the append back.
#[derive(Debug)]
pub struct AppendTicket(oneshot::Receiver<Result<Appended, AppendError>>);

impl Future for AppendTicket {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(gone())))
    }
}

fn gone() -> AppendError {
    AppendError::Stopped { reason: "it was stopped".to_owned() }
}

/// What adapters may ask of a peer.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) room: Arc<Room>,
    pub(super) importing: Arc<Importing>,
    pub(super) groups: Arc<Door>,
}

/// Memory for appends and imports that wait for the disk, over all clients.
pub(super) struct Room {
    free: Arc<Semaphore>,
    units: usize,
    /// What large ones may take of it together: the rest stays for the small, which never wait behind them.
    large: Arc<Semaphore>,
    large_units: usize,
}

/// Room that was taken, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken(#[expect(dead_code, reason = "held")] [Option<OwnedSemaphorePermit>; 2]);

/// Bytes from which on an append counts as large for this.
const LARGE_COST_BYTES: usize = 1 << 20;

impl Room {
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = if planted::is(Bug::AppendsWithoutRoom) { 64 * bytes_max } else { bytes_max };
        let units = (bytes_max / ROOM_UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let large_units = (units / 4 * 3).max(1);
        let (free, large) = (Arc::new(Semaphore::new(units)), Arc::new(Semaphore::new(large_units)));
        Self { free, units, large, large_units }
    }

    /// Waits until there is room for `cost_bytes`. What needs more than there is at all waits until it is alone.
    pub(super) async fn take(&self, cost_bytes: usize) -> Result<Taken, AcquireError> {
        let units = cost_bytes.div_ceil(ROOM_UNIT_BYTES);
        let large = match cost_bytes >= LARGE_COST_BYTES {
            true => {
                let units = units.min(self.large_units) as u32;
                Some(self.large.clone().acquire_many_owned(units).await?)
            }
            false => None,
        };
        let all = self.free.clone().acquire_many_owned(units.min(self.units) as u32).await?;
        Ok(Taken([large, Some(all)]))
    }

    fn taken_bytes(&self) -> usize {
        (self.units - self.free.available_permits()) * ROOM_UNIT_BYTES
    }
}

/// Whether appends are taken, and the room that the disk has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether appends are taken, or why not.
    pub appends: AppendsState,
    /// Free bytes.
    pub disk_free_bytes: u64,
    /// Free bytes below which no appends are taken.
    pub disk_reserve_bytes: u64,
}

impl Handle {
    /// Who this peer is.
    pub fn about(&self) -> &About {
        &self.shared.about
    }

    /// What makes this store's name of the peer's key.
    pub fn store_nonce(&self) -> StoreNonce {
        self.shared.nonce
    }

    /// What it holds: for counters, and for tools that look at files.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// Whether appends are taken, and the room that the disk has. It costs nothing.
    pub fn readiness(&self) -> Readiness {
        let live = lock(&self.shared.live);
        let (disk_free_bytes, disk_reserve_bytes) = (live.free_bytes, self.shared.reserve_bytes);
        Readiness { appends: live.appends.clone(), disk_free_bytes, disk_reserve_bytes }
    }

    /// How it is doing, summed over all logs, once. Open connections are not known here.
    pub fn status(&self) -> Status {
        let Readiness { appends, disk_free_bytes, disk_reserve_bytes } = self.readiness();
        let logs = self.shared.store.logs();
        let (mut stored_bytes, mut damaged_count, mut fork_count, mut held) = (0, 0, 0, BTreeSet::new());
        for log in &logs {
            let state = log.look();
            stored_bytes += state.stored_bytes();
            damaged_count += state.damaged_not_lost().len() as u64;
            fork_count += state.forks.len() as u64;
            if state.start < state.until() {
                held.insert(log.id.topic);
            }
        }
        let names = self.topic_names();
        let (clock, unset): (_, Vec<&TopicName>) = {
            let live = lock(&self.shared.live);
            (live.clock, names.iter().filter(|name| !live.configured.contains_key(*name)).collect())
        };
        let unknown = unset.iter().filter(|name| !held.contains(&self.topic_id(name)));
        Status {
            unix_ms: self.shared.env.clock.unix_ms(),
            about: self.shared.about.clone(),
            started_unix_ms: self.shared.started_unix_ms,
            topic_count: (names.len() - unknown.count()) as u64,
            log_count: logs.len() as u64,
            stored_bytes,
            disk_free_bytes,
            disk_reserve_bytes,
            appends,
            clock,
            damaged_count,
            fork_count,
            connection_count: 0,
            topic_defaults: self.shared.defaults,
        }
    }

    /// Topics that hold entries or were made, ours left out, in order of their names.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.topic_names().iter().filter_map(|name| self.topic(name)).collect()
    }

    /// The names of topics that were ever heard of, ours left out, in order.
    fn topic_names(&self) -> Vec<TopicName> {
        let mut names: Vec<TopicName> =
            self.shared.store.topics().into_iter().map(|(_, name)| name).collect();
        names.extend(lock(&self.shared.live).configured.keys().cloned());
        names.retain(|name| !name.is_system());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn topic_id(&self, name: &TopicName) -> TopicId {
        TopicId::of(self.shared.about.cluster, name.as_str())
    }

    /// What is known of a topic; `None` when nobody made it and it holds nothing.
    pub fn topic(&self, name: &TopicName) -> Option<TopicInfo> {
        let configured = lock(&self.shared.live).configured.get(name).copied();
        let logs: Vec<LogInfo> = self
            .shared
            .store
            .logs_of(self.topic_id(name))
            .iter()
            .filter_map(|log| self.log_info(log))
            .collect();
        let holds = logs.iter().any(|log| log.start < log.until);
        (configured.is_some() || holds).then(|| TopicInfo {
            name: name.clone(),
            settings: configured.unwrap_or(self.shared.defaults),
            is_configured: configured.is_some(),
            logs,
        })
    }

    fn log_info(&self, log: &Log) -> Option<LogInfo> {
        let state = log.look();
        let tip = state.tip()?;
        let damaged: Vec<_> =
            state.damaged_not_lost().iter().map(|range| (range.run, range.from, range.until)).collect();
        let lost: Vec<_> = state.lost.iter().map(|(lost, _)| (lost.run, lost.from, lost.until)).collect();
        Some(LogInfo {
            peer: log.id.peer,
            name: self.shared.name_of(&log.id.peer),
            run: tip.id,
            run_count: state.runs.len() as u32,
            start: state.start,
            until: tip.until,
            stored_bytes: state.stored_bytes(),
            last_time: tip.last_time,
            damaged_count: damaged.len() as u64,
            lost_count: lost.len() as u64,
            damaged,
            lost,
            forks: state.forks.iter().take(2 * FORKS_MAX).map(ForkInfo::from).collect(),
        })
    }

    /// What people call a peer whose entries are held here.
    pub fn peer_name(&self, peer: &PeerId) -> Option<crate::base::PeerName> {
        self.shared.name_of(peer)
    }

    /// The certificate of a peer whose entries are held here, DER.
    pub fn certificate(&self, peer: &PeerId) -> Option<Arc<[u8]>> {
        self.shared.store.certificate(peer)
    }

    /// The same, which does not keep tasks of groups alive.
    pub(super) fn without_groups(&self) -> Self {
        Self { groups: Arc::default(), ..self.clone() }
    }

    /// Appends a chunk; resolves when its entries are as durable as was asked.
    pub async fn append(
        &self,
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
    ) -> Result<Appended, AppendError> {
        self.submit(topic, durability, chunk).await?.await
    }

    /// Waits until there is room, then queues a chunk. Chunks are numbered in the order of these calls.
    pub async fn submit(
        &self,
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
    ) -> Result<AppendTicket, AppendError> {
        let room = self.room.take(chunk.cost_bytes()).await.map_err(|_| gone())?;
        self.queue(topic, durability, chunk, room).await
    }

    /// The same with a chunk as it came: it is unpacked and checked only once there is room for what comes out.
    pub async fn submit_bytes(
        &self,
        topic: TopicName,
        durability: Option<Durability>,
        bytes: Bytes,
    ) -> Result<AppendTicket, AppendError> {
        let header = ChunkHeader::parse(&mut Reader::new(&bytes))?;
        let room = self.room.take(header.cost_bytes()).await.map_err(|_| gone())?;
        self.queue(topic, durability, Chunk::parse(bytes)?, room).await
    }

    async fn queue(
        &self,
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
        room: Taken,
    ) -> Result<AppendTicket, AppendError> {
        let (reply, answered) = oneshot::channel();
        let request = Request::Append { topic, durability, chunk, reply, room };
        self.requests.send(request).await.map_err(|_| gone())?;
        Ok(AppendTicket(answered))
    }

    /// Memory of the appends and imports that were taken and are not answered yet, as [`Chunk::cost_bytes`] counts it.
    pub fn in_flight_bytes(&self) -> usize {
        self.room.taken_bytes()
    }

    /// Appends that are durable here and wait for other peers to hold them, as of the last second.
    pub fn awaiting_count(&self) -> u64 {
        lock(&self.shared.live).awaiting_count
    }

    /// How long the steps took that were written since the start, and each part of them.
    pub fn steps(&self) -> StepTimes {
        self.shared.steps.read()
    }

    /// Rounds of the scrub that were completed, and when the last one was, in Unix seconds; 0 when there was none.
    pub fn scrub_rounds(&self) -> (u64, u64) {
        self.shared.scrubs.totals()
    }

    /// Makes, sets or deletes a topic; resolves when the change is durable.
    pub async fn change_topic(&self, change: TopicChange) -> Result<TopicChanged, TopicError> {
        let stopped = || TopicError::Stopped { reason: "it was stopped".to_owned() };
        let deleted = match &change {
            TopicChange::Delete { topic } => Some(topic.clone()),
            _ => None,
        };
        let (reply, answered) = oneshot::channel();
        self.requests.send(Request::Change { change, reply }).await.map_err(|_| stopped())?;
        let changed = answered.await.unwrap_or_else(|_| Err(stopped()))?;
        if let Some(topic) = deleted {
            self.delete_groups(&topic).await;
        }
        Ok(changed)
    }

    /// Begins to read a topic. With `skip_damaged` what is damaged here is told as a gap and passed over. A topic that is
    /// not known here reads as empty: whoever wants that to be an error asks [`Self::topic`] first.
    pub async fn reader(
        &self,
        topic: &TopicName,
        from: ReadFrom,
        skip_damaged: bool,
    ) -> Result<TopicReader, ReadError> {
        let (shared, id) = (self.shared.clone(), TopicId::of(self.shared.about.cluster, topic.as_str()));
        let watch = shared.watches.watch(id);
        let open = move || {
            let start = lookup::start(&shared, id, from)?;
            let (store, cluster) = (shared.store.clone(), shared.about.cluster);
            let reader = log::TopicReader::open(store, cluster, id, start, skip_damaged);
            reader.map_err(lookup::io_error)
        };
        let inner = self.in_lane(Lane::Read, open).await??;
        Ok(TopicReader::new(self.shared.clone(), inner, watch))
    }

    /// One entry by its id.
    pub async fn get(&self, id: &EntryRef) -> Result<Found, ReadError> {
        let (shared, id) = (self.shared.clone(), id.clone());
        self.in_lane(Lane::Read, move || lookup::get(&shared, &id)).await?
    }

    /// Says that this peer's clock is right as it is.
    pub async fn accept_clock(&self) {
        // A peer that has stopped has no clock to accept.
        let _ = self.requests.send(Request::AcceptClock).await;
    }

    /// Stops cleanly: what was accepted is made durable and answered, later appends are refused.
    pub async fn shutdown(&self) {
        self.rest_groups().await;
        let (reply, answered) = oneshot::channel();
        if self.requests.send(Request::Stop { reply }).await.is_ok() {
            // A core that ended by itself has stopped too.
            let _ = answered.await;
        }
    }

    /// Resolves with the reason when the peer can go on no longer: the disk failed.
    pub async fn failed(&self) -> String {
        self.shared.stopped.find(Option::clone).await
    }
}
