//! What a peer waits for before it stops.
use crate::server::Server;
use crate::wire::outcome::Alone;
use tokio::time::{Duration, Instant};

/// How long a peer that drains waits for an answer before it asks again.
const DRAIN_LOOK: Duration = Duration::from_secs(2);

impl Server {
    /// Takes nothing new, and waits until all that was taken is on the disk and another peer holds all that this one wrote, as
    /// far as any is connected; what nobody says to hold in the end.
    pub async fn drain(&self, wait: Duration) -> Alone {
        let begun = Instant::now();
        // Nothing is handed out any more, and the log says so while it still takes entries.
        self.handle().rest_groups().await;
        if tokio::time::timeout(wait, self.handle().close()).await.is_err() {
            // What others hold of what is not on the disk here nobody can say.
            return Alone { is_known: false, topics: vec![] };
        }
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            // A look that lasts as long as there is time would not see who comes meanwhile.
            let alone = self.handle().alone(left.min(DRAIN_LOOK)).await;
            let is_over = alone.entry_count() == 0 || !alone.is_known || begun.elapsed() >= wait;
            if is_over || self.connected().is_empty() {
                return alone;
            }
        }
    }
}
