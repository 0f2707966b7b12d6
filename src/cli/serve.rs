//! `conveyor serve`: a peer, until it is told to stop or its disk fails.
use crate::base::PeerId;
use crate::cli::config::choose;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::output::note;
use crate::cli::run_file::RunFile;
use crate::cli::usage::key_value;
use crate::client::AloneIn;
use crate::log::StoreError;
use crate::runtime;
use crate::server::config::{Chosen, Config, Origin};
use crate::server::{Server, StartError, logs};
use anyhow::Result;
use clap::{Args, ValueHint};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Run a peer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor serve                      on loopback, with certificates of its own
  conveyor serve --data-dir ./data --listen 127.0.0.1:9000 --http none
  conveyor serve --listen 10.0.0.2:8011 --join 10.0.0.1:8011
  conveyor config default > conveyor.toml && conveyor serve -c conveyor.toml
  conveyor serve --set disk.reserve_bytes='1 GiB' --set topics.auto_create=false

Each setting can also be given in the environment, as CONVEYOR_SECTION_KEY:
flags win over the environment, which wins over the file.

Ctrl-C stops the peer after what it accepted is durable and answered, and
another peer holds what it wrote, or `peers.drain_ms` are over; a second Ctrl-C
ends the wait at once.")]
pub struct Serve {
    /// A file of settings
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "CONVEYOR_CONFIG",
        hide_env_values = true,
        value_hint = ValueHint::FilePath
    )]
    config: Option<PathBuf>,
    /// The data directory [env: CONVEYOR_DATA_DIR] [default: ~/.local/share/conveyor]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data_dir: Option<String>,
    /// UDP address for clients and other peers [default: 127.0.0.1:8011]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// TCP address of /metrics, /livez and /readyz, or none [default: 127.0.0.1:8011]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where other peers are, with commas between; one's own address may be among them
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// What people call this peer, from its first start on [default: after the host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How logs are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How much is logged: error, warn, info, debug or trace, also module by module [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any other setting (`conveyor config default` explains all); may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

impl Serve {
    /// Serves until the end.
    pub async fn run(self) -> Result<Exit> {
        let config = self.settings()?.config()?;
        logs::start(&config.log);
        let server = Server::start(&config).await.map_err(|error| told(error, &config.data_dir))?;
        self::announce(&config, &server);
        RunFile { pid: std::process::id(), listen: server.listen(), http: server.http() }
            .write(&config.data_dir)
            .unwrap_or_else(|error| {
                // A full disk must not keep the peer from being trimmed.
                note(format!("run.json was not written, name the address with --connect: {error}"));
            });
        let handle = server.handle().clone();
        let mut failed = tokio::select! {
            biased;
            () = interrupted() => None,
            reason = handle.failed() => Some(reason),
        };
        tracing::info!("stopping");
        RunFile::remove(&config.data_dir);
        if failed.is_none() {
            failed = tokio::select! {
                biased;
                reason = handle.failed() => Some(reason),
                () = drain(&server, &config) => None,
            };
        }
        let exit = match failed {
            Some(reason) => {
                note(format!("the peer stops: {reason}; look at the disk, then start it again"));
                Exit::Failure
            }
            None => Exit::Ok,
        };
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
            ("peers.join", "--join", &self.join),
            ("name", "--name", &self.name),
            ("log.format", "--log-format", &self.log_format),
            ("log.level", "--log-level", &self.log_level),
        ];
        for (key, flag, value) in flags {
            if let Some(value) = value {
                chosen.set(key, value.clone(), Origin::Flag(flag))?;
            }
        }
        for (key, value) in &self.set {
            chosen.set(key, value.clone(), Origin::Flag("--set"))?;
        }
        Ok(chosen)
    }
}

/// Waits until other peers hold what this one wrote, where there are any, and says what remained. A second signal ends it.
async fn drain(server: &Server, config: &Config) {
    let wait = Duration::from_millis(config.peers.drain_ms);
    let is_connected = !server.connected().is_empty();
    // All hosts may have one list, which names this one too.
    let (own, shown) = (config.listen.to_string(), config.peers.advertise.map(|at| at.to_string()));
    let is_other = |address: &String| *address != own && Some(address) != shown.as_ref();
    let handle = server.handle();
    if handle.removal_of(&handle.about().peer).is_some() {
        let ranges = handle.set_aside().into_iter().flat_map(|(_, ranges)| ranges);
        let entries: u64 = ranges.map(|range| range.until.since(range.from)).sum();
        match entries {
            0 => tracing::info!("this peer was removed, and has nothing set aside"),
            _ => tracing::warn!(entries, "this peer was removed: what it has set aside may be nowhere else"),
        }
        return;
    }
    // Whoever is cut off for long has forgotten them, and still has what they wrote.
    let stays = |peer: &PeerId| *peer != handle.about().peer && handle.removal_of(peer).is_none();
    let has_of_others = || handle.store().logs().iter().any(|log| stays(&log.id.peer));
    let is_known = server.members().iter().count() > 1 || has_of_others();
    // One that is cut off from all others does not wait, but says what it alone has.
    if wait.is_zero() || !(is_connected || is_known || config.peers.join.iter().any(is_other)) {
        return;
    }
    if is_connected {
        let wait_ms = wait.as_millis() as u64;
        tracing::info!(wait_ms, "waiting until another peer holds what this one wrote");
    }
    let alone = tokio::select! {
        biased;
        () = interrupted() => {
            tracing::warn!("told to stop again: whether another peer holds all that this one wrote is not known");
            return;
        }
        alone = server.drain(wait) => alone,
    };
    for AloneIn { topic, entries } in &alone.topics {
        let topic = topic.as_ref().map(ToString::to_string);
        tracing::warn!(
            topic,
            entries,
            "no other peer says it holds these; they are here alone until this peer is back"
        );
    }
    if !alone.is_known {
        tracing::warn!("whether another peer holds all that this one wrote is not known");
    } else if alone.topics.is_empty() {
        tracing::info!("another peer holds all that this one wrote");
    }
}

/// A directory that somebody else has is told with its name and, where it is known, with who that is.
fn told(error: StartError, data_dir: &Path) -> anyhow::Error {
    let StartError::Store(runtime::StartError::Store(StoreError::InUse)) = error else { return error.into() };
    let who = RunFile::read(data_dir).map_or_else(String::new, |run| {
        format!(": a peer with process id {} listens on {}", run.pid, run.listen)
    });
    let dir = data_dir.display();
    let message = format!("{dir} is in use by another process{who}; stop it, or give another --data-dir");
    failure(Exit::Refused, message)
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
