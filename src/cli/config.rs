//! `conveyor config`: the settings, printed and checked.
use crate::cli::connect::VARIABLES;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::Out;
use crate::server::config::{Chosen, SETTINGS, default_file};
use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Print or check settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print a file with every setting at its default, explained
    #[command(after_help = "Example:\n  conveyor config default > conveyor.toml")]
    Default,
    /// Check a file and the environment as `serve` would, and show what counts and where it comes from
    #[command(after_help = "Example:\n  conveyor config check --file conveyor.toml")]
    Check {
        /// The file
        #[arg(long, value_name = "FILE", env = "CONVEYOR_CONFIG")]
        file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Effective {
    key: &'static str,
    value: String,
    from: String,
}

impl Config {
    /// Does it.
    pub fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Default if out.is_json() => {
                for setting in SETTINGS {
                    out.json(&serde_json::json!({
                        "key": setting.key,
                        "default": setting.default,
                        "variable": setting.variable(),
                        "help": setting.help,
                    }))?;
                }
                Ok(())
            }
            Self::Default => out.bytes(default_file().as_bytes()),
            Self::Check { file } => {
                let chosen = choose(file.as_deref())?;
                chosen.config()?;
                for (setting, value, origin) in chosen.effective() {
                    let line = Effective { key: setting.key, value, from: origin.to_string() };
                    out.show(&line, |l| format!("{} = {}  # {}", l.key, l.value, l.from))?;
                }
                Ok(())
            }
        }
    }
}

/// The settings of a file and of the environment.
pub fn choose(file: Option<&Path>) -> Result<Chosen> {
    let mut chosen = Chosen::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message =
                format!("{}: {error}; name another file with --config, or leave it out", path.display());
            failure(Exit::Usage, message)
        })?;
        chosen.file(path, &text)?;
    }
    // A variable that is not UTF-8 is none of ours: all our names are.
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    chosen.environment(variables, VARIABLES)?;
    Ok(chosen)
}
