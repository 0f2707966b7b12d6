//! A peer from its configuration: directory, identity, store, engine, doors; and the way down again.
//!
//! ```text
//! data directory ──> identity ──> store and engine ──> QUIC door ──> HTTP pages        (start)
//! HTTP pages <── QUIC door <── engine: what was accepted is made durable and answered  (stop)
//! ```
use crate::base::PeerName;
use crate::identity::trust::ClusterTrust;
use crate::identity::{Credentials, IdentityError, IdentityFiles, PeerIdentity, ensure_local_defaults};
use crate::log::recovery::Recovered;
use crate::net::counters::SentBytes;
use crate::net::peers::{Members, Other};
use crate::net::{Counters, NetEnv, Peers, SetupError};
use crate::node::NodeConfig;
use crate::runtime::env::{SystemClock, WallClock};
use crate::runtime::{self, Handle, RuntimeConfig};
use crate::server::config::Config;
use crate::server::door::{self, Door};
use crate::server::http::{self, Listen};
use crate::server::monitored::Peer;
use crate::server::unreplicated::Unreplicated;
use crate::server::world::World;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Why a peer did not start. What had been started is stopped again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made or used.
    #[error("{}: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address can be reached from elsewhere, and the certificates are those that a first start made by itself.
    #[error(
        "{listen} can be reached from other machines, and the certificates in {} were made by a first start for \
         this machine alone (or are not there yet). Make some on purpose: `conveyor init` in a new data directory, \
         then `conveyor cert client` for each client; or set tls.cert, tls.key and tls.ca; or listen on 127.0.0.1",
        dir.display()
    )]
    GeneratedDefaults {
        /// The address.
        listen: SocketAddr,
        /// Where the certificates lie.
        dir: PathBuf,
    },
    /// Another name is given than the one that the peer's certificate says, which no setting changes.
    #[error(
        "this peer is called {is}, as its certificate says, and `name` is set to {given}: a peer keeps the name that it was \
         made with. Leave `name` out, or begin a peer called {given} in a data directory of its own"
    )]
    Name {
        /// What is set.
        given: PeerName,
        /// What the certificate says.
        is: PeerName,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] runtime::StartError),
    /// The TCP port cannot be opened.
    #[error("TCP {address}: {error}; is another peer running? `http` is the setting")]
    Http {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// Its certificate cannot be used.
    #[error("{reason}")]
    HttpTls {
        /// Why.
        reason: String,
    },
    /// The UDP port cannot be opened.
    #[error("{0}; is another peer running? `listen` is the setting")]
    Door(#[from] SetupError),
}

/// A running peer.
pub struct Server {
    handle: Handle,
    recovered: Recovered,
    door: Door,
    http: Option<SocketAddr>,
    stop_http: watch::Sender<bool>,
    http_task: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a peer; it serves when this resolves.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        make_directory(&config.data_dir)?;
        let identity = identity(config)?;
        let directory = |error| StartError::Directory { path: config.data_dir.clone(), error };
        let world = World::of_this_machine(config).map_err(directory)?;
        let peers = door::peers(config, &world);
        let opening = opening(config, &identity, &world, &peers);
        let opened = tokio::task::spawn_blocking(opening).await;
        // The task is never called off; that it panicked is not ours to hide.
        let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Self::serve(config, &identity, &world.net, peers, opened).await
    }

    /// Starts a peer of this identity in another world than this machine: blocks while its store is opened, and makes no
    /// directory.
    pub async fn start_in(
        world: &World,
        config: &Config,
        identity: &PeerIdentity,
    ) -> Result<Self, StartError> {
        let peers = door::peers(config, world);
        let opened = opening(config, identity, world, &peers)()?;
        Self::serve(config, identity, &world.net, peers, opened).await
    }

    async fn serve(
        config: &Config,
        identity: &PeerIdentity,
        net: &NetEnv,
        peers: Arc<Peers>,
        (handle, recovered): (Handle, Recovered),
    ) -> Result<Self, StartError> {
        let started = Self::open_doors(config, &identity.credentials, net, &handle, peers).await;
        match started {
            Ok((door, http, stop_http, http_task)) => {
                Ok(Self { handle, recovered, door, http, stop_http, http_task })
            }
            Err(error) => {
                handle.shutdown().await;
                Err(error)
            }
        }
    }

    async fn open_doors(
        config: &Config,
        credentials: &Credentials,
        net: &NetEnv,
        handle: &Handle,
        peers: Arc<Peers>,
    ) -> Result<(Door, Option<SocketAddr>, watch::Sender<bool>, Option<JoinHandle<()>>), StartError> {
        let (stop_http, stopping) = watch::channel(false);
        let Some(address) = config.http else {
            let door = door::open(config, credentials, net, handle, peers)?;
            return Ok((door, None, stop_http, None));
        };
        let refused = |error| StartError::Http { address, error };
        let tls =
            http::tls(&config.http_cert, credentials).map_err(|reason| StartError::HttpTls { reason })?;
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        // The last that can fail: from here on others are dialled and served.
        let door = door::open(config, credentials, net, handle, peers)?;
        let unreplicated = Unreplicated::default();
        let looking = unreplicated.clone().keep_looking(handle.clone(), door.peers().clone());
        let watched = Arc::new(Peer {
            unreplicated,
            handle: handle.clone(),
            counters: door.counters().clone(),
            peers: door.peers().clone(),
            behind_entries_max: config.peers.behind_entries_max,
        });
        let interface =
            http::interface(config, credentials, handle, &door, (bound, tls.is_some()), &stopping);
        let listen = Listen::new(config, tls, &door, stopping);
        let serving = http::serve(listener, http::pages(watched).merge(interface), listen);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                never = looking => never,
            }
        });
        Ok((door, Some(bound), stop_http, Some(task)))
    }

    /// The UDP address it bound.
    pub fn listen(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// The TCP address of its pages, if it has any.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The other peers that it is connected to, in order of their stores.
    pub fn connected(&self) -> Vec<Other> {
        self.door.peers().connected()
    }

    /// Everybody that it heard of.
    pub fn members(&self) -> Members {
        self.door.peers().members()
    }

    /// What passed through the UDP port.
    pub fn counters(&self) -> &Arc<Counters> {
        self.door.counters()
    }

    /// Bytes sent to other peers, by what they are for.
    pub fn sent_to_peers(&self) -> SentBytes {
        self.door.peers().sent_bytes()
    }

    /// The peer behind the doors.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What opening the store found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Stops: what was accepted is made durable and answered first.
    pub async fn stop(self) {
        // What would go on for ever ends now, and nobody new is taken.
        self.stop_http.send_replace(true);
        self.handle.shutdown().await;
        self.door.close().await;
        if let Some(task) = self.http_task {
            // A scraper that keeps its connection open does not hold up the end.
            drop(tokio::time::timeout(std::time::Duration::from_secs(1), task).await);
        }
    }
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StartError::Directory { path: path.to_owned(), error })
}

