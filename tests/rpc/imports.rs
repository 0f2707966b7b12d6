//! Batches that come as their peers signed them: whose are taken, and when.
use crate::peer::{Peer, topic};
use bytes::Bytes;
use conveyor::base::batch::state;
use conveyor::base::{
    Batch, Chunk, ChunkBuilder, ClusterId, Codec, Digest, Entry, LogId, RunId, Seq, Statement, Timestamp,
    TopicId,
};
use conveyor::client::{Client, ClientError};
use conveyor::disk::Fault;
use conveyor::identity::sign::{Ed25519Signer, Signer, generate_pkcs8, sign_statement};
use conveyor::identity::{Role, Validity};
use conveyor::wire::outcome::{ImportError, Imported};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;

/// A batch of one entry in topic `jobs` of `cluster`.
fn batch(signer: &Ed25519Signer, cluster: ClusterId, number: u64, previous: Digest) -> Batch {
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(format!("{number}"))).unwrap();
    let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
    let blank = Statement {
        log: LogId { topic: TopicId::of(cluster, "jobs"), peer: signer.peer() },
        run: RunId(1),
        parent: RunId::NONE,
        opens_run: number == 1,
        first_seq: Seq(number),
        first_time: Timestamp::from_ms(1_000 * number),
        entry_count: 0,
        raw_bytes: 0,
        previous,
        root: Digest::ZERO,
        signed: None,
    };
    let statement = state(&blank, &chunks);
    Batch::assemble(statement, sign_statement(signer, &statement), &chunks)
}

async fn import(client: &Client, certificate: &[u8], batch: &Batch) -> Result<Imported, ClientError> {
    client.import(Bytes::copy_from_slice(certificate), &topic("jobs"), batch).await
}

/// Another peer of the same cluster: its certificate and its key.
fn neighbour(peer: &Peer) -> (Vec<u8>, Ed25519Signer) {
    let role = Role::Peer { name: conveyor::base::PeerName::new("beta").unwrap() };
    let issued = peer.ca.issue(&role, Validity::days(crate::peer::now_s(), 10)).unwrap();
    (issued.certificate.to_vec(), Ed25519Signer::from_pkcs8(&issued.key_pkcs8).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_taken_from_peers_that_the_clusters_ca_stands_behind_and_no_others() {
    let peer = Peer::start();
    let (client, cluster) = (peer.client().await, peer.ca.cluster());
    let refused = Err(ClientError::Import(ImportError::Certificate));
    // One that says of itself that it belongs to the cluster.
    let key = generate_pkcs8().unwrap();
    let der = PrivatePkcs8KeyDer::from(key.clone());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    let uri = format!("conveyor://{cluster}/peer?name=beta");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let own_word = params.self_signed(&pair).unwrap();
    let stranger = Ed25519Signer::from_pkcs8(&key).unwrap();
    let strange = batch(&stranger, cluster, 1, Digest::ZERO);
    assert_eq!(import(&client, own_word.der(), &strange).await, refused);
    // One of another cluster, with that cluster's word for it.
    let other = Peer::start();
    let (certificate, signer) = neighbour(&other);
    assert_eq!(import(&client, &certificate, &batch(&signer, cluster, 1, Digest::ZERO)).await, refused);
    // A good certificate, of another peer than the batch's, and of a client.
    let (certificate, signer) = neighbour(&peer);
    assert_eq!(import(&client, &certificate, &strange).await, refused);
    let of_client = peer.client_credentials(conveyor::identity::Rights::all());
    assert_eq!(import(&client, &of_client.chain()[0], &strange).await, refused);
    assert_eq!(
        import(&client, &certificate, &batch(&signer, cluster, 1, Digest::ZERO)).await,
        Ok(Imported::New)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_appends_are_not_open_imports_are_refused_too() {
    let peer = Peer::start();
    let (client, cluster) = (peer.client().await, peer.ca.cluster());
    let (certificate, signer) = neighbour(&peer);
    let (mut number, mut previous) = (1, Digest::ZERO);
    let mut put = async || {
        let next = batch(&signer, cluster, number, previous);
        let imported = import(&client, &certificate, &next).await;
        if imported == Ok(Imported::New) {
            (number, previous) = (number + 1, next.link());
        }
        imported
    };
    assert_eq!(put().await, Ok(Imported::New));
    let refused = Err(ClientError::Import(ImportError::Stopped));
    peer.disk.set_capacity(0);
    while client.append(&topic("other"), vec![0u8; 1 << 20]).await.is_ok() {}
    let full = put().await;
    assert!(matches!(full, Err(ClientError::Import(ImportError::DiskFull { .. }))), "{full:?}");
    peer.disk.set_capacity(1 << 40);
    while put().await != Ok(Imported::New) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    peer.disk.inject(Fault::sync_error());
    assert_eq!(put().await, refused, "its flush failed");
    peer.disk.clear_faults();
    assert_eq!(put().await, refused, "and so it stays until a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_on_their_way_share_flushes_keep_their_order_and_may_come_again() {
    let peer = Peer::start_slow(std::time::Duration::from_millis(50));
    let (client, cluster) = (peer.client().await, peer.ca.cluster());
    let (certificate, signer) = neighbour(&peer);
    let mut previous = Digest::ZERO;
    let mut batches = Vec::new();
    for number in 1..=200 {
        let next = batch(&signer, cluster, number, previous);
        previous = next.link();
        batches.push(next);
    }
    let syncs = || peer.handle.store().counters.journal_syncs.load(std::sync::atomic::Ordering::Relaxed);
    let before = syncs();
    // The same from two sides at once: each batch is stored once, and new to one of them.
    let send_all = async || {
        let mut importer = client.importer(&topic("jobs")).await.unwrap();
        for batch in &batches {
            importer.send(Bytes::copy_from_slice(&certificate), batch).await.unwrap();
        }
        importer.finish();
        let mut taken = Vec::new();
        for _ in &batches {
            taken.push(importer.outcome().await.unwrap());
        }
        taken
    };
    let (one, two) = tokio::join!(send_all(), send_all());
    assert!(one.iter().zip(&two).all(|(one, two)| one != two), "{one:?} {two:?}");
    assert!(syncs() - before < 100, "{} flushes", syncs() - before);
    assert_eq!(send_all().await, [Imported::Held; 200]);
    let seen = crate::peer::payloads(&mut client.read(topic("jobs")).stream(), usize::MAX).await;
    assert_eq!(seen, (1..=200).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_batch_that_is_refused_none_is_taken() {
    let peer = Peer::start();
    let (client, cluster) = (peer.client().await, peer.ca.cluster());
    let (certificate, signer) = neighbour(&peer);
    let first = batch(&signer, cluster, 1, Digest::ZERO);
    let elsewhere = batch(&signer, ClusterId([9; 16]), 2, first.link());
    let third = batch(&signer, cluster, 3, elsewhere.link());
    let mut importer = client.importer(&topic("jobs")).await.unwrap();
    for batch in [&first, &elsewhere, &third] {
        importer.send(Bytes::copy_from_slice(&certificate), batch).await.unwrap();
    }
    assert_eq!(importer.outcome().await, Ok(Imported::New));
    assert_eq!(importer.outcome().await, Err(ClientError::Import(ImportError::Topic)));
    assert_eq!(importer.outcome().await, Err(ClientError::Import(ImportError::Stopped)));
}
