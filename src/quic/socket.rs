//! The UDP socket under QUIC, with room for bursts.
//!
//! A bulk read on a fast link fills the system's default buffer in a millisecond; what does not fit is lost and sent
//! again. So 4 MiB are asked for each way, and what the system grants is told to the caller.
#![expect(clippy::disallowed_types, reason = "this is where the socket comes in")]
use quinn::udp::{UdpSockRef, UdpSocketState};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Bytes of buffer asked for, each way.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A bound socket, and the room it got.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: UdpSocket,
    /// Bytes it can hold of what arrives and was not read yet.
    pub receive_bytes: usize,
    /// Bytes it can hold of what was written and has not left yet.
    pub send_bytes: usize,
}

impl Bound {
    /// Whether the system gave less than was asked for, and what to set on Linux so that it gives more.
    pub fn advice(&self) -> Option<String> {
        let clipped = |name: &str, bytes: usize| {
            (bytes < SOCKET_BUFFER_BYTES).then(|| format!("sysctl -w net.core.{name}={SOCKET_BUFFER_BYTES}"))
        };
        let lines: Vec<String> =
            [clipped("rmem_max", self.receive_bytes), clipped("wmem_max", self.send_bytes)]
                .into_iter()
                .flatten()
                .collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// An address as the socket at `local` sends to it: one of all families reaches IPv4 through addresses that are mapped.
pub fn reach(local: Option<SocketAddr>, address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if local.is_some_and(|local| local.is_ipv6()) => {
            (v4.ip().to_ipv6_mapped(), v4.port()).into()
        }
        address => address,
    }
}

/// Binds `address` and asks for room.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = UdpSocket::bind(address)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let (mut receive_bytes, mut send_bytes) = (0, 0);
    // Refusals show in what is read back.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
    if let Ok(bytes) = state.recv_buffer_size(UdpSockRef::from(&socket)) {
        receive_bytes = bytes;
    }
    if let Ok(bytes) = state.send_buffer_size(UdpSockRef::from(&socket)) {
        send_bytes = bytes;
    }
    Ok(Bound { socket, receive_bytes, send_bytes })
}
