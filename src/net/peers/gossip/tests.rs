use super::*;

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
