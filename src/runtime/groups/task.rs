//! The task of one topic's groups: brings the engine what happens, and carries out what it says.
use crate::base::{EntryId, GroupName, Now, TopicId, TopicName};
use crate::group::io::Ask;
use crate::group::{Engine, GroupConfig, Input, Output, Ticket};
use crate::runtime::groups::dead::{Copying, copy, fetch};
use crate::runtime::groups::door::{Box_, Door, Home, Mail, Reply, post};
use crate::runtime::groups::readings::{Page, Readings};
use crate::runtime::groups::stored;
use crate::runtime::handle::Handle;
use crate::wire::contents::RawEntry;
use crate::wire::group::{Delivery, GroupAnswer, GroupError, GroupInfo, Lease};
use crate::wire::outcome::ReadError;
use crate::wire::peer::PeerMessage;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// Raw bytes of entries that were read and are kept until they are handed out; others are read again then.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Writes of `$groups/…` that may wait to be taken in.
const WRITTEN_MAX: usize = 256;
/// Mail taken in between two looks at the clock.
const MAIL_AT_ONCE: usize = 256;
/// How long an entry that another peer leased is waited for.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the last writes may take when the peer stops.
const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// Tickets of requests that the task makes itself: nobody waits for their answers.
const OWN_TICKETS: Ticket = 1 << 63;

/// Entries that were read lately, by id.
#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<EntryId, RawEntry>,
    order: VecDeque<EntryId>,
    bytes: usize,
}

impl Kept {
    fn add(&mut self, raw: RawEntry) {
        let bytes = raw.raw.len();
        if self.entries.contains_key(&raw.id) || bytes > KEPT_BYTES_MAX / 4 {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(raw.id);
        self.entries.insert(raw.id, raw);
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |raw| raw.raw.len());
        }
    }
}

struct Task {
    handle: Handle,
    topic: TopicName,
    engine: Engine,
    started: Instant,
    /// How mail gets here.
    home: Home,
    /// Who is connected.
    door: Weak<Door>,
    appends: mpsc::UnboundedSender<(Ticket, crate::group::GroupWrite)>,
    append_count: usize,
    readings: Readings,
    kept: Kept,
    replies: BTreeMap<Ticket, (GroupName, Reply)>,
    lists: BTreeMap<Ticket, oneshot::Sender<Vec<GroupInfo>>>,
    outputs: Vec<Output>,
    next_own: Ticket,
    resting: Vec<oneshot::Sender<()>>,
}

/// Starts the task of a topic; it ends when nobody can send it mail.
pub(super) fn start(handle: &Handle, topic: &TopicName) -> Box_ {
    let (send, mail) = mpsc::unbounded_channel();
    let (told, written) = mpsc::channel(WRITTEN_MAX);
    // A handle without the way here, so that the peer's last handle ends this.
    let (handle, door) = (handle.without_groups(), Arc::downgrade(&handle.groups));
    stored::tail(&handle, topic, told);
    let (about, home) = (handle.about(), send.downgrade());
    let config = GroupConfig {
        cluster: about.cluster,
        peer: about.peer,
        topic: topic.clone(),
        topic_id: TopicId::of(about.cluster, topic.as_str()),
        drawn: handle.shared.env.entropy.draw(),
        window_count_max: 10_000,
        span_count_max: 1 << 20,
        waiting_count_max: 10_000,
        dispense_wait_ms_max: 1_000,
        group_count_max: 10_000,
    };
    let task = Task {
        engine: Engine::new(config),
        topic: topic.clone(),
        started: Instant::now(),
        appends: stored::appender(&handle, topic, home.clone()),
        home,
        door,
        append_count: 0,
        readings: Readings::default(),
        kept: Kept::default(),
        replies: BTreeMap::new(),
        lists: BTreeMap::new(),
        outputs: Vec::new(),
        next_own: OWN_TICKETS,
        resting: Vec::new(),
        handle: handle.clone(),
    };
    handle.shared.env.spawn.spawn(Box::pin(task.run(mail, written)));
    send
}

