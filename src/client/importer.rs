//! Handing over batches as their peers signed them, many at a time.
use crate::base::{Batch, PeerId, TopicName};
use crate::client::connect::Live;
use crate::client::error::ClientError;
use crate::client::request::Client;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::wire::data;
use crate::wire::frame::Kind;
use crate::wire::message::{Reply, Request};
use crate::wire::outcome::Imported;
use bytes::Bytes;

/// A stream of batches to one topic. Outcomes come in the order of the batches; after the first error no more are taken,
/// and what was under way may be imported again. Whoever sends bounds what is under way by asking for outcomes.
#[derive(Debug)]
pub struct Importer {
    writer: FrameWriter,
    reader: FrameReader,
    /// Whose certificate went last.
    introduced: Option<PeerId>,
}

impl Client {
    /// Begins to hand batches of `topic` over.
    pub async fn importer(&self, topic: &TopicName) -> Result<Importer, ClientError> {
        self.ask_each(async |live: &Live, _: &mut bool| Importer::begin(live, topic).await).await
    }

    /// Stores a batch as its peer signed it, with that peer's certificate in DER, and says what became of it: what was
    /// trimmed there is not stored again. The batches of a log come in order. A batch may be imported again after any
    /// error.
    pub async fn import(
        &self,
        certificate: Bytes,
        topic: &TopicName,
        batch: &Batch,
    ) -> Result<Imported, ClientError> {
        let import = async |live: &Live, is_sent: &mut bool| {
            let mut importer = Importer::begin(live, topic).await?;
            *is_sent = true;
            importer.send(certificate.clone(), batch).await?;
            importer.finish();
            importer.outcome().await
        };
        self.ask_each(import).await
    }
}

impl Importer {
    async fn begin(live: &Live, topic: &TopicName) -> Result<Self, ClientError> {
        let (writer, reader) = live.open(&Request::Import { topic: topic.clone() }).await?;
        Ok(Self { writer, reader, introduced: None })
    }

    /// Sends a batch, with its peer's certificate in DER. The batches of a log come in order.
    pub async fn send(&mut self, certificate: Bytes, batch: &Batch) -> Result<(), ClientError> {
        let statement = batch.statement();
        if self.introduced != Some(statement.log.peer) {
            self.writer.object(Kind::Certificate, &[], certificate).await?;
            self.introduced = Some(statement.log.peer);
        }
        let prefix = data::batch_prefix(statement.first_seq, statement.first_time);
        Ok(self.writer.object(Kind::Batch, &prefix, batch.bytes().clone()).await?)
    }

    /// What became of the oldest batch whose outcome was not told yet.
    pub async fn outcome(&mut self) -> Result<Imported, ClientError> {
        loop {
            match self.reader.message::<Reply>().await? {
                Some(Reply::Ready) => {}
                Some(Reply::Imported(imported)) => return Ok(imported?),
                Some(Reply::Refused(refusal)) => return Err(refusal.into()),
                _ => return Err(ClientError::unexpected()),
            }
        }
    }

    /// Says that no more will be sent. Outcomes still come.
    pub fn finish(&mut self) {
        self.writer.finish();
    }
}
