//! Finding a peer and the right to speak to it.
//!
//! ```text
//! --connect ADDR --cert --key --ca     any peer, with certificates of one's own
//! --connect ADDR                       any peer, with the credentials in the data directory
//! (nothing)                            the peer that runs on the data directory, by the run.json it wrote
//! ```
use crate::cli::exit::{Exit, failure};
use crate::cli::run_file::RunFile;
use crate::client::{Client, ClientBuilder};
use crate::identity::Credentials;
use crate::server::config::{Chosen, Origin};
use anyhow::{Context as _, Result};
use clap::Args;
use std::path::PathBuf;

/// Where a peer keeps its things on this machine.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The data directory [default: ~/.local/share/conveyor]
    #[arg(long, value_name = "DIR", env = "CONVEYOR_DATA_DIR", help_heading = "Which peer")]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The directory: what was given, or the default of the settings.
    pub fn data_dir(&self) -> Result<PathBuf> {
        let mut chosen = Chosen::new();
        if let Some(dir) = &self.data_dir {
            chosen.set("data_dir", dir.display().to_string(), Origin::Flag("--data-dir"))?;
        }
        Ok(chosen.config()?.data_dir)
    }
}

/// Which peer to talk to, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    #[command(flatten)]
    place: Place,
    /// A peer's address, IP:PORT; may be given more than once [default: the peer of the data directory]
    #[arg(
        long,
        value_name = "ADDR",
        env = "CONVEYOR_CONNECT",
        value_delimiter = ',',
        help_heading = "Which peer"
    )]
    connect: Vec<String>,
    /// Your certificate (PEM) [default: the one in the data directory]
    #[arg(long, value_name = "FILE", env = "CONVEYOR_CERT", requires_all = ["key", "ca"], help_heading = "Which peer")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "CONVEYOR_KEY", requires = "cert", help_heading = "Which peer")]
    key: Option<PathBuf>,
    /// The certificate of the cluster's authority (PEM)
    #[arg(long, value_name = "FILE", env = "CONVEYOR_CA", requires = "cert", help_heading = "Which peer")]
    ca: Option<PathBuf>,
}

/// The variables above, which are no settings of a peer.
pub const VARIABLES: &[&str] =
    &["CONVEYOR_CONNECT", "CONVEYOR_CERT", "CONVEYOR_KEY", "CONVEYOR_CA", "CONVEYOR_CONFIG"];

impl Connection {
    /// Connects.
    pub async fn client(&self) -> Result<Client> {
        self.builder()?.connect().await.with_context(|| self.hint())
    }

    /// Addresses and credentials, not yet connected.
    pub fn builder(&self) -> Result<ClientBuilder> {
        Ok(Client::builder().addresses(self.addresses()?).credentials(self.credentials()?))
    }

    fn addresses(&self) -> Result<Vec<String>> {
        if !self.connect.is_empty() {
            return Ok(self.connect.clone());
        }
        let dir = self.place.data_dir()?;
        match RunFile::read(&dir) {
            Some(run) => Ok(vec![run.reachable().to_string()]),
            None => Err(failure(
                Exit::Unreachable,
                format!(
                    "no peer runs on {}: start one with `conveyor serve --data-dir {}`, or name another with --connect",
                    dir.display(),
                    dir.display()
                ),
            )),
        }
    }

    fn credentials(&self) -> Result<Credentials> {
        if let (Some(cert), Some(key), Some(ca)) = (&self.cert, &self.key, &self.ca) {
            return Ok(Credentials::from_files(cert, key, ca)?);
        }
        let dir = self.place.data_dir()?;
        Credentials::from_data_dir(&dir).with_context(|| {
            format!("{} holds no client's certificate; give --cert, --key and --ca (`conveyor cert client` makes them)", dir.display())
        })
    }

    fn hint(&self) -> String {
        match self.addresses() {
            Ok(addresses) => format!("no peer could be reached at {}", addresses.join(", ")),
            Err(_) => "no peer could be reached".to_owned(),
        }
    }
}
