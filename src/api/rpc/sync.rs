//! How the peer stands to the others, and why an entry is not here.
use super::bulk::check;
use super::{Ended, Session};
use crate::quic::stream::FrameWriter;
use crate::wire::frame::Kind;
use crate::wire::message::{Refusal, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::{Explained, Holder, ReadFrom, SyncPeer, SyncStatus, Why};
use std::time::Duration;

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    request: Request,
) -> Result<(), Ended> {
    let reply = match request {
        Request::Sync => Reply::Sync(sync(session).await),
        Request::Alone { wait_ms } => {
            if !session.rights.allows_peer_admin() {
                return Err(Refusal::Forbidden.into());
            }
            let wait = Duration::from_millis(wait_ms.clamp(100, WAIT_MS_MAX));
            Reply::Alone(session.handle().alone(wait).await)
        }
        Request::Explain { id } => {
            let explained = match check(session, &id.topic, &ReadFrom::Id(id.clone())) {
                Ok(()) => explain(session, &id).await,
                Err(error) => refused(Why::Error(error)),
            };
            Reply::Explained(explained)
        }
        _ => return Err(Refusal::Unexpected.into()),
    };
    Ok(writer.message(Kind::Reply, &reply).await?)
}

fn refused(why: Why) -> Explained {
    Explained { why, writer: None, is_writer_removed: false, offered_by: vec![], asked_of: vec![] }
}

async fn explain(session: &Session, id: &crate::base::EntryRef) -> Explained {
    let mut explained = session.handle().explain(id).await;
    let unnamed = explained.offered_by.iter_mut().chain(&mut explained.asked_of);
    unnamed.for_each(|holder| holder.name = session.name_of(holder.peer, holder.store));
    explained
}

async fn sync(session: &Session) -> SyncStatus {
    let (handle, peers) = (session.handle(), session.shared.peers.as_ref());
    let seen = peers.map(|peers| peers.seen()).unwrap_or_default();
    let missing = handle.missing();
    let of_peer = |progress: crate::runtime::Progress| {
        let seen = seen.iter().find(|seen| seen.other.store == progress.store);
        let name = session.name_of(progress.peer, progress.store);
        SyncPeer {
            holder: Holder { peer: progress.peer, store: progress.store, name },
            rtt_us: seen.map_or(0, |seen| seen.rtt_us),
            missing_entries: progress.missing_entries,
            missing_runs: progress.missing_runs,
            asked_entries: progress.asked_entries,
            is_resting: progress.is_resting,
            compared_ago_ms: progress.compared_ago_ms,
            received_bytes: seen.map_or(0, |seen| seen.received_bytes),
            sent_bytes: seen.map_or(0, |seen| seen.sent_bytes),
        }
    };
    SyncStatus {
        missing_entries: missing.entries,
        behind_ms: missing.behind.map(|behind| behind.as_millis() as u64),
        peers: handle.progress().await.into_iter().map(of_peer).collect(),
    }
}
