//! The peer that is measured: one started for it in a scratch directory, or one that runs already.
use super::Setup;
use crate::client::Client;
use crate::identity::Credentials;
use crate::server::Server;
use crate::server::config::Config;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A peer under test, and the scratch directory beside it.
pub struct Peer {
    scratch: PathBuf,
    own: Option<Server>,
}

/// What is measured.
pub trait Measured {
    /// The directory in which the disk is measured.
    fn scratch(&self) -> &Path;
    /// What is measured, in words.
    fn words(&self) -> &'static str;
}

impl Measured for Peer {
    fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn words(&self) -> &'static str {
        if self.own.is_some() {
            "a peer started for this run, in one process with its clients"
        } else {
            "a peer that ran already"
        }
    }
}

impl Peer {
    /// Starts one, unless the setup names a running one.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let scratch = setup.scratch.clone().context("a scratch directory was made before")?;
        if setup.running {
            return Ok(Self { scratch, own: None });
        }
        let config = Config {
            data_dir: scratch.join("peer"),
            listen: ([127, 0, 0, 1], 0).into(),
            http: None,
            ..Config::default()
        };
        let own = Server::start(&config).await.context("starting a peer to measure")?;
        Ok(Self { scratch, own: Some(own) })
    }

    /// A client with a connection of its own.
    pub async fn client(&self, setup: &Setup) -> Result<Client> {
        match &self.own {
            Some(own) => {
                let credentials = Credentials::from_data_dir(self.scratch.join("peer"))?;
                let builder = Client::builder().address(own.listen().to_string()).credentials(credentials);
                Ok(builder.connect().await?)
            }
            None => setup.connection.connect().await,
        }
    }

    /// So many clients.
    pub async fn clients(&self, setup: &Setup, count: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.client(setup).await?);
        }
        Ok(clients)
    }

    /// Stops the peer, if it was ours.
    pub async fn stop(self) {
        if let Some(own) = self.own {
            own.stop().await;
        }
    }
}

/// How often the scratch directory is removed until it stays so.
const REMOVAL_COUNT_MAX: u32 = 10;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// A directory that goes when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one within that directory, or within that for temporary files.
    pub fn make(within: Option<&Path>) -> Result<Self> {
        let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let dir = within.join(format!("conveyor-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        // In full, so that the file system it lies on can be told.
        Ok(Self(dir.canonicalize().unwrap_or(dir)))
    }

    /// Where it is, from the root on.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A peer that was interrupted may still be making files. What cannot be removed at last stays, and is not worth an
        // error.
        for _ in 0..REMOVAL_COUNT_MAX {
            drop(std::fs::remove_dir_all(&self.0));
            if !self.0.exists() {
                return;
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
}
