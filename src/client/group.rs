//! Groups as a client has them: one request at a time, and the way to a [`Consumer`].
use crate::base::{EntryId, GroupName, PeerId, PeerName, TopicId, TopicName};
use crate::client::Client;
use crate::client::connect::{Connector, Live};
use crate::client::consumer::{Consumer, ConsumerOptions};
use crate::client::error::ClientError;
use crate::client::record::{Record, record};
use crate::client::request::Answer;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::group::{
    Delivery, GroupAnswer, GroupError, GroupInfo, GroupRequest, GroupSettings, Lease, LeaseError,
};
use crate::wire::message::{self, GroupAsk, Refusal, Reply, Request};
use crate::wire::outcome::ReadFrom;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A group of a topic: consumers that share its entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) connector: Arc<Connector>,
    pub(super) topic: TopicName,
    pub(super) name: GroupName,
}

/// An entry that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The lease: what is given back or kept longer by it. To acknowledge, the entry's id is enough.
    pub lease: Lease,
    /// How long it lasts, from when it was handed out.
    pub lasts: Duration,
    /// The how manieth time it was handed out, as far as is known: 1 for the first.
    pub attempt: u32,
    /// The entry.
    pub record: Record,
}

/// What [`Group::next`] asks for.
#[derive(Debug, Clone)]
pub struct NextOptions {
    /// Entries at most, up to 1 024. Default 1.
    pub count_max: u32,
    /// Raw bytes of them at most; the first comes whatever its size. Default 16 MiB.
    pub bytes_max: u64,
    /// How long they are leased, at most twelve hours; `None`: as the group is set.
    pub lease: Option<Duration>,
    /// How long to wait where there is none, at most a minute. Default: not at all.
    pub wait: Duration,
    /// What is acknowledged first, at most 1 024.
    pub acked: Vec<EntryId>,
}

impl Default for NextOptions {
    fn default() -> Self {
        Self { count_max: 1, bytes_max: 16 << 20, lease: None, wait: Duration::ZERO, acked: Vec::new() }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Client {
    /// A group of `topic`, whether it is there or not.
    pub fn group(&self, topic: impl Borrow<TopicName>, name: GroupName) -> Group {
        Group { connector: self.connector().clone(), topic: topic.borrow().clone(), name }
    }

    /// All groups of a topic as the peer sees them, in order of their names.
    pub async fn groups(&self, topic: &TopicName) -> Result<Vec<GroupInfo>, ClientError> {
        let answers = self.ask(&Request::Groups { topic: topic.clone() }, None).await?;
        let mut groups = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer {
                Answer::Reply(Reply::GroupInfo(info)) => groups.push(*info),
                Answer::Reply(Reply::Done) => return Ok(groups),
                Answer::Reply(Reply::Group { answer: Err(error), .. }) => return Err(error.into()),
                _ => break,
            }
        }
        Err(ClientError::unexpected())
    }
}

impl Group {
    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Its name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// Makes it, to hand out from there on; durable at the peer when this resolves. `false`: it was there already, and is as it
    /// was.
    pub async fn create(&self, from: ReadFrom, settings: GroupSettings) -> Result<bool, ClientError> {
        self.done(GroupRequest::Create { from, settings }).await
    }

    /// Changes how it hands out.
    pub async fn set(&self, settings: GroupSettings) -> Result<bool, ClientError> {
        self.done(GroupRequest::Set { settings }).await
    }

    /// Hands out again from there on, what was acknowledged behind it too. Leases of before count no more.
    pub async fn rewind(&self, to: ReadFrom) -> Result<bool, ClientError> {
        self.done(GroupRequest::Rewind { to }).await
    }

    /// Forgets it. `false`: there was none.
    pub async fn delete(&self) -> Result<bool, ClientError> {
        self.done(GroupRequest::Delete).await
    }

