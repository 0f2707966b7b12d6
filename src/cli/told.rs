//! What a read that stands before something says: what is gone, what is not here, and how it ends with that.
use crate::base::{Cursor, PeerId, RunId, TopicName};
use crate::cli::exit::{Exit, failure};
use crate::cli::output::{Out, note, show_entries};
use crate::client::Client;
use crate::wire::json;
use crate::wire::outcome::{Blocked, BlockedReason, Gap, LogInfo};
use anyhow::Result;
use std::collections::BTreeSet;

/// Says where the peer holds less of a run than a cursor says was read of it; true where it does.
pub async fn tell_behind(client: &Client, topic: &TopicName, cursor: Option<&Cursor>) -> Result<bool> {
    let (Some(cursor), Some(topic)) = (cursor, client.topic(topic).await?) else {
        return Ok(false);
    };
    let mut is_behind = false;
    for position in &cursor.positions {
        let is_its = |log: &&LogInfo| log.peer == position.peer && log.run == position.run;
        let Some(log) = topic.logs.iter().find(is_its).filter(|log| log.until < position.next) else {
            continue;
        };
        is_behind = true;
        let (peer, run) = (position.peer.short(), position.run.short());
        note(format!(
            "the position is ahead of this peer: next is entry {} of {peer}.{run}, and {} is the next that gets here; \
             ask another peer, or wait for it with --follow",
            position.next, log.until
        ));
    }
    Ok(is_behind)
}

/// How a read ends on Ctrl-C: one that follows has no other end.
pub fn stopped(is_follow: bool) -> Result<()> {
    if is_follow { Ok(()) } else { Err(failure(Exit::Interrupted, "interrupted before the end")) }
}

/// Tells of a range that is gone.
pub fn tell_gap(gap: &Gap, out: &mut Out) -> Result<()> {
    tell("gap", &json::gap(gap), (gap.peer, gap.run), out)
}

/// Tells of a range that cannot be read here now.
pub fn tell_blocked(blocked: &Blocked, out: &mut Out) -> Result<()> {
    if blocked.reason == BlockedReason::Ahead && !out.is_json() {
        note(ahead(blocked));
        return Ok(());
    }
    tell("blocked", &json::blocked(blocked), (blocked.peer, blocked.run), out)
}

/// What to do where entries are named that the peer does not hold.
fn ahead(blocked: &Blocked) -> String {
    let (entry, peer, run) = (blocked.from, blocked.peer.short(), blocked.run.short());
    format!(
        "the position is ahead of this peer (a restored backup?): next is entry {entry} of {peer}.{run}, which is not \
         here; import that run, or begin anew with --from, without the cursor"
    )
}

/// How a read ends that stood before entries which are not here: whether the position is ahead, of each.
pub fn ended(stood_before: &BTreeSet<bool>) -> Result<()> {
    let (exit, message) = match stood_before.first() {
        None => return Ok(()),
        Some(true) => (Exit::Ahead, "the position is ahead of this peer"),
        Some(false) => (Exit::Damaged, "not everything could be read; --skip-damaged goes on behind damage"),
    };
    Err(failure(exit, message))
}

/// Tells what is not delivered: to people beside the entries, to programs between them.
fn tell(what: &str, told: &json::Told, (peer, run): (PeerId, RunId), out: &mut Out) -> Result<()> {
    if out.is_json() {
        return out.json(&serde_json::json!({ what: told }));
    }
    let entries = show_entries(told.first_seq, told.next_seq);
    note(format!("{what}: {entries} of {}.{}: {}", peer.short(), run.short(), told.reason));
    Ok(())
}