/// Who the peer is, which must not be called otherwise than by the name it was made with.
fn identity(config: &Config) -> Result<PeerIdentity, StartError> {
    let identity = find_identity(config)?;
    match config.name.clone().filter(|given| *given != identity.name) {
        Some(given) => Err(StartError::Name { given, is: identity.name }),
        None => Ok(identity),
    }
}

/// On loopback a first start makes an identity up; on other addresses somebody must have decided it.
fn find_identity(config: &Config) -> Result<PeerIdentity, StartError> {
    if let Some(files) = &config.tls {
        let credentials = Credentials::from_files(&files.cert, &files.key, &files.ca)?;
        return Ok(PeerIdentity::new(credentials, false)?);
    }
    let files = IdentityFiles::of(&config.data_dir);
    let is_open = !config.listen.ip().is_loopback();
    if is_open && (files.is_generated().exists() || !files.peer_certificate().exists()) {
        let dir = files.dir().to_owned();
        return Err(StartError::GeneratedDefaults { listen: config.listen, dir });
    }
    let name = config.name.clone().unwrap_or_else(host_name);
    Ok(ensure_local_defaults(&config.data_dir, &name, SystemClock.unix_ms() / 1000)?)
}

/// The name of this host, made a legal name of a peer.
pub fn host_name() -> PeerName {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = kernel.or_else(|_| std::fs::read_to_string("/etc/hostname"));
    PeerName::nearest(name.unwrap_or_default().trim())
}

/// What opens the store and sets the engine going: it blocks meanwhile.
fn opening(
    config: &Config,
    identity: &PeerIdentity,
    world: &World,
    peers: &Arc<Peers>,
) -> impl FnOnce() -> Result<(Handle, Recovered), runtime::StartError> + Send + 'static {
    let env = world.env(peers.clone());
    let certificate = identity.credentials.chain()[0].to_vec().into();
    let settings = RuntimeConfig { log: world.log, ..runtime_config(config, identity, certificate) };
    let signer = identity.credentials.signer().clone();
    move || runtime::start(env, signer, settings)
}

fn runtime_config(config: &Config, identity: &PeerIdentity, certificate: Arc<[u8]>) -> RuntimeConfig {
    let mut node = NodeConfig {
        auto_create: config.auto_create,
        defaults: config.topic_defaults,
        disk_reserve_bytes: config.disk_reserve_bytes,
        skew_ms_max: config.skew_ms_max,
        clock_settle_ms: config.clock_settle_ms,
        ..NodeConfig::new(identity.cluster, identity.peer)
    };
    node.replication.replicas_timeout_ms = config.replicas_timeout_ms;
    RuntimeConfig {
        trust: Arc::new(ClusterTrust::new(identity.credentials.authority().clone())),
        in_flight_bytes_max: config.limits.in_flight_bytes_max as usize,
        scrub: config.scrub,
        ..RuntimeConfig::new(node, identity.name.clone(), certificate)
    }
}
