//! What peers signed about their logs beside batches: heads, and ranges that are lost.
use crate::base::{Head, Lost, Signature, TopicName};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::wire::peer::PeerMessage;

impl Replication {
    /// Whether a head says more than what is known, and there is room for it. What is no news need not be checked.
    pub fn is_news_head(&self, head: &Head) -> bool {
        self.held.log(&head.log).is_none_or(|log| log.is_news(head) && log.has_room())
    }

    /// The same of a range that was declared lost.
    pub fn is_news_lost(&self, lost: &Lost, signature: &Signature) -> bool {
        self.held.log(&lost.log).is_none_or(|log| !log.knows_lost(lost, signature) && log.has_room())
    }

    pub(super) fn head(
        &mut self,
        topic: &TopicName,
        head: Head,
        signature: Signature,
        out: &mut Vec<PeerOutput>,
    ) {
        if self.is_news_head(&head) {
            out.push(PeerOutput::StoreHead(topic.clone(), head, signature));
        }
    }

    pub(super) fn lost(
        &mut self,
        topic: &TopicName,
        lost: Lost,
        signature: Signature,
        out: &mut Vec<PeerOutput>,
    ) {
        if self.is_news_lost(&lost, &signature) {
            out.push(PeerOutput::StoreLost(topic.clone(), lost, signature));
        }
    }

    /// A head is durable here: others are told.
    pub(super) fn add_head(
        &mut self,
        topic: &TopicName,
        head: Head,
        signature: Signature,
        out: &mut Vec<PeerOutput>,
    ) {
        self.held.add_head(topic, head, signature);
        self.names.remove(&head.log.topic);
        self.wake_log(head.log);
        self.release_log(head.log, out);
        self.tell_all(&PeerMessage::Head(head, signature), out);
    }

    /// What is lost is durable here: others are told.
    pub(super) fn add_lost(
        &mut self,
        topic: &TopicName,
        lost: Lost,
        signature: Signature,
        out: &mut Vec<PeerOutput>,
    ) {
        self.held.add_lost(topic, lost, signature);
        self.wake_log(lost.log);
        self.release_log(lost.log, out);
        self.tell_all(&PeerMessage::Lost(lost, signature), out);
    }
}
