//! The core: one task that feeds the engine, keeps one step in flight, and holds every answer until its step allows it.
use crate::base::{Batch, Chunk, Durability, LogId, Now, Retention, RunId, StoreId, Timestamp, TopicName};
use crate::log::retention::Kept;
use crate::log::scrub::Piece;
use crate::log::seal::Stated;
use crate::log::state::Range;
use crate::log::{StepDone, WriteError, flush, is_no_space};
use crate::node::HeldStatement;
use crate::node::{Answer, HeldLog, HeldTopic, Input, Node, Output, Release, Ticket};
use crate::replication::{PeerInput, PeerOutput};
use crate::runtime::answers::{Asker, Held, Refusal, refuse, release, reply};
use crate::runtime::handle::Taken;
use crate::runtime::import::UnderWay;
use crate::runtime::lanes::{Event, Jobs};
use crate::runtime::large::{LARGE_BYTES_MIN, Large, Next};
use crate::runtime::peers::{Came, Heard, PeerEvent, checked, range_of};
use crate::runtime::scrub::{Pace, Round, ScrubConfig};
use crate::runtime::shared::{Shared, lock};
use crate::wire::outcome::{AppendError, Appended, AppendsState, TopicChange, TopicChanged, TopicError};
use crate::wire::peer::{PeerMessage, RunRange};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

