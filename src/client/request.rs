//! The client itself: what it asks in one request, and the way to producers and readers.
use crate::base::name::EntryRef;
use crate::base::{Entry, EntryId, PeerName, TopicId, TopicName};
use crate::client::ClientBuilder;
use crate::client::connect::{Connector, Live};
use crate::client::error::ClientError;
use crate::client::producer::{Producer, ProducerOptions};
use crate::client::read::ReadBuilder;
use crate::client::reader::BatchReader;
use crate::client::record::{Record, record};
use crate::client::source::Wish;
use crate::quic::stream::{CANCELLED, FrameReader};
use crate::wire::contents::RawEntry;
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::message::{self, GET_COUNT_MAX, Refusal, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::{
    About, Alone, Explained, LogInfo, Member, ReadError, ReadFrom, Status, SyncStatus, TopicChange,
    TopicChanged, TopicInfo,
};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time;

/// Topics for which [`Client::append`] keeps a producer.
const POOL_COUNT_MAX: usize = 1024;
/// Pause before what a peer gave up is asked again.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// A client of a cluster. Cheap to clone: all clones share one connection, which is closed when the last clone, with
/// the producers and readers it made, is gone.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Arc<Connector>,
    pool: Arc<Mutex<BTreeMap<TopicName, Arc<Producer>>>>,
}

/// One thing that a peer answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    Entry(RawEntry),
}

