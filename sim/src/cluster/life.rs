//! One process of a peer: its tasks, which can be frozen for a while and end all at once.
//!
//! ```text
//! runtime ──Spawn──> life ──tokio──> task: dead? never polled again · frozen? waits · else polled, its panic caught
//! ```
use crate::cluster::lock;
use crate::cluster::recorder::Recorder;
use conveyor::runtime::{Spawn, Watched};
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One process.
pub struct Life {
    recorder: Arc<Recorder>,
    name: AtomicUsize,
    is_frozen: AtomicBool,
    asleep: Mutex<Vec<Waker>>,
    tasks: Mutex<JoinSet<()>>,
    dead: Watched<bool>,
    /// The moment of the last poll, and polls within it.
    polls: Mutex<(Option<Instant>, u64)>,
    polls_max: u64,
}

/// Polls of a process' tasks within one moment; more are not waiting for anything.
const POLLS_MAX: u64 = 1_000;
/// How long a task that does not wait is made to.
const SPIN_PAUSE: Duration = Duration::from_millis(50);
/// Whether a process that does not wait fails the run.
const SPINS_FAIL: bool = true;

impl Life {
    /// A process that begins now.
    pub fn new(recorder: Arc<Recorder>) -> Arc<Self> {
        Self::polled(recorder, POLLS_MAX)
    }

    /// The same, with so many polls of its tasks within one moment.
    pub fn polled(recorder: Arc<Recorder>, polls_max: u64) -> Arc<Self> {
        Arc::new(Self {
            polls_max,
            recorder,
            name: AtomicUsize::new(0),
            is_frozen: AtomicBool::new(false),
            asleep: Mutex::default(),
            tasks: Mutex::default(),
            dead: Watched::new(false),
            polls: Mutex::default(),
        })
    }

    /// Time stands still while anybody has work, so whoever goes round without waiting would stop it for ever: it is
    /// noted, and has to wait.
    fn must_wait(&self) -> bool {
        let now = Some(Instant::now());
        let mut polls = lock(&self.polls);
        *polls = if polls.0 == now { (now, polls.1 + 1) } else { (now, 1) };
        if polls.1 == self.polls_max {
            let site = self.name.load(Ordering::Relaxed);
            self.recorder.note(format_args!("{site} does not wait: {} polls in one moment", self.polls_max));
            if SPINS_FAIL {
                self.recorder.fail(format!("P9: {site} goes round without waiting"));
            }
        }
        polls.1 >= self.polls_max
    }

    /// Whose process it is.
    pub fn set_name(&self, site: usize) {
        self.name.store(site, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_dead(&self) -> bool {
        self.dead.look(|dead| *dead)
    }

    /// Whether its tasks get no time.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen.load(Ordering::Relaxed)
    }

    /// Gives its tasks no time, or again.
    pub fn freeze(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
        if !is_frozen {
            lock(&self.asleep).drain(..).for_each(Waker::wake);
        }
    }

    /// Ends it: nothing of it runs from here on.
    pub fn end(&self) {
        self.dead.set(true);
        lock(&self.tasks).abort_all();
    }

    /// Resolves when what its tasks held is let go, after [`Self::end`].
    pub async fn settled(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    /// Resolves when it is over.
    pub async fn ended(&self) {
        self.dead.until(|dead| *dead).await;
    }

    /// What `work` brings, or nothing when the process ends before: a connection that breaks.
    pub async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased;
            () = self.ended() => None,
            done = work => Some(done),
        }
    }
}

/// Starts the tasks of a process.
pub struct LifeSpawn(pub Arc<Life>);

impl Spawn for LifeSpawn {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = lock(&self.0.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(OfLife { life: self.0.clone(), task });
    }
}

/// A task of a process.
struct OfLife {
    life: Arc<Life>,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for OfLife {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.life.is_dead() {
            return Poll::Pending;
        }
        if self.life.is_frozen() {
            lock(&self.life.asleep).push(context.waker().clone());
            return Poll::Pending;
        }
        if self.life.must_wait() {
            let waker = context.waker().clone();
            rest(async move {
                tokio::time::sleep(SPIN_PAUSE).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.task.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            self.life.recorder.fail(said(&*panic));
            Poll::Ready(())
        })
    }
}

/// What a panic says.
pub fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// What `story` brings, or what it panicked with.
pub async fn caught<T>(story: impl Future<Output = T>) -> Result<T, String> {
    let mut story = std::pin::pin!(story);
    let poll =
        |context: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| story.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(said(&*panic))),
        };
    std::future::poll_fn(poll).await
}

/// Runs a task of the simulation itself; its panic fails the run.
pub fn spawn(recorder: &Arc<Recorder>, task: impl Future<Output = ()> + Send + 'static) {
    LifeSpawn(Life::new(recorder.clone())).detach(Box::pin(task));
}

#[expect(clippy::disallowed_methods, reason = "it ends by itself")]
fn rest(pause: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(pause);
}

impl LifeSpawn {
    #[expect(clippy::disallowed_methods, reason = "tasks of the simulation live as long as it")]
    fn detach(self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(OfLife { life: self.0, task });
    }
}
