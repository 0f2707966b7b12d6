//! The state machine: sessions in, messages in, what became durable in; messages out, batches to send, things to store.
use crate::base::limits::FORKS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{ClusterId, LogId, PeerId, Removed, RunId, Seq, StoreId, TopicId, TopicName};
use crate::replication::bounds::NEIGHBORS_MAX;
use crate::replication::copies::Copies;
use crate::replication::digest;
use crate::replication::held::{Held, HeldRange};
use crate::replication::io::{PeerInput, PeerOutput, ReplicationConfig};
use crate::replication::offers::Offered;
use crate::replication::ranges::Ranges;
use crate::replication::relay::Relays;
use crate::replication::room::Source;
use crate::replication::session::{Lease, RunKey, Session};
use crate::replication::waiting::Waiting;
use crate::wire::peer::{LogSummary, PeerMessage, RunRange};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The replication of one store.
#[derive(Debug)]
pub struct Replication {
    pub(super) config: ReplicationConfig,
    store: StoreId,
    pub(super) held: Held,
    pub(super) sessions: BTreeMap<StoreId, Session>,
    /// Which of them offer what.
    pub(super) offered: Offered,
    /// Of whom something may have to be asked, to be looked at after this input.
    pub(super) to_ask: BTreeSet<StoreId>,
    /// Of whom something would be asked if less were under way.
    pub(super) held_up: BTreeSet<StoreId>,
    /// Who is left alone, by when that ends.
    pub(super) resting: BTreeSet<(u64, StoreId)>,
    /// Leases of all sessions.
    pub(super) lease_count: usize,
    /// Names of topics of which nothing is held, by what others say; a name is what its id is the digest of.
    pub(super) names: BTreeMap<TopicId, TopicName>,
    /// What runs that others offer go on from, and where they begin.
    pub(super) parents: BTreeMap<RunKey, (RunId, Seq)>,
    /// Asked for, of all sessions.
    pub(super) asked: BTreeMap<RunKey, Ranges>,
    /// How many entries of a run are asked for at once.
    pub(super) pieces: BTreeMap<RunKey, u64>,
    /// Taken, and waiting or on the way to the disk.
    pub(super) taken: BTreeMap<RunKey, Ranges>,
    /// On the way to the disk.
    pub(super) stored: BTreeMap<RunKey, Ranges>,
    /// What came before what it goes on from.
    pub(super) waiting: Waiting,
    /// Of whom what is on its way was had, by its first number.
    pub(super) sources: BTreeMap<(RunKey, Seq), Source>,
    /// What that takes, in bytes.
    pub(super) taken_bytes: usize,
    /// The ways that pushes take.
    pub(super) relays: Relays,
    /// Appends here that wait for other peers.
    pub(super) copies: Copies,
    /// Answers with batches that are open, by whom they go to.
    pub(super) serving: BTreeMap<StoreId, usize>,
    /// When we look again for what need not be remembered.
    pub(super) next_prune_ms: u64,
    /// Whom to tell of what came from a store, by whose log it is; until sessions change.
    pub(super) listeners: BTreeMap<(StoreId, PeerId), Arc<[StoreId]>>,
    /// Whether others are to be told with whom there are sessions, and not before when.
    pub(super) has_new_neighbors: bool,
    pub(super) neighbors_ms: u64,
    /// Peers that were removed, and what is left of their logs.
    pub(super) removed: Removed,
    cluster: ClusterId,
}

impl Replication {
    /// A store without sessions that holds nothing yet.
    pub fn new(config: ReplicationConfig, cluster: ClusterId, store: StoreId) -> Self {
        let (held, sessions, names, parents, sources) = Default::default();
        let (asked, pieces, taken, stored, waiting) = Default::default();
        let (copies, serving, next_prune_ms, has_new_neighbors, neighbors_ms) = Default::default();
        let (listeners, offered, to_ask, held_up, resting, lease_count, removed) = Default::default();
        let taken_bytes = 0;
        Self {
            config,
            store,
            held,
            sessions,
            offered,
            to_ask,
            held_up,
            resting,
            lease_count,
            names,
            parents,
            asked,
            pieces,
            taken,
            stored,
            waiting,
            sources,
            taken_bytes,
            relays: Relays::default(),
            copies,
            serving,
            next_prune_ms,
            listeners,
            has_new_neighbors,
            neighbors_ms,
            removed,
            cluster,
        }
    }

