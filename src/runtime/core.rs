//! The core: one task that feeds the engine, keeps one step in flight, and holds every answer until its step allows it.
use crate::base::planted::{self, Bug};
use crate::base::{
    Batch, Chunk, Durability, LogId, Now, Retention, Seq, SignedRemoval, Timestamp, TopicName,
};
use crate::log::{StepDone, WriteError};
use crate::node::{Answer, Input, Looked, Node, Output, Release, Ticket};
use crate::replication::PeerInput;
use crate::runtime::answers::{Asker, Held, Refusal, release, reply};
use crate::runtime::forks::Searches;
use crate::runtime::handle::Taken;
use crate::runtime::import::UnderWay;
use crate::runtime::lanes::{Event, Jobs};
use crate::runtime::large::Large;
use crate::runtime::peers::{Heard, PeerEvent};
use crate::runtime::progress::Question;
use crate::runtime::scrub::{Pace, ScrubConfig};
use crate::runtime::shared::{Shared, lock};
use crate::wire::outcome::{AppendError, Appended, ImportError, TopicChange, TopicChanged, TopicError};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

#[cfg(feature = "planted")]
mod audit;
mod forks;
mod intake;
mod peers;
mod progress;
mod removals;
mod upkeep;

use progress::Closing;
use upkeep::MARK_AFTER;

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
        looked: Looked,
        certificate: Option<Arc<[u8]>>,
        reply: oneshot::Sender<Result<(), ImportError>>,
        under_way: Box<UnderWay>,
    },
    Remove {
        removal: Box<SignedRemoval>,
        reply: oneshot::Sender<Result<TopicChanged, TopicError>>,
    },
    /// A removal that another peer passed on.
    Heard {
        removal: Box<SignedRemoval>,
    },
    AcceptClock,
    /// What our log of a topic's groups says again further on may go.
    TrimGroups(LogId, Seq),
    Ask(Question),
    Peer(PeerEvent),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// Bytes gathered from which on the next step is sealed while the one before it is synced.
const NEXT_BYTES_MIN: usize = 256 << 10;
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
    plans: VecDeque<(LogId, Retention, Option<Range<Timestamp>>)>,
    is_planning: bool,
    /// Since when something waits for a checkpoint that nothing else asks for, and when one was last written for that:
    /// trimmed segments, damage that was found or has healed, a clock that was accepted.
    unsaved: Option<Instant>,
    saved: Option<Instant>,
    scrub: Pace,
    /// Certificates that came before the first batch of their peers.
    heard: Heard,
    /// Where runs are looked for that others hold in another way.
    searches: Searches,
    /// Damaged ranges that the engine was told of.
    told_damage: u64,
    /// Removed peers whose logs are about to end where their removal says.
    leaving: usize,
    stopped: Option<String>,
    /// Whether nothing is taken any more, since the peer is about to stop.
    is_closing: bool,
    closing: Vec<Closing>,
    /// Since when others hold what is not here.
    behind: Option<Instant>,
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
            unsaved: None,
            saved: None,
            scrub: Pace::new(scrub, Instant::now()),
            heard: Heard::default(),
            searches: Searches::default(),
            told_damage: 0,
            leaving: 0,
            stopped: None,
            is_closing: false,
            closing: Vec::new(),
            behind: None,
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
            self.answer_closing();
            if self.is_done() {
                break;
            }
        }
        self.stopping.take()
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
                Output::Plan { log, retention, dated } => self.plans.push_back((log, retention, dated)),
                Output::Peer(output) => self.tell(output),
                Output::CheckRemoval(signed) => self.check_removal(&signed),
                Output::Leave(peer, remains) => self.leave(peer, remains),
                Output::CatalogChanged(changed) => self.show_settings(changed),
            }
        }
        self.outputs = outputs;
        self.gathers = self.node.has_work().then(|| self.gathers.unwrap_or_else(Instant::now));
        self.plan_next();
    }

    fn hold(&mut self, ticket: Ticket, release: Release, answer: Answer) {
        let Some(asker) = self.askers.remove(&ticket) else { return };
        match release {
            Release::Now => reply(asker, answer),
            Release::Written(step) => self.until_written.push_back(Held { step, asker, answer }),
            Release::Durable(step) => self.until_durable.push_back(Held { step, asker, answer }),
            Release::Copied { waited_ms } => {
                self.shared.steps.copies.add(Duration::from_millis(waited_ms));
                reply(asker, answer);
            }
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
                self.unsaved = self.unsaved.or(waits.then(Instant::now));
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
            Event::Planned { log, is_dated, result } => {
                self.is_planning = false;
                self.on_planned(log, is_dated, result);
            }
            Event::Space(Ok(free_bytes)) => {
                self.feed(Input::Space { free_bytes });
                self.show(|live| live.free_bytes = free_bytes);
            }
            Event::Scrubbed(piece) => self.on_scrubbed(piece),
            Event::Served(to) => self.feed(Input::Peer(PeerInput::Served(to))),
            Event::Left(changed) => self.on_left(changed),
            Event::Verified(came, verdict) => self.on_verified(came, verdict),
            Event::Told(to) => self.searches.told(to),
            Event::Compared(with, of, compared) => self.on_compared(with, of, compared),
            Event::LookedBehind(fork, found) => self.feed(Input::Forked { fork, found }),
            Event::Space(Err(error)) => tracing::warn!(%error, "the room on the disk is not known"),
        }
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
                let (ends, moved) = (done.ends, done.moved);
                self.feed(Input::Durable { step, stated, ends, moved });
                self.shared.durable.store(step, Ordering::Release);
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
                let deletions = self.refuse_all(&refusal);
                self.feed(Input::Refused { step });
                self.settled = self.node.step() - 1;
                self.large.rest();
                deletions.into_iter().for_each(|(change, reply)| self.change(change, reply, true));
                // Imports look there: they are refused from now on, and not from the next tick.
                self.show_state();
                self.jobs.space();
            }
            Err(error @ WriteError::Failed { .. }) => self.fail(error.to_string()),
        }
        self.flush_if_due();
    }

    /// Closes a step when there is something to write and the writer can take it.
    fn dispatch(&mut self) {
        if self.stopped.is_some() || self.is_writer_away {
            return;
        }
        let store = &self.shared.store;
        let waits = store.unflushed_bytes() > store.config.unflushed_bytes_max || self.checkpoints > 2;
        // On a full disk nothing is flushed, and no appends are taken: what was, and deletions, go on.
        let has_room = !waits || self.node.is_disk_full() || planted::is(Bug::NothingWaitsForFlushes);
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

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.stopped.is_some()
    }

    fn tick(&mut self) {
        self.tell_damage();
        self.carry_out_deletions();
        let planned_before = self.plans.len();
        self.feed(Input::Tick);
        if planned_before > 0 {
            // The round before goes on; the next begins when all logs were looked at.
            self.plans.truncate(planned_before);
        }
        self.jobs.space();
        self.flush_if_due();
        self.show_state();
        self.show_progress();
        #[cfg(feature = "planted")]
        self.audit();
    }

    fn show(&self, change: impl FnOnce(&mut crate::runtime::shared::Live)) {
        change(&mut lock(&self.shared.live));
    }
}
