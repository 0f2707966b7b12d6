//! Removing a peer for good, and what is set aside of those that were. For administrators of all topics.
//!
//! ```text
//! held_of, at each holder ──> ends, together ──> signed by the administrator ──> remove_peer, at one of them
//! ```
use crate::base::{Batch, EntryId, PeerId, Seq, SignedRemoval, TopicName};
use crate::client::connect::Live;
use crate::client::error::ClientError;
use crate::client::request::{Answer, Client};
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::message::{self, Reply, Request};
use crate::wire::outcome::{Aside, Gap, HeldOf};
use crate::wire::verify::Authenticator;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is set aside of a topic, one batch after the other.
#[derive(Debug)]
pub struct AsideReader {
    reader: FrameReader,
    /// Kept open: dropping it would tell the peer that the read is over.
    _writer: FrameWriter,
    authenticator: Authenticator,
    certificates: BTreeMap<PeerId, Bytes>,
}

/// What comes out of it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time; nearly all are batches")]
pub enum AsideItem {
    /// A batch, as its peer signed it, of which the entries from `from` on are set aside.
    Batch {
        /// The certificate of its peer, DER.
        certificate: Bytes,
        /// The batch.
        batch: Batch,
        /// The first entry that is set aside.
        from: Seq,
    },
    /// A range that cannot be read there.
    Gap(Gap),
}

impl Client {
    /// What the peer asked holds of another's logs, and whether it knows that the other was removed.
    pub async fn held_of(&self, peer: PeerId) -> Result<HeldOf, ClientError> {
        let mut whole: Option<HeldOf> = None;
        for answer in self.ask(&Request::HeldOf { peer }, None).await? {
            match (answer, &mut whole) {
                (Answer::Reply(Reply::HeldOf(part)), None) => whole = Some(part),
                (Answer::Reply(Reply::HeldOf(part)), Some(whole)) => whole.ends.extend(part.ends),
                (Answer::Reply(Reply::Done), Some(_)) => return whole.ok_or_else(ClientError::unexpected),
                _ => break,
            }
        }
        Err(ClientError::unexpected())
    }

    /// Removes a peer for good, as an administrator signed it; resolves when that is durable at the peer asked, from which all
    /// others hear of it. Answers the entry of `$catalog` that says so. When the connection is lost before the answer comes
    /// ([`ClientError::Lost`]) it may have happened: the same again is harmless.
    pub async fn remove_peer(&self, signed: &SignedRemoval) -> Result<Option<EntryId>, ClientError> {
        let remove = async |live: &Live, is_sent: &mut bool| {
            let (mut writer, mut reader) = live.open(&Request::Remove).await?;
            *is_sent = true;
            writer.object(Kind::Removal, &[], signed.encode().into()).await?;
            writer.finish();
            match reader.message::<Reply>().await? {
                Some(Reply::Removed(removed)) => Ok(removed?.by),
                Some(Reply::Refused(refusal)) => Err(refusal.into()),
                _ => Err(ClientError::unexpected()),
            }
        };
        self.ask_each(remove).await
    }

    /// What the peer asked has set aside of peers that were removed.
    pub async fn asides(&self) -> Result<Vec<Aside>, ClientError> {
        let mut asides = Vec::new();
        for answer in self.ask(&Request::Asides, None).await? {
            match answer {
                Answer::Reply(Reply::Aside(aside)) => asides.push(aside),
                Answer::Reply(Reply::Done) => return Ok(asides),
                _ => break,
            }
        }
        Err(ClientError::unexpected())
    }

    /// Begins to read what the peer asked has set aside of a topic. A connection that is lost ends it: it is begun anew.
    pub async fn read_aside(&self, topic: &TopicName) -> Result<AsideReader, ClientError> {
        let live = self.connector().live_retrying().await?;
        let (writer, reader) = live.open(&Request::ReadAside { topic: topic.clone() }).await?;
        let connector = self.connector();
        let authenticator = Authenticator::new(connector.authority().clone(), connector.remembered().clone());
        Ok(AsideReader { reader, _writer: writer, authenticator, certificates: BTreeMap::new() })
    }
}

impl AsideReader {
    /// The next; `None` behind the last. A batch that is not what its peer signed is an error.
    pub async fn next(&mut self) -> Result<Option<AsideItem>, ClientError> {
        loop {
            let Some(frame) = self.reader.next().await? else { return Err(ClientError::unexpected()) };
            match frame.kind {
                Kind::Certificate => {
                    let (peer, _) = self.authenticator.learn(&frame.payload)?;
                    self.certificates.insert(peer, frame.payload);
                }
                Kind::Batch => {
                    let wrong = |error: data::DataError| ClientError::Protocol { what: error.to_string() };
                    let (batch, from, _) = data::read_batch(&frame.payload).map_err(wrong)?;
                    self.authenticator.check(std::slice::from_ref(&batch))?;
                    let certificate = self.certificates.get(&batch.statement().log.peer).cloned();
                    let certificate = certificate.ok_or_else(ClientError::unexpected)?;
                    return Ok(Some(AsideItem::Batch { certificate, batch, from }));
                }
                _ => match message::decode(&frame.payload) {
                    Ok(Reply::Gap(gap)) => return Ok(Some(AsideItem::Gap(gap))),
                    Ok(Reply::Done) => return Ok(None),
                    Ok(Reply::Refused(refusal)) => return Err(refusal.into()),
                    _ => return Err(ClientError::unexpected()),
                },
            }
        }
    }
}
