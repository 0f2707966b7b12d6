//! Where the examples find a peer, as `conveyor` itself does: `--connect`, else the one that runs on the data directory
//! (`--data-dir`, `CONVEYOR_DATA_DIR`, or the default of `conveyor serve`).
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A peer's data directory on this machine, and its address.
pub struct Place {
    /// Holds the credentials for clients on this machine.
    pub data_dir: PathBuf,
    /// Where the peer listens.
    pub address: String,
}

/// Reads the command line and the environment.
pub fn find() -> Result<Place, Box<dyn Error>> {
    let (mut data_dir, mut address) = (variable("CONVEYOR_DATA_DIR"), variable("CONVEYOR_CONNECT"));
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value behind it"))?;
        match name.as_str() {
            "--data-dir" => data_dir = Some(value),
            "--connect" => address = Some(value),
            _ => {
                return Err(
                    format!("{name} is not known here; give --data-dir DIR or --connect HOST:PORT").into()
                );
            }
        }
    }
    let data_dir = data_dir.map_or_else(default_dir, PathBuf::from);
    let address = address.map_or_else(|| running(&data_dir), Ok)?;
    Ok(Place { data_dir, address })
}

/// Says how an example ended: an error in words, on standard error.
pub fn end(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/share/conveyor")
}

/// The address in the note that a running peer leaves in its directory.
#[allow(clippy::disallowed_methods, reason = "a program of its own, which looks at a file")]
fn running(data_dir: &Path) -> Result<String, Box<dyn Error>> {
    let none = |_| {
        let dir = data_dir.display();
        format!("no peer runs on {dir}: start one with `conveyor serve`, or name another with --connect")
    };
    let note: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data_dir.join("run.json")).map_err(none)?)?;
    let listen = note["listen"].as_str().ok_or("run.json names no address")?;
    // A peer that listens everywhere is met on this machine.
    Ok(listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"))
}
