//! `conveyor init` and `conveyor cert`: who belongs to a cluster, and what clients may do.
mod token;
mod validity;

use crate::base::PeerName;
use crate::cli::connect::Place;
use crate::cli::output::Out;
use crate::cli::usage::count_min_1;
use crate::cli::when::unix_ms;
use crate::identity::ca::VALIDITY_DAYS_DEFAULT;
use crate::identity::{
    Ca, Certificate, IdentityFiles, Rights, Role, Validity, create_cluster, issue_client, issue_peer,
    make_local_token, renew,
};
use crate::server::host_name;
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueHint};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Make a cluster: its id, its authority, and this peer's certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor init --name alpha             a cluster whose first peer is alpha
  conveyor serve --listen 0.0.0.0:8011   allowed now: the certificates were made
                                         on purpose

Everything goes to DATA_DIR/identity, also a client that may do all. ca.key
decides who belongs to the cluster: keep it off machines that do not need it,
and keep a copy.")]
pub struct Init {
    /// What people call this peer [default: after the host]
    #[arg(long, value_name = "NAME", value_parser = |text: &str| PeerName::new(text))]
    name: Option<PeerName>,
    #[command(flatten)]
    place: Place,
}

impl Init {
    /// Makes the cluster.
    pub fn run(self, out: &mut Out) -> Result<()> {
        let dir = self.place.data_dir()?;
        let name = self.name.unwrap_or_else(host_name);
        let files = IdentityFiles::of(&dir);
        let validity = Validity::days(unix_ms() / 1000, VALIDITY_DAYS_DEFAULT);
        let ca = create_cluster(&dir, validity)?;
        let peer = issue_peer(&ca, &name, validity, files.dir())?;
        issue_client(&ca, &Rights::all(), validity, files.dir())?;
        make_local_token(&files, unix_ms() / 1000)?;
        let made = Made {
            cluster: Some(ca.cluster().to_string()),
            peer: Some(Certificate::parse(&peer.certificate)?.key.to_string()),
            dir: files.dir().display().to_string(),
        };
        out.show(&made, |made| format!("cluster {} with peer {name}, in {}", ca.cluster(), made.dir))
    }
}

#[derive(Serialize)]
struct Made {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    dir: String,
}

/// Make and show certificates.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Make a certificate for another peer of the cluster
    #[command(after_help = "\
Example:
  conveyor cert peer beta --out beta-identity
  rsync -a beta-identity/ beta:.local/share/conveyor/identity/")]
    Peer {
        /// What people call the peer: 1 to 32 of a-z, 0-9 and -
        #[arg(value_parser = |text: &str| PeerName::new(text))]
        name: PeerName,
        #[command(flatten)]
        issue: Issue,
    },
    /// Make a certificate for a client, with what it may do
    #[command(after_help = "\
Examples:
  conveyor cert client --rights read,write --prefix jobs/ --out worker
  conveyor append jobs/mail --connect 10.0.0.1:8011 \\
    --cert worker/client.crt --key worker/client.key --ca worker/ca.crt")]
    Client {
        /// What it may do: read, write, admin (create, set and delete topics, import, accept the clock)
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "read,write",
            value_name = "RIGHTS",
            hide_possible_values = true
        )]
        rights: Vec<Right>,
        /// Only topics whose names begin like this; may be given more than once [default: all topics]
        #[arg(long, value_name = "PREFIX")]
        prefix: Vec<String>,
        #[command(flatten)]
        issue: Issue,
    },
    Token(token::Token),
    /// Make a certificate anew for the key of another, with another end: the holder stays who it is
    #[command(after_help = "\
Example:
  conveyor cert renew beta/peer.crt --out peer.crt
  scp peer.crt beta:.local/share/conveyor/identity/    then start beta again

