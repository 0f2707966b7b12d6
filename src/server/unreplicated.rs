//! How much is on this peer's disk alone, for monitoring: asked now and then, since it costs a look at all that it wrote.
use crate::net::Peers;
use crate::runtime::Handle;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time;

/// How often is asked.
const LOOK: Duration = Duration::from_secs(15);
/// How long those who are asked have to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Entries that this peer wrote and that no other one says to hold, as of the last look.
#[derive(Debug, Clone, Default)]
pub(super) struct Unreplicated(Arc<Mutex<Option<u64>>>);

impl Unreplicated {
    /// Nothing while nobody is connected, who alone could say.
    pub(super) fn get(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again, until it is dropped.
    pub(super) async fn keep_looking<T>(self, handle: Handle, peers: Arc<Peers>) -> T {
        loop {
            let found = match peers.connected().is_empty() {
                true => None,
                false => {
                    let alone = handle.alone(ANSWER_TIME_MAX).await;
                    alone.is_known.then(|| alone.entry_count())
                }
            };
            // Whoever was connected may be gone meanwhile.
            let found = found.filter(|_| !peers.connected().is_empty());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
            time::sleep(LOOK).await;
        }
    }
}
