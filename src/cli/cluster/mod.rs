//! `conveyor cluster`: the peers together.
mod health;

use crate::cli::connect::Connection;
use crate::cli::exit::Exit;
use crate::cli::output::Out;
use crate::wire::json::MemberJson;
use anyhow::Result;
use clap::Subcommand;

/// Show the peers of the cluster, and how they are doing together.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// List the peers of the cluster, as the one that is asked knows them
    ///
    /// `connected` are those it exchanges entries with, with the time there and back; `alive` those that others hear
    /// from; `dead` those that nobody heard from for some seconds, kept for ten minutes. A peer that dies without a word
    /// counts as connected for twelve seconds more.
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  conveyor cluster members
  conveyor cluster members -o json | jq -r 'select(.state != \"dead\") | .address'"
    )]
    Members(Connection),
    Health(health::Health),
}

impl Cluster {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let connection = match self {
            Self::Members(connection) => connection,
            Self::Health(health) => return health.run(out).await,
        };
        let members: Vec<MemberJson> =
            connection.client().await?.members().await?.iter().map(MemberJson::new).collect();
        let name_width = members.iter().map(|member| member.name.len()).max().unwrap_or(0);
        let address_width = members.iter().map(|member| shown(&member.address).len()).max().unwrap_or(0);
        for member in &members {
            out.show(member, |member| {
                let (name, address) = (&member.name, shown(&member.address));
                let rtt =
                    member.rtt_us.map_or_else(String::new, |us| format!("  {:.1} ms", us as f64 / 1000.0));
                format!("{name:name_width$}  {address:address_width$}  {}{rtt}", member.state)
            })?;
        }
        Ok(Exit::Ok)
    }
}

fn shown(address: &Option<String>) -> &str {
    address.as_deref().unwrap_or("-")
}
