//! What happened and when, and the first thing that must not have happened.
//!
//! Everything of a run notes its events here. A failed check or a panic in any task is kept, and whoever drives the run
//! is woken by it.
use crate::cluster::lock;
use crate::trace::Trace;
use conveyor::runtime::Watched;
use std::fmt;
use std::sync::Mutex;
use tokio::time::Instant;

/// Events a run may have: one that goes round in circles ends here.
const EVENTS_MAX: u64 = 20_000_000;

/// The events of a run, with their times.
pub struct Recorder {
    began: Instant,
    trace: Mutex<Trace>,
    failure: Watched<Option<String>>,
}

impl Recorder {
    /// Begins now.
    pub fn new(is_printed: bool) -> Self {
        let (trace, failure) = (Mutex::new(Trace::new(is_printed)), Watched::new(None));
        Self { began: Instant::now(), trace, failure }
    }

    /// Milliseconds of simulated time since the beginning.
    pub fn elapsed_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Adds an event.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let ms = self.elapsed_ms();
        let mut trace = lock(&self.trace);
        trace.note(format_args!("{:4}.{:03} {event}", ms / 1000, ms % 1000));
        let is_endless = trace.count() > EVENTS_MAX;
        drop(trace);
        if is_endless {
            self.fail("the run does not end".to_owned());
        }
    }

    /// Adds something to the hash over all events that is too much to be told.
    pub fn absorb(&self, bytes: &[u8]) {
        lock(&self.trace).absorb(bytes);
    }

    /// Keeps why the run failed; the first reason counts.
    pub fn fail(&self, why: String) {
        self.failure.change(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(why);
            is_first
        });
    }

    /// Resolves with the reason when the run failed.
    pub async fn failed(&self) -> String {
        self.failure.find(Option::clone).await
    }

    /// Looks at the events.
    pub fn look<T>(&self, look: impl FnOnce(&Trace) -> T) -> T {
        look(&lock(&self.trace))
    }
}