    /// The store that this is.
    pub fn own_store(&self) -> StoreId {
        self.store
    }

    /// The stores with which there is a session, and whose they are.
    pub fn sessions(&self) -> impl Iterator<Item = (StoreId, PeerId)> {
        self.sessions.iter().map(|(store, session)| (*store, session.peer))
    }

    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The name of a topic that a log of another store belongs to.
    pub fn topic_of(&self, log: &LogId) -> Option<&TopicName> {
        self.held.topic(&log.topic).or_else(|| self.names.get(&log.topic))
    }

    /// Whether no append waits for other peers.
    #[cfg(test)]
    pub(super) fn copies_are_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Ranges that are remembered of what others said of appends that wait.
    #[cfg(test)]
    pub(super) fn said_count(&self) -> usize {
        self.copies.said_count()
    }

    /// Takes in one input.
    pub fn handle(&mut self, now_ms: u64, input: PeerInput, out: &mut Vec<PeerOutput>) {
        match input {
            // What it says counts for nothing.
            PeerInput::Up(store, peer) if self.removed.get(&peer).is_some() => self.end(store, out),
            PeerInput::Up(store, peer) => {
                // The one before may have ended without a word: what was asked in it is asked again.
                self.end(store, out);
                let mut session = Session::new(peer, now_ms);
                out.push(PeerOutput::Send(store, session.follows.allow()));
                self.sessions.insert(store, session);
                self.listeners.clear();
                self.has_new_neighbors = true;
                self.tick(now_ms, out);
            }
            PeerInput::Down(store) => self.end(store, out),
            PeerInput::Message(from, message) => {
                if self.sessions.contains_key(&from) {
                    self.message(now_ms, from, message, out);
                }
            }
            PeerInput::Took { from: store, range, bytes, is_pushed } => {
                self.took(now_ms, &range, Source { store, bytes, is_pushed });
            }
            PeerInput::NoRoom(from, range) => self.had_no_room(from, &range),
            PeerInput::Pushed(from, number) => self.pushed(from, number, out),
            PeerInput::NotTaken(from, range, link) => self.not_taken(now_ms, from, (range, link), out),
            PeerInput::Fetched(fetched) => self.fetched(now_ms, *fetched, out),
            PeerInput::Refused(from, range) => self.refused(from, &range, out),
            PeerInput::Held(topic, held) => self.add(topic, &held, out),
            PeerInput::Gone(range) => self.gone(now_ms, range, out),
            PeerInput::HeldHead(topic, head, signature) => self.add_head(&topic, head, signature, out),
            PeerInput::HeldLost(topic, lost, signature) => self.add_lost(&topic, lost, signature, out),
            PeerInput::HeldFork(topic, fork) => self.add_fork(now_ms, &topic, &fork, out),
            PeerInput::Forget => {
                self.forget_sources();
                self.stored.clear();
                self.waiting = Waiting::default();
                let keys: Vec<RunKey> = std::mem::take(&mut self.taken).into_keys().collect();
                keys.into_iter().for_each(|key| self.wake(key));
                self.hold_up_no_more();
            }
            PeerInput::Served(to) => self.end_serving(to),
            PeerInput::Await(wanted) => {
                let timeout_ms = self.config.replicas_timeout_ms;
                self.copies.add(now_ms, timeout_ms, &wanted, &self.sessions, out);
                for RunRange { log, run, .. } in wanted.iter().map(|wanted| wanted.range) {
                    let held = self.held.log(&log).and_then(|log| log.run(run));
                    let end = held.and_then(|held| Some((held.ranges.until()?, held.link)));
                    self.copies.note_ends((log, run), end);
                }
            }
            PeerInput::Renamed { log, run, from, branch } => {
                self.copies.rename(now_ms, (log, run), from, branch, &self.sessions, out);
            }
            PeerInput::Removed(removal) => self.remove(&removal, out),
        }
        self.tell_neighbors(now_ms, out);
        self.ask(now_ms, out);
    }

    /// A session ended: what was asked in it is asked of others.
    pub(super) fn end(&mut self, store: StoreId, out: &mut Vec<PeerOutput>) {
        self.copies.forget(store);
        let Some(session) = self.forget_session(store) else { return };
        self.prune();
        session.leases.iter().for_each(|((key, from), lease)| self.end_lease(store, *key, *from, lease));
        self.has_new_neighbors = true;
        self.release_all(out);
    }

