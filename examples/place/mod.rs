//! Where the examples find a peer: `--data-dir DIR` and `--connect IP:PORT`, or what `conveyor serve` uses by itself.
use std::path::PathBuf;

/// A peer's data directory on this machine, and its address.
pub struct Place {
    /// Holds the credentials for clients on this machine.
    pub data_dir: PathBuf,
    /// Where the peer listens.
    pub address: String,
}

/// Reads the command line.
pub fn from_arguments() -> Place {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let data_dir = home.join(".local/share/conveyor");
    let mut place = Place { data_dir, address: "127.0.0.1:8011".into() };
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--data-dir" => place.data_dir = value.into(),
            "--connect" => place.address = value,
            _ => eprintln!("{name} is not known here and was passed over"),
        }
    }
    place
}
