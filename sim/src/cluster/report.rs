//! Telling a story, on a thread and a clock of its own, and how it went.
use crate::cluster::life;
use crate::cluster::recorder::Recorder;
use crate::entropy;
use conveyor::base::planted::{self, Bug};

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// How many events there were.
    pub event_count: u64,
    /// The hash over all events.
    pub hash: String,
    /// The last events.
    pub last: Vec<String>,
    /// Simulated milliseconds.
    pub elapsed_ms: u64,
}

/// Runs what `begin` begins, with a bug put in on purpose if there is one.
#[expect(clippy::disallowed_methods, reason = "each run has a fresh thread, whose state is its own")]
pub fn alone<F: Future<Output = Report>>(
    seed: u64,
    bug: Option<Bug>,
    begin: impl FnOnce() -> F + Send + 'static,
) -> Report {
    let thread = std::thread::spawn(move || {
        entropy::seed(seed);
        planted::put_in(bug);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime =
            builder.enable_time().start_paused(true).build().expect("a runtime without files or threads");
        runtime.block_on(async { begin().await })
    });
    thread.join().unwrap_or_else(|panic| Report {
        failure: Some(life::said(&*panic)),
        event_count: 0,
        hash: String::new(),
        last: Vec::new(),
        elapsed_ms: 0,
    })
}

/// Goes through a story until it ends or something fails.
pub async fn tell(recorder: &Recorder, story: impl Future<Output = ()>) -> Report {
    let failure = tokio::select! { biased;
        why = recorder.failed() => Some(why),
        said = life::caught(story) => said.err(),
    };
    let elapsed_ms = recorder.elapsed_ms();
    let (event_count, hash, last) = recorder.look(|trace| (trace.count(), trace.hash(), trace.last()));
    Report { failure, event_count, hash, last, elapsed_ms }
}