    /// How it is doing, as the peer sees it.
    pub async fn info(&self) -> Result<GroupInfo, ClientError> {
        match self.ask(GroupRequest::Info).await? {
            (GroupAnswer::Info(info), _) => Ok(*info),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Entries to work on; fewer than asked for, or none, where there are no more. Their leases end by time alone: acknowledge
    /// them, give them back, or keep them longer. A [`Consumer`] does all that by itself.
    pub async fn next(&self, options: NextOptions) -> Result<Vec<Delivered>, ClientError> {
        let NextOptions { count_max, bytes_max, lease, wait, acked } = options;
        let (lease_ms, wait_ms) = (lease.map(millis), millis(wait));
        match self.ask(GroupRequest::Next { count_max, bytes_max, lease_ms, wait_ms, acked }).await? {
            (GroupAnswer::Leased(leases), records) => Ok(delivered(leases, records)),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// These are done, whoever has them. For each in turn whether that was news; durable at the peer when this resolves.
    pub async fn ack(&self, ids: &[EntryId]) -> Result<Vec<bool>, ClientError> {
        match self.ask(GroupRequest::Ack { ids: ids.to_vec() }).await? {
            (GroupAnswer::Acked(news), _) => Ok(news),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Gives entries back, to be handed out again after `delay` (`None`: as the group is set). With `counts` it was a delivery.
    pub async fn nack(
        &self,
        leases: &[Lease],
        delay: Option<Duration>,
        counts: bool,
    ) -> Result<Vec<Result<(), LeaseError>>, ClientError> {
        self.leases(GroupRequest::Nack { leases: leases.to_vec(), delay_ms: delay.map(millis), counts }).await
    }

    /// Keeps entries for so long from now on (`None`: as the group is set).
    pub async fn extend(
        &self,
        leases: &[Lease],
        lease: Option<Duration>,
    ) -> Result<Vec<Result<(), LeaseError>>, ClientError> {
        self.leases(GroupRequest::Extend { leases: leases.to_vec(), lease_ms: lease.map(millis) }).await
    }

    /// Begins to consume: entries are fetched ahead, kept leased, and acknowledged in the background.
    pub fn consumer(&self, options: ConsumerOptions) -> Consumer {
        Consumer::start(self, options)
    }

    /// A stream on which to take and acknowledge in one round trip. Unless leases are kept, what was taken and not acknowledged is
    /// handed out again when it is dropped.
    pub async fn exchange(&self, keeps_leases: bool) -> Result<Exchange, ClientError> {
        let live = self.connector.live_retrying().await?;
        let (writer, answers) = self.open(&live, keeps_leases).await?;
        Ok(Exchange { writer, answers, number: 0 })
    }

    async fn done(&self, request: GroupRequest) -> Result<bool, ClientError> {
        match self.ask(request).await? {
            (GroupAnswer::Done { is_changed }, _) => Ok(is_changed),
            _ => Err(ClientError::unexpected()),
        }
    }

    async fn leases(&self, request: GroupRequest) -> Result<Vec<Result<(), LeaseError>>, ClientError> {
        match self.ask(request).await? {
            (GroupAnswer::Leases(outcomes), _) => Ok(outcomes),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Asks one thing, as often as the connection is lost over it: each of them may be asked twice.
    async fn ask(&self, request: GroupRequest) -> Result<(GroupAnswer, Vec<Record>), ClientError> {
        loop {
            let live = self.connector.live_retrying().await?;
            match self.ask_at(&live, &request).await {
                Err(ClientError::Lost { .. }) if live.connection.close_reason().is_some() => {}
                Err(ClientError::Refused(Refusal::Stopping) | ClientError::Group(GroupError::Stopped)) => {
                    self.connector.leave(&live).await;
                }
                answered => return answered,
            }
        }
    }

    async fn ask_at(
        &self,
        live: &Live,
        request: &GroupRequest,
    ) -> Result<(GroupAnswer, Vec<Record>), ClientError> {
        let (mut writer, mut answers) = self.open(live, true).await?;
        let ask = GroupAsk { number: 0, request: request.clone() };
        writer.message(Kind::Request, &ask).await?;
        writer.finish();
        match answers.next().await? {
            Some((_, answer, records)) => Ok((answer?, records)),
            None => Err(ClientError::unexpected()),
        }
    }

    /// Opens a stream for requests.
    pub(super) async fn open(
        &self,
        live: &Live,
        keeps_leases: bool,
    ) -> Result<(FrameWriter, Answers), ClientError> {
        let (topic, group) = (self.topic.clone(), self.name.clone());
        let topic_id = TopicId::of(self.connector.authority().cluster(), topic.as_str());
        let (writer, reader) = live.open(&Request::Group { topic, group, keeps_leases }).await?;
        let (topic, names, begun) = (self.topic.clone(), BTreeMap::new(), None);
        Ok((writer, Answers { reader, topic, topic_id, names, begun }))
    }
}

/// One stream to a group, on which one thing is asked after the other: for programs that acknowledge what they did and take what
/// comes next in one round trip. A lost connection ends it.
#[derive(Debug)]
pub struct Exchange {
    writer: FrameWriter,
    answers: Answers,
    number: u32,
}

impl Exchange {
    /// As [`Group::next`]. It is not asked again when the connection is lost. A call that is dropped may have taken entries: they come
    /// again when the exchange is dropped too, unless leases are kept.
    pub async fn next(&mut self, options: NextOptions) -> Result<Vec<Delivered>, ClientError> {
        let NextOptions { count_max, bytes_max, lease, wait, acked } = options;
        let (lease_ms, wait_ms) = (lease.map(millis), millis(wait));
        self.number = self.number.wrapping_add(1);
        let request = GroupRequest::Next { count_max, bytes_max, lease_ms, wait_ms, acked };
        self.writer.message(Kind::Request, &GroupAsk { number: self.number, request }).await?;
        loop {
            match self.answers.next().await? {
                // What was asked before, by a call that was dropped.
                Some((number, ..)) if number != self.number => {}
                Some((_, answer, records)) => match answer? {
                    GroupAnswer::Leased(leases) => return Ok(delivered(leases, records)),
                    _ => return Err(ClientError::unexpected()),
                },
                None => return Err(ClientError::Lost { reason: "the peer ended the stream".to_owned() }),
            }
        }
    }
}

/// Leases with their entries.
pub(super) fn delivered(leases: Vec<Delivery>, records: Vec<Record>) -> Vec<Delivered> {
    let one = |(of, record): (Delivery, Record)| Delivered {
        lease: of.lease,
        lasts: Duration::from_millis(of.lease_ms),
        attempt: of.attempt,
        record,
    };
    leases.into_iter().zip(records).map(one).collect()
}

/// What comes back on a stream of requests.
#[derive(Debug)]
pub(super) struct Answers {
    reader: FrameReader,
    topic: TopicName,
    topic_id: TopicId,
    names: BTreeMap<PeerId, PeerName>,
    /// An answer whose entries are not all here.
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    number: u32,
    answer: GroupAnswer,
    records: Vec<Record>,
    count: usize,
}

type Answered = (u32, Result<GroupAnswer, GroupError>, Vec<Record>);

impl Answers {
    /// The next answer; none where the peer ends the stream. Dropping this future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Answered>, ClientError> {
        loop {
            if let Some(whole) = self.begun.take_if(|begun| begun.records.len() == begun.count) {
                return Ok(Some((whole.number, Ok(whole.answer), whole.records)));
            }
            let Some(frame) = self.reader.next().await? else { return Ok(None) };
            let broken = |error: &dyn std::fmt::Display| ClientError::Protocol { what: error.to_string() };
            match (frame.kind, &mut self.begun) {
                (Kind::Entry, Some(begun)) => {
                    let raw =
                        data::read_entry(self.topic_id, &frame.payload).map_err(|error| broken(&error))?;
                    let name = self.names.get(&raw.id.peer).cloned();
                    begun.records.push(record(&self.topic, name, &raw).ok_or_else(ClientError::unexpected)?);
                }
                (Kind::Reply, None) => {
                    match message::decode(&frame.payload).map_err(|error| broken(&error))? {
                        Reply::Ready => {}
                        Reply::Name { peer, name } => drop(self.names.insert(peer, name)),
                        Reply::Refused(refusal) => return Err(refusal.into()),
                        Reply::Group { number, answer: Err(error) } => {
                            return Ok(Some((number, Err(error), vec![])));
                        }
                        Reply::Group { number, answer: Ok(answer) } => {
                            let count = match &answer {
                                GroupAnswer::Leased(leases) => leases.len(),
                                _ => 0,
                            };
                            self.begun = Some(Begun { number, answer, records: Vec::new(), count });
                        }
                        _ => return Err(ClientError::unexpected()),
                    }
                }
                _ => return Err(ClientError::unexpected()),
            }
        }
    }
}
