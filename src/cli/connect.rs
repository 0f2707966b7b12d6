//! Finding a peer and the right to speak to it.
//!
//! ```text
//! --connect ADDR --cert --key --ca     any peer, with certificates of one's own
//! --connect ADDR                       any peer, with the credentials in the data directory
//! (nothing)                            the peer that runs on the data directory, by the run.json it wrote
//! ```
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{note, show_ms};
use crate::cli::run_file::RunFile;
use crate::client::{Client, ClientBuilder, Member, MemberState};
use crate::identity::Credentials;
use crate::server::config::{Chosen, Origin};
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a peer keeps its things on this machine.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The data directory [default: ~/.local/share/conveyor]
    #[arg(
        long,
        value_name = "DIR",
        env = "CONVEYOR_DATA_DIR",
        hide_env_values = true,
        value_hint = ValueHint::DirPath,
        help_heading = "Which peer"
    )]
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
    /// A peer's address, HOST:PORT or HOST for port 8011; may be given more than once [default: the peer of the data
    /// directory]
    #[arg(
        long,
        value_name = "ADDR",
        env = "CONVEYOR_CONNECT",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = address,
        value_hint = ValueHint::Hostname,
        help_heading = "Which peer"
    )]
    connect: Vec<String>,
    /// Your certificate (PEM) [default: the one in the data directory]
    #[arg(
        long,
        value_name = "FILE",
        env = "CONVEYOR_CERT",
        hide_env_values = true,
        value_hint = ValueHint::FilePath,
        requires_all = ["key", "ca"],
        help_heading = "Which peer"
    )]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "CONVEYOR_KEY",
        hide_env_values = true,
        value_hint = ValueHint::FilePath,
        requires = "cert",
        help_heading = "Which peer"
    )]
    key: Option<PathBuf>,
    /// The certificate of the cluster's authority (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "CONVEYOR_CA",
        hide_env_values = true,
        value_hint = ValueHint::FilePath,
        requires = "cert",
        help_heading = "Which peer"
    )]
    ca: Option<PathBuf>,
}

/// The variables above, which are no settings of a peer.
pub const VARIABLES: &[&str] =
    &["CONVEYOR_CONNECT", "CONVEYOR_CERT", "CONVEYOR_KEY", "CONVEYOR_CA", "CONVEYOR_CONFIG"];

/// The port where nobody said another: that of a peer's default settings.
const PORT_DEFAULT: u16 = 8011;
/// A connection that takes longer is worth a word.
const SILENT_TIME: Duration = Duration::from_secs(2);

/// Pause before a peer is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Reads a peer's address; the port may be left out.
fn address(text: &str) -> Result<String, String> {
    let wrong = || "give HOST:PORT, such as 127.0.0.1:8011, [::1]:8011 or alpha.example:8011".to_owned();
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT_DEFAULT).to_string());
    }
    let (host, port) =
        text.split_once(':').map_or((text, Ok(PORT_DEFAULT)), |(host, port)| (host, port.parse()));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match port {
        Ok(port) if port > 0 && !host.is_empty() && host.bytes().all(is_name) => Ok(format!("{host}:{port}")),
        _ => Err(wrong()),
    }
}

/// Clients of this command, which are told goodbye for when it ends.
static CLIENTS: Mutex<Vec<Client>> = Mutex::new(Vec::new());

/// Closes the connections that this command made, however it ended: a peer keeps one that was not closed until it has
/// been idle for long. Waits a few milliseconds at most for what it has to say.
pub async fn close_all() {
    let clients = std::mem::take(&mut *CLIENTS.lock().unwrap_or_else(PoisonError::into_inner));
    for client in clients {
        client.close().await;
    }
}

impl Connection {
    /// Connects. The connection is closed when the command ends.
    pub async fn client(&self) -> Result<Client> {
        let client = self.connect().await?;
        CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
        Ok(client)
    }

