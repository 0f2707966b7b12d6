//! Appends: who may, whether it is a retry, and which numbers and times the entries get.
use crate::base::limits::DELIVER_AHEAD_MS_MAX;
use crate::base::{AppendWork, Chunk, Durability, EntryId, LogId, Now, Seq, Timestamp, TopicName, Work};
use crate::node::copies::Awaits;
use crate::node::engine::Node;
use crate::node::io::{Release, Ticket};
use crate::node::own_log::{OwnLog, Tip};
use crate::topic::catalog::CatalogWrite;
use crate::topic::producers::{Known, Remembered, numbers_of};
use crate::wire::outcome::{AppendError, Appended};
use crate::wire::peer::RunRange;

impl Node {
    /// Takes an append. The answer is there, or comes once other peers hold it.
    pub(super) fn append(
        &mut self,
        now: Now,
        ticket: Ticket,
        topic: TopicName,
        durability: Option<Durability>,
        chunk: Chunk,
    ) -> Option<(Release, Result<Appended, AppendError>)> {
        let settings = self.settings(&topic);
        let level = durability.unwrap_or(settings.durability);
        let log = self.log_id(&topic);
        match (level, self.take(now, topic, log, level, settings.durability, chunk)) {
            (Durability::Replicas(asked), Ok((_, appended))) if asked > 1 => {
                self.gathered.awaits.push(Awaits { ticket, log, asked, appended });
                None
            }
            (_, Ok((release, appended))) => Some((release, Ok(appended))),
            (_, Err(error)) => Some((Release::Now, Err(error))),
        }
    }

    fn take(
        &mut self,
        now: Now,
        topic: TopicName,
        log: LogId,
        level: Durability,
        of_topic: Durability,
        chunk: Chunk,
    ) -> Result<(Release, Appended), AppendError> {
        self.check_append(now, &topic, &chunk)?;
        let count = chunk.header().entry_count;
        let numbers = numbers_of(&chunk.facts().producers);
        if let Some((producer, number)) = numbers {
            match self.producers.look(log.topic, producer, number, count) {
                Known::New => {}
                Known::Repeat(found) => return Ok(self.repeat(log, found, level)),
                Known::Mixed => return Err(AppendError::ProducerMixed { number }),
                Known::Forgotten => return Err(AppendError::ProducerForgotten { number }),
            }
        }
        self.check_room(&topic)?;
        let is_buffered = of_topic == Durability::Buffered;
        let must_sync = level != Durability::Buffered || !is_buffered;
        let appended = self.number(now, topic, log, chunk, is_buffered, must_sync);
        if let Some((producer, number)) = numbers {
            let found = Remembered {
                number,
                count,
                run: appended.run,
                first_seq: appended.first_seq,
                first_time: appended.first_time,
                step: self.step,
            };
            self.producers.add(log.topic, producer, found);
        }
        let release = if level == Durability::Buffered {
            Release::Written(self.step)
        } else {
            Release::Durable(self.step)
        };
        Ok((release, appended))
    }

    fn check_append(&self, now: Now, topic: &TopicName, chunk: &Chunk) -> Result<(), AppendError> {
        let facts = chunk.facts();
        // Users append data, and to topics of their own alone; to those of groups the peer itself does.
        let is_fitting = match topic.grouped() {
            Some(_) => facts.is_group,
            None => facts.is_data && !topic.is_system(),
        };
        if !is_fitting {
            return Err(AppendError::Kind);
        }
        let ahead_ms = facts.deliver_at_ms_max.unwrap_or(0).saturating_sub(now.unix_ms);
        if ahead_ms > DELIVER_AHEAD_MS_MAX {
            return Err(AppendError::DeliverAt { ahead_ms });
        }
        Ok(())
    }

    /// Whether something new may be taken; what was taken before may be asked for whatever this says.
    fn check_room(&self, topic: &TopicName) -> Result<(), AppendError> {
        if self.is_removed() {
            return Err(AppendError::Removed);
        }
        // What is acknowledged can be trimmed: that is how room is made.
        let is_reserve = topic.grouped().is_some() && self.free_bytes >= self.config.disk_reserve_bytes / 8;
        if self.is_full && !is_reserve {
            let (free_bytes, reserve_bytes) = (self.free_bytes, self.config.disk_reserve_bytes);
            return Err(AppendError::DiskFull { free_bytes, reserve_bytes });
        }
        if !self.takes(topic) {
            return Err(AppendError::TopicUnknown { topic: topic.clone() });
        }
        Ok(())
    }