The private key is not needed, and does not change. The old certificate holds
until its own end.")]
    Renew {
        /// The certificate (PEM) to make anew; it may be over
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The file for the new one; nothing is overwritten
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
        /// How long it holds, in days
        #[arg(long, default_value_t = VALIDITY_DAYS_DEFAULT, value_name = "DAYS", value_parser = count_min_1)]
        days: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Show what a certificate says
    #[command(after_help = "Example:\n  conveyor cert show worker/client.crt")]
    Show {
        /// The certificate (PEM)
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// How a certificate is made.
#[derive(Debug, Args)]
pub struct Issue {
    /// The directory for certificate and key; made when it is missing, and nothing in it is overwritten
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// How long the certificate holds, in days. The end bounds connecting; entries never expire with it
    #[arg(long, default_value_t = VALIDITY_DAYS_DEFAULT, value_name = "DAYS", value_parser = count_min_1)]
    days: u64,
    #[command(flatten)]
    place: Place,
}

/// Something a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Right {
    // No words of documentation here: with them clap prints the page of help in its long form.
    Read,
    Write,
    Admin,
}

impl Cert {
    /// Does it.
    pub fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Peer { name, issue } => {
                issue.run(out, |ca, validity, to| issue_peer(ca, &name, validity, to))
            }
            Self::Client { rights, prefix, issue } => {
                let has = |right| rights.contains(&right);
                let rights = Rights {
                    read: has(Right::Read),
                    write: has(Right::Write),
                    admin: has(Right::Admin),
                    prefixes: prefix,
                };
                issue.run(out, |ca, validity, to| issue_client(ca, &rights, validity, to))
            }
            Self::Token(token) => token.run(out),
            Self::Renew { file, out: to, days, place } => {
                let certificate = parse(&file)?;
                let validity = Validity::days(unix_ms() / 1000, days);
                renew(&authority(&place)?, &certificate, validity, &to)?;
                let made = Made {
                    cluster: None,
                    peer: Some(certificate.key.to_string()),
                    dir: to.display().to_string(),
                };
                out.show(&made, |made| format!("certificate in {}", made.dir))
            }
            Self::Show { file } => show(&file, out),
        }
    }
}

fn authority(place: &Place) -> Result<Ca> {
    let dir = place.data_dir()?;
    Ca::load(&IdentityFiles::of(&dir)).with_context(|| {
        format!("the authority's key is not in {}; run this where `conveyor init` ran", dir.display())
    })
}

/// The certificate in a file.
fn parse(file: &Path) -> Result<Certificate> {
    let text = std::fs::read(file)
        .map_err(|error| crate::identity::IdentityError::File { path: file.into(), error })?;
    let der = CertificateDer::from_pem_slice(&text)
        .with_context(|| format!("{} holds no certificate in PEM", file.display()))?;
    Ok(Certificate::parse(&der)?)
}

impl Issue {
    fn run(
        self,
        out: &mut Out,
        make: impl FnOnce(
            &Ca,
            Validity,
            &Path,
        ) -> Result<crate::identity::ca::Issued, crate::identity::IdentityError>,
    ) -> Result<()> {
        let ca = authority(&self.place)?;
        make(&ca, Validity::days(unix_ms() / 1000, self.days), &self.out)?;
        let made =
            Made { cluster: Some(ca.cluster().to_string()), peer: None, dir: self.out.display().to_string() };
        out.show(&made, |made| format!("certificate and key in {}", made.dir))
    }
}

#[derive(Serialize)]
struct Shown {
    cluster: String,
    key: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rights: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    /// From when on it counts, and until when; null where that cannot be read.
    valid_from: Option<String>,
    valid_until: Option<String>,
}

fn show(file: &Path, out: &mut Out) -> Result<()> {
    let certificate = parse(file)?;
    let (valid_from, valid_until) = validity::of_file(file)?.unzip();
    let (role, name, rights) = match certificate.role {
        Role::Peer { name } => ("peer", Some(name.to_string()), Rights::default()),
        Role::Client(rights) => ("client", None, rights),
    };
    let held = [(rights.read, "read"), (rights.write, "write"), (rights.admin, "admin")];
    let shown = Shown {
        cluster: certificate.cluster.to_string(),
        key: certificate.key.to_string(),
        role,
        name,
        rights: held.into_iter().filter_map(|(held, word)| held.then_some(word)).collect(),
        prefixes: rights.prefixes,
        valid_from,
        valid_until,
    };
    out.show(&shown, text_of)
}

fn text_of(shown: &Shown) -> String {
    let mut text = format!("cluster  {}\nkey      {}\nrole     {}", shown.cluster, shown.key, shown.role);
    if let Some(name) = &shown.name {
        text.push_str(&format!("\nname     {name}"));
    }
    if shown.role == "client" {
        let prefixes = if shown.prefixes.is_empty() { "all".to_owned() } else { shown.prefixes.join(", ") };
        text.push_str(&format!("\nrights   {}\ntopics   {prefixes}", shown.rights.join(", ")));
    }
    if let (Some(from), Some(until)) = (&shown.valid_from, &shown.valid_until) {
        text.push_str(&format!("\nvalid    from {from} until {until}"));
    }
    text
}
