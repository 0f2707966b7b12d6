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
            let addresses = nearest_first(&members).into_iter().filter(is_near);
            connector.learn(addresses.map(|address| address.to_string()).take(LEARNED_MAX).collect());
        }
        tokio::select! {
            biased;
            _ = live.connection.closed() => return,
            () = time::sleep(LEARN_PAUSE) => {}
        }
    }
}

/// Where those that live are reached: the one that was asked, then those that are near to it, which are most likely near to its
/// client too.
fn nearest_first(members: &[Member]) -> Vec<SocketAddr> {
    let far = |member: &Member| match member.state {
        MemberState::Oneself => Some(0),
        MemberState::Connected { rtt_us } => Some(rtt_us),
        MemberState::Alive => Some(u64::MAX),
        MemberState::Dead => None,
    };
    let mut near: Vec<_> =
        members.iter().filter_map(|member| Some((far(member)?, member.address?))).collect();
    near.sort_by_key(|(far, _)| *far);
    near.into_iter().map(|(_, address)| address).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PeerId, PeerName, StoreId};

    #[test]
    fn near_peers_come_before_far_ones_and_the_dead_are_left_out() {
        let member = |number: u8, state: MemberState| Member {
            store: StoreId(u64::from(number)),
            peer: PeerId([number; 32]),
            name: PeerName::new("a").unwrap(),
            address: Some(SocketAddr::from(([10, 0, 0, number], 1))),
            state,
        };
        let members = [
            member(1, MemberState::Connected { rtt_us: 40_000 }),
            member(2, MemberState::Alive),
            member(3, MemberState::Dead),
            member(4, MemberState::Connected { rtt_us: 900 }),
            member(5, MemberState::Oneself),
        ];
        let last: Vec<u8> = nearest_first(&members)
            .iter()
            .map(|address| match address {
                SocketAddr::V4(address) => address.ip().octets()[3],
                SocketAddr::V6(_) => 0,
            })
            .collect();
        assert_eq!(last, [5, 4, 1, 2]);
    }
}
