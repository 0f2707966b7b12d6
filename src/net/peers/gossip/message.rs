//! What a message of the gossip has in it, read before chitchat takes it: that unpacks, keeps and believes whatever is
//! written as it writes itself.
//!
//! ```text
//! magic u16 | version u8 | kind u8 | digest: ids u16, each id 24 bytes behind | delta: blocks, each tag u8 | bytes u16 | ...
//! ```
use crate::base::bytes_io::Reader;
use crate::net::peers::gossip::{ID_COUNT_MAX, KEY, NAME_BYTES};
use crate::wire::facts::FACTS_TEXT_BYTES_MAX;
use chitchat::ChitchatId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of facts that one message may unpack to. A message has 64 KiB at most, and facts do not shrink to a tenth.
const UNPACKED_BYTES_MAX: usize = 1 << 20;
/// Bytes that chitchat unpacks of one block at most.
const BLOCK_BYTES_MAX: usize = u16::MAX as usize;

/// An id as it stands in messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) address: SocketAddr,
}

impl Id {
    pub(super) fn of(id: &ChitchatId) -> Self {
        let (name, generation) = (id.node_id.to_string(), id.generation_id);
        Self { name, generation, address: id.gossip_advertise_addr }
    }

    /// Bytes of its entry in a digest: name, generation, address, heartbeat and two versions.
    pub(super) fn digest_bytes(&self) -> usize {
        let address = if self.address.is_ipv4() { 7 } else { 19 };
        2 + self.name.len() + 8 + address + 24
    }
}

/// The ids in a message's digest; `None` where it is no message, or one that no peer sends.
pub(super) fn named_ids(bytes: &[u8]) -> Option<Vec<Id>> {
    const SYN: u8 = 0;
    const SYN_ACK: u8 = 1;
    const ACK: u8 = 2;
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let mut r = Reader::new(rest);
    let ids = if matches!(head[3], SYN | SYN_ACK) { digest(&mut r)? } else { Vec::new() };
    if matches!(head[3], SYN_ACK | ACK) {
        check_facts(&unpack(&mut r)?)?;
    }
    Some(ids)
}

fn digest(r: &mut Reader) -> Option<Vec<Id>> {
    let count = usize::from(r.u16().ok()?);
    if count > ID_COUNT_MAX {
        return None;
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(id(r)?);
        let _heartbeat_and_versions = r.array::<24>().ok()?;
    }
    Some(ids)
}

fn id(r: &mut Reader) -> Option<Id> {
    let name = text(r, NAME_BYTES)?;
    if name.len() != NAME_BYTES {
        return None;
    }
    let generation = r.u64().ok()?;
    let ip = match r.u8().ok()? {
        4 => IpAddr::from(Ipv4Addr::from(r.array::<4>().ok()?)),
        6 => IpAddr::from(Ipv6Addr::from(r.array::<16>().ok()?)),
        _ => return None,
    };
    Some(Id { name, generation, address: SocketAddr::new(ip, r.u16().ok()?) })
}

fn text(r: &mut Reader, bytes_max: usize) -> Option<String> {
    let bytes = usize::from(r.u16().ok()?);
    if bytes > bytes_max {
        return None;
    }
    Some(std::str::from_utf8(r.take(bytes).ok()?).ok()?.to_owned())
}

/// The facts of a message, unpacked as far as is allowed.
fn unpack(r: &mut Reader) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    loop {
        let tag = r.u8().ok()?;
        if tag == 0 {
            return Some(unpacked);
        }
        let bytes = usize::from(r.u16().ok()?);
        let block = r.take(bytes).ok()?;
        match tag {
            1 => unpacked.extend(zstd::bulk::decompress(block, BLOCK_BYTES_MAX).ok()?),
            2 => unpacked.extend_from_slice(block),
            _ => return None,
        }
        if unpacked.len() > UNPACKED_BYTES_MAX {
            return None;
        }
    }
}

/// Whether peers say what stands there: of each id nothing but the one value that it has.
fn check_facts(unpacked: &[u8]) -> Option<()> {
    let mut r = Reader::new(unpacked);
    while !r.is_empty() {
        match r.u8().ok()? {
            0 => {
                id(&mut r)?;
                let _versions = r.array::<16>().ok()?;
            }
            1 => {
                let (key, _value) = (text(&mut r, KEY.len())?, text(&mut r, FACTS_TEXT_BYTES_MAX)?);
                let _version = r.u64().ok()?;
                // It is set, and never deleted.
                if key != KEY || r.u8().ok()? != 0 {
                    return None;
                }
            }
            2 => _ = r.u64().ok()?,
            _ => return None,
        }
    }
    Some(())
}
