//! Several peers that are measured together, in this process: each with a directory, a certificate and a port of its own.
use super::Setup;
use super::peer::Measured;
use crate::base::{PeerName, TopicId, TopicName};
use crate::cli::exit::{Exit, failure};
use crate::cli::when::unix_ms;
use crate::client::Client;
use crate::identity::{Ca, Credentials, IdentityFiles, Rights, Role, Validity, create_cluster, issue_peer};
use crate::log::state::LogState;
use crate::server::Server;
use crate::server::config::Config;
use anyhow::{Context as _, Result, bail};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for what takes a second or two: sessions, a topic that is told of.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(5);

/// Peers of one cluster.
pub struct Cluster {
    scratch: PathBuf,
    ca: Ca,
    pub peers: Vec<Server>,
}

impl Measured for Cluster {
    fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn words(&self) -> &'static str {
        "peers started for this run, in one process with their clients, on one disk"
    }
}

fn validity() -> Validity {
    Validity::days(unix_ms() / 1000, 1)
}

impl Cluster {
    /// So many, each in session with all others.
    pub async fn start(setup: &Setup, count: usize) -> Result<Self> {
        if setup.running {
            let message = "this measures several peers, which it starts itself; leave --running out";
            return Err(failure(Exit::Usage, message));
        }
        let scratch = setup.scratch.clone().context("a scratch directory was made before")?;
        let ca = create_cluster(&scratch.join("authority"), validity())?;
        let mut cluster = Self { scratch, ca, peers: Vec::new() };
        for _ in 0..count {
            cluster.add().await?;
        }
        cluster.until_connected().await?;
        Ok(cluster)
    }

    /// One more, on an empty directory, which is told of all others.
    pub async fn add(&mut self) -> Result<()> {
        let name = format!("p{}", self.peers.len() + 1);
        let data_dir = self.scratch.join(&name);
        std::fs::create_dir_all(&data_dir)?;
        let files = IdentityFiles::of(&data_dir);
        issue_peer(&self.ca, &PeerName::nearest(&name), validity(), files.dir())?;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { data_dir, listen, http: None, ..Config::default() };
        config.peers.join = self.peers.iter().map(|peer| peer.listen().to_string()).collect();
        self.peers.push(Server::start(&config).await.context("starting a peer to measure")?);
        Ok(())
    }

    /// Waits until each has a session with all others.
    pub async fn until_connected(&self) -> Result<()> {
        let others = self.peers.len() - 1;
        let is_connected = || self.peers.iter().all(|peer| peer.connected().len() == others);
        until("all peers are connected", PATIENCE, is_connected).await
    }

    /// A client of one of them.
    pub async fn client(&self, peer: usize) -> Result<Client> {
        let issued = self.ca.issue(&Role::Client(Rights::all()), validity())?;
        let credentials: Credentials = issued.credentials(self.ca.certificate())?;
        let address = self.peers[peer].listen().to_string();
        Ok(Client::builder().address(address).credentials(credentials).connect().await?)
    }

    /// So many clients of one of them.
    pub async fn clients(&self, peer: usize, count: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.client(peer).await?);
        }
        Ok(clients)
    }

    /// Waits until all know a topic.
    pub async fn until_known(&self, topic: &TopicName) -> Result<()> {
        let knows = |peer: &Server| peer.handle().topics().iter().any(|info| info.name == *topic);
        until("all peers know the topic", PATIENCE, || self.peers.iter().all(knows)).await
    }

    /// How many entries of a topic one of them holds.
    pub fn held(&self, peer: usize, topic: &TopicName) -> u64 {
        let store = self.peers[peer].handle().store();
        let id = TopicId::of(self.ca.cluster(), topic.as_str());
        let of_log =
            |state: &LogState| state.spans.iter().map(|span| span.until.since(span.from)).sum::<u64>();
        store.logs_of(id).iter().map(|log| of_log(&log.look())).sum()
    }

    /// How long it takes until one of them holds so many entries of a topic.
    pub async fn until_held(
        &self,
        peer: usize,
        topic: &TopicName,
        count: u64,
        begun: Instant,
    ) -> Result<Duration> {
        let (mut last, mut news) = (0, Instant::now());
        loop {
            let held = self.held(peer, topic);
            if held >= count {
                return Ok(begun.elapsed());
            }
            if held > last {
                (last, news) = (held, Instant::now());
            }
            if news.elapsed() > PATIENCE {
                bail!("a peer holds {held} of {count} entries and gets no more");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops one of them.
    pub async fn stop_last(&mut self) {
        if let Some(peer) = self.peers.pop() {
            peer.stop().await;
        }
    }

    /// Stops all.
    pub async fn stop(mut self) {
        while !self.peers.is_empty() {
            self.stop_last().await;
        }
    }
}

async fn until(what: &str, time_max: Duration, is_so: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > time_max {
            bail!("it did not come about within {} s that {what}", time_max.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
