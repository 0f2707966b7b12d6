//! `conveyor clock`: decisions that wait for a clock that can be trusted.
use crate::cli::connect::Connection;
use crate::cli::output::Out;
use anyhow::Result;
use clap::Subcommand;

/// Decisions that wait for a trusted clock.
#[derive(Debug, Subcommand)]
pub enum Clock {
    /// Believe the clock as it is now: removal by age goes on
    ///
    /// After a start that found the clock far ahead of what was last written, a peer removes nothing by age until other
    /// peers show the same time, or the clock has run steadily for a while (clock.settle_ms); nor does one whose clock is
    /// far from what at least half of all peers show. This overrules them until they agree, or the clock jumps. Look at
    /// the host's date first: what is removed is gone.
    #[command(after_help = "Example:\n  date && conveyor status && conveyor clock accept")]
    Accept(Connection),
}

impl Clock {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let Self::Accept(connection) = self;
        let client = connection.client().await?;
        client.accept_clock().await?;
        let status = client.status().await?;
        out.show(&serde_json::json!({ "clock": crate::wire::json::clock_words(&status.clock) }), |json| {
            json["clock"].as_str().unwrap_or_default().to_owned()
        })
    }
}
