//! Where disk and compute jobs run, so that whoever asked for them goes on.
//!
//! ```text
//! Sync         one thread, in order     the one that appends wait for
//! Seal         one thread, in order     roots and signatures of the step behind
//! Bulk         one thread, in order     large entries on their way to the disk, piece by piece
//! Maintenance  one thread, in order     unlinking, compaction: slow, and nobody waits
//! Scrub        one thread, in order     what is stored is read again: on a bad disk very slow
//! Look         one thread, in order     what looks at all logs, for whoever watches the peer
//! Read         a small pool             in any order
//! ```
//!
//! The queues have no bound of their own: callers bound what they submit (one sync in flight, reads by their
//! permits), because only they can make whoever asked wait.
#![allow(clippy::disallowed_methods, reason = "the threads that everybody else gives jobs to")]

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// What a job is for, which says what it may hold up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Journal writes and syncs. In order.
    Sync,
    /// Hashing and signing. In order.
    Seal,
    /// Large entries, before their steps. In order.
    Bulk,
    /// Segments, removal, compaction. In order.
    Maintenance,
    /// Reading again what is stored. In order.
    Scrub,
    /// Looks at all logs at once, for whoever watches the peer. In order.
    Look,
    /// Reads. In no order.
    Read,
}

/// A piece of work, with its way to tell the result inside it.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs disk and compute jobs off the caller's task.
pub trait IoExec: Send + Sync + 'static {
    /// Runs `job` once, after every job given to the same lane before, save for [`Lane::Read`]. Never waits
    /// for room: the caller bounds what it submits.
    fn run(&self, lane: Lane, job: Job);
}

/// Runs each job at once, on the caller's thread: for tests and simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineLanes;

impl IoExec for InlineLanes {
    fn run(&self, _lane: Lane, job: Job) {
        job();
    }
}

/// Runs jobs on threads of their own: the lanes of production.
///
/// A job that panics takes the process with it. The alternative is a lane that is silently gone, and a peer
/// that goes on without syncing. Dropping the lanes waits until every job that was given is done.
pub struct ThreadLanes {
    sync: Threads,
    seal: Threads,
    bulk: Threads,
    maintenance: Threads,
    scrub: Threads,
    look: Threads,
    read: Threads,
}

impl ThreadLanes {
    /// Starts the threads, `read_thread_count` of them for reads. More help a disk that serves reads in
    /// parallel; watch how long reads wait before raising it. The error is the system's that a thread cannot
    /// be had.
    pub fn start(read_thread_count: usize) -> io::Result<Self> {
        assert!(read_thread_count > 0, "reads need a thread");
        Ok(Self {
            sync: Threads::start("sync", 1)?,
            seal: Threads::start("seal", 1)?,
            bulk: Threads::start("bulk", 1)?,
            maintenance: Threads::start("maintenance", 1)?,
            scrub: Threads::start("scrub", 1)?,
            look: Threads::start("look", 1)?,
            read: Threads::start("read", read_thread_count)?,
        })
    }
}

impl IoExec for ThreadLanes {
    fn run(&self, lane: Lane, job: Job) {
        match lane {
            Lane::Sync => self.sync.push(job),
            Lane::Seal => self.seal.push(job),
            Lane::Bulk => self.bulk.push(job),
            Lane::Maintenance => self.maintenance.push(job),
            Lane::Scrub => self.scrub.push(job),
            Lane::Look => self.look.push(job),
            Lane::Read => self.read.push(job),
        }
    }
}

/// The threads of one lane, and the queue they share.
struct Threads {
    queue: Arc<Queue>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(name: &'static str, count: usize) -> io::Result<Self> {
        // Filled one by one: if a thread cannot be had, dropping this ends those before it.
        let mut threads = Self { queue: Arc::default(), handles: Vec::new() };
        for _ in 0..count {
            let queue = threads.queue.clone();
            let run = move || {
                while let Some(job) = queue.next() {
                    run_or_abort(name, job);
                }
            };
            threads.handles.push(Builder::new().name(format!("conveyor-{name}")).spawn(run)?);
        }
        Ok(threads)
    }

