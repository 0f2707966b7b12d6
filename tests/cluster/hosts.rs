//! Whole peers in one process, each with a directory, a certificate and a UDP port of its own.
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry, PeerName, TopicName};
use conveyor::client::{Client, Credentials};
use conveyor::identity::ca::{Ca, Validity};
use conveyor::identity::{IdentityFiles, Rights, Role, create_cluster, issue_peer};
use conveyor::net::SetupError;
use conveyor::runtime::{Handle, ReadItem};
use conveyor::server::config::Config;
use conveyor::server::{Server, StartError};
use conveyor::wire::outcome::ReadFrom;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Longest wait for what must come about, far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn validity() -> Validity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Validity::days(now, 10)
}

/// Waits until something is so.
pub async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came about: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A free port, nearly surely still free when it is bound.
pub fn free_address() -> SocketAddr {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap()
}

pub struct Cluster {
    dir: TempDir,
    pub ca: Ca,
}

impl Cluster {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = create_cluster(&dir.path().join("ca"), validity()).unwrap();
        Self { dir, ca }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The settings of a peer that has a certificate, and looks for others at `join`.
    pub fn config(&self, name: &str, listen: SocketAddr, join: &[SocketAddr]) -> Config {
        let data_dir = self.path(name);
        let files = IdentityFiles::of(&data_dir);
        if !files.peer_certificate().exists() {
            std::fs::create_dir_all(&data_dir).unwrap();
            issue_peer(&self.ca, &PeerName::new(name).unwrap(), validity(), files.dir()).unwrap();
        }
        let mut config = Config { data_dir, listen, http: None, ..Config::default() };
        config.peers.join = join.iter().map(SocketAddr::to_string).collect();
        config
    }

    /// Starts a peer on any free port.
    pub async fn start(&self, name: &str, join: &[SocketAddr]) -> Server {
        self.start_at(name, SocketAddr::from(([127, 0, 0, 1], 0)), join).await
    }

    pub async fn start_at(&self, name: &str, listen: SocketAddr, join: &[SocketAddr]) -> Server {
        let config = self.config(name, listen, join);
        let begun = tokio::time::Instant::now();
        loop {
            match Server::start(&config).await {
                Ok(server) => return server,
                // The last task of a peer that was here may still be on its way out.
                Err(StartError::Door(SetupError::Bind { .. })) if begun.elapsed() < PATIENCE => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Credentials in a role.
    pub fn credentials(&self, role: &Role) -> Credentials {
        self.ca.issue(role, validity()).unwrap().credentials(self.ca.certificate()).unwrap()
    }

    pub async fn client(&self, server: &Server) -> Client {
        let credentials = self.credentials(&Role::Client(Rights::all()));
        let client = Client::builder().address(server.listen().to_string()).credentials(credentials);
        client.connect().await.unwrap()
    }
}

/// Copies a directory, as a backup or a clone of a machine does.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_dir(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}

pub fn jobs() -> TopicName {
    TopicName::new("jobs").unwrap()
}

pub async fn append(server: &Server, payload: &str) {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(payload)).unwrap();
    let chunk = Chunk::parse(builder.finish(Codec::None)).unwrap();
    server.handle().append(jobs(), None, chunk).await.unwrap();
}

/// All payloads that a peer holds of the topic, sorted.
pub async fn held(handle: &Handle) -> Vec<String> {
    let mut seen = Vec::new();
    let Ok(mut reader) = handle.reader(&jobs(), ReadFrom::Start, false).await else { return seen };
    loop {
        let items = reader.next(1 << 20).await.unwrap();
        if items.is_empty() {
            seen.sort();
            return seen;
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else { continue };
            batch
                .for_each_entry(|id, _, view| {
                    if id.seq >= from {
                        seen.push(String::from_utf8(view.payload.to_vec()).unwrap());
                    }
                    true
                })
                .unwrap();
        }
    }
}

/// Waits until a peer holds exactly these.
pub async fn holds(server: &Server, expected: &[String]) {
    let begun = tokio::time::Instant::now();
    loop {
        let held = held(server.handle()).await;
        if held == expected {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{} holds {} of {} entries",
            server.handle().about().name,
            held.len(),
            expected.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
