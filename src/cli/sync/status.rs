//! `conveyor sync status`: how a peer stands to each of the others.
use crate::cli::connect::Connection;
use crate::cli::output::{Out, show_bytes, show_count, show_ms};
use crate::client::{SyncPeer, SyncStatus};
use crate::wire::json::SyncPeerJson;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Show how a peer stands to each of the others
///
/// `missing` are entries that the other says it holds and that are not here yet; `asked` those of them that are on their way.
/// Rates are those of the second between two looks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor sync status
  conveyor sync status --connect 10.0.0.3      how far that one is behind
  conveyor sync status -o json | jq .missing_entries

How many bytes are missing is not known before they come. What others lack of
this peer is asked of them; `conveyor cluster health` looks at all.")]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

/// Time between the two looks.
const BETWEEN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct StatusJson {
    name: String,
    missing_entries: u64,
    behind_ms: Option<u64>,
    peers: Vec<PeerJson>,
}

#[derive(Serialize)]
struct PeerJson {
    #[serde(flatten)]
    now: SyncPeerJson,
    received_bytes_per_second: u64,
    sent_bytes_per_second: u64,
}

impl Status {
    /// Looks twice, and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let before = client.sync().await?;
        tokio::time::sleep(BETWEEN).await;
        let now = client.sync().await?;
        out.show(&json(client.about().name.to_string(), &before, &now), words)
    }
}

fn json(name: String, before: &SyncStatus, now: &SyncStatus) -> StatusJson {
    let peer = |now: &SyncPeer| {
        let before = before.peers.iter().find(|before| before.holder.store == now.holder.store);
        let since =
            |count: fn(&SyncPeer) -> u64| before.map_or(0, |before| count(now).saturating_sub(count(before)));
        PeerJson {
            now: SyncPeerJson::new(now),
            received_bytes_per_second: since(|peer| peer.received_bytes),
            sent_bytes_per_second: since(|peer| peer.sent_bytes),
        }
    };
    let peers = now.peers.iter().map(peer).collect();
    StatusJson { name, missing_entries: now.missing_entries, behind_ms: now.behind_ms, peers }
}

fn words(status: &StatusJson) -> String {
    let mut lines = vec![match (status.missing_entries, status.behind_ms) {
        (0, _) => format!("{} lacks nothing that another peer says it holds", status.name),
        (missing, behind) => {
            let behind =
                behind.map_or_else(String::new, |ms| format!(", and has been behind for {}", show_ms(ms)));
            format!("{} lacks {}{behind}", status.name, show_count(missing, "entry", "entries"))
        }
    }];
    if status.peers.is_empty() {
        lines.push("it is connected to no other peer".to_owned());
    }
    let width = status.peers.iter().map(|peer| called(peer).len()).max().unwrap_or(0);
    for peer in &status.peers {
        let name = called(peer);
        let rtt = peer.now.rtt_us as f64 / 1000.0;
        let compared = peer
            .now
            .compared_ago_ms
            .map_or_else(|| "not yet".to_owned(), |ms| format!("{} ago", show_ms(ms)));
        let (received, sent) =
            (show_bytes(peer.received_bytes_per_second), show_bytes(peer.sent_bytes_per_second));
        lines.push(format!(
            "{name:width$}  {:8}  missing {}, asked {}; in {received}/s, out {sent}/s; {rtt:.1} ms; compared {compared}",
            peer.now.state, peer.now.missing_entries, peer.now.asked_entries
        ));
    }
    lines.join("\n")
}

fn called(peer: &PeerJson) -> &str {
    peer.now.name.as_deref().unwrap_or(&peer.now.peer[..8])
}
