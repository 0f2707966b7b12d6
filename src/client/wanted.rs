//! Who waits for a stream because the peer allows no more of them on one connection, so that others give theirs back.
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// How many wait.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    count: AtomicUsize,
    came: Notify,
}

/// Counts one who waits.
pub(crate) struct Waiting<'a>(&'a Wanted);

impl Wanted {
    /// Counts whoever asks for as long as the answer is kept.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.came.notify_waiters();
        Waiting(self)
    }

    /// Whether anybody waits.
    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Resolves when somebody waits.
    pub(crate) async fn any(&self) {
        loop {
            // Whoever comes from here on is not missed.
            let mut came = pin!(self.came.notified());
            came.as_mut().enable();
            if self.is_any() {
                return;
            }
            came.await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn whoever_could_do_without_hears_of_one_who_waits_and_of_none_who_waits_no_more() {
        let wanted = Wanted::default();
        let is_heard = || tokio::time::timeout(Duration::from_secs(1), wanted.any());
        assert!(is_heard().await.is_err());
        let later = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            wanted.wait()
        };
        let (heard, waiting) = tokio::join!(is_heard(), later);
        assert!(heard.is_ok() && is_heard().await.is_ok());
        drop(waiting);
        assert!(is_heard().await.is_err());
    }
}
