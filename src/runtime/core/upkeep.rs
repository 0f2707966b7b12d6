//! What keeps the store in shape beside the steps: retention, the scrub, checkpoints, flushes, marks.
use crate::base::{LogId, Seq, TopicName, TopicSettings};
use crate::log::retention::Kept;
use crate::log::scrub::Piece;
use crate::log::state::Range;
use crate::log::{flush, is_no_space};
use crate::node::Input;
use crate::replication::PeerInput;
use crate::replication::forks::link_bits;
use crate::replication::held::HeldRange;
use crate::runtime::core::Core;
use crate::runtime::scrub::Round;
use crate::runtime::shared::lock;
use crate::wire::outcome::{AppendsState, ClockState};
use crate::wire::peer::RunRange;
use std::io;
use tokio::time::{Duration, Instant};

/// Quiet time after which the journal is marked.
pub(super) const MARK_AFTER: Duration = Duration::from_millis(50);
/// Quiet time after which a checkpoint is written that only something beside the steps waits for.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// Time between two such checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(60);

impl Core {
    /// Lets everyone see whether appends are taken and the clock is trusted.
    pub(super) fn show_state(&mut self) {
        let (clock, is_full) = (self.node.clock_state(), self.node.is_disk_full());
        let awaiting_count = self.node.awaiting_count() as u64;
        let before = lock(&self.shared.live).clock;
        self.tell_clock(before, clock);
        if before == ClockState::Trusted && clock != ClockState::Trusted {
            // What was believed until now, and is written down, is to be taken back before the next start.
            self.unsaved = self.unsaved.or(Some(Instant::now()));
        }
        self.show(|live| {
            live.clock = clock;
            live.awaiting_count = awaiting_count;
            if !matches!(live.appends, AppendsState::Stopped { .. }) {
                live.appends = if is_full { AppendsState::DiskFull } else { AppendsState::Open };
            }
        });
    }

    /// Says in the log when the clock is not believed any more, or is again.
    fn tell_clock(&self, before: ClockState, now: ClockState) {
        if std::mem::discriminant(&before) == std::mem::discriminant(&now) {
            return;
        }
        match now {
            ClockState::Trusted => tracing::info!("the clock is believed; removal by age goes on"),
            state => tracing::warn!(
                ?state,
                "the clock is not believed, and nothing is removed by age; if it is right, `conveyor clock accept`"
            ),
        }
    }

    /// Whether the journal could be marked now; otherwise whatever is in the way wakes us when it is done.
    pub(super) fn can_mark(&self) -> bool {
        let is_idle = self.at_disk.is_empty() && !self.is_writer_away && !self.node.has_work();
        is_idle && self.stopped.is_none()
    }

    /// One plan at a time: whatever else the maintenance lane is asked for waits for one log at most.
    pub(super) fn plan_next(&mut self) {
        if !self.is_planning
            && let Some((log, retention, dated)) = self.plans.pop_front()
        {
            self.is_planning = true;
            self.jobs.plan(log, retention, dated);
        }
    }

    /// When the scrub goes on; never once the peer has stopped, or is about to.
    pub(super) fn scrub_due(&self) -> Option<Instant> {
        self.scrub.due().filter(|_| self.stopped.is_none() && self.stopping.is_none())
    }

    pub(super) fn scrub_next(&mut self) {
        if self.scrub_due().is_some()
            && let Some(bytes_max) = self.scrub.begin(Instant::now())
        {
            self.jobs.scrub(bytes_max);
        }
    }

    pub(super) fn on_scrubbed(&mut self, piece: Piece) {
        if let Some(Round { bytes, damaged, errors, healed }) = self.scrub.done(&piece) {
            self.shared.scrubs.end(self.shared.env.clock.unix_ms());
            tracing::info!(bytes, damaged, errors, healed, "everything that is stored was read again");
        }
        self.unsaved = self.unsaved.or((!piece.healed.is_empty()).then(Instant::now));
        piece.healed.into_iter().for_each(|(log, range)| self.on_healed(log, range));
    }

    /// Readers that wait before damage go on, and others are told that it is held again.
    pub(super) fn on_healed(&mut self, log: LogId, Range { run, from, until }: Range) {
        self.shared.watches.wake(log.topic);
        let of_run = |log: std::sync::Arc<crate::log::store::Log>| {
            let run = *log.look().run(run)?;
            Some((run.parent, if run.until == until { link_bits(&run.link) } else { 0 }))
        };
        let parent = self.shared.store.log(&log).and_then(of_run);
        if let Some((topic, (parent, link))) = self.shared.store.topic_name(log.topic).zip(parent) {
            let range = RunRange { log, run, from, until };
            let held = HeldRange { range, parent, begin: Seq::FIRST, link };
            self.feed(Input::Peer(PeerInput::Held(topic, held)));
        }
    }

    pub(super) fn on_planned(&mut self, log: LogId, is_dated: bool, result: io::Result<Vec<Kept>>) {
        match result {
            Ok(kept) => {
                for Kept { run, start } in kept {
                    self.feed(Input::Planned { log, run, start, is_dated });
                }
            }
            Err(error) => tracing::warn!(%error, "retention could not look at a log; it will try again"),
        }
        self.plan_next();
    }

    pub(super) fn checkpoint(&mut self, rotation: crate::log::writer::Rotation) {
        self.checkpoints += 1;
        self.jobs.checkpoint(rotation, self.node.memory());
    }

    /// Lets everyone see the settings of topics that changed.
    pub(super) fn show_settings(&self, changed: Vec<(TopicName, Option<TopicSettings>)>) {
        let configured = &mut lock(&self.shared.live).configured;
        for (topic, settings) in changed {
            match settings {
                Some(settings) => drop(configured.insert(topic, settings)),
                None => drop(configured.remove(&topic)),
            }
        }
    }

    /// A full disk is waited out; any other failure means that what is on the disk is not known.
    pub(super) fn on_maintenance(&mut self, result: io::Result<()>, what: &str) {
        match result {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {
                tracing::error!(%error, "{what}");
                self.feed(Input::Space { free_bytes: 0 });
            }
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    pub(super) fn flush_if_due(&mut self) {
        if !self.is_flushing && flush::is_due(&self.shared.store) {
            self.is_flushing = true;
            self.jobs.flush();
        }
    }

    /// What the writer does when there is nothing to write.
    pub(super) fn be_idle(&mut self) {
        let is_stopping = self.stopping.is_some() && self.large.is_empty();
        if is_stopping {
            self.tell_damage();
        }
        self.is_writer_away = true;
        if is_stopping && self.unsaved.is_none() {
            self.jobs.finish();
        } else if !is_stopping && self.unmarked.is_some_and(|since| since.elapsed() >= MARK_AFTER) {
            self.unmarked = None;
            self.jobs.mark();
        } else if is_stopping || self.is_saving_due() {
            self.unsaved = None;
            self.saved = Some(Instant::now());
            self.jobs.rotate();
        } else {
            self.is_writer_away = false;
        }
    }

    /// Whether something waits for a checkpoint that a quiet peer would not write for long.
    pub(super) fn is_saving_due(&self) -> bool {
        let waits = self.unsaved.is_some_and(|since| since.elapsed() >= SAVE_AFTER);
        waits && self.checkpoints == 0 && self.saved.is_none_or(|last| last.elapsed() >= SAVE_EVERY)
    }
}
