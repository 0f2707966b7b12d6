//! The core: one task that feeds the engine, keeps one step in flight, and holds every answer until its step allows it.
use crate::base::{Batch, Chunk, Durability, Now, TopicName};
use crate::log::{StepDone, WriteError, Writer, flush};
use crate::node::{Answer, HeldLog, HeldTopic, Input, Node, Output, Release, Ticket};
use crate::runtime::import::UnderWay;
use crate::runtime::lanes::{Event, Jobs};
use crate::runtime::shared::{Shared, lock};
use crate::wire::outcome::{AppendError, Appended, AppendsState, TopicChange, TopicChanged, TopicError};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// What handles ask of the core.
pub(super) enum Request {
    Append {
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
        room: OwnedSemaphorePermit,
    },
    Change {
        change: TopicChange,
        reply: oneshot::Sender<Result<TopicChanged, TopicError>>,
    },
    Import {
        topic: TopicName,
        batch: Batch,
        certificate: Option<Arc<[u8]>>,
        reply: oneshot::Sender<bool>,
        under_way: Box<UnderWay>,
    },
    AcceptClock,
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// Who waits for an answer.
enum Asker {
    Append(oneshot::Sender<Result<Appended, AppendError>>, OwnedSemaphorePermit),
    Change(oneshot::Sender<Result<TopicChanged, TopicError>>),
    Import(oneshot::Sender<bool>, Box<UnderWay>),
}

/// An answer that waits for its step.
struct Held {
    step: u64,
    asker: Asker,
    answer: Answer,
}

/// Requests taken in between two looks at whether a step can be written.
const REQUESTS_AT_ONCE: usize = 512;
/// Quiet time after which the journal is marked.
const MARK_AFTER: Duration = Duration::from_millis(50);

pub(super) struct Core {
    node: Node,
    jobs: Jobs,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::UnboundedReceiver<Event>,
    /// At home between two steps.
    writer: Option<Box<Writer>>,
    outputs: Vec<Output>,
    askers: BTreeMap<Ticket, Asker>,
    next_ticket: Ticket,
    until_written: VecDeque<Held>,
    until_durable: VecDeque<Held>,
    started: Instant,
    /// Since when a step is being written.
    stepping: Option<Instant>,
    is_flushing: bool,
    checkpoints: usize,
    /// Whether the journal's end is not marked yet, and since when nothing was written.
    unmarked: Option<Instant>,
    stopped: Option<String>,
    stopping: Option<oneshot::Sender<()>>,
}

impl Core {
    pub(super) fn new(
        node: Node,
        writer: Writer,
        jobs: Jobs,
        requests: mpsc::Receiver<Request>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Self {
        let shared = jobs.shared.clone();
        Self {
            node,
            jobs,
            shared,
            requests,
            events,
            writer: Some(Box::new(writer)),
            outputs: Vec::new(),
            askers: BTreeMap::new(),
            next_ticket: 1,
            until_written: VecDeque::new(),
            until_durable: VecDeque::new(),
            started: Instant::now(),
            stepping: None,
            is_flushing: false,
            checkpoints: 0,
            unmarked: None,
            stopped: None,
            stopping: None,
        }
    }

    fn now(&self) -> Now {
        let mono_ms = self.started.elapsed().as_millis() as u64;
        Now { mono_ms, unix_ms: self.shared.env.clock.unix_ms() }
    }

    /// Runs until every handle is gone, or a stop was asked for and done.
    pub(super) async fn run(mut self, rotation: crate::log::writer::Rotation) {
        self.tick();
        self.checkpoint(rotation);
        let mut next_tick = Instant::now() + Duration::from_secs(1);
        loop {
            let wake = self.unmarked.map_or(next_tick, |since| next_tick.min(since + MARK_AFTER));
            tokio::select! { biased;
                Some(event) = self.events.recv() => self.on_event(event),
                request = self.requests.recv(), if self.takes_requests() => match request {
                    Some(request) => self.on_requests(request),
                    None => break,
                },
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= next_tick {
                        self.tick();
                        next_tick = Instant::now() + Duration::from_secs(1);
                    }
                }
            }
            self.dispatch();
            if self.is_done() {
                break;
            }
        }
        if let Some(reply) = self.stopping.take() {
            // Nobody waits for the stop: fine.
            let _ = reply.send(());
        }
    }

    /// Whether requests are taken: not while a full step waits for the writer, but always once the peer has stopped, so
    /// that whoever asks is told.
    fn takes_requests(&self) -> bool {
        self.stopped.is_some() || !self.node.is_full()
    }

