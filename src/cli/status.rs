//! `conveyor status`: how a peer is doing.
use crate::cli::connect::Connection;
use crate::cli::output::{Out, show_bytes, show_count};
use crate::wire::json::StatusJson;
use anyhow::Result;
use clap::Args;

/// Show how a peer is doing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  conveyor status\n  conveyor status -o json | jq .stored_bytes")]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let status = client.status().await?;
        out.show(&StatusJson::new(&status), text)
    }
}

fn text(s: &StatusJson) -> String {
    let (stored, free, reserve) =
        (show_bytes(s.stored_bytes), show_bytes(s.disk_free_bytes), show_bytes(s.disk_reserve_bytes));
    // It happens hardly ever, and has to be looked at when it does.
    let forks = match s.forks {
        0 => String::new(),
        count => format!("forked      {}; see conveyor topic info\n", show_count(count, "run", "runs")),
    };
    format!(
        "peer        {} {}, version {}\n\
         cluster     {}\n\
         started     {}\n\
         held        {}, {}, {stored}\n\
         disk        {free} free, {reserve} of them in reserve\n\
         appends     {}, {} unless said otherwise\n\
         clock       {}\n\
         damaged     {}\n\
         {forks}\
         connections {}",
        s.name,
        s.peer,
        s.version,
        s.cluster,
        s.started,
        show_count(s.topics, "topic", "topics"),
        show_count(s.logs, "log", "logs"),
        s.appends,
        s.durability,
        s.clock,
        show_count(s.damaged_ranges, "range", "ranges"),
        s.connections
    )
}