impl Task {
    async fn run(mut self, mut mail: mpsc::UnboundedReceiver<Mail>, mut written: mpsc::Receiver<Input>) {
        let mut is_tailed = true;
        loop {
            let wake = self.engine.next_wake(self.now()).map(|ms| self.started + Duration::from_millis(ms));
            let tick = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                input = written.recv(), if is_tailed => match input {
                    Some(input) => self.feed(input),
                    // The log is closed: what waits is answered by the appends that fail.
                    None => is_tailed = false,
                },
                first = mail.recv() => match first {
                    Some(first) => self.take_all(first, &mut mail),
                    None => return,
                },
                () = tick => self.feed(Input::Tick),
            }
            if self.append_count == 0 {
                self.resting.drain(..).for_each(|done| {
                    // It is waited for no longer than a while.
                    let _ = done.send(());
                });
            }
        }
    }

    fn now(&self) -> Now {
        let mono_ms = self.started.elapsed().as_millis() as u64;
        Now { mono_ms, unix_ms: self.handle.shared.env.clock.unix_ms() }
    }

    fn take_all(&mut self, first: Mail, mail: &mut mpsc::UnboundedReceiver<Mail>) {
        self.take(first);
        for _ in 0..MAIL_AT_ONCE {
            match mail.try_recv() {
                Ok(mail) => self.take(mail),
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Input(input) => {
                if let Input::Gone { ticket } = &input {
                    self.replies.remove(ticket);
                    self.lists.remove(ticket);
                }
                self.append_count -=
                    usize::from(matches!(input, Input::Appended { .. } | Input::Copied { .. }));
                self.feed(input);
            }
            Mail::Ask { ticket, group, ask, reply } => {
                self.replies.insert(ticket, (group.clone(), reply));
                self.feed(Input::Asked { ticket, group, ask });
            }
            Mail::List { ticket, reply } => {
                self.lists.insert(ticket, reply);
                self.feed(Input::List { ticket });
            }
            Mail::Read(Page { reading, entries, behind, at_end }) => {
                let (metas, raws): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
                raws.into_iter().for_each(|raw| self.kept.add(raw));
                self.feed(Input::Read { reading, entries: metas, behind, at_end });
            }
            Mail::Missing(group, delivery) => self.ask_oneself(group, Ask::Ack(vec![delivery.lease.id])),
            Mail::Unused(group, deliveries) => self.give_back(group, &deliveries),
            Mail::Rest(done) => {
                self.feed(Input::Rest);
                let home = self.home.clone();
                let (rested, waits) = oneshot::channel();
                self.resting.push(rested);
                self.handle.shared.env.spawn.spawn(Box::pin(async move {
                    let _ = tokio::time::timeout(REST_TIME_MAX, waits).await;
                    drop((done.send(()), home));
                }));
            }
        }
    }

    fn ask_oneself(&mut self, group: GroupName, ask: Ask) {
        self.next_own += 1;
        self.feed(Input::Asked { ticket: self.next_own, group, ask });
    }

    /// Nobody received these: they are as if never handed out.
    fn give_back(&mut self, group: GroupName, deliveries: &[Delivery]) {
        let leases: Vec<Lease> = deliveries.iter().map(|delivery| delivery.lease).collect();
        if !leases.is_empty() {
            self.ask_oneself(group, Ask::Nack { leases, delay_ms: Some(0), counts: false });
        }
    }

    /// Gives the engine an input and carries out what follows from it.
    fn feed(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.engine.handle(self.now(), input, &mut outputs);
        let mut unused = Vec::new();
        for output in outputs.drain(..) {
            match output {
                Output::Answer { ticket, answer } => unused.extend(self.answer(ticket, answer)),
                Output::Listed { ticket, groups } => {
                    // Who does not wait any more needs no list.
                    let _ = self.lists.remove(&ticket).map(|reply| reply.send(groups));
                }
                Output::Append { ticket, write } => {
                    self.append_count += 1;
                    if self.appends.send((ticket, write)).is_err() {
                        self.append_count -= 1;
                    }
                }
                Output::Copy { ticket, id, to, group, why, attempts } => {
                    self.append_count += 1;
                    let known = self.kept.entries.get(&id).cloned();
                    let copying = Copying { ticket, id, to, group, why, attempts };
                    copy(&self.handle, &self.topic, copying, known, self.home.clone());
                }
                Output::Open { reading, from } => {
                    self.readings.open(&self.handle, &self.topic, reading, from, self.home.clone());
                }
                Output::Read { reading, count_max } => self.readings.read(reading, count_max),
                Output::Close { reading } => self.readings.close(reading),
                Output::Trim { before } => self.handle.trim_groups(before),
                Output::Tell { to, message } => {
                    let message = || PeerMessage::Group(self.topic.clone(), Box::new(message.clone()));
                    let stores = self.door.upgrade().map(|door| door.stores_of(to)).unwrap_or_default();
                    stores.into_iter().for_each(|store| self.handle.shared.env.peers.send(store, message()));
                }
            }
        }
        self.outputs = outputs;
        unused.into_iter().for_each(|(group, deliveries)| self.give_back(group, &deliveries));
    }

    /// Answers; what nobody waits for any more is answered back.
    fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<GroupAnswer, GroupError>,
    ) -> Option<(GroupName, Vec<Delivery>)> {
        let (group, reply) = self.replies.remove(&ticket)?;
        let deliveries = match answer {
            Ok(GroupAnswer::Leased(deliveries)) => deliveries,
            other => {
                drop(reply.send(other.map(|answer| (answer, vec![]))));
                return None;
            }
        };
        if reply.is_closed() {
            return Some((group, deliveries));
        }
        let kept = |delivery: &Delivery| self.kept.entries.get(&delivery.lease.id).cloned();
        let found: Vec<Option<RawEntry>> = deliveries.iter().map(kept).collect();
        if found.iter().all(Option::is_some) {
            let entries = found.into_iter().flatten().collect();
            let leased = GroupAnswer::Leased(deliveries.clone());
            return reply.send(Ok((leased, entries))).is_err().then_some((group, deliveries));
        }
        let (handle, topic, home) = (self.handle.clone(), self.topic.clone(), self.home.clone());
        self.handle.shared.env.spawn.spawn(Box::pin(async move {
            deliver(&handle, &topic, &home, group, deliveries.into_iter().zip(found).collect(), reply).await;
        }));
        None
    }
}