    /// Entries are not held here any more.
    fn gone(&mut self, now_ms: u64, range: RunRange, out: &mut Vec<PeerOutput>) {
        self.held.remove(&range);
        self.tell_all(&PeerMessage::Gone(range), out);
        // Whoever holds it says so when we compare.
        self.sessions.values_mut().for_each(|session| session.compare_ms = now_ms);
    }

    /// Time has passed: comparisons that are due begin, and what did not come is asked of others.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<PeerOutput>) {
        let (mut late, mut due, lease_ms) = (Vec::new(), Vec::new(), self.config.lease_ms);
        self.compare_rest(now_ms);
        self.expect_no_more();
        for (store, session) in &mut self.sessions {
            let is_late = |_: &(RunKey, Seq), lease: &mut Lease| {
                lease.news_ms + lease_ms <= now_ms && !planted::is(Bug::LeasesNeverExpire)
            };
            late.extend(session.leases.extract_if(.., is_late).map(|(at, lease)| (*store, at, lease)));
            // One side begins. The other does when nothing was heard for long, since this one may not see the session.
            if session.compare_ms <= now_ms {
                let patience = if self.store < *store { 1 } else { 2 };
                session.compare_ms = now_ms + patience * self.config.compare_ms;
                session.compared_ms = Some(now_ms);
                out.extend(session.follows.compare().map(|follow| PeerOutput::Send(*store, follow)));
                due.push(*store);
            }
        }
        for (store, (key, from), lease) in late {
            self.lease_count -= 1;
            // It had its chance; others first.
            self.rest(store, now_ms + self.config.compare_ms);
            self.end_lease(store, key, from, &lease);
        }
        self.hold_up_no_more();
        self.race(now_ms, out);
        self.release_old(now_ms, out);
        self.copies.tick(now_ms, &self.sessions, out);
        if !due.is_empty() {
            // The salt need not be secret, but differ from time to time. All that are due now share it, and the sum.
            let begin = digest::begin(&self.held, now_ms ^ self.store.0.rotate_left(17));
            out.extend(due.into_iter().map(|store| PeerOutput::Send(store, begin.clone())));
        }
        self.tell_neighbors(now_ms, out);
        self.ask(now_ms, out);
    }

    /// What was pushed and not taken is there at least.
    fn not_taken(
        &mut self,
        now_ms: u64,
        from: StoreId,
        (range, link): (RunRange, u64),
        out: &mut Vec<PeerOutput>,
    ) {
        self.doubled(from, &range, out);
        self.message(now_ms, from, PeerMessage::Have(range, link), out);
    }

    fn message(&mut self, now_ms: u64, from: StoreId, message: PeerMessage, out: &mut Vec<PeerOutput>) {
        match message {
            PeerMessage::Digest { salt, buckets } => {
                let (answers, is_cut) = digest::answer(&self.held, salt, &buckets);
                out.extend(answers.into_iter().map(|answer| PeerOutput::Send(from, answer)));
                if let Some(session) = self.sessions.get_mut(&from) {
                    session.is_cut |= is_cut;
                    session.compare_ms = session.compare_ms.max(now_ms + self.config.compare_ms);
                    session.compared_ms = Some(now_ms);
                }
            }
            PeerMessage::Leaves { salt, prefix, logs } => {
                let (tell, ask) = digest::differing(&self.held, salt, prefix, &logs);
                self.tell_logs(from, &tell, ask, out);
            }
            PeerMessage::Logs { held, ask } => {
                for summary in held {
                    self.copies.say_all(now_ms, from, &summary, &self.sessions, out);
                    self.take_in(now_ms, from, summary, out);
                }
                if !ask.is_empty() {
                    self.tell_logs(from, &ask, vec![], out);
                }
            }
            PeerMessage::Neighbors(stores) => {
                self.listeners.clear();
                if let Some(session) = self.sessions.get_mut(&from) {
                    session.neighbors = stores.into_iter().take(NEIGHBORS_MAX).collect();
                    session.neighbors.sort_unstable();
                }
            }
            PeerMessage::Have(range, link) => {
                self.copies.say(now_ms, from, (&range, link), &self.sessions, out);
                self.compare_end(from, (range.log, range.run), (range.until, link), out);
                self.have(from, &range, out);
            }
            PeerMessage::Gone(range) => {
                self.copies.take_back(from, &range);
                self.forget_offer(from, &range);
                self.release((range.log, range.run), out);
            }
            PeerMessage::Head(head, signature) => {
                if let Some(topic) = self.topic_of(&head.log).cloned() {
                    self.head(&topic, head, signature, out);
                }
            }
            PeerMessage::Fork(fork) => {
                if let Some(topic) = self.topic_of(&fork.log()).cloned() {
                    self.fork(&topic, &fork, out);
                }
            }
            PeerMessage::Lost(..) if planted::is(Bug::LostUntold) => {}
            PeerMessage::Lost(lost, signature) => {
                if let Some(topic) = self.topic_of(&lost.log).cloned() {
                    self.lost(&topic, lost, signature, out);
                }
            }
            PeerMessage::Want { range, bytes_max, certificate } => {
                self.asked_for(from, range.log.peer);
                self.serve(now_ms, from, range, bytes_max, certificate, out);
            }
            PeerMessage::Sent { range, until, end } => self.sent(now_ms, from, &range, (until, end), out),
            // By another way, batches once they are checked; or whoever has disk, clock or groups takes them.
            PeerMessage::Certificate { .. } | PeerMessage::Batch(_) | PeerMessage::Push { .. } => {}
            PeerMessage::AskStatement { .. } | PeerMessage::Statement { .. } | PeerMessage::Clock(_) => {}
            PeerMessage::Group(..) => {}
            PeerMessage::Follow { until, came } => self.followed(from, until, came),
        }
    }

    /// What another store says it holds of a log.
    fn take_in(&mut self, now_ms: u64, from: StoreId, summary: LogSummary, out: &mut Vec<PeerOutput>) {
        let LogSummary { log, topic, runs, heads, lost, forks } = summary;
        // Damage may have taken the name that one of us has for a topic: the other's is known by its id.
        let is_right = |topic: &TopicName| TopicId::of(self.cluster, topic.as_str()) == log.topic;
        let known = || self.topic_of(&log).filter(|topic| is_right(topic)).cloned();
        let Some(topic) = Some(topic).filter(is_right).or_else(known) else { return };
        self.held.name_topic(log.topic, &topic);
        heads.into_iter().for_each(|(head, signature)| self.head(&topic, head, signature, out));
        if !planted::is(Bug::LostUntold) {
            lost.into_iter().for_each(|(lost, signature)| self.lost(&topic, lost, signature, out));
        }
        forks.iter().take(FORKS_MAX).for_each(|fork| self.fork(&topic, fork, out));
        for of_run in runs {
            self.compare_ends(from, (log, of_run.run), &of_run, out);
            for (first, until) in of_run.held {
                self.offer(from, &RunRange { log, run: of_run.run, from: first, until });
            }
            self.remember(now_ms, (log, of_run.run), &topic, (of_run.parent, of_run.from));
        }
    }

    fn have(&mut self, from: StoreId, range: &RunRange, out: &mut Vec<PeerOutput>) {
        if self.topic_of(&range.log).is_some() && self.parent_of((range.log, range.run)).is_some() {
            self.told_of(from, range);
        } else {
            let ask = vec![crate::replication::held::tag_of(&range.log)];
            out.push(PeerOutput::Send(from, PeerMessage::Logs { held: vec![], ask }));
        }
    }

    /// Entries are durable here: others are told, and nobody is asked for them any more.
    fn add(&mut self, topic: TopicName, held: &HeldRange, out: &mut Vec<PeerOutput>) {
        let (range, key) = (held.range, (held.range.log, held.range.run));
        let counted = self.counted(range);
        let link = if counted == range { held.link } else { 0 };
        let is_news = self.held.add(&topic, &HeldRange { range: counted, link, ..*held });
        let source = self.forget_source(key, range.from);
        self.names.remove(&range.log.topic);
        let holders = source.map(|_| self.holders(&range)).unwrap_or_default();
        self.untake(&range);
        self.forget_offers(&range);
        self.parents.remove(&key);
        self.release(key, out);
        if is_news && counted.from < counted.until {
            match source {
                Some(source) => self.relay(source, (counted, link), &holders, out),
                None => {
                    let others = self.listeners(None, range.log.peer);
                    self.tell_held(&others, &others, (counted, link), out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