    fn push(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        let this_thread = std::thread::current().id();
        for handle in self.handles.drain(..) {
            // The last owner of the lanes can be a job: its thread ends by itself, and cannot wait for
            // itself.
            if handle.thread().id() != this_thread {
                handle.join().expect("a lane's thread never unwinds: a panicking job aborts");
            }
        }
    }
}

fn run_or_abort(lane: &str, job: Job) {
    // Nobody sees what the job left half done: the process ends.
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        // The panic itself was told by the panic hook; standard error is what is sure to be read now.
        eprintln!("conveyor: a job of the {lane} lane panicked (see above); stopping at once");
        std::process::abort();
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Jobs run outside the lock, so nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job; none when the lanes are dropped and all jobs are taken.
    fn next(&self) -> Option<Job> {
        let idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
        self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Long enough for any machine; a test that waits so long has failed.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn jobs_of_one_lane_run_in_the_order_they_were_given() {
        let lanes = ThreadLanes::start(2).unwrap();
        for lane in [Lane::Sync, Lane::Seal, Lane::Bulk, Lane::Maintenance, Lane::Scrub, Lane::Look] {
            let (done, order) = mpsc::channel();
            for number in 0..1_000 {
                let done = done.clone();
                lanes.run(lane, Box::new(move || done.send(number).unwrap()));
            }
            drop(done);
            assert!(order.iter().eq(0..1_000), "{lane:?}");
        }
    }

    #[test]
    fn a_slow_job_holds_up_its_own_lane_alone() {
        let lanes = ThreadLanes::start(2).unwrap();
        let (release, held) = mpsc::channel::<()>();
        lanes.run(Lane::Maintenance, Box::new(move || held.recv().unwrap()));
        let (release_read, held_read) = mpsc::channel::<()>();
        lanes.run(Lane::Read, Box::new(move || held_read.recv().unwrap()));
        for lane in [Lane::Sync, Lane::Seal, Lane::Bulk, Lane::Scrub, Lane::Look, Lane::Read] {
            let (done, wait) = mpsc::channel();
            lanes.run(
                lane,
                Box::new(move || done.send(std::thread::current().name().map(str::to_owned)).unwrap()),
            );
            let name = wait.recv_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(name, format!("conveyor-{lane:?}").to_lowercase());
        }
        release.send(()).unwrap();
        release_read.send(()).unwrap();
    }

    #[test]
    fn dropping_the_lanes_finishes_what_was_given() {
        let lanes = ThreadLanes::start(3).unwrap();
        let (done, results) = mpsc::channel();
        for lane in [Lane::Sync, Lane::Seal, Lane::Maintenance, Lane::Read].repeat(50) {
            let done = done.clone();
            lanes.run(lane, Box::new(move || done.send(()).unwrap()));
        }
        drop(lanes);
        assert_eq!(results.try_iter().count(), 200);
    }

    #[test]
    fn a_job_may_be_the_last_owner_of_its_lanes() {
        let lanes = Arc::new(ThreadLanes::start(1).unwrap());
        let (started, start) = mpsc::channel::<()>();
        let (done, wait) = mpsc::channel();
        let owner = lanes.clone();
        let job = move || {
            start.recv().unwrap();
            drop(owner);
            done.send(()).unwrap();
        };
        lanes.run(Lane::Read, Box::new(job));
        drop(lanes);
        started.send(()).unwrap();
        wait.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn inline_lanes_are_done_when_they_return() {
        let (done, wait) = mpsc::channel();
        InlineLanes.run(Lane::Sync, Box::new(move || done.send(()).unwrap()));
        wait.try_recv().unwrap();
    }

    /// Runs this test program again with the test below alone, which must not survive its job.
    #[test]
    fn a_panicking_job_stops_the_process() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "disk::lanes::tests::panic_in_a_lane"])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            told.contains("the disk is on fire") && told.contains("a job of the sync lane panicked"),
            "{told}"
        );
    }

    #[test]
    #[ignore = "aborts the process: run by a_panicking_job_stops_the_process"]
    fn panic_in_a_lane() {
        let lanes = ThreadLanes::start(1).unwrap();
        lanes.run(Lane::Sync, Box::new(|| panic!("the disk is on fire")));
        drop(lanes);
        std::process::exit(0);
    }
}
