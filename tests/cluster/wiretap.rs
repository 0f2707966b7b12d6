//! What somebody hears who listens on the wire.
use crate::hosts::{Cluster, append, holds, wait_until};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Carries packets between whoever sends to it and `to`, and keeps all of them.
async fn tap(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (front, back) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
    let (at, heard) = (front.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let keeper = heard.clone();
    tokio::spawn(async move {
        let (mut from, mut out, mut back_in) = (None, vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                came = front.recv_from(&mut out) => {
                    let Ok((count, sender)) = came else { return };
                    from = Some(sender);
                    keeper.lock().unwrap().push(out[..count].to_vec());
                    let _ = back.send_to(&out[..count], to).await;
                }
                came = back.recv_from(&mut back_in) => {
                    let (Ok((count, _)), Some(from)) = (came, from) else { continue };
                    keeper.lock().unwrap().push(back_in[..count].to_vec());
                    let _ = front.send_to(&back_in[..count], from).await;
                }
            }
        }
    });
    (at, heard)
}

fn contains(packets: &[Vec<u8>], words: &[u8]) -> bool {
    packets.iter().any(|packet| packet.windows(words.len()).any(|window| window == words))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_over_the_wire_in_the_clear() {
    let cluster = Cluster::new();
    let alpha = cluster.start("alphapeer", &[]).await;
    let (at_tap, heard) = tap(alpha.listen()).await;
    let beta = cluster.start("betapeer", &[at_tap]).await;
    wait_until("a session", || alpha.connected().len() == 1).await;
    let secret = "the payload that nobody else may read";
    append(&alpha, secret).await;
    holds(&beta, &[secret.to_owned()]).await;
    // The gossip goes on each second.
    wait_until("both are members", || beta.members().iter().count() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let packets = std::mem::take(&mut *heard.lock().unwrap());
    assert!(packets.len() > 20, "what peers say went by here: {}", packets.len());
    let key = alpha.handle().about().peer;
    for words in [secret.as_bytes(), b"jobs", b"alphapeer", b"betapeer", b"conveyor://", key.as_bytes()] {
        assert!(!contains(&packets, words), "{:?} can be read on the wire", String::from_utf8_lossy(words));
    }
    // What is in the clear it does hear.
    assert!(contains(&packets, &[0, 0, 0, 1]), "it hears QUIC version 1");
    alpha.stop().await;
    beta.stop().await;
}
