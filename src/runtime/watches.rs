//! Who waits for more of which topic. A topic is known here as long as someone reads it, and no longer: readers of
//! topics that are never written, or do not exist, leave nothing behind.
use crate::base::TopicId;
use crate::runtime::shared::lock;
use crate::runtime::watched::Watched;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The topics that are being read.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<BTreeMap<TopicId, Arc<Watched<u64>>>>);

/// Hears when more of a topic may be readable.
#[derive(Debug)]
pub(super) struct Watch {
    watches: Arc<Watches>,
    topic: TopicId,
    /// Counts wakes; there until this is dropped.
    wakes: Option<Arc<Watched<u64>>>,
    /// Those that were seen.
    seen: u64,
}

impl Watches {
    /// Begins to watch a topic.
    pub(super) fn watch(self: &Arc<Self>, topic: TopicId) -> Watch {
        let wakes = lock(&self.0).entry(topic).or_default().clone();
        let seen = wakes.look(|count| *count);
        Watch { watches: self.clone(), topic, wakes: Some(wakes), seen }
    }

    /// Wakes the readers of a topic.
    pub(super) fn wake(&self, topic: TopicId) {
        if let Some(watch) = lock(&self.0).get(&topic) {
            watch.change(|count| {
                *count += 1;
                true
            });
        }
    }
}

impl Watch {
    /// From now on only what comes later counts.
    pub(super) fn mark_unchanged(&mut self) {
        self.seen = self.wakes.as_ref().map_or(self.seen, |wakes| wakes.look(|count| *count));
    }

    /// Waits for a wake since [`Self::mark_unchanged`].
    pub(super) async fn changed(&mut self) {
        let seen = self.seen;
        if let Some(wakes) = &self.wakes {
            self.seen = wakes.find(|count| Some(*count).filter(|count| *count != seen)).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = lock(&self.watches.0);
        // Under the lock, so that of several that go at once the last sees that it is.
        self.wakes = None;
        if watches.get(&self.topic).is_some_and(|wakes| Arc::strong_count(wakes) == 1) {
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
