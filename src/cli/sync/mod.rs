//! `conveyor sync`: what a peer lacks, of whom it is asked, and why an entry is not there.
mod explain;
mod status;

use crate::cli::output::Out;
use anyhow::Result;
use clap::Subcommand;

/// Show what a peer lacks, and why.
#[derive(Debug, Subcommand)]
pub enum Sync {
    Status(status::Status),
    Explain(explain::Explain),
}

impl Sync {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Status(status) => status.run(out).await,
            Self::Explain(explain) => explain.run(out).await,
        }
    }
}
