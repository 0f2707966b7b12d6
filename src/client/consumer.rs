//! Consuming a group: entries fetched ahead, kept leased while they are worked on, acknowledged in the background.
//!
//! ```text
//! Consumer::next <── jobs ──┐            ┌── Next ──> the peer, on one stream: when it ends, the peer hands out again
//!                           │  the task  ├── Extend, each third of a lease      what was leased on it
//! Job::ack, nack ── orders ─┘            └── Ack: all that waits, in one request
//! ```
use crate::client::consuming::{Driver, Order};
use crate::client::error::ClientError;
use crate::client::group::{Delivered, Group};
use crate::client::record::Record;
use crate::wire::group::{GROUP_COUNT_MAX, Lease};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How a [`Consumer`] takes entries.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Entries that are fetched and not done yet, at most, from 1 to 1 024: those being worked on and those waiting for that.
    /// Default 64. With 1 nobody holds an entry that another consumer could work on.
    pub prefetch_count: u32,
    /// Raw bytes that one fetch brings at most, but for one larger entry. Default 8 MiB.
    pub prefetch_bytes: u64,
    /// How long a lease is, at most twelve hours; it is renewed each third of that as long as the entry is worked on. `None`: as
    /// the group is set.
    pub lease: Option<Duration>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self { prefetch_count: 64, prefetch_bytes: 8 << 20, lease: None }
    }
}

/// Takes entries of a group, one after the other.
///
/// It goes on at another peer when its own is gone. Dropping it gives back what was not acknowledged.
#[derive(Debug)]
pub struct Consumer {
    jobs: mpsc::Receiver<Result<Job, ClientError>>,
    orders: mpsc::UnboundedSender<Order>,
}

/// An entry to work on. Dropping it gives it back, counted as a delivery.
#[derive(Debug)]
pub struct Job {
    delivered: Option<Delivered>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Job {
    pub(super) fn new(delivered: Delivered, orders: mpsc::UnboundedSender<Order>) -> Self {
        Self { delivered: Some(delivered), orders }
    }

    fn delivered(&self) -> &Delivered {
        // Taken when the job is consumed alone.
        self.delivered.as_ref().expect("a job has its entry until it is done")
    }

    /// The entry.
    pub fn record(&self) -> &Record {
        &self.delivered().record
    }

    /// The how manieth time it was handed out, as far as is known: 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.delivered().attempt
    }

    /// Its lease.
    pub fn lease(&self) -> Lease {
        self.delivered().lease
    }

    /// It is done: nobody is handed it again. Resolves when that is durable at the peer; `false` says that it was so already,
    /// since somebody else had it too.
    pub async fn ack(mut self) -> Result<bool, ClientError> {
        let (told, answered) = oneshot::channel();
        let lease = self.take();
        self.orders.send(Order::Ack(lease, Some(told))).map_err(|_| ClientError::Closed)?;
        answered.await.unwrap_or(Err(ClientError::Closed))
    }

    /// The same without waiting: when the consumer is lost before that is durable, the entry is handed out again.
    pub fn ack_later(mut self) {
        let lease = self.take();
        drop(self.orders.send(Order::Ack(lease, None)));
    }

    /// Gives it back, to be handed out again after `delay` (`None`: as the group is set). With `counts` it was a delivery.
    pub fn nack(mut self, delay: Option<Duration>, counts: bool) {
        let lease = self.take();
        drop(self.orders.send(Order::Nack { lease, delay, counts }));
    }

    fn take(&mut self) -> Lease {
        let lease = self.lease();
        self.delivered = None;
        lease
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(Delivered { lease, .. }) = self.delivered.take() {
            drop(self.orders.send(Order::Nack { lease, delay: None, counts: true }));
        }
    }
}

impl Consumer {
    pub(super) fn start(group: &Group, options: ConsumerOptions) -> Self {
        let prefetch = options.prefetch_count.clamp(1, GROUP_COUNT_MAX as u32);
        let (hand, jobs) = mpsc::channel(prefetch as usize + 1);
        let (orders, ordered) = mpsc::unbounded_channel();
        let driver = Driver::new(group, prefetch, &options, hand, orders.downgrade());
        group.connector.environment().spawn(driver.run(ordered));
        Self { jobs, orders }
    }

    /// The next entry; waits until there is one. After an error, and after [`Self::stop`], there are no more. Dropping this
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Job, ClientError>> {
        self.jobs.recv().await
    }

    /// Stops: nothing more is fetched, what was fetched and not taken is given back at once, and what was acknowledged is durable
    /// when this resolves. Jobs that are still worked on may be acknowledged later only by their ids.
    pub async fn stop(mut self) {
        self.jobs.close();
        while let Ok(Ok(mut job)) = self.jobs.try_recv() {
            let lease = job.take();
            drop(self.orders.send(Order::Nack { lease, delay: Some(Duration::ZERO), counts: false }));
        }
        let (told, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop(told)).is_ok() {
            drop(stopped.await);
        }
    }
}