/// Reads what is not at hand, and answers.
async fn deliver(
    handle: &Handle,
    topic: &TopicName,
    home: &Home,
    group: GroupName,
    leased: Vec<(Delivery, Option<RawEntry>)>,
    reply: Reply,
) {
    let (mut deliveries, mut entries) = (Vec::new(), Vec::new());
    for (delivery, known) in leased {
        let found = match known {
            Some(raw) => Ok(raw),
            None => await_entry(handle, topic, delivery.lease.id).await,
        };
        match found {
            Ok(raw) => {
                deliveries.push(delivery);
                entries.push(raw);
            }
            Err(ReadError::IdTrimmed { .. } | ReadError::IdLost { .. }) => {
                post(home, Mail::Missing(group.clone(), delivery));
            }
            Err(_) => post(home, Mail::Unused(group.clone(), vec![delivery])),
        }
    }
    let leased = GroupAnswer::Leased(deliveries.clone());
    if reply.send(Ok((leased, entries))).is_err() {
        post(home, Mail::Unused(group, deliveries));
    }
}

/// An entry, which may be on its way here when another peer leased it.
async fn await_entry(handle: &Handle, topic: &TopicName, id: EntryId) -> Result<RawEntry, ReadError> {
    let until = Instant::now() + ARRIVES_WITHIN;
    loop {
        match fetch(handle, topic, id).await {
            Err(ReadError::IdAhead { .. } | ReadError::IdUnknown { .. }) if Instant::now() < until => {
                sleep(LOOK_AGAIN).await;
            }
            found => return found,
        }
    }
}
