//! What differs between production and simulation, and nothing else does.
use crate::base::StoreId;
use crate::disk::{Disk, IoExec};
use crate::wire::peer::PeerMessage;
use ring::rand::{SecureRandom, SystemRandom};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// The wall clock.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since 1970. May be wrong and may jump.
    fn unix_ms(&self) -> u64;
}

/// Random bits that no one can foresee.
pub trait Entropy: Send + Sync + 'static {
    /// 64 bits from the operating system; in simulation from the seed.
    fn draw(&self) -> u64;
}

/// Starts tasks, so that a simulated crash can end all of one peer.
pub trait Spawn: Send + Sync + 'static {
    /// Runs `task` until it ends.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// Carries messages to other peers.
pub trait PeerNet: Send + Sync + 'static {
    /// Sends `message` to the store `to`, after what was sent to it before. Never waits: what the other side does not take
    /// for long is its loss, and is made good by the next comparison.
    fn send(&self, to: StoreId, message: PeerMessage);

    /// Whether what waits to be taken by the store `to` leaves room for batches. Where it does not, whoever asked for them
    /// is told to ask again after a while.
    fn has_room(&self, _to: StoreId) -> bool {
        true
    }

    /// Waits a while for such room, and for the turn of whoever asks, which is over when what this resolves to is dropped.
    fn place(&self, _to: StoreId) -> Pin<Box<dyn Future<Output = Option<Place>> + Send>> {
        Box::pin(std::future::ready(None))
    }
}

/// The turn to send batches to a store.
pub type Place = Box<dyn Any + Send>;

/// No other peers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl PeerNet for Alone {
    fn send(&self, _to: StoreId, _message: PeerMessage) {}
}

/// Everything a peer takes from the world around it, save its socket.
#[derive(Clone)]
pub struct Env {
    /// Carries messages to other peers.
    pub peers: Arc<dyn PeerNet>,
    /// Starts tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Tells the time for entries.
    pub clock: Arc<dyn WallClock>,
    /// Draws the names of runs and stores.
    pub entropy: Arc<dyn Entropy>,
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Runs disk work.
    pub io: Arc<dyn IoExec>,
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the wall clock comes in")]
    fn unix_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }
}

/// The operating system's random bits.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemEntropy {
    /// The operating system's source.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for SystemEntropy {
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without randomness names could repeat, which is worse than stopping.
        self.0.fill(&mut bytes).expect("the operating system gives random bits");
        u64::from_le_bytes(bytes)
    }
}

/// Tokio's tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    #[expect(clippy::disallowed_methods, reason = "this is where tasks are started")]
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }
}
