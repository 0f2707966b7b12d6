//! `conveyor serve`: a peer, until it is told to stop or its disk fails.
use crate::cli::config::choose;
use crate::cli::exit::Exit;
use crate::cli::interrupted;
use crate::cli::output::note;
use crate::cli::run_file::RunFile;
use crate::server::config::{Chosen, Config, Origin};
use crate::server::{Server, logs};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Run a peer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor serve                                       on loopback, with certificates it makes by itself
  conveyor serve --data-dir ./data --listen 127.0.0.1:9000 --http none
  conveyor serve --config conveyor.toml                `conveyor config default` prints such a file

Each setting can also be given as CONVEYOR_SECTION_KEY in the environment; flags win over it, it wins over the file.
Ctrl-C stops the peer after what it accepted is durable and answered.")]
pub struct Serve {
    /// A file of settings
    #[arg(long, value_name = "FILE", env = "CONVEYOR_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory [default: ~/.local/share/conveyor]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// UDP address for clients [default: 127.0.0.1:8011]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// TCP address of /metrics, /livez and /readyz, or none [default: 127.0.0.1:8011]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// What people call this peer [default: after the host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug or trace, also module by module
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any other setting, as KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    /// Serves until the end.
    pub async fn run(self) -> Result<Exit> {
        let config = self.settings()?.config()?;
        logs::start(&config.log);
        let server = Server::start(&config).await?;
        self::announce(&config, &server);
        RunFile { pid: std::process::id(), listen: server.listen(), http: server.http() }
            .write(&config.data_dir)
            .unwrap_or_else(|error| {
                // A full disk must not keep the peer from being trimmed.
                note(format!("conveyor: run.json was not written, name the address with --connect: {error}"));
            });
        let handle = server.handle().clone();
        let exit = tokio::select! {
            biased;
            () = interrupted() => Exit::Ok,
            reason = handle.failed() => {
                note(format!("conveyor: the peer stops: {reason}; look at the disk, then start it again"));
                Exit::Failure
            }
        };
        tracing::info!("stopping");
        RunFile::remove(&config.data_dir);
        server.stop().await;
        tracing::info!("stopped");
        Ok(exit)
    }

    /// File, environment, flags: each wins over those before.
    fn settings(&self) -> Result<Chosen> {
        let mut chosen = choose(self.config.as_deref())?;
        let flags = [
            ("data_dir", "--data-dir", &self.data_dir),
            ("listen", "--listen", &self.listen),
            ("http", "--http", &self.http),
            ("name", "--name", &self.name),
            ("log.format", "--log-format", &self.log_format),
            ("log.level", "--log-level", &self.log_level),
        ];
        for (key, flag, value) in flags {
            if let Some(value) = value {
                chosen.set(key, value.clone(), Origin::Flag(flag))?;
            }
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            chosen.set(key, value.to_owned(), Origin::Flag("--set"))?;
        }
        Ok(chosen)
    }
}

fn announce(config: &Config, server: &Server) {
    let (about, found) = (server.handle().about(), server.recovered());
    for damage in &found.damage {
        tracing::error!(damage, "found damaged at start, and set aside");
    }
    for torn in &found.torn {
        tracing::warn!(file = torn, "the end was torn off, as after a power loss, and was cut");
    }
    tracing::info!(
        name = %about.name,
        peer = %about.peer,
        data_dir = %config.data_dir.display(),
        listen = %server.listen(),
        http = server.http().map(tracing::field::display),
        records = found.record_count,
        rebuilt = found.is_rebuilt,
        "serving"
    );
}
