//! Logs on standard error, as text for people or JSON for machines.
use crate::server::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sends the logs of this process where `config` says, from now on. Does nothing when that was decided before, by a
/// program that embeds the peer.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::new(&config.level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // The error says that a subscriber is set already, which is the embedding program's choice.
    drop(started);
}
