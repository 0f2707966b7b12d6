//! How the peer stands to the others, and why an entry is not here.
use super::{Ended, Session};
use crate::api::allowed;
use crate::quic::stream::FrameWriter;
use crate::wire::frame::Kind;
use crate::wire::message::{Refusal, Reply, Request, WAIT_MS_MAX};
use crate::wire::outcome::{Explained, ReadFrom, Why};
use std::time::Duration;

pub(super) async fn serve(
    session: &Session,
    writer: &mut FrameWriter,
    request: Request,
) -> Result<(), Ended> {
    let reply = match request {
        Request::Sync => Reply::Sync(session.shared.among.sync().await),
        Request::Alone { wait_ms } => {
            if !session.rights.allows_peer_admin() {
                return Err(Refusal::Forbidden.into());
            }
            let wait = Duration::from_millis(wait_ms.clamp(100, WAIT_MS_MAX));
            Reply::Alone(session.handle().alone(wait).await)
        }
        Request::Explain { id } => {
            let explained = match allowed::read(&session.rights, &id.topic, &ReadFrom::Id(id.clone())) {
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