    /// Connects, for whoever closes or drops the client before the command ends.
    pub async fn connect(&self) -> Result<Client> {
        let connecting = self.builder()?.connect();
        tokio::pin!(connecting);
        let connected = match tokio::time::timeout(SILENT_TIME, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                note(format!("no answer from {} yet; waiting", self.addresses()?.join(", ")));
                connecting.await
            }
        };
        Ok(connected?)
    }

    /// Connects to one peer at an address that another told of, or says after `patience` why that is not possible.
    pub async fn other(&self, address: SocketAddr, patience: Duration) -> Result<Client> {
        let (credentials, begun) = (self.credentials()?, Instant::now());
        loop {
            let builder = Client::builder().address(address.to_string()).credentials(credentials.clone());
            let left = patience.saturating_sub(begun.elapsed());
            let error = match tokio::time::timeout(left, builder.connect()).await {
                Ok(Ok(client)) => {
                    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).push(client.clone());
                    return Ok(client);
                }
                Ok(Err(error)) => error.into(),
                Err(_) => anyhow::anyhow!("nobody answered at {address}"),
            };
            if begun.elapsed() + LOOK_AGAIN >= patience {
                return Err(error);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A connection to one member of the cluster: what `client` has, where that is the one, or else one of its own.
    pub async fn member(&self, client: &Client, member: &Member, patience: Duration) -> Result<Client> {
        let client = match (member.state, member.address) {
            (MemberState::Oneself, _) => client.clone(),
            (_, Some(address)) => self.other(address, patience).await?,
            (_, None) => anyhow::bail!("where it is reached is not known"),
        };
        is_still(&client, member)?;
        Ok(client)
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

    /// As whom.
    pub fn credentials(&self) -> Result<Credentials> {
        if let (Some(cert), Some(key), Some(ca)) = (&self.cert, &self.key, &self.ca) {
            return Ok(Credentials::from_files(cert, key, ca)?);
        }
        let dir = self.place.data_dir()?;
        Credentials::from_data_dir(&dir).with_context(|| {
            format!("{} holds no client's certificate; give --cert, --key and --ca (`conveyor cert client` makes them)", dir.display())
        })
    }
}

/// What a peer that is connected answers within `wait`. It may be there and not get to it, with a disk that hangs, and one that
/// is lost is dialled again for long.
pub async fn within<T, E: Into<anyhow::Error>>(
    wait: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T> {
    match tokio::time::timeout(wait, asked).await {
        Ok(answered) => answered.map_err(Into::into),
        Err(_) => {
            let wait = show_ms(wait.as_millis() as u64);
            Err(failure(Exit::Timeout, format!("it was reached, and did not answer within {wait}")))
        }
    }
}

/// A client goes on at another peer when the one that it was connected to is lost: whatever it was told before is the member's
/// only if it is there still.
pub fn is_still(client: &Client, member: &Member) -> Result<()> {
    let about = client.about();
    if about.store == member.store {
        return Ok(());
    }
    match about.peer == member.peer {
        true => anyhow::bail!("it was started again meanwhile"),
        false => anyhow::bail!("another peer answers there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_reached_and_does_not_answer_is_waited_for_no_longer_than_was_said() {
        let never = std::future::pending::<Result<u8>>();
        let error = within(Duration::from_secs(5), never).await.unwrap_err();
        assert_eq!(error.to_string(), "it was reached, and did not answer within 5 s");
        assert_eq!(within(Duration::from_secs(5), async { anyhow::Ok(7) }).await.unwrap(), 7);
    }

    #[test]
    fn an_address_may_leave_out_its_port() {
        let addresses = [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("127.0.0.1", "127.0.0.1:8011"),
            ("::1", "[::1]:8011"),
            ("[::1]", "[::1]:8011"),
            ("[::1]:9000", "[::1]:9000"),
            ("localhost", "localhost:8011"),
            ("alpha.example:9000", "alpha.example:9000"),
        ];
        for (given, meant) in addresses {
            assert_eq!(address(given).as_deref(), Ok(meant));
        }
        for wrong in ["", ":8011", "host:", "host:port", "host:70000", "host:0", "quic://host:1", "a b"] {
            assert!(address(wrong).unwrap_err().contains("HOST:PORT"), "{wrong}");
        }
    }
}
