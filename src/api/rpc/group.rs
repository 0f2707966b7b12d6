//! Groups: on one stream what a consumer asks, many requests under way, each answered when it is ready.
//!
//! Reading rights are enough to make a group and to work with it; to rewind it, which all its consumers feel, one must be
//! allowed to write; to change or delete it, to administer.
use super::page::{put_entry, put_name};
use super::{Ended, Session};
use crate::api::allowed;
use crate::base::{GroupName, PeerId, TopicName};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::runtime::Leased;
use crate::wire::contents::RawEntry;
use crate::wire::frame::{Frame, Kind};
use crate::wire::group::{GroupAnswer, GroupError, GroupRequest};
use crate::wire::message::{self, GroupAsk, Refusal, Reply};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;

/// Requests of one stream that may be under way.
const ASKED_COUNT_MAX: usize = 64;
/// Gathered bytes from which on they are written.
const GATHERED_BYTES_MAX: usize = 64 << 10;

type Answered = (u32, Result<Leased, GroupError>);

pub(super) async fn serve(
    session: &Session,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    topic: TopicName,
    group: GroupName,
    keeps_leases: bool,
) -> Result<(), Ended> {
    writer.message(Kind::Reply, &Reply::Ready).await?;
    let consumer = Consumer::new(session, topic, group, keeps_leases);
    let (mut under_way, mut introduced) = (UnderWay(Vec::new()), BTreeSet::new());
    let mut is_open = true;
    while is_open || !under_way.0.is_empty() {
        tokio::select! {
            biased;
            (number, answer) = under_way.next(), if !under_way.0.is_empty() => {
                answer_one(session, writer, number, answer, &mut introduced).await?;
                while let Some((number, answer)) = under_way.ready() {
                    answer_one(session, writer, number, answer, &mut introduced).await?;
                    if writer.waiting_bytes() >= GATHERED_BYTES_MAX {
                        writer.flush().await?;
                    }
                }
                writer.flush().await?;
            }
            came = reader.next_within(&session.shared.unfinished),
                if is_open && under_way.0.len() < ASKED_COUNT_MAX =>
            {
                match came? {
                    Some((frame, _room)) => under_way.0.push(consumer.ask(&frame)?),
                    None => is_open = false,
                }
            }
            // Nobody reads the answers any more.
            () = writer.stopped(), if !is_open => return Err(Ended::Gone),
        }
    }
    Ok(())
}

/// What a topic's groups do, one after the other.
pub(super) async fn list(session: &Session, writer: &mut FrameWriter, topic: TopicName) -> Result<(), Ended> {
    let found = match check(session, &topic, &GroupRequest::Info) {
        Ok(()) => session.handle().groups_of(&topic).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(groups) => {
            for mut group in groups {
                name_dispensers(session, &mut group);
                writer.message(Kind::Reply, &Reply::GroupInfo(Box::new(group))).await?;
            }
            Ok(writer.message(Kind::Reply, &Reply::Done).await?)
        }
        Err(error) => {
            Ok(writer.message(Kind::Reply, &Reply::Group { number: 0, answer: Err(error) }).await?)
        }
    }
}

fn name_dispensers(session: &Session, info: &mut crate::wire::group::GroupInfo) {
    info.dispensers.iter_mut().for_each(|of| of.name = session.handle().peer_name(&of.peer));
}

/// One stream's consumer. What it has leased is handed out again when this is dropped, unless leases are to be kept.
struct Consumer<'a> {
    session: &'a Session,
    topic: TopicName,
    group: GroupName,
    /// 0 where leases are kept.
    number: u64,
}

impl<'a> Consumer<'a> {
    fn new(session: &'a Session, topic: TopicName, group: GroupName, keeps_leases: bool) -> Self {
        let number = if keeps_leases { 0 } else { session.handle().group_consumer() };
        Self { session, topic, group, number }
    }

    fn ask(&self, frame: &Frame) -> Result<Pin<Box<dyn Future<Output = Answered> + Send>>, Ended> {
        let GroupAsk { number, request } = message::decode(&frame.payload).map_err(Refusal::from)?;
        self.session.counters().requests.add(1);
        if let Err(error) = check(self.session, &self.topic, &request) {
            return Ok(Box::pin(std::future::ready((number, Err(error)))));
        }
        let (handle, topic, group) = (self.session.handle().clone(), self.topic.clone(), self.group.clone());
        let consumer = self.number;
        Ok(Box::pin(async move { (number, handle.group(&topic, &group, consumer, request).await) }))
    }
}

impl Drop for Consumer<'_> {
    fn drop(&mut self) {
        if self.number > 0 {
            self.session.handle().group_left(&self.topic, self.number);
        }
    }
}

/// Whether this client may ask that.
fn check(session: &Session, topic: &TopicName, request: &GroupRequest) -> Result<(), GroupError> {
    allowed::group(&session.rights, topic, request).inspect_err(|error| {
        if matches!(error, GroupError::Forbidden { .. }) {
            session.counters().requests_forbidden.add(1);
        }
    })
}

async fn answer_one(
    session: &Session,
    writer: &mut FrameWriter,
    number: u32,
    answer: Result<Leased, GroupError>,
    introduced: &mut BTreeSet<PeerId>,
) -> Result<(), Ended> {
    let (answer, entries): (_, Vec<RawEntry>) = match answer {
        Ok((GroupAnswer::Info(mut info), _)) => {
            name_dispensers(session, &mut info);
            (Ok(GroupAnswer::Info(info)), vec![])
        }
        Ok((answer, entries)) => (Ok(answer), entries),
        Err(error) => (Err(error), vec![]),
    };
    for raw in &entries {
        if introduced.insert(raw.id.peer) {
            put_name(session, writer, raw.id.peer)?;
        }
    }
    writer.put_message(Kind::Reply, &Reply::Group { number, answer }).map_err(Refusal::from)?;
    for raw in entries {
        put_entry(session, writer, raw).await?;
    }
    Ok(())
}

/// Requests that are not answered yet.
struct UnderWay(Vec<Pin<Box<dyn Future<Output = Answered> + Send>>>);

impl UnderWay {
    /// The next that is ready.
    async fn next(&mut self) -> Answered {
        std::future::poll_fn(|context| {
            for index in 0..self.0.len() {
                if let Poll::Ready(answered) = self.0[index].as_mut().poll(context) {
                    drop(self.0.swap_remove(index));
                    return Poll::Ready(answered);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// One that is ready now.
    fn ready(&mut self) -> Option<Answered> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(self.next()).poll(&mut context) {
            Poll::Ready(answered) => Some(answered),
            Poll::Pending => None,
        }
    }
}