    /// Whether the topic takes entries, or is made by its first.
    pub fn takes(&self, topic: &TopicName) -> bool {
        self.config.auto_create || topic.is_system() || self.exists(topic)
    }

    /// Whether someone made the topic, or it took entries and was not deleted since.
    fn exists(&self, topic: &TopicName) -> bool {
        let took_entries = || {
            let own = self.own.get(&self.log_id(topic))?;
            let deleted_until = self.catalog.deleted_until(topic, self.config.peer, own.tip().run);
            deleted_until.is_none_or(|until| until < own.until()).then_some(())
        };
        self.catalog.settings(topic).is_some() || took_entries().is_some()
    }

    /// Answers a retry as the first attempt was, as durable as the retry asks: the first may have asked for less.
    fn repeat(&mut self, log: LogId, found: Remembered, level: Durability) -> (Release, Appended) {
        let appended = Appended {
            peer: self.config.peer,
            run: found.run,
            signed_run: self.signed_run_of(&log, found.run),
            first_seq: found.first_seq,
            first_time: found.first_time,
            count: found.count,
            is_repeat: true,
            store: self.replication.own_store(),
            holders: Vec::new(),
        };
        let release = match level {
            Durability::Buffered if found.step <= self.durable => Release::Now,
            Durability::Buffered => Release::Written(found.step),
            _ => {
                self.gather.push(Work::Sync { log });
                Release::Durable(self.step)
            }
        };
        (release, appended)
    }

    /// Numbers and stamps a chunk and puts it into the step that is being gathered.
    pub(super) fn number(
        &mut self,
        now: Now,
        topic: TopicName,
        log: LogId,
        chunk: Chunk,
        is_buffered: bool,
        must_sync: bool,
    ) -> Appended {
        let count = chunk.header().entry_count;
        let goes_on = self.gather.has_open(&log);
        let own = self.own.entry(log).or_insert_with(|| OwnLog::new(log, topic.clone(), Tip::default()));
        let (entropy, held) = (&mut self.entropy, self.replication.held().log(&log));
        let before = own.tip().run;
        let is_known = |run| run == before || held.is_some_and(|held| held.run(run).is_some());
        let draw = |parent, first| Self::draw_run(entropy, parent, first, is_known);
        let n = own.number(now, count, goes_on, self.config.skew_ms_max, draw);
        self.gathered.tips.insert(log, own.tip());
        let (run, parent, opens_run) = (n.run, n.parent, n.opens_run);
        let (first_seq, first_time) = (n.first_seq, n.first_time);
        let range = RunRange { log, run, from: first_seq, until: first_seq.after(u64::from(count)) };
        self.note_own(&topic, range, parent, if opens_run { first_seq } else { Seq::FIRST });
        let chunks = Vec::new();
        let work = AppendWork {
            topic,
            log,
            run,
            parent,
            opens_run,
            first_seq,
            first_time,
            chunks,
            is_buffered,
            must_sync,
        };
        self.gather.append(work, chunk);
        let (peer, store) = (self.config.peer, self.replication.own_store());
        let (is_repeat, holders) = (false, Vec::new());
        Appended { peer, run, signed_run: run, first_seq, first_time, count, is_repeat, store, holders }
    }

    pub(super) fn remember_catalog(&mut self, id: EntryId, time: Timestamp, write: CatalogWrite) {
        self.gathered.catalog.push((id, time, write));
    }

    /// Whether a change about `topic` is on its way to the disk.
    pub(super) fn is_changing(&self, topic: &TopicName) -> bool {
        let waiting = self.in_flight.iter().map(|(_, believed)| believed).chain([&self.gathered]);
        waiting.flat_map(|believed| &believed.catalog).any(|(_, _, write)| write.topic == *topic)
    }
}
