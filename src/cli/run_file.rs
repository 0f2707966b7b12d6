//! The note that a running peer leaves in its data directory, so that commands find it: `run.json`.
//!
//! It says where the peer listens and which process it is. It is made when the peer is ready and removed when it
//! stops; after `kill -9` it stays behind, which costs whoever reads it one failed connection.
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Its process.
    pub pid: u32,
    /// The UDP address it bound.
    pub listen: SocketAddr,
    /// The TCP address of its pages for monitoring.
    pub http: Option<SocketAddr>,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("run.json")
}

impl RunFile {
    /// The note in `data_dir`; none when there is none that can be read.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(data_dir)).ok()?).ok()
    }

    /// Leaves the note, whole or not at all.
    pub fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let new = data_dir.join("run.json.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, path(data_dir))
    }

    /// Takes it away.
    pub fn remove(data_dir: &Path) {
        // One that stays behind costs its reader a failed connection, nothing more.
        drop(std::fs::remove_file(path(data_dir)));
    }

    /// The address under which this machine reaches the peer: loopback, where it listens on all addresses.
    pub fn reachable(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.listen.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_finds_what_serve_left() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunFile::read(dir.path()), None);
        let run = RunFile { pid: 7, listen: "0.0.0.0:8011".parse().unwrap(), http: None };
        run.write(dir.path()).unwrap();
        let found = RunFile::read(dir.path()).unwrap();
        assert_eq!((&found, found.reachable()), (&run, "127.0.0.1:8011".parse().unwrap()));
        RunFile::remove(dir.path());
        assert_eq!(RunFile::read(dir.path()), None);
    }
}