    fn on_requests(&mut self, first: Request) {
        self.on_request(first);
        for _ in 0..REQUESTS_AT_ONCE {
            if !self.takes_requests() {
                break;
            }
            match self.requests.try_recv() {
                Ok(request) => self.on_request(request),
                Err(_) => break,
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        match request {
            Request::Append { topic, durability, chunk, reply, room } => {
                self.ask(
                    ticket,
                    Asker::Append(reply, room),
                    Input::Append { ticket, topic, durability, chunk },
                );
            }
            Request::Change { change, reply } => {
                let held = self.held(&change);
                self.ask(ticket, Asker::Change(reply), Input::Change { ticket, change, held });
            }
            Request::Import { topic, batch, certificate, reply, under_way } => {
                let asker = Asker::Import(reply, under_way);
                self.ask(ticket, asker, Input::Import { ticket, topic, batch, certificate });
            }
            Request::AcceptClock => self.feed(Input::AcceptClock),
            Request::Stop { reply } => self.stopping = Some(reply),
        }
    }

    fn ask(&mut self, ticket: Ticket, asker: Asker, input: Input) {
        let reason = match (&self.stopped, &self.stopping) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some(_)) => Some("it is being stopped".to_owned()),
            (None, None) => None,
        };
        match reason {
            Some(reason) => refuse(asker, &Refusal::Stopped(reason)),
            None => {
                self.askers.insert(ticket, asker);
                self.feed(input);
            }
        }
    }

    /// What is held of the topic that a change is about.
    fn held(&self, change: &TopicChange) -> HeldTopic {
        let (TopicChange::Create { topic, .. }
        | TopicChange::Set { topic, .. }
        | TopicChange::Delete { topic }) = change;
        let id = crate::base::TopicId::of(self.shared.about.cluster, topic.as_str());
        let held = |log: &Arc<crate::log::store::Log>| {
            let state = log.look();
            let run = state.tip()?.id;
            Some(HeldLog { peer: log.id.peer, run, start: state.start, until: state.until() })
        };
        HeldTopic { logs: self.shared.store.logs_of(id).iter().filter_map(held).collect() }
    }

    /// Gives the engine an input and carries out what follows from it.
    fn feed(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.node.handle(self.now(), input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Answer { ticket, release, answer } => self.hold(ticket, release, answer),
                Output::Step(step) => match self.writer.take() {
                    Some(writer) => {
                        self.stepping = Some(Instant::now());
                        self.jobs.write(writer, step);
                    }
                    None => unreachable!("a step is closed only while the writer is at home"),
                },
                Output::Plan { log, retention, before } => self.jobs.plan(log, retention, before),
                Output::CatalogChanged => lock(&self.shared.live).configured = self.node.configured(),
            }
        }
        self.outputs = outputs;
    }

    fn hold(&mut self, ticket: Ticket, release: Release, answer: Answer) {
        let Some(asker) = self.askers.remove(&ticket) else { return };
        match release {
            Release::Now => reply(asker, answer),
            Release::Written(step) => self.until_written.push_back(Held { step, asker, answer }),
            Release::Durable(step) => self.until_durable.push_back(Held { step, asker, answer }),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Written { step } => release(&mut self.until_written, step),
            Event::StepDone { writer, step, result } => self.on_step(writer, step, result),
            Event::Marked { writer, result } => {
                self.writer = Some(writer);
                if let Err(error) = result {
                    self.fail(error.to_string());
                }
            }
            Event::Finished(result) => match result {
                Err(error) => self.fail(error.to_string()),
                Ok(()) => self.stopped = Some("it was stopped".to_owned()),
            },
            Event::Flushed(result) => {
                self.is_flushing = false;
                self.on_maintenance(result, "bringing batches into segments");
            }
            Event::Checkpointed(result) => {
                self.checkpoints -= 1;
                self.on_maintenance(result, "writing a checkpoint");
            }
            Event::Planned { log, result } => match result {
                Ok(start) => {
                    let now = self.shared.store.log(&log).map(|log| log.look().start);
                    if now.is_some_and(|now| now < start) {
                        self.feed(Input::Planned { log, start });
                    }
                }
                Err(error) => tracing::warn!(%error, "retention could not look at a log; it will try again"),
            },
            Event::Space(Ok(free_bytes)) => {
                self.feed(Input::Space { free_bytes });
                self.show(|live| live.free_bytes = free_bytes);
            }
            Event::Space(Err(error)) => tracing::warn!(%error, "the room on the disk is not known"),
        }
    }

    fn on_step(&mut self, writer: Box<Writer>, step: u64, result: Result<StepDone, WriteError>) {
        if let Some(began) = self.stepping.take() {
            self.shared.steps.add(began.elapsed());
        }
        match result {
            Ok(done) => {
                self.writer = Some(writer);
                self.feed(Input::Durable { step });
                release(&mut self.until_written, step);
                release(&mut self.until_durable, step);
                done.changed.iter().for_each(|topic| self.shared.watches.wake(*topic));
                done.trimmed.iter().for_each(|log| self.jobs.discard(*log));
                if let Some(rotation) = done.rotation {
                    self.checkpoint(rotation);
                }
                self.unmarked = Some(Instant::now());
            }
            Err(WriteError::NoSpace) => {
                tracing::error!("the disk is full: step {step} was refused");
                self.writer = Some(writer);
                let refusal = Refusal::DiskFull { reserve_bytes: self.shared.reserve_bytes };
                self.refuse_all(&refusal);
                self.feed(Input::Refused { step });
                // Imports look there: they are refused from now on, and not from the next tick.
                self.show_state();
                self.jobs.space();
            }
            Err(error @ WriteError::Failed { .. }) => self.fail(error.to_string()),
        }
        self.flush_if_due();
    }

