//! `conveyor peer`: removing a peer for good, and what is set aside of those that were.
mod aside;
mod remove;
pub mod who;

use crate::cli::output::Out;
use anyhow::Result;
use clap::Subcommand;

/// Remove a peer for good, and see what is set aside of it.
#[derive(Debug, Subcommand)]
pub enum Peer {
    Remove(remove::Remove),
    SetAside(aside::SetAside),
}

impl Peer {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Remove(remove) => remove.run(out).await,
            Self::SetAside(aside) => aside.run(out).await,
        }
    }
}