impl Client {
    /// Begins to set a client up.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, pool: Arc::default() }
    }

    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Who the peer is that the client talked to last.
    pub fn about(&self) -> About {
        // A client is handed out connected, and what a peer said of itself is never forgotten.
        self.connector.about().expect("a client has been connected")
    }

    /// Why the client has lost its connection and not made another yet: each address, and what became of it. `None`
    /// while a connection stands, and while nothing needs one. For telling people what they wait for.
    pub fn trouble(&self) -> Option<String> {
        self.connector.trouble()
    }

    /// Appends one entry and waits until it is as durable as the topic is set to be. Calls at the same time share
    /// chunks. A lost connection is made again and the entry sent again; it is then stored once.
    pub async fn append(&self, topic: &TopicName, entry: impl Into<Entry>) -> Result<EntryId, ClientError> {
        let producer = self.pooled(topic);
        let receipt = producer.send(entry).await?;
        Ok(receipt.await?.id)
    }

    fn pooled(&self, topic: &TopicName) -> Arc<Producer> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = pool.get(topic).filter(|producer| !producer.has_ended()) {
            return producer.clone();
        }
        if pool.len() >= POOL_COUNT_MAX {
            pool.retain(|_, producer| !producer.is_idle());
        }
        let producer = Arc::new(Producer::start(&self.connector, topic.clone(), &ProducerOptions::default()));
        pool.insert(topic.clone(), producer.clone());
        producer
    }

    /// A producer for many entries of one topic. Does not wait for the peer: its errors come with the receipts.
    pub async fn producer(
        &self,
        topic: impl Borrow<TopicName>,
        options: ProducerOptions,
    ) -> Result<Producer, ClientError> {
        Ok(Producer::start(&self.connector, topic.borrow().clone(), &options))
    }

    /// Begins a read of `topic`, from its oldest entry on unless told otherwise.
    pub fn read(&self, topic: impl Borrow<TopicName>) -> ReadBuilder {
        ReadBuilder::new(self.clone(), topic.borrow().clone())
    }

    /// Whole signed batches from a position on, up to what the peer holds: what an export is made of.
    pub fn batches(&self, topic: impl Borrow<TopicName>, from: ReadFrom) -> BatchReader {
        let wish = Wish {
            topic: topic.borrow().clone(),
            from,
            follow: false,
            skip_damaged: true,
            key: None,
            entry_count_max: u64::MAX,
        };
        BatchReader::new(self.connector.clone(), wish)
    }

    /// Entries by their ids, at most 1 024, each with its own answer, in order. With `wait`, at most a minute, the
    /// peer waits for ids that are ahead of it.
    pub async fn get(
        &self,
        ids: &[EntryRef],
        wait: Option<Duration>,
    ) -> Result<Vec<Result<Record, ReadError>>, ClientError> {
        if ids.len() > GET_COUNT_MAX {
            let what = format!("at most {GET_COUNT_MAX} ids in one request");
            return Err(Refusal::Limit { what }.into());
        }
        let wait_ms = wait.map_or(0, |wait| (wait.as_millis() as u64).min(WAIT_MS_MAX));
        let request = Request::Get { ids: ids.to_vec(), wait_ms };
        for _ in 1..self.connector.address_count() {
            let live = self.connector.live_retrying().await?;
            let found = self.get_once(ids, &request).await?;
            // What stops meanwhile answers for some of them, and another peer for all.
            if !found.iter().any(|answer| matches!(answer, Err(ReadError::Stopped))) {
                return Ok(found);
            }
            self.connector.leave(&live).await;
        }
        self.get_once(ids, &request).await
    }

    async fn get_once(
        &self,
        ids: &[EntryRef],
        request: &Request,
    ) -> Result<Vec<Result<Record, ReadError>>, ClientError> {
        let (mut found, mut name) = (Vec::with_capacity(ids.len()), None::<PeerName>);
        for answer in self.ask(request, None).await? {
            let Some(id) = ids.get(found.len()) else { return Err(ClientError::unexpected()) };
            match answer {
                Answer::Reply(Reply::Name { name: said, .. }) => name = Some(said),
                Answer::Reply(Reply::Failed(error)) => found.push(Err(error)),
                Answer::Entry(mut raw) => {
                    raw.id.topic = TopicId::of(self.connector.authority().cluster(), id.topic.as_str());
                    let record = record(&id.topic, name.take(), &raw);
                    found.push(Ok(record.ok_or_else(ClientError::unexpected)?));
                }
                Answer::Reply(_) => return Err(ClientError::unexpected()),
            }
        }
        if found.len() == ids.len() { Ok(found) } else { Err(ClientError::unexpected()) }
    }

    /// Creates, sets or deletes a topic. When the connection is lost before the answer comes
    /// ([`ClientError::Lost`]), it may or may not have happened.
    pub async fn change_topic(&self, change: TopicChange) -> Result<TopicChanged, ClientError> {
        let request = Request::Change(change);
        let change = async |live: &Live, is_sent: &mut bool| {
            let (_writer, mut reader) = live.open(&request).await?;
            *is_sent = true;
            match reader.message::<Reply>().await? {
                Some(Reply::Changed(changed)) => Ok(changed?),
                Some(Reply::Refused(refusal)) => Err(refusal.into()),
                _ => Err(ClientError::unexpected()),
            }
        };
        self.ask_each(change).await
    }

    /// Asks for something that may not be done twice: of one peer after the other as long as those that are asked do nothing, since
    /// they are about to stop, or are lost before the request was sent.
    pub(crate) async fn ask_each<T>(
        &self,
        ask: impl AsyncFn(&Live, &mut bool) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut asked = 0;
        loop {
            let live = self.connector.live_retrying().await?;
            let mut is_sent = false;
            let answer = ask(&live, &mut is_sent).await;
            asked += 1;
            let is_last = asked > self.connector.address_count();
            match answer {
                Err(ClientError::Refused(Refusal::Stopping)) if !is_last => self.connector.leave(&live).await,
                Err(ClientError::Lost { .. }) if !is_sent && !is_last => {}
                answer => return answer,
            }
        }
    }

    /// All topics this client may read, by name.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        let answers = self.ask(&Request::Topics, None).await?;
        join_topics(answers)
    }

    /// One topic; `None` when the peer knows none of that name.
    pub async fn topic(&self, topic: &TopicName) -> Result<Option<TopicInfo>, ClientError> {
        let answers = self.ask(&Request::Topic { topic: topic.clone() }, None).await?;
        Ok(join_topics(answers)?.into_iter().next())
    }

    /// How the peer is doing.
    pub async fn status(&self) -> Result<Status, ClientError> {
        match &mut self.ask(&Request::Status, None).await?[..] {
            [Answer::Reply(Reply::Status(status))] => Ok(status.clone()),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// All peers of the cluster that the peer knows, by name.
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        let answers = self.ask(&Request::Members, None).await?;
        let members = answers.into_iter().filter_map(|answer| match answer {
            Answer::Reply(Reply::Member(member)) => Some(Ok(member)),
            Answer::Reply(Reply::Done) => None,
            _ => Some(Err(ClientError::unexpected())),
        });
        members.collect()
    }

    /// How the peer stands to the others: what it lacks, and of whom it is asked for.
    pub async fn sync(&self) -> Result<SyncStatus, ClientError> {
        match &mut self.ask(&Request::Sync, None).await?[..] {
            [Answer::Reply(Reply::Sync(sync))] => Ok(sync.clone()),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Which entries that the peer wrote no other peer says it holds, within `wait` (at most a minute) for those who are asked.
    pub async fn alone(&self, wait: Duration) -> Result<Alone, ClientError> {
        let request = Request::Alone { wait_ms: wait.as_millis() as u64 };
        match &mut self.ask(&request, None).await?[..] {
            [Answer::Reply(Reply::Alone(alone))] => Ok(alone.clone()),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Why an entry is or is not at the peer asked.
    pub async fn explain(&self, id: &EntryRef) -> Result<Explained, ClientError> {
        match &mut self.ask(&Request::Explain { id: id.clone() }, None).await?[..] {
            [Answer::Reply(Reply::Explained(explained))] => Ok(explained.clone()),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Makes the peer believe its clock as it is, when it is settling after a step forward.
    pub async fn accept_clock(&self) -> Result<(), ClientError> {
        match &self.ask(&Request::AcceptClock, None).await?[..] {
            [Answer::Reply(Reply::Done)] => Ok(()),
            _ => Err(ClientError::unexpected()),
        }
    }

    /// Ends the connection. Producers and readers made by this client end with [`ClientError::Closed`] or
    /// [`ClientError::Lost`]; flush producers first.
    pub async fn close(self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.connector.close();
        self.connector.closed().await;
    }

    /// Asks for something that changes nothing, as often as the connection is lost over it.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        topic: Option<&TopicName>,
    ) -> Result<Vec<Answer>, ClientError> {
        let topic = topic.map_or(TopicId::default(), |topic| {
            TopicId::of(self.connector.authority().cluster(), topic.as_str())
        });
        let mut is_again = false;
        loop {
            let live = self.connector.live_retrying().await?;
            let asked = async {
                let (mut writer, mut reader) = live.open(request).await?;
                writer.finish();
                collect(&mut reader, topic).await
            };
            match asked.await {
                Err(ClientError::Lost { .. }) if live.connection.close_reason().is_some() => {}
                // The stream alone was given up.
                Err(ClientError::Lost { .. }) if !std::mem::replace(&mut is_again, true) => {
                    time::sleep(AGAIN_PAUSE).await;
                }
                Err(ClientError::Refused(Refusal::Stopping)) => self.connector.leave(&live).await,
                done => return done,
            }
        }
    }
}

async fn collect(reader: &mut FrameReader, topic: TopicId) -> Result<Vec<Answer>, ClientError> {
    let mut answers = Vec::new();
    while let Some(frame) = reader.next().await? {
        answers.push(match frame.kind {
            Kind::Reply => match message::decode(&frame.payload)
                .map_err(|error| ClientError::Protocol { what: error.to_string() })?
            {
                Reply::Refused(refusal) => {
                    reader.stop(CANCELLED);
                    return Err(refusal.into());
                }
                reply => Answer::Reply(reply),
            },
            Kind::Entry => Answer::Entry(
                data::read_entry(topic, &frame.payload)
                    .map_err(|error| ClientError::Protocol { what: error.to_string() })?,
            ),
            _ => return Err(ClientError::unexpected()),
        });
    }
    Ok(answers)
}

/// Puts the parts of topics together that a peer cut to fit its messages.
fn join_topics(answers: Vec<Answer>) -> Result<Vec<TopicInfo>, ClientError> {
    let mut topics: Vec<TopicInfo> = Vec::new();
    let mut is_whole = false;
    for answer in answers {
        match answer {
            Answer::Reply(Reply::Topic(part)) => match topics.last_mut() {
                Some(last) if last.name == part.name => join_logs(&mut last.logs, part.logs),
                _ => topics.push(part),
            },
            Answer::Reply(Reply::Done) => is_whole = true,
            _ => return Err(ClientError::unexpected()),
        }
    }
    if is_whole { Ok(topics) } else { Err(ClientError::unexpected()) }
}

/// Adds logs; one that comes again brings more of its ranges.
fn join_logs(logs: &mut Vec<LogInfo>, part: Vec<LogInfo>) {
    for log in part {
        match logs.last_mut() {
            Some(last) if last.peer == log.peer => {
                last.damaged.extend(log.damaged);
                last.lost.extend(log.lost);
            }
            _ => logs.push(log),
        }
    }
}
