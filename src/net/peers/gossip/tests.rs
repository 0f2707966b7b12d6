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
        assert!(gossip.admit(&syn((0..ID_COUNT_MAX / 2).map(|number| id(number, is_v6)))));
        assert!(gossip.admit(&syn((0..ID_COUNT_MAX).map(|number| id(number, is_v6)))));
        assert!(!gossip.admit(&syn((1..=ID_COUNT_MAX).map(|number| id(number, is_v6)))));
        assert!(gossip.admit(&syn([id(3, is_v6)].into_iter())), "those that are known are heard");
        let digest: usize = lock(&gossip.ids).iter().map(Id::digest_bytes).sum();
        assert!(digest < DIGEST_BYTES_MAX, "{digest}");
        assert!(!gossip.admit(&syn((0..=ID_COUNT_MAX).map(|number| id(number, is_v6)))));
    }
}

#[test]
fn long_names_do_not_make_the_digest_too_long() {
    let gossip = Gossip::default();
    let long = |number| Id { name: format!("{number:0500}"), ..id(number, false) };
    let admitted = (0..ID_COUNT_MAX).take_while(|number| gossip.admit(&syn([long(*number)].into_iter())));
    let admitted = admitted.count();
    assert!((100..130).contains(&admitted), "{admitted}");
}

#[test]
fn what_is_no_message_is_not_let_in() {
    let gossip = Gossip::default();
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    for bytes in [&b""[..], b"\x53\xb0\x00", b"GET / HTTP/1.1", &[0xff; 300]] {
        assert!(!gossip.came(from, bytes), "{bytes:?}");
    }
}
