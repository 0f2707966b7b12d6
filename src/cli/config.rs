//! `conveyor config`: the settings, printed and checked.
use crate::cli::connect::VARIABLES;
use crate::cli::exit::{Exit, failure};
use crate::cli::output::Out;
use crate::server::config::{Chosen, SETTINGS, default_file, setting_of};
use anyhow::Result;
use clap::{Subcommand, ValueHint};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Print or check settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print a file with every setting at its default, explained
    #[command(after_help = "Example:\n  conveyor config default > conveyor.toml")]
    Default,
    /// Check a file and the environment as `serve` would, and show what counts and where it comes from
    #[command(after_help = "\
Examples:
  conveyor config check --config conveyor.toml
  CONVEYOR_LOG_LEVEL=debug conveyor config check | grep -v '# default'")]
    Check {
        /// A file of settings
        #[arg(
            short,
            long,
            alias = "file",
            value_name = "FILE",
            env = "CONVEYOR_CONFIG",
            hide_env_values = true,
            value_hint = ValueHint::FilePath
        )]
        config: Option<PathBuf>,
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
            Self::Check { config } => {
                let chosen = choose(config.as_deref())?;
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
            failure(if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::Failure }, message)
        })?;
        chosen.file(path, &text)?;
    }
    chosen.environment(variables(), VARIABLES)?;
    Ok(chosen)
}

/// Checks that each `CONVEYOR_…` variable has a name that means something: one that is misspelt would be passed over,
/// and the command meet another peer than was meant.
pub fn check_variables() -> Result<()> {
    for (name, value) in variables() {
        setting_of(&name, &value, VARIABLES)?;
    }
    Ok(())
}

/// The environment. A variable that is not UTF-8 is none of ours: all our names are.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}
