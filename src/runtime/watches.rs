//! Who waits for more of which topic. A topic is known here as long as someone reads it, and no longer: readers of
//! topics that are never written, or do not exist, leave nothing behind.
use crate::base::TopicId;
use crate::runtime::shared::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The topics that are being read.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<BTreeMap<TopicId, watch::Sender<u64>>>);

/// Hears when more of a topic may be readable.
#[derive(Debug)]
pub(super) struct Watch {
    watches: Arc<Watches>,
    topic: TopicId,
    /// There until this is dropped.
    receiver: Option<watch::Receiver<u64>>,
}

impl Watches {
    /// Begins to watch a topic.
    pub(super) fn watch(self: &Arc<Self>, topic: TopicId) -> Watch {
        let receiver = lock(&self.0).entry(topic).or_default().subscribe();
        Watch { watches: self.clone(), topic, receiver: Some(receiver) }
    }

    /// Wakes the readers of a topic.
    pub(super) fn wake(&self, topic: TopicId) {
        if let Some(watch) = lock(&self.0).get(&topic) {
            watch.send_modify(|count| *count += 1);
        }
    }
}

impl Watch {
    /// From now on only what comes later counts.
    pub(super) fn mark_unchanged(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.mark_unchanged();
        }
    }

    /// Waits for a wake since [`Self::mark_unchanged`].
    pub(super) async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        // Never: the other end is there as long as this one.
        std::future::pending().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = lock(&self.watches.0);
        // Under the lock, so that of several that go at once the last sees that it is.
        self.receiver = None;
        if watches.get(&self.topic).is_some_and(|watch| watch.receiver_count() == 0) {
            watches.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_topic_is_forgotten_with_its_last_reader_though_nobody_ever_writes_it() {
        let watches = Arc::new(Watches::default());
        let topic = TopicId([1; 16]);
        let (first, mut second) = (watches.watch(topic), watches.watch(topic));
        drop(first);
        watches.wake(topic);
        second.changed().await;
        drop(second);
        assert!(lock(&watches.0).is_empty());
        watches.wake(topic);
        assert!(lock(&watches.0).is_empty(), "nobody waits for it");
    }
}