    fn checkpoint(&mut self, rotation: crate::log::writer::Rotation) {
        self.checkpoints += 1;
        self.jobs.checkpoint(rotation, self.node.memory());
    }

    /// A full disk is waited out; any other failure means that what is on the disk is not known.
    fn on_maintenance(&mut self, result: io::Result<()>, what: &str) {
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::error!(%error, "{what}");
                self.feed(Input::Space { free_bytes: 0 });
            }
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    fn flush_if_due(&mut self) {
        if !self.is_flushing && flush::is_due(&self.shared.store) {
            self.is_flushing = true;
            self.jobs.flush();
        }
    }

    /// Closes a step when there is something to write and the writer can take it.
    fn dispatch(&mut self) {
        let store = &self.shared.store;
        let has_room = store.unflushed_bytes() <= store.config.unflushed_bytes_max && self.checkpoints <= 2;
        if self.stopped.is_some() || self.writer.is_none() {
            return;
        }
        if self.node.has_work() && has_room {
            self.unmarked = None;
            self.feed(Input::CloseStep);
        } else if self.stopping.is_some() && !self.node.has_work() {
            if let Some(writer) = self.writer.take() {
                self.jobs.finish(writer);
            }
        } else if self.unmarked.is_some_and(|since| since.elapsed() >= MARK_AFTER) {
            self.unmarked = None;
            if let Some(writer) = self.writer.take() {
                self.jobs.mark(writer);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.stopped.is_some()
    }

    fn tick(&mut self) {
        self.feed(Input::Tick);
        self.jobs.space();
        self.flush_if_due();
        self.show_state();
    }

    /// Lets everyone see whether appends are taken and the clock is trusted.
    fn show_state(&self) {
        let (clock, is_full) = (self.node.clock_state(), self.node.is_disk_full());
        self.show(|live| {
            live.clock = clock;
            if !matches!(live.appends, AppendsState::Stopped { .. }) {
                live.appends = if is_full { AppendsState::DiskFull } else { AppendsState::Open };
            }
        });
    }

    fn show(&self, change: impl FnOnce(&mut crate::runtime::shared::Live)) {
        change(&mut lock(&self.shared.live));
    }

    /// The peer can go on no longer: everyone who waits is told, and everyone who comes.
    fn fail(&mut self, reason: String) {
        if self.stopped.is_some() {
            return;
        }
        tracing::error!(reason, "the peer stops taking appends; restart it to recover");
        self.refuse_all(&Refusal::Stopped(reason.clone()));
        self.show(|live| live.appends = AppendsState::Stopped { reason: reason.clone() });
        self.stopped = Some(reason.clone());
        self.shared.stopped.send_replace(Some(reason));
    }

    fn refuse_all(&mut self, refusal: &Refusal) {
        let held = self.until_written.drain(..).chain(self.until_durable.drain(..));
        held.for_each(|held| refuse(held.asker, refusal));
    }
}

enum Refusal {
    Stopped(String),
    DiskFull { reserve_bytes: u64 },
}

/// Lets go of all answers that wait for `step` or an earlier one.
fn release(held: &mut VecDeque<Held>, step: u64) {
    while let Some(held) = held.pop_front_if(|held| held.step <= step) {
        reply(held.asker, held.answer);
    }
}

/// Who left without waiting for the answer does not get it; what was appended stays.
fn reply(asker: Asker, answer: Answer) {
    match (asker, answer) {
        (Asker::Append(to, _room), Answer::Appended(result)) => drop(to.send(result)),
        (Asker::Change(to), Answer::Changed(result)) => drop(to.send(result)),
        (Asker::Import(to, _under_way), Answer::Imported(is_taken)) => drop(to.send(is_taken)),
        _ => unreachable!("the engine answers what it was asked"),
    }
}

fn refuse(asker: Asker, refusal: &Refusal) {
    match asker {
        Asker::Append(to, _room) => drop(to.send(Err(match refusal {
            Refusal::Stopped(reason) => AppendError::Stopped { reason: reason.clone() },
            Refusal::DiskFull { reserve_bytes } => {
                AppendError::DiskFull { free_bytes: 0, reserve_bytes: *reserve_bytes }
            }
        }))),
        Asker::Change(to) => drop(to.send(Err(TopicError::Stopped { reason: refusal.reason() }))),
        Asker::Import(to, _under_way) => drop(to.send(false)),
    }
}

impl Refusal {
    fn reason(&self) -> String {
        match self {
            Self::Stopped(reason) => reason.clone(),
            Self::DiskFull { .. } => "the disk is full".to_owned(),
        }
    }
}
