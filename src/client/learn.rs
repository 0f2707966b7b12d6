//! Where other peers are: asked of the one that is connected, so that they can serve when that is gone.
use crate::client::connect::{Connector, Live};
use crate::quic::stream::StreamError;
use crate::wire::message::{Reply, Request};
use crate::wire::outcome::{Member, MemberState};
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;
use tokio::time;

/// How often a client asks which peers there are.
const LEARN_PAUSE: Duration = Duration::from_secs(30);
/// Peers in one list.
const MEMBERS_MAX: usize = 10_000;
/// Addresses of others that it keeps.
const LEARNED_MAX: usize = 64;

/// Learns from a peer where others are, for as long as the connection to it lasts.
pub(super) async fn others(connector: Weak<Connector>, live: Live) {
    while live.connection.close_reason().is_none() {
        if let Ok(members) = members(&live).await {
            let Some(connector) = connector.upgrade() else { return };
            // A peer on another host means itself with its loopback address, and not this host.
            let is_here = live.connection.remote_address().ip().to_canonical().is_loopback();
            let is_near = |address: &SocketAddr| is_here || !address.ip().is_loopback();
            let reached = members.iter().filter(|member| member.state != MemberState::Dead);
            let addresses = reached.filter_map(|member| member.address).filter(is_near);
            connector.learn(addresses.map(|address| address.to_string()).take(LEARNED_MAX).collect());
        }
        tokio::select! {
            biased;
            _ = live.connection.closed() => return,
            () = time::sleep(LEARN_PAUSE) => {}
        }
    }
}

async fn members(live: &Live) -> Result<Vec<Member>, StreamError> {
    let (mut writer, mut reader) = live.open(&Request::Members).await?;
    writer.finish();
    let mut members = Vec::new();
    loop {
        match reader.message().await? {
            Some(Reply::Member(member)) if members.len() < MEMBERS_MAX => members.push(member),
            Some(Reply::Done) => return Ok(members),
            // A list that breaks off says nothing.
            _ => return Err(StreamError::Lost { reason: "the list of peers broke off".to_owned() }),
        }
    }
}
