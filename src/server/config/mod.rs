//! What a peer is told before it starts: one table of settings, read from a file, the environment and flags.
//!
//! ```text
//! defaults  <  conveyor.toml  <  CONVEYOR_SECTION_KEY  <  flags        (the later one wins, key by key)
//! ```
//!
//! [`SETTINGS`] is the only place that knows a key: its default goes through the same parser as anything a user
//! writes, and [`default_file`] prints the table with its explanations. So what is printed, what is parsed and what
//! is the default cannot drift apart. A key that is not in the table and a value that cannot be are errors that name
//! the key and the remedy; nothing is ever ignored.

mod load;
mod table;
mod value;

pub use crate::base::units::{BadValue, parse_bytes, parse_duration, parse_ms};
pub use load::{Chosen, ConfigError, Origin, setting_of};
pub use table::{SETTINGS, Setting, default_file};

use crate::base::{Durability, PeerName, TopicSettings};
use crate::runtime::ScrubConfig;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a peer finds others, and they it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinConfig {
    /// `host:port` of peers to begin with.
    pub join: Vec<String>,
    /// The UDP address at which others reach this peer; none: the one that its packets come from.
    pub advertise: Option<SocketAddr>,
    /// How long a peer that stops waits until others hold what it wrote, in milliseconds.
    pub drain_ms: u64,
    /// Entries that may be missing here while the peer calls itself ready.
    pub behind_entries_max: u64,
}

/// Every setting of a peer, checked. [`Config::default`] is the table's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything is kept; one process at a time.
    pub data_dir: PathBuf,
    /// UDP address of clients and other peers.
    pub listen: SocketAddr,
    /// TCP address of the HTTP interface and of `/metrics`, `/livez` and `/readyz`; none: not served.
    pub http: Option<SocketAddr>,
    /// The certificate of that address.
    pub http_cert: HttpCert,
    /// Origins whose pages may call the HTTP interface; `*` for all.
    pub http_cors_origins: Vec<String>,
    /// Connections to it that are open at once.
    pub http_connection_count_max: u64,
    /// What people call the peer; none: after the host.
    pub name: Option<PeerName>,
    /// How peers find each other.
    pub peers: JoinConfig,
    /// How logs are written.
    pub log: LogConfig,
    /// What clients may take.
    pub limits: LimitsConfig,
    /// Free space below which appends stop, in bytes.
    pub disk_reserve_bytes: u64,
    /// How far clocks may differ before irreversible decisions pause, in milliseconds.
    pub skew_ms_max: u64,
    /// Steady running after which a step forward of the clock is believed, in milliseconds.
    pub clock_settle_ms: u64,
    /// Whether a first append makes a topic.
    pub auto_create: bool,
    /// What a topic has that nobody configured.
    pub topic_defaults: TopicSettings,
    /// How long an append waits for copies at other peers, in milliseconds.
    pub replicas_timeout_ms: u64,
    /// Threads that read from the disk.
    pub read_thread_count: u64,
    /// How fast and how often what is stored is read again.
    pub scrub: ScrubConfig,
    /// Certificate, key and authority of the operator's own; none: those in the data directory.
    pub tls: Option<TlsFiles>,
}

/// The certificate of the HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpCert {
    /// None: no TLS.
    None,
    /// The peer's own.
    Peer,
    /// Others, in PEM.
    Files {
        /// The certificate, with those behind it.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// Levels, as `tracing` filters: `info`, or `info,conveyor::log=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object a line.
    Json,
}

/// What clients may take of a peer before they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Open client connections.
    pub connection_count_max: u64,
    /// Requests in flight on one connection.
    pub stream_count_max: u64,
    /// Bytes of appends taken and not yet answered, of all clients.
    pub in_flight_bytes_max: u64,
}

/// Credentials that the operator brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The peer's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority's certificate, PEM.
    pub ca: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Chosen::new().config().expect("the table's own defaults are legal; a test says so")
    }
}

impl Config {
    /// The level that an append gets when neither it nor its topic names one.
    pub fn durability(&self) -> Durability {
        self.topic_defaults.durability
    }
}
