//! The way in: requests of consumers, words of other peers, and the end.
use crate::base::{EntryId, GroupName, PeerId, StoreId, TopicId, TopicName};
use crate::group::io::{Ask, Consumer};
use crate::group::{Input, Ticket};
use crate::runtime::core::Request;
use crate::runtime::groups::{places, task};
use crate::runtime::handle::Handle;
use crate::runtime::shared::lock;
use crate::wire::contents::RawEntry;
use crate::wire::group::{Delivery, GroupAnswer, GroupError, GroupInfo, GroupMessage, GroupRequest};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// What a request brings: its answer, and with leases the entries, in the same order.
pub type Leased = (GroupAnswer, Vec<RawEntry>);

/// What a topic's task is sent.
#[derive(Debug)]
pub(super) enum Mail {
    /// For the engine, as it is.
    Input(Input),
    /// A request, and who waits for its answer.
    Ask { ticket: Ticket, group: GroupName, ask: Ask, reply: Reply },
    /// All groups are wanted.
    List { ticket: Ticket, reply: oneshot::Sender<Vec<GroupInfo>> },
    /// What was read.
    Read(super::readings::Page),
    /// An entry that was to be handed out is not held any more.
    Missing(GroupName, Delivery),
    /// Leases that nobody received.
    Unused(GroupName, Vec<Delivery>),
    /// The peer stops: nothing is leased from now on.
    Rest(oneshot::Sender<()>),
}

pub(super) type Reply = oneshot::Sender<Result<Leased, GroupError>>;

/// How mail gets to a topic's task.
pub(super) type Box_ = mpsc::UnboundedSender<Mail>;

/// The same for those who must not keep the task alive.
pub(super) type Home = mpsc::WeakUnboundedSender<Mail>;

/// Sends mail to a task that may be gone.
pub(super) fn post(home: &Home, mail: Mail) {
    if let Some(task) = home.upgrade() {
        drop(task.send(mail));
    }
}

/// The tasks that run, and who is connected.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Door {
    open: Mutex<Open>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    tasks: BTreeMap<TopicName, Box_>,
    connected: BTreeMap<StoreId, PeerId>,
    is_resting: bool,
}

impl Door {
    fn draw(&self) -> u64 {
        // 0 is nobody.
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn peers(open: &Open) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = open.connected.values().copied().collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The stores of a peer that is connected.
    pub(super) fn stores_of(&self, peer: PeerId) -> Vec<StoreId> {
        let open = lock(&self.open);
        open.connected.iter().filter(|(_, of)| **of == peer).map(|(store, _)| *store).collect()
    }

    /// A session began or ended.
    pub(in crate::runtime) fn connected(&self, store: StoreId, peer: Option<PeerId>) {
        let mut open = lock(&self.open);
        match peer {
            Some(peer) => drop(open.connected.insert(store, peer)),
            None => drop(open.connected.remove(&store)),
        }
        let peers = Self::peers(&open);
        // A task that is gone needs to know nobody.
        open.tasks.values().for_each(|task| drop(task.send(Mail::Input(Input::Peers(peers.clone())))));
    }
}

/// Waits for an answer. One that was not taken when this is dropped is given back: a consumer that left swallows no entry.
struct Waits {
    task: Box_,
    ticket: Ticket,
    group: GroupName,
    answered: Option<oneshot::Receiver<Result<Leased, GroupError>>>,
}

impl Waits {
    async fn answer(mut self) -> Result<Leased, GroupError> {
        let Some(answered) = &mut self.answered else { return Err(GroupError::Stopped) };
        let answer = answered.await.unwrap_or(Err(GroupError::Stopped));
        self.answered = None;
        answer
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Some(mut answered) = self.answered.take() else { return };
        drop(self.task.send(Mail::Input(Input::Gone { ticket: self.ticket })));
        if let Ok(Ok((GroupAnswer::Leased(leases), _))) = answered.try_recv() {
            drop(self.task.send(Mail::Unused(self.group.clone(), leases)));
        }
    }
}

impl Handle {
    /// A number under which leases can be taken that end together, see [`Self::group_left`].
    pub fn group_consumer(&self) -> Consumer {
        self.groups.draw()
    }

