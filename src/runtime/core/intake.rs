//! What is asked of the core: taken in order, refused with a reason, or kept waiting behind a large entry of its log.
use crate::base::{LogId, RunId};
use crate::log::is_no_space;
use crate::log::state::LogState;
use crate::node::{HeldLog, HeldTopic, Input};
use crate::runtime::answers::{Asker, Held, Refusal, refuse};
use crate::runtime::core::{Core, Request};
use crate::runtime::large::{LARGE_BYTES_MIN, Next};
use crate::runtime::progress::Question;
use crate::wire::outcome::{AppendsState, TopicChange, TopicChanged, TopicError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Requests taken in between two looks at whether a step can be written.
const REQUESTS_AT_ONCE: usize = 512;

/// Where the answer to a change of the catalog goes.
type ChangeReply = oneshot::Sender<Result<TopicChanged, TopicError>>;

/// Whether a request is none of what a peer that is about to stop goes on with.
fn is_new(request: &Request) -> bool {
    matches!(request, Request::Append { .. } | Request::Change { .. } | Request::Remove { .. })
}

impl Core {
    /// Whether requests are taken: not while a full step waits for the writer, but always once the peer has stopped, so
    /// that whoever asks is told.
    pub(super) fn takes_requests(&self) -> bool {
        self.stopped.is_some() || !self.node.is_full()
    }

    pub(super) fn on_requests(&mut self, first: Request) {
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

    pub(super) fn on_request(&mut self, request: Request) {
        let reason = match (&self.stopped, &self.stopping) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some(_)) => Some("it is being stopped".to_owned()),
            (None, None) if self.is_closing && is_new(&request) => Some("it is stopping".to_owned()),
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
    pub(super) fn waits_in(&self, request: &Request) -> Option<LogId> {
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
    pub(super) fn rests_with(&self) -> u64 {
        if self.node.has_work() { self.node.step() } else { self.node.step() - 1 }
    }

    /// Goes on with what waits in a log.
    pub(super) fn go_on(&mut self, log: &LogId) {
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

    pub(super) fn go_on_everywhere(&mut self) {
        self.large.logs().iter().for_each(|log| self.go_on(log));
    }

    pub(super) fn on_prewritten(&mut self, log: LogId, result: io::Result<()>) {
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
    pub(super) fn take(&mut self, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (asker, input) = match request {
            Request::Append { topic, durability, chunk, reply, room } => {
                (Asker::Append(reply, room), Input::Append { ticket, topic, durability, chunk })
            }
            Request::Change { change, reply } => return self.change(change, reply, false),
            Request::Import { topic, batch, looked, certificate, reply, under_way } => {
                let input = Input::Import { ticket, topic, batch, looked, certificate };
                (Asker::Import(reply, under_way), input)
            }
            Request::Remove { removal, reply } => {
                (Asker::Change(reply, None), Input::Remove { ticket, removal })
            }
            Request::AcceptClock => {
                self.unsaved = self.unsaved.or(Some(Instant::now()));
                return self.feed(Input::AcceptClock);
            }
            Request::TrimGroups(log, start) => {
                return self.feed(Input::Planned { log, run: None, start, is_dated: false });
            }
            Request::Heard { removal } => return self.check_removal(&removal),
            Request::Ask(Question::Alone { wait_ms, reply }) => {
                (Asker::Probe(reply), Input::Probe { ticket, wait_ms })
            }
            Request::Ask(question) => return self.answer(question),
            Request::Peer(event) => return self.on_peer(event),
            Request::Stop { reply } => {
                self.stopping = Some(reply);
                return;
            }
        };
        self.askers.insert(ticket, asker);
        self.feed(input);
    }

    /// Hands a change of the catalog to the engine. A deletion is handed in once more when the step that it shared with
    /// appends did not fit on the disk: alone it does, nearly always, and it is what makes room.
    pub(super) fn change(&mut self, change: TopicChange, reply: ChangeReply, is_again: bool) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let again = matches!(change, TopicChange::Delete { .. }).then(|| change.clone());
        let held = self.held(&change);
        self.askers.insert(ticket, Asker::Change(reply, again.filter(|_| !is_again)));
        self.feed(Input::Change { ticket, change, held });
    }

    pub(super) fn refuse(&mut self, request: Request, refusal: &Refusal) {
        match request {
            Request::Append { reply, room, .. } => refuse(Asker::Append(reply, room), refusal),
            Request::Change { reply, .. } | Request::Remove { reply, .. } => {
                refuse(Asker::Change(reply, None), refusal);
            }
            Request::Import { reply, under_way, .. } => refuse(Asker::Import(reply, under_way), refusal),
            Request::AcceptClock
            | Request::TrimGroups(..)
            | Request::Peer(_)
            | Request::Heard { .. }
            | Request::Ask(_) => {}
            Request::Stop { reply } => self.stopping = Some(reply),
        }
    }

    /// What is held of the topic that a change is about.
    pub(super) fn held(&self, change: &TopicChange) -> HeldTopic {
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
        let about = match change {
            TopicChange::Lost { peer, .. } => *peer,
            _ => self.node.peer(),
        };
        let lacking = |state: &LogState| match about == self.node.peer() {
            true => state.damaged.clone(),
            // Of the log of a removed peer its successor may declare lost whatever is not here.
            false => state.damaged.iter().copied().chain(state.holes()).collect(),
        };
        let log = logs.iter().find(|log| log.id.peer == about);
        let damaged = log.map(|log| lacking(&log.look()).iter().map(|d| (d.run, d.from, d.until)).collect());
        HeldTopic { logs: logs.iter().flat_map(held).collect(), damaged: damaged.unwrap_or_default() }
    }

    /// Refuses all who wait for a step, but for deletions where the disk is full: those are handed back, to be taken again.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) -> Vec<(TopicChange, ChangeReply)> {
        let mut again = Vec::new();
        for held in self.until_written.drain(..).chain(self.until_durable.drain(..)) {
            match (held.asker, refusal) {
                (Asker::Change(reply, Some(change)), Refusal::DiskFull { .. }) => again.push((change, reply)),
                (asker, refusal) => refuse(asker, refusal),
            }
        }
        again
    }

    /// This peer was removed: what it took and nobody was told of yet is written, and does not count.
    pub(super) fn refuse_own(&mut self) {
        let is_own = |held: &Held| !matches!(held.asker, Asker::Import(..));
        for waiting in [&mut self.until_written, &mut self.until_durable] {
            let (own, others) = std::mem::take(waiting).into_iter().partition(is_own);
            *waiting = others;
            let own: VecDeque<Held> = own;
            own.into_iter().for_each(|held| refuse(held.asker, &Refusal::Removed));
        }
    }

    pub(super) fn refuse_large(&mut self, refusal: &Refusal) {
        self.large.drain().into_iter().for_each(|request| self.refuse(request, refusal));
    }

    /// The peer can go on no longer: everyone who waits is told, and everyone who comes.
    pub(super) fn fail(&mut self, reason: String) {
        if self.stopped.is_some() {
            return;
        }
        tracing::error!(reason, "the peer stops taking appends; restart it to recover");
        let refusal = Refusal::Stopped(reason.clone());
        self.refuse_all(&refusal);
        self.refuse_large(&refusal);
        self.closing.clear();
        // Who is left waits for other peers.
        std::mem::take(&mut self.askers).into_values().for_each(|asker| refuse(asker, &refusal));
        self.show(|live| live.appends = AppendsState::Stopped { reason: reason.clone() });
        self.stopped = Some(reason.clone());
        self.shared.stopped.set(Some(reason));
    }
}
