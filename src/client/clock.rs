//! The clock of waits and pauses: tokio's, which a simulation holds still and moves by itself.
use tokio::time::Instant;

/// Now, for measuring how long to wait; never the time of day.
pub(crate) fn now() -> Instant {
    Instant::now()
}
