use super::*;
use std::net::IpAddr;

/// A message of chitchat's own making that names so many ids.
fn syn(ids: impl Iterator<Item = Id>) -> Vec<u8> {
    let ids: Vec<Id> = ids.collect();
    let mut bytes = 45_139u16.to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend((ids.len() as u16).to_le_bytes());
    for id in ids {
        ChitchatId::new(id.name, id.generation, id.address).serialize(&mut bytes);
        bytes.extend([0; 24]);
    }
    "cluster".to_owned().serialize(&mut bytes);
    bytes
}

fn id(number: usize, is_v6: bool) -> Id {
    let ip = if is_v6 { IpAddr::from([number as u16; 8]) } else { IpAddr::from([10, 0, 0, 1]) };
    Id { name: format!("{number:08x}"), generation: 1, address: SocketAddr::new(ip, number as u16) }
}

#[test]
fn the_ids_in_a_message_are_those_that_chitchat_reads() {
    let ids: Vec<Id> = (0..20).map(|number| id(number, number % 2 == 0)).collect();
    let bytes = syn(ids.iter().cloned());
    assert_eq!(named_ids(&bytes), Some(ids.clone()));
    let message = ChitchatMessage::deserialize(&mut &bytes[..]).unwrap();
    assert_eq!(message.serialize_to_vec().len(), bytes.len());
    let in_digest: usize = ids.iter().map(Id::digest_bytes).sum();
    assert_eq!(bytes.len(), 4 + 2 + in_digest + 2 + "cluster".len());
    for cut in 0..6 + in_digest {
        let named = named_ids(&bytes[..cut]);
        assert!(named.is_none(), "cut at {cut}: {named:?}");
    }
}

#[test]
fn a_thousand_ids_are_let_in_and_no_more_whoever_names_them() {
    for is_v6 in [false, true] {
        let gossip = Gossip::default();
        let admits = |numbers: Vec<usize>| {
            gossip.admit(&syn(numbers.into_iter().map(|number| id(number, is_v6)))).is_some()
        };
        assert!(admits((0..ID_COUNT_MAX / 2).collect()));
        assert!(admits((0..ID_COUNT_MAX).collect()));
        assert!(!admits((1..=ID_COUNT_MAX).collect()));
        assert!(admits(vec![3]), "those that are known are heard");
        assert!(!admits((0..=ID_COUNT_MAX).collect()));
        assert_eq!(gossip.refused_count(), 2);
        let ids = lock(&gossip.ids);
        let digest: usize = ids.known.union(&ids.last).map(Id::digest_bytes).sum();
        assert!(digest < DIGEST_BYTES_MAX, "{digest}");
    }
}

#[test]
fn ids_of_a_message_that_is_not_taken_yet_count() {
    let gossip = Gossip::default();
    let admits = |from: usize, until: usize| {
        gossip.admit(&syn((from..until).map(|number| id(number, false)))).is_some()
    };
    assert!(admits(0, 600));
    // A look at what chitchat has, right before it takes the message.
    gossip.keep(BTreeSet::new());
    assert!(!admits(600, 1_200), "with those on their way they are too many");
    assert!(admits(600, 900));
}

#[test]
fn what_is_no_message_is_not_let_in() {
    let gossip = Gossip::default();
    let long = Id { name: "0".repeat(500), ..id(1, false) };
    for bytes in [&b""[..], b"\x53\xb0\x00", b"GET / HTTP/1.1", &[0xff; 300], &syn([long].into_iter())] {
        assert!(gossip.admit(bytes).is_none(), "{bytes:?}");
    }
    let ids = lock(&gossip.ids);
    assert!(ids.known.is_empty() && ids.last.is_empty(), "and leaves nothing behind");
}

/// One that tells of facts: each block as it stands, or packed.
fn ack(blocks: &[(bool, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = 45_139u16.to_le_bytes().to_vec();
    bytes.extend([0, 2]);
    for (is_packed, block) in blocks {
        let block = if *is_packed { zstd::bulk::compress(block, 0).unwrap() } else { block.clone() };
        bytes.push(if *is_packed { 1 } else { 2 });
        bytes.extend((block.len() as u16).to_le_bytes());
        bytes.extend(block);
    }
    bytes.push(0);
    bytes
}

/// What such a message says of one id.
fn said(key: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    let Id { name, generation, address } = id(1, false);
    ChitchatId::new(name, generation, address).serialize(&mut bytes);
    bytes.extend([0; 16]);
    bytes.push(1);
    key.to_owned().serialize(&mut bytes);
    value.to_owned().serialize(&mut bytes);
    bytes.extend(1u64.to_le_bytes());
    bytes.push(0);
    bytes.push(2);
    bytes.extend(1u64.to_le_bytes());
    bytes
}

#[test]
fn facts_are_let_in_as_peers_tell_them_and_nothing_else_is() {
    let gossip = Gossip::default();
    let facts = said(KEY, &"x".repeat(700));
    let (first, second) = facts.split_at(300);
    assert!(gossip.admit(&ack(&[])).is_some());
    assert!(gossip.admit(&ack(&[(false, facts.clone())])).is_some());
    assert!(gossip.admit(&ack(&[(true, first.to_vec()), (false, second.to_vec())])).is_some());
    for cut in 1..facts.len() {
        let bytes = ack(&[(false, facts[..cut].to_vec())]);
        // A fact ends where the next may begin.
        let is_whole = ChitchatMessage::deserialize(&mut &bytes[..]).is_ok();
        assert_eq!(gossip.admit(&bytes).is_some(), is_whole, "cut at {cut}");
    }
    assert!(gossip.admit(&ack(&[(false, said("other", "x"))])).is_none(), "a key that no peer has");
    let long = "x".repeat(crate::wire::facts::FACTS_TEXT_BYTES_MAX + 1);
    assert!(gossip.admit(&ack(&[(true, said(KEY, &long))])).is_none(), "a value longer than any");
}

#[test]
fn what_unpacks_to_far_more_than_was_sent_is_not_unpacked() {
    let one = said(KEY, "x");
    let block: Vec<u8> = one.iter().cycle().take(one.len() * (60_000 / one.len())).copied().collect();
    let blocks = |count| ack(&vec![(true, block.clone()); count]);
    assert!(named_ids(&blocks(16)).is_some());
    assert!(blocks(64).len() < 64 << 10, "it is short enough to be sent");
    assert!(named_ids(&blocks(64)).is_none());
}