/// What handles ask of the core.
pub(super) enum Request {
    Append {
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
        room: Taken,
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
    Peer(PeerEvent),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// Requests taken in between two looks at whether a step can be written.
const REQUESTS_AT_ONCE: usize = 512;
/// Bytes gathered from which on the next step is sealed while the one before it is synced.
const NEXT_BYTES_MIN: usize = 256 << 10;
/// Quiet time after which the journal is marked.
const MARK_AFTER: Duration = Duration::from_millis(50);

/// Quiet time after which a checkpoint is written so that trimmed segments can go.
const FREE_AFTER: Duration = Duration::from_secs(1);
/// Time between two such checkpoints.
const FREE_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Core {
    node: Node,
    jobs: Jobs,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Since when the writer has which steps, oldest first: the one it writes, and perhaps the next, being sealed.
    at_disk: VecDeque<Instant>,
    /// Since when the next step has something to write.
    gathers: Option<Instant>,
    /// Whether the oldest of them is with the operating system, and only its sync is waited for.
    is_written: bool,
    /// The last step that is done, or that will not come.
    settled: u64,
    large: Large,
    /// Whether the writer does something else than steps.
    is_writer_away: bool,
    outputs: Vec<Output>,
    askers: BTreeMap<Ticket, Asker>,
    next_ticket: Ticket,
    until_written: VecDeque<Held>,
    until_durable: VecDeque<Held>,
    started: Instant,
    is_flushing: bool,
    checkpoints: usize,
    /// Whether the journal's end is not marked yet, and since when nothing was written.
    unmarked: Option<Instant>,
    /// Logs whose retention is to be looked at.
    plans: VecDeque<(LogId, Retention, Option<Timestamp>)>,
    is_planning: bool,
    /// Since when trimmed segments wait for a checkpoint, and when one was last written for them.
    unfreed: Option<Instant>,
    freed: Option<Instant>,
    scrub: Pace,
    /// Certificates that came before the first batch of their peers.
    heard: Heard,
    /// Damaged ranges that the engine was told of.
    told_damage: u64,
    stopped: Option<String>,
    stopping: Option<oneshot::Sender<()>>,
}

impl Core {
    pub(super) fn new(
        node: Node,
        jobs: Jobs,
        scrub: ScrubConfig,
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
            at_disk: VecDeque::new(),
            gathers: None,
            is_written: false,
            settled: 0,
            large: Large::default(),
            is_writer_away: false,
            outputs: Vec::new(),
            askers: BTreeMap::new(),
            next_ticket: 1,
            until_written: VecDeque::new(),
            until_durable: VecDeque::new(),
            started: Instant::now(),
            is_flushing: false,
            checkpoints: 0,
            unmarked: None,
            plans: VecDeque::new(),
            is_planning: false,
            unfreed: None,
            freed: None,
            scrub: Pace::new(scrub, Instant::now()),
            heard: Heard::default(),
            told_damage: 0,
            stopped: None,
            stopping: None,
        }
    }

    fn now(&self) -> Now {
        let mono_ms = self.started.elapsed().as_millis() as u64;
        Now { mono_ms, unix_ms: self.shared.env.clock.unix_ms() }
    }

    /// Runs until every handle is gone, or a stop was asked for and done; answers who waits for that.
    pub(super) async fn run(mut self, rotation: crate::log::writer::Rotation) -> Option<oneshot::Sender<()>> {
        self.tick();
        self.checkpoint(rotation);
        let mut next_tick = Instant::now() + Duration::from_secs(1);
        loop {
            let mark = self.unmarked.filter(|_| self.can_mark()).map(|since| since + MARK_AFTER);
            let wake = [mark, self.scrub_due()].into_iter().flatten().fold(next_tick, Instant::min);
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
            self.scrub_next();
            if self.is_done() {
                break;
            }
        }
        self.stopping.take()
    }

    /// Whether the journal could be marked now; otherwise whatever is in the way wakes us when it is done.
    fn can_mark(&self) -> bool {
        let is_idle = self.at_disk.is_empty() && !self.is_writer_away && !self.node.has_work();
        is_idle && self.stopped.is_none()
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
        let reason = match (&self.stopped, &self.stopping) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some(_)) => Some("it is being stopped".to_owned()),
            (None, None) => None,
        };
        match (reason, self.waits_in(&request)) {
            (Some(reason), _) => self.refuse(request, &Refusal::Stopped(reason)),
            (None, Some(log)) => {
                let rests_with = self.rests_with();
                self.large.add(log, request, rests_with);
                self.go_on(&log);
            }
            (None, None) => self.take(request),
        }
    }

    /// The log in which a request waits: for its own large entry to be on the disk, or behind one.
    fn waits_in(&self, request: &Request) -> Option<LogId> {
        match request {
            Request::Append { topic, chunk, .. } => {
                let is_large = chunk.bytes().len() >= LARGE_BYTES_MIN
                    && !self.node.is_disk_full()
                    && self.node.takes(topic)
                    && !self.node.is_buffered(topic);
                // The name of a log is a digest, which most appends should not pay for twice.
                if !is_large && self.large.is_empty() {
                    return None;
                }
                let log = self.node.log_id(topic);
                (is_large || self.large.holds(&log)).then_some(log)
            }
            Request::Import { batch, .. } => Some(batch.statement().log).filter(|log| self.large.holds(log)),
            _ => None,
        }
    }

    /// The step with which everything that was taken is on the disk.
    fn rests_with(&self) -> u64 {
        if self.node.has_work() { self.node.step() } else { self.node.step() - 1 }
    }

    /// Goes on with what waits in a log.
    fn go_on(&mut self, log: &LogId) {
        while self.takes_requests()
            && let Some(next) = self.large.next(log, self.settled)
        {
            match next {
                Next::Prewrite(topic, body) => self.jobs.prewrite(*log, topic, body),
                Next::Take(request, is_prewritten) => {
                    self.take(*request);
                    if is_prewritten && !self.node.gathers(log) {
                        // It was refused, or came before.
                        self.shared.store.forget_prewritten(log);
                    }
                    let rests_with = self.rests_with();
                    self.large.took(log, rests_with);
                }
            }
        }
    }

    fn go_on_everywhere(&mut self) {
        self.large.logs().iter().for_each(|log| self.go_on(log));
    }

    fn on_prewritten(&mut self, log: LogId, result: io::Result<()>) {
        match result {
            Ok(()) => self.large.written(&log),
            Err(error) if is_no_space(&error) => {
                let refusal = Refusal::DiskFull { reserve_bytes: self.shared.reserve_bytes };
                if let Some(request) = self.large.refuse(&log) {
                    self.refuse(request, &refusal);
                }
                self.jobs.space();
            }
            Err(error) => self.fail(format!("writing a large entry: {error}")),
        }
        self.go_on(&log);
    }

    /// Hands a request to the engine.
    fn take(&mut self, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (asker, input) = match request {
            Request::Append { topic, durability, chunk, reply, room } => {
                (Asker::Append(reply, room), Input::Append { ticket, topic, durability, chunk })
            }
            Request::Change { change, reply } => {
                let held = self.held(&change);
                (Asker::Change(reply), Input::Change { ticket, change, held })
            }
            Request::Import { topic, batch, certificate, reply, under_way } => {
                let input = Input::Import { ticket, topic, batch, certificate };
                (Asker::Import(reply, under_way), input)
            }
            Request::AcceptClock => return self.feed(Input::AcceptClock),
            Request::Peer(event) => return self.on_peer(event),
            Request::Stop { reply } => {
                self.stopping = Some(reply);
                return;
            }
        };
        self.askers.insert(ticket, asker);
        self.feed(input);
    }

    fn on_peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Up { store, peer } => self.feed(Input::Peer(PeerInput::Up(store, peer))),
            PeerEvent::Down { store } => self.feed(Input::Peer(PeerInput::Down(store))),
            PeerEvent::Message { message: PeerMessage::Certificate { peer, der }, .. } => {
                self.heard.add(&*self.shared.trust, peer, der);
            }
            PeerEvent::Message { from, message: PeerMessage::Batch(bytes) } => self.on_batch(from, bytes),
            PeerEvent::Message { from, message } => {
                if let Some(message) = checked(&*self.shared.trust, message) {
                    self.feed(Input::Peer(PeerInput::Message(from, message)));
                }
            }
        }
    }

    /// A batch came: unless it was asked for and is still lacking, nobody looks at it any further.
    fn on_batch(&mut self, from: StoreId, bytes: bytes::Bytes) {
        let Ok(batch) = Batch::parse(bytes) else { return };
        let range = range_of(&batch);
        if !self.node.wants(from, &range) {
            return;
        }
        let peer = range.log.peer;
        let is_known = self.shared.store.certificate(&peer).is_some();
        let certificate = self.heard.get(&peer).filter(|_| !is_known);
        if is_known || certificate.is_some() {
            self.feed(Input::Peer(PeerInput::Took(from, range)));
            self.jobs.verify(Came { from, range, batch, certificate });
        }
    }

    fn on_verified(&mut self, came: Came, is_good: bool) {
        let Came { from, range, batch, certificate } = came;
        if is_good {
            self.feed(Input::Fetched { from, range, batch, certificate });
        } else {
            tracing::warn!(%from, ?range, "a batch is not what its peer signed, and was thrown away");
            self.feed(Input::Peer(PeerInput::Refused(from, range)));
        }
    }

    fn refuse(&mut self, request: Request, refusal: &Refusal) {
        match request {
            Request::Append { reply, room, .. } => refuse(Asker::Append(reply, room), refusal),
            Request::Change { reply, .. } => refuse(Asker::Change(reply), refusal),
            Request::Import { reply, under_way, .. } => refuse(Asker::Import(reply, under_way), refusal),
            Request::AcceptClock | Request::Peer(_) => {}
            Request::Stop { reply } => self.stopping = Some(reply),
        }
    }

    /// What is held of the topic that a change is about.
    fn held(&self, change: &TopicChange) -> HeldTopic {
        let id = crate::base::TopicId::of(self.shared.about.cluster, change.topic().as_str());
        let held = |log: &Arc<crate::log::store::Log>| {
            let (peer, state) = (log.id.peer, log.look());
            let held = |run: RunId, is_branch| {
                let (start, until) = (state.kept_from(Some(run)), state.run(run)?.until);
                Some(HeldLog { peer, run, start, until, is_branch })
            };
            let tip = state.tip().and_then(|run| held(run.id, false));
            let branches: Vec<HeldLog> =
                state.branches().into_iter().filter_map(|(run, _)| held(run, true)).collect();
            tip.into_iter().chain(branches).collect::<Vec<_>>()
        };
        let logs = self.shared.store.logs_of(id);
        let own = logs.iter().find(|log| log.id.peer == self.node.peer());
        let damaged = own.map(|log| log.look().damaged.iter().map(|d| (d.run, d.from, d.until)).collect());
        HeldTopic { logs: logs.iter().flat_map(held).collect(), damaged: damaged.unwrap_or_default() }
    }

    /// Gives the engine an input and carries out what follows from it.
    fn feed(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.node.handle(self.now(), input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Answer { ticket, release, answer } => self.hold(ticket, release, answer),
                Output::Step(step) => {
                    let (is_next, now) = (!self.at_disk.is_empty(), Instant::now());
                    let since = self.gathers.take().unwrap_or(now);
                    self.shared.steps.gather.add(now - since);
                    self.at_disk.push_back(now);
                    if is_next { self.jobs.write_next(step) } else { self.jobs.write(step) }
                }
                Output::Plan { log, retention, before } => self.plans.push_back((log, retention, before)),
                Output::Peer(output) => self.tell(output),
                Output::CatalogChanged => lock(&self.shared.live).configured = self.node.configured(),
            }
        }
        self.outputs = outputs;
        self.gathers = self.node.has_work().then(|| self.gathers.unwrap_or_else(Instant::now));
        self.plan_next();
    }

    fn tell(&self, output: PeerOutput) {
        match output {
            PeerOutput::Send(to, message) => self.shared.env.peers.send(to, message),
            PeerOutput::Serve { to, range, bytes_max, certificate } => {
                self.jobs.serve(to, range, bytes_max, certificate);
            }
            PeerOutput::StoreHead(..) | PeerOutput::StoreLost(..) => {
                unreachable!("the engine keeps what is to be stored")
            }
        }
    }

    /// One plan at a time: whatever else the maintenance lane is asked for waits for one log at most.
    fn plan_next(&mut self) {
        if !self.is_planning
            && let Some((log, retention, before)) = self.plans.pop_front()
        {
            self.is_planning = true;
            self.jobs.plan(log, retention, before);
        }
    }

    /// When the scrub goes on; never once the peer has stopped, or is about to.
    fn scrub_due(&self) -> Option<Instant> {
        self.scrub.due().filter(|_| self.stopped.is_none() && self.stopping.is_none())
    }

    fn scrub_next(&mut self) {
        if self.scrub_due().is_some()
            && let Some(bytes_max) = self.scrub.begin(Instant::now())
        {
            self.jobs.scrub(bytes_max);
        }
    }

    fn on_scrubbed(&mut self, piece: Piece) {
        if let Some(Round { bytes, damaged, errors }) = self.scrub.done(piece) {
            self.shared.scrubs.end(self.shared.env.clock.unix_ms());
            tracing::info!(bytes, damaged, errors, "everything that is stored was read again");
        }
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
            Event::Written { step } => {
                self.is_written = true;
                release(&mut self.until_written, step);
            }
            Event::StepDone { step, result, at } => {
                self.on_step(step, result);
                self.shared.steps.release.add(at.elapsed());
                self.go_on_everywhere();
            }
            Event::Prewritten { log, result } => self.on_prewritten(log, result),
            Event::Marked(result) => {
                self.is_writer_away = false;
                match result {
                    Ok(rotation) => rotation.into_iter().for_each(|rotation| self.checkpoint(rotation)),
                    // A journal file for the sake of room that is not there can wait.
                    Err(WriteError::NoSpace) => self.jobs.space(),
                    Err(error) => self.fail(error.to_string()),
                }
            }
            Event::Discarded(Ok(waits)) => {
                self.unfreed = self.unfreed.or(waits.then(Instant::now));
            }
            Event::Discarded(Err(error)) => self.on_maintenance(Err(error), "removing trimmed segments"),
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
            Event::Planned { log, result } => {
                self.is_planning = false;
                self.on_planned(log, result);
            }
            Event::Space(Ok(free_bytes)) => {
                self.feed(Input::Space { free_bytes });
                self.show(|live| live.free_bytes = free_bytes);
            }
            Event::Scrubbed(piece) => self.on_scrubbed(piece),
            Event::Verified(came, is_good) => self.on_verified(*came, is_good),
            Event::Space(Err(error)) => tracing::warn!(%error, "the room on the disk is not known"),
        }
    }

    fn on_planned(&mut self, log: LogId, result: io::Result<Vec<Kept>>) {
        match result {
            Ok(kept) => {
                for Kept { run, start } in kept {
                    self.feed(Input::Planned { log, run, start });
                }
            }
            Err(error) => tracing::warn!(%error, "retention could not look at a log; it will try again"),
        }
        self.plan_next();
    }

    fn on_step(&mut self, step: u64, result: Result<StepDone, WriteError>) {
        if let Some(since) = self.at_disk.pop_front() {
            self.shared.steps.whole.add(since.elapsed());
        }
        self.is_written = false;
        match result {
            // What was sealed behind a step that failed.
            _ if self.stopped.is_some() => {}
            Ok(done) => {
                self.settled = step;
                let stated = self.name_all(done.stated);
                self.feed(Input::Durable { step, stated });
                release(&mut self.until_written, step);
                release(&mut self.until_durable, step);
                done.changed.iter().for_each(|topic| self.shared.watches.wake(*topic));
                done.trimmed.iter().for_each(|log| self.jobs.discard(*log));
                if let Some(rotation) = done.rotation {
                    self.checkpoint(rotation);
                }
                self.unmarked = self.at_disk.is_empty().then(Instant::now);
            }
            Err(WriteError::NoSpace) => {
                tracing::error!("the disk is full: step {step} was refused");
                assert!(self.at_disk.is_empty(), "the step behind is sealed once this one cannot be refused");
                let refusal = Refusal::DiskFull { reserve_bytes: self.shared.reserve_bytes };
                self.refuse_all(&refusal);
                self.feed(Input::Refused { step });
                self.settled = self.node.step() - 1;
                self.large.rest();
                // Imports look there: they are refused from now on, and not from the next tick.
                self.show_state();
                self.jobs.space();
            }
            Err(error @ WriteError::Failed { .. }) => self.fail(error.to_string()),
        }
        self.flush_if_due();
    }

    fn name_all(&self, stated: Vec<Stated>) -> Vec<HeldStatement> {
        let name = |stated| {
            let topic = |log: &LogId| self.shared.store.topic_name(log.topic);
            Some(match stated {
                Stated::Head(head, signature) => HeldStatement::Head(topic(&head.log)?, head, signature),
                Stated::Lost(lost, signature) => HeldStatement::Lost(topic(&lost.log)?, lost, signature),
            })
        };
        stated.into_iter().filter_map(name).collect()
    }

    fn checkpoint(&mut self, rotation: crate::log::writer::Rotation) {
        self.checkpoints += 1;
        self.jobs.checkpoint(rotation, self.node.memory());
    }

    /// A full disk is waited out; any other failure means that what is on the disk is not known.
    fn on_maintenance(&mut self, result: io::Result<()>, what: &str) {
        match result {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {
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
        if self.stopped.is_some() || self.is_writer_away {
            return;
        }
        let store = &self.shared.store;
        let waits = store.unflushed_bytes() > store.config.unflushed_bytes_max || self.checkpoints > 2;
        // On a full disk nothing is flushed, and no appends are taken: what was, and deletions, go on.
        let has_room = !waits || self.node.is_disk_full();
        match self.at_disk.len() {
            0 if self.node.has_work() && has_room => {
                self.unmarked = None;
                self.feed(Input::CloseStep);
                self.go_on_everywhere();
            }
            0 if !self.node.has_work() => self.be_idle(),
            // What is large is sealed while the disk is busy; what is small rather waits for company.
            1 if self.is_written && self.node.gathered_bytes() >= NEXT_BYTES_MIN && has_room => {
                self.feed(Input::CloseStep);
                self.go_on_everywhere();
            }
            _ => {}
        }
    }

    /// What the writer does when there is nothing to write.
    fn be_idle(&mut self) {
        self.is_writer_away = true;
        if self.stopping.is_some() && self.large.is_empty() {
            self.jobs.finish();
        } else if self.unmarked.is_some_and(|since| since.elapsed() >= MARK_AFTER) {
            self.unmarked = None;
            self.jobs.mark();
        } else if self.is_freeing_due() {
            self.unfreed = None;
            self.freed = Some(Instant::now());
            self.jobs.rotate();
        } else {
            self.is_writer_away = false;
        }
    }

    /// Whether trimmed segments wait for a checkpoint that a quiet peer would not write for long.
    fn is_freeing_due(&self) -> bool {
        let waits = self.unfreed.is_some_and(|since| since.elapsed() >= FREE_AFTER);
        waits && self.checkpoints == 0 && self.freed.is_none_or(|last| last.elapsed() >= FREE_EVERY)
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.stopped.is_some()
    }

    /// Others are told that what was found damaged is not held any more, and asked for it.
    fn tell_damage(&mut self) {
        let found = self.shared.store.counters.damage_found.load(std::sync::atomic::Ordering::Relaxed);
        if std::mem::replace(&mut self.told_damage, found) == found {
            return;
        }
        for log in self.shared.store.logs() {
            let damaged = log.look().damaged.clone();
            for Range { run, from, until } in damaged {
                let range = RunRange { log: log.id, run, from, until };
                if self.node.replication().held().holds_any(&range) {
                    self.feed(Input::Peer(PeerInput::Gone(range)));
                }
            }
        }
    }

    fn tick(&mut self) {
        self.tell_damage();
        let planned_before = self.plans.len();
        self.feed(Input::Tick);
        if planned_before > 0 {
            // The round before goes on; the next begins when all logs were looked at.
            self.plans.truncate(planned_before);
        }
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
        let refusal = Refusal::Stopped(reason.clone());
        self.refuse_all(&refusal);
        self.refuse_large(&refusal);
        self.show(|live| live.appends = AppendsState::Stopped { reason: reason.clone() });
        self.stopped = Some(reason.clone());
        self.shared.stopped.send_replace(Some(reason));
    }

    fn refuse_all(&mut self, refusal: &Refusal) {
        let held = self.until_written.drain(..).chain(self.until_durable.drain(..));
        held.for_each(|held| refuse(held.asker, refusal));
    }

    fn refuse_large(&mut self, refusal: &Refusal) {
        self.large.drain().into_iter().for_each(|request| self.refuse(request, refusal));
    }
}
