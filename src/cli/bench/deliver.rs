//! How soon entries get out: to a thousand tails, and one by one while a producer floods.
use super::Setup;
use super::flood::produce;
use super::latency::Latencies;
use super::load::{Until, payload};
use super::peer::Peer;
use super::put::{create_topics, disk_limits, phase};
use super::quic::QuicLimits;
use super::report::{Bar, Limits, Report};
use crate::base::name::PeerRef;
use crate::base::{EntryId, EntryRef, TopicName};
use crate::client::{Client, Item, ReadFrom};
use anyhow::{Result, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What tails and their writer share.
struct Wave {
    started: Instant,
    /// Tails that have seen an entry, and so are following.
    following: AtomicUsize,
    /// Whether latencies count.
    is_measured: AtomicBool,
}

/// `fan-out`: entries carry the time at which they were handed to the client, and each tail compares.
pub async fn fan_out(setup: &Setup, connections: usize, rate: u64) -> Result<Report> {
    let tails = setup.clients(1000);
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("fan-out", setup, (tails, 1), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let clients = peer.clients(setup, connections).await?;
    let topic = create_topics(&clients[0], setup, "fan-out", 1).await?.swap_remove(0);
    let wave = Arc::new(Wave {
        started: Instant::now(),
        following: AtomicUsize::new(0),
        is_measured: AtomicBool::new(false),
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let follow = |index: usize| {
        tokio::spawn(tail(clients[index % connections].clone(), topic.clone(), wave.clone(), stopped.clone()))
    };
    let workers: Vec<_> = (0..tails).map(follow).collect();

    let writer = peer.client(setup).await?;
    while wave.following.load(Ordering::Relaxed) < tails {
        append(&writer, setup, &topic, &wave).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(worker) = workers.iter().find(|worker| worker.is_finished()) {
            bail!("a tail ended by itself: {worker:?}");
        }
    }
    super::watched::begin(format!("{tails} tails on {connections} connections"));
    wave.is_measured.store(true, Ordering::Relaxed);
    let until = Until::begin(setup, setup.time());
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
    while until.goes_on() {
        tick.tick().await;
        append(&writer, setup, &topic, &wave).await?;
    }
    let took = until.elapsed();
    // The last entries get a second to arrive.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    let mut latencies = Latencies::new();
    for worker in workers {
        latencies.merge(&worker.await??);
    }
    let behind =
        phase(format!("{tails} tails on {connections} connections"), setup.payload_bytes(), &latencies, took);
    report.bars = vec![Bar::at_most("median us behind, 20 ms", latencies.us(0.5), 20_000.0)];
    report.phases = vec![behind];
    if let Some(disk) = disk {
        report.limits = Some(Limits { disk, quic: QuicLimits::paced(setup, rate as f64).await? });
    }
    drop(clients);
    peer.stop().await;
    Ok(report)
}

async fn append(client: &Client, setup: &Setup, topic: &TopicName, wave: &Wave) -> Result<()> {
    let mut bytes = payload(setup.payload_bytes().max(8), 11).to_vec();
    bytes[..8].copy_from_slice(&(wave.started.elapsed().as_micros() as u64).to_le_bytes());
    client.append(topic, bytes).await?;
    Ok(())
}

async fn tail(
    client: Client,
    topic: TopicName,
    wave: Arc<Wave>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<Latencies> {
    let mut reader = client.read(&topic).from(ReadFrom::Start).follow(true).stream();
    let (mut latencies, mut is_following) = (Latencies::new(), false);
    loop {
        let item = tokio::select! {
            biased;
            _ = stopped.changed() => return Ok(latencies),
            item = reader.next() => item.transpose()?,
        };
        let Some(Item::Entry(record)) = item else { bail!("a tail met {item:?}") };
        if !is_following {
            is_following = true;
            wave.following.fetch_add(1, Ordering::Relaxed);
        }
        if wave.is_measured.load(Ordering::Relaxed) {
            let sent = record.entry.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            latencies.add(wave.started.elapsed().saturating_sub(Duration::from_micros(sent)));
        }
    }
}

/// `get-under-flood`.
pub async fn get_under_flood(setup: &Setup) -> Result<Report> {
    let count = setup.clients(4);
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("get-under-flood", setup, (count, setup.in_flight()), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let clients = peer.clients(setup, count).await?;
    let topic = create_topics(&clients[0], setup, "get", 1).await?.swap_remove(0);
    let mut ids = Vec::new();
    for index in 0..100 {
        let id = clients[0].append(&topic, payload(setup.payload_bytes(), index)).await?;
        ids.push(reference(&topic, &id));
    }
    let ids = Arc::new(ids);
    report.phases.push(get("gets alone".to_owned(), setup, &clients, &ids, setup.time() / 2).await?);
    let flooding = {
        let (client, setup, topic) = (peer.client(setup).await?, setup.clone(), topic.clone());
        tokio::spawn(async move {
            let until = Until::begin(&setup, setup.time());
            produce(&client, &setup, &topic, until).await
        })
    };
    let under = get("gets under flood".to_owned(), setup, &clients, &ids, setup.time()).await?;
    let (latencies, took) = flooding.await??;
    report.bars =
        vec![Bar::at_most("get p99 us, 10 ms", under.latency.as_ref().map_or(0.0, |l| l.p99_us), 10_000.0)];
    report.phases.push(under);
    report.phases.push(phase("the flood".to_owned(), setup.payload_bytes(), &latencies, took));
    if let Some(disk) = disk {
        let one_client = report.phases[0].entries_per_second / count as f64;
        report.limits = Some(Limits { disk, quic: QuicLimits::paced(setup, one_client).await? });
    }
    drop(clients);
    peer.stop().await;
    Ok(report)
}

async fn get(
    name: String,
    setup: &Setup,
    clients: &[Client],
    ids: &Arc<Vec<EntryRef>>,
    time: Duration,
) -> Result<super::report::Phase> {
    super::watched::begin(&name);
    let until = Until::begin(setup, time);
    let worker = |(index, client): (usize, &Client)| {
        let (client, until, ids) = (client.clone(), until.clone(), ids.clone());
        tokio::spawn(async move {
            let (mut latencies, mut at) = (Latencies::new(), index);
            while until.goes_on() {
                at = (at * 31 + 7) % ids.len();
                let one = Instant::now();
                for found in client.get(&ids[at..=at], None).await? {
                    found?;
                }
                latencies.add(one.elapsed());
            }
            anyhow::Ok(latencies)
        })
    };
    let workers: Vec<_> = clients.iter().enumerate().map(worker).collect();
    let mut latencies = Latencies::new();
    for worker in workers {
        latencies.merge(&worker.await??);
    }
    Ok(phase(name, setup.payload_bytes(), &latencies, until.elapsed()))
}

fn reference(topic: &TopicName, id: &EntryId) -> EntryRef {
    let (topic, run) = (topic.clone(), id.run.to_string());
    EntryRef { topic, peer: PeerRef::Key(id.peer), run, signed_run: None, seq: id.seq }
}
