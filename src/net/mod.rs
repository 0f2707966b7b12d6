//! One UDP port: the endpoint, who is let in, and to whom a connection is handed.
//!
//! ```text
//! UDP ─→ quinn ─→ accept: limits, retry tokens ─→ TLS: chain, cluster ─→ ALPN and role ─→ Service (api::rpc, peers)
//! ```
//!
//! What is refused is counted and logged at debug with its reason, and changes nothing else. Nothing here knows what is
//! asked over a connection, or about the log; `peers` carries what peers tell each other and reads none of it.

pub mod accept;
pub mod counters;
pub mod endpoint;
pub mod peers;

pub use accept::{Service, Services, serve};
pub use counters::Counters;
pub use endpoint::{NetConfig, NetEnv, Port, SetupError, open};
pub use peers::{PeerDoor, Peers, PeersConfig};
