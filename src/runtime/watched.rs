//! A value that tasks wait for: whoever began to wait first is woken first.
//!
//! Tokio's watch channel spreads those who wait over several lists by chance, so that in which order they go on is not the
//! same twice. A simulation that is told again must go the same way.
use crate::runtime::shared::lock;
use std::fmt;
use std::pin::pin;
use std::sync::Mutex;
use tokio::sync::Notify;

/// A value that changes now and then, and those who wait for that.
#[derive(Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&*lock(&self.value)).finish()
    }
}

impl<T> Watched<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// Changes the value, and wakes all who wait if `change` says that it did.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let is_changed = change(&mut lock(&self.value));
        if is_changed {
            self.changed.notify_waiters();
        }
    }

    /// Puts another value in its place, and wakes all who wait.
    pub fn set(&self, value: T) {
        self.change(|old| {
            *old = value;
            true
        });
    }

    /// Looks at the value.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&lock(&self.value))
    }

    /// Resolves with what `find` finds in the value, now or after a change. May be dropped at any time.
    pub async fn find<R>(&self, mut find: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            // A change from here on is not missed, though nobody waits for it yet.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = self.look(&mut find) {
                return found;
            }
            changed.await;
        }
    }

    /// Resolves when `holds` is true of the value, now or after a change.
    pub async fn until(&self, mut holds: impl FnMut(&T) -> bool) {
        self.find(|value| holds(value).then_some(())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn whoever_waits_first_goes_on_first() {
        let (watched, order) = (Arc::new(Watched::new(0)), Arc::new(Mutex::new(Vec::new())));
        let wait = |index: usize| {
            let (watched, order) = (watched.clone(), order.clone());
            async move {
                watched.until(|value| *value == 2).await;
                lock(&order).push(index);
            }
        };
        let mut all = tokio::task::JoinSet::new();
        (0..100).for_each(|index| drop(all.spawn(wait(index))));
        // So many tasks do not all have their turn at once.
        let turns = || async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        turns().await;
        watched.set(1);
        turns().await;
        assert!(lock(&order).is_empty());
        watched.set(2);
        all.join_all().await;
        assert_eq!(*lock(&order), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_holds_already_is_not_waited_for() {
        let watched = Watched::new(Some(7));
        assert_eq!(watched.find(|value| *value).await, 7);
    }
}
