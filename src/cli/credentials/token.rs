//! `conveyor cert token`: what a client may do over HTTP, as one word.
use crate::base::units::parse_duration;
use crate::cli::connect::Connection;
use crate::cli::credentials::Right;
use crate::cli::output::Out;
use crate::cli::when::{show_time, unix_ms};
use crate::identity::Rights;
use crate::identity::token::{self, Claims};
use anyhow::Result;
use clap::Args;

/// Make a token for a client that speaks HTTP, with what it may do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor cert token web --rights read --prefix public/ --for 30d
  TOKEN=$(conveyor cert token mailer --rights read,write --prefix jobs)
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8011/v1/topics

It is signed with your key, as an administrator, allows no more than you may,
and ends when your certificate does. Whoever has it can use it: keep it safe.")]
pub struct Token {
    /// What people call the client: 1 to 64 letters, digits and signs
    name: String,
    /// What it may do: read, write, admin (create, set and delete topics, change groups)
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
    /// How long it holds
    #[arg(long = "for", default_value = "365d", value_name = "DURATION", value_parser = parse_duration)]
    lasts_ms: u64,
    #[command(flatten)]
    connection: Connection,
}

impl Token {
    /// Makes and prints it.
    pub fn run(self, out: &mut Out) -> Result<()> {
        let credentials = self.connection.credentials()?;
        let has = |right| self.rights.contains(&right);
        let claims = Claims {
            cluster: credentials.certificate().cluster,
            client: self.name,
            rights: Rights {
                read: has(Right::Read),
                write: has(Right::Write),
                admin: has(Right::Admin),
                prefixes: self.prefix,
            },
            until_s: unix_ms().saturating_add(self.lasts_ms) / 1000,
        };
        let token = token::make(&credentials, &claims)?;
        let until = show_time(claims.until_s.saturating_mul(1000));
        let json = serde_json::json!({ "client": claims.client, "until": until, "token": token });
        out.show(&json, |_| token.clone())
    }
}