    /// Asks something of a group. Dropping the call gives up waiting; an acknowledgement may be written all the same. Leases
    /// taken for `consumer` end with [`Self::group_left`]; those for 0 by their time alone.
    pub async fn group(
        &self,
        topic: &TopicName,
        group: &GroupName,
        consumer: Consumer,
        request: GroupRequest,
    ) -> Result<Leased, GroupError> {
        let ask = places::resolve(self, topic, consumer, request).await?;
        // Of a topic that has no groups nothing is begun, whoever asks for whatever name.
        if !matches!(ask, Ask::Create { .. }) && !self.has_groups(topic) {
            return Err(GroupError::Unknown { topic: topic.clone(), group: group.clone() });
        }
        let task = self.task_of(topic).ok_or(GroupError::Stopped)?;
        let ticket = self.groups.draw();
        let (reply, answered) = oneshot::channel();
        let mail = Mail::Ask { ticket, group: group.clone(), ask, reply };
        task.send(mail).map_err(|_| GroupError::Stopped)?;
        Waits { task, ticket, group: group.clone(), answered: Some(answered) }.answer().await
    }

    /// Whether anything was ever written of groups of a topic, as far as it is held here.
    fn has_groups(&self, topic: &TopicName) -> bool {
        let id = TopicId::of(self.about().cluster, topic.of_groups().as_str());
        !topic.is_system() && !self.store().logs_of(id).is_empty()
    }

    /// All groups of a topic, in order of their names.
    pub async fn groups_of(&self, topic: &TopicName) -> Result<Vec<GroupInfo>, GroupError> {
        if !self.has_groups(topic) {
            return Ok(Vec::new());
        }
        let task = self.task_of(topic).ok_or(GroupError::Stopped)?;
        let (reply, answered) = oneshot::channel();
        let mail = Mail::List { ticket: self.groups.draw(), reply };
        task.send(mail).map_err(|_| GroupError::Stopped)?;
        answered.await.map_err(|_| GroupError::Stopped)
    }

    /// The groups of a topic end with it, as far as this peer knows of them.
    pub(in crate::runtime) async fn delete_groups(&self, topic: &TopicName) {
        if !self.has_groups(topic) {
            return;
        }
        for info in self.groups_of(topic).await.unwrap_or_default() {
            if let Err(error) = self.group(topic, &info.name, 0, GroupRequest::Delete).await {
                tracing::warn!(%error, %topic, group = %info.name, "a group of a deleted topic is not deleted");
            }
        }
    }

    /// What `consumer` has leased of a topic is handed out again.
    pub fn group_left(&self, topic: &TopicName, consumer: Consumer) {
        if let Some(task) = lock(&self.groups.open).tasks.get(topic) {
            drop(task.send(Mail::Input(Input::Left { consumer })));
        }
    }

    /// From now on nothing is leased, and the log says so where anything was: whoever hands out next need not wait. Called
    /// before the peer stops taking appends.
    pub async fn rest_groups(&self) {
        let tasks: Vec<Box_> = {
            let mut open = lock(&self.groups.open);
            open.is_resting = true;
            open.tasks.values().cloned().collect()
        };
        let rest = |task: Box_| {
            let (reply, done) = oneshot::channel();
            task.send(Mail::Rest(reply)).is_ok().then_some(done)
        };
        // All at once, each within its time.
        let resting: Vec<oneshot::Receiver<()>> = tasks.into_iter().filter_map(rest).collect();
        for done in resting {
            drop(done.await);
        }
    }

    /// What another peer says of groups; for topics that have none it is nothing to us.
    pub(in crate::runtime) fn hear_of_groups(&self, from: StoreId, topic: &TopicName, message: GroupMessage) {
        if !self.has_groups(topic) {
            return;
        }
        let Some(from) = lock(&self.groups.open).connected.get(&from).copied() else { return };
        if let Some(task) = self.task_of(topic) {
            drop(task.send(Mail::Input(Input::Heard { from, message })));
        }
    }

    /// Entries of our own log of `$groups/<topic>` before this one are said again behind it, and go.
    pub(super) fn trim_groups(&self, before: EntryId) {
        let (requests, log) = (self.requests.clone(), before.log());
        self.shared.env.spawn.spawn(Box::pin(async move {
            // A peer that has stopped trims nothing.
            let _ = requests.send(Request::TrimGroups(log, before.seq)).await;
        }));
    }

    /// The task of a topic, started when there is none; none once the peer stops.
    fn task_of(&self, topic: &TopicName) -> Option<Box_> {
        let mut open = lock(&self.groups.open);
        if let Some(task) = open.tasks.get(topic).filter(|task| !task.is_closed()) {
            return Some(task.clone());
        }
        if open.is_resting {
            return None;
        }
        let task = task::start(self, topic);
        drop(task.send(Mail::Input(Input::Peers(Door::peers(&open)))));
        open.tasks.insert(topic.clone(), task.clone());
        Some(task)
    }
}
