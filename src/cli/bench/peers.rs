//! What peers cost one another: one hop, copies, catching up, and doing nothing.
use super::cluster::Cluster;
use super::flood::{produce, rate_phase};
use super::latency::Latencies;
use super::load::{Until, payload};
use super::put::{create_topics, disk_limits, phase, put};
use super::quic::{QuicLimits, stream_rate};
use super::report::{Bar, Figure, Limits, Report};
use super::{Setup, watched};
use crate::base::{Durability, TopicName};
use crate::client::{Client, Item, ProducerOptions, ReadFrom};
use crate::net::counters::SentKind;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What the writer and the tail of a hop share.
struct Hop {
    started: Instant,
    /// Entries that the tail was given.
    seen: AtomicUsize,
    /// Whether latencies count, and whether the tail goes on.
    is_measured: AtomicBool,
    is_over: AtomicBool,
}

/// `hop`: entries carry the time at which they were handed to a client of one peer, and a tail at another compares.
pub async fn hop(setup: &Setup, rate: u64) -> Result<Report> {
    let cluster = Cluster::start(setup, 2).await?;
    let mut report = Report::begin("hop", setup, (1, 1), &cluster);
    let disk = disk_limits(&cluster, setup).await?;
    let writer = cluster.client(0).await?;
    let topic = create_topics(&writer, setup, "hop", 1).await?.swap_remove(0);
    cluster.until_known(&topic).await?;
    let hop = Arc::new(Hop {
        started: Instant::now(),
        seen: AtomicUsize::new(0),
        is_measured: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    });
    let tail = tokio::spawn(follow(cluster.client(1).await?, topic.clone(), hop.clone()));
    watched::begin("warming up");
    pace(&writer, setup, &topic, &hop, rate, setup.time().min(Duration::from_secs(1)), &tail).await?;
    watched::begin("one hop");
    hop.is_measured.store(true, Ordering::Relaxed);
    let (count, took) = pace(&writer, setup, &topic, &hop, rate, setup.time(), &tail).await?;
    hop.is_over.store(true, Ordering::Relaxed);
    // One more wakes the tail up where it waits.
    writer.append(&topic, stamped(setup, &hop)).await?;
    let latencies = tail.await??;
    report.phases.push(phase(
        "append at A to reader at B".to_owned(),
        setup.payload_bytes(),
        &latencies,
        took,
    ));
    report.figures.push(Figure::new("entries appended a second", count as f64 / took.as_secs_f64(), "/s"));
    if let Some(disk) = disk {
        let quic = QuicLimits::paced(setup, rate as f64).await?;
        let echo_us = quic.paced_echo.as_ref().map_or(0.0, |echo| echo.p50_us);
        let bound = 2.0 * echo_us + 2.5 * disk.append_sync.p50_us + 200.0;
        report.bars.push(Bar::at_most(
            "p50 us, 2 paced echoes + 2.5 flushes + 200",
            latencies.us(0.5),
            bound,
        ));
        report.bars.push(Bar::at_most("p99 us, 10 times that", latencies.us(0.99), 10.0 * bound));
        report.limits = Some(Limits { disk, quic });
    }
    drop(writer);
    cluster.stop().await;
    Ok(report)
}

fn stamped(setup: &Setup, hop: &Hop) -> Vec<u8> {
    let mut bytes = payload(setup.payload_bytes().max(8), 11).to_vec();
    bytes[..8].copy_from_slice(&(hop.started.elapsed().as_micros() as u64).to_le_bytes());
    bytes
}

/// Appends `rate` entries a second through a producer, from a thread of its own: timers of the runtime are too coarse. How many,
/// and how long it took until all were acknowledged and the tail has them.
async fn pace(
    client: &Client,
    setup: &Setup,
    topic: &TopicName,
    hop: &Arc<Hop>,
    rate: u64,
    time: Duration,
    tail: &JoinHandle<Result<Latencies>>,
) -> Result<(u64, Duration)> {
    let producer = client.producer(topic.clone(), ProducerOptions::default()).await?;
    let (setup, hop, runtime) = (setup.clone(), hop.clone(), tokio::runtime::Handle::current());
    let before = hop.seen.load(Ordering::Relaxed);
    let seen = hop.clone();
    let (result, paced) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let (until, interval) =
            (Until::begin(&setup, time), Duration::from_secs_f64(1.0 / rate.max(1) as f64));
        let (mut due, mut count) = (Instant::now(), 0u64);
        let work = || -> Result<(u64, Duration)> {
            while until.goes_on() {
                // The producer keeps the first error for `close`.
                drop(runtime.block_on(producer.send(stamped(&setup, &hop)))?);
                count += 1;
                due += interval;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            runtime.block_on(producer.close())?;
            Ok((count, until.elapsed()))
        };
        // Whoever waits for it has ended when this fails.
        drop(result.send(work()));
    });
    let (count, took) = paced.await??;
    let begun = Instant::now();
    while (seen.seen.load(Ordering::Relaxed) - before) < count as usize {
        if tail.is_finished() || begun.elapsed() > Duration::from_secs(60) {
            bail!("entries that were appended at one peer do not come to the tail at the other");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((count, took))
}

async fn follow(client: Client, topic: TopicName, hop: Arc<Hop>) -> Result<Latencies> {
    let mut reader = client.read(&topic).from(ReadFrom::Start).follow(true).stream();
    let mut latencies = Latencies::new();
    loop {
        let item = reader.next().await.transpose()?;
        let now = hop.started.elapsed();
        let record = match item {
            Some(Item::Entry(record)) => record,
            // A new entry that was brought came before one that was not: the tail goes on when that is there.
            Some(Item::Blocked(_)) => continue,
            item => bail!("the tail met {item:?}"),
        };
        if hop.is_over.load(Ordering::Relaxed) {
            return Ok(latencies);
        }
        if hop.is_measured.load(Ordering::Relaxed) {
            let sent = record.entry.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            latencies.add(now.saturating_sub(Duration::from_micros(sent)));
        }
        hop.seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// `copies`: what it costs that two peers hold an entry before it is acknowledged.
pub async fn copies(setup: &Setup) -> Result<Report> {
    let count = setup.clients(100);
    let cluster = Cluster::start(setup, 2).await?;
    let setup_of = |durability| Setup { durability, ..setup.clone() };
    let (one, two) = (setup_of(Durability::Fsync), setup_of(Durability::Replicas(2)));
    let mut report = Report::begin("copies", &two, (count, 1), &cluster);
    let disk = disk_limits(&cluster, setup).await?;
    let clients = cluster.clients(0, count).await?;
    let local = create_topics(&clients[0], &one, "local", 1).await?;
    let copied = create_topics(&clients[0], &two, "copied", 1).await?;
    cluster.until_known(&copied[0]).await?;
    let words = |durability: &str| format!("{count} clients, {durability}");
    if count > 1 {
        let alone =
            put("1 client, replicas=2".to_owned(), &two, &clients[..1], &copied, setup.time() / 2).await?;
        report.phases.push(alone);
    }
    let local = put(words("fsync"), &one, &clients, &local, setup.time()).await?;
    let copied = put(words("replicas=2"), &two, &clients, &copied, setup.time()).await?;
    let (rate, bound) = (copied.entries_per_second, 0.5 * local.entries_per_second);
    report.bars = vec![Bar::at_least("entries/s with replicas=2, half of those with fsync", rate, bound)];
    report.phases.extend([local, copied]);
    if let Some(disk) = disk {
        let quic = QuicLimits::paced(setup, report.phases[0].entries_per_second).await?;
        report.limits = Some(Limits { disk, quic });
    }
    drop(clients);
    cluster.stop().await;
    Ok(report)
}

/// `catch-up`: how fast an empty peer gets what one other holds, and what two do.
pub async fn catch_up(setup: &Setup, bytes: u64) -> Result<Report> {
    let mut cluster = Cluster::start(setup, 1).await?;
    let mut report = Report::begin("catch-up", setup, (1, setup.in_flight()), &cluster);
    let disk = disk_limits(&cluster, setup).await?;
    let client = cluster.client(0).await?;
    let topic = create_topics(&client, setup, "catch-up", 1).await?.swap_remove(0);
    let count = (bytes / setup.payload_bytes().max(1) as u64).max(1);
    let filling = Setup { count: Some(count), ..setup.clone() };
    watched::begin("filling a peer");
    let until = Until::begin(&filling, Duration::from_secs(24 * 3600));
    let (latencies, took) = produce(&client, &filling, &topic, until).await?;
    report.phases.push(phase("filling a peer".to_owned(), setup.payload_bytes(), &latencies, took));
    drop(client);
    for (peer, name) in [(1, "from one other peer"), (2, "from two")] {
        watched::begin(name);
        let begun = Instant::now();
        cluster.add().await?;
        let took = cluster.until_held(peer, &topic, count, begun).await?;
        report.phases.push(rate_phase(name, count, setup.payload_bytes(), took));
    }
    let (one, two) = (report.phases[1].bytes_per_second, report.phases[2].bytes_per_second);
    let mib = f64::from(1 << 20);
    if let Some(disk) = disk {
        watched::begin("the limits of QUIC on loopback");
        let stream = stream_rate(setup.limit_time()).await?;
        let bound = 0.6 * stream.min(disk.write_bytes_per_second);
        let name = "MiB/s from one, 60 % of the lower of raw stream and raw write";
        report.bars.push(Bar::at_least(name, one / mib, bound / mib));
        let quic = QuicLimits { stream_bytes_per_second: Some(stream), ..QuicLimits::default() };
        report.limits = Some(Limits { disk, quic });
    }
    report.bars.push(Bar::at_least("MiB/s from two, 95 % of those from one", two / mib, 0.95 * one / mib));
    cluster.stop().await;
    Ok(report)
}

/// Peers whose idle cost is measured.
const IDLE_PEERS: usize = 5;
/// How long it is measured where nothing is said.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// `idle`: what peers cost that have nothing to do.
pub async fn idle(setup: &Setup) -> Result<Report> {
    let cluster = Cluster::start(setup, IDLE_PEERS).await?;
    let mut report = Report::begin("idle", setup, (0, 0), &cluster);
    let time = setup.time.unwrap_or(IDLE_TIME);
    watched::begin("settling");
    tokio::time::sleep(time.min(Duration::from_secs(15))).await;
    watched::begin("idle peers");
    let look = || (process_seconds(), SentKind::ALL.map(|kind| sent(&cluster, kind)));
    let (begun, before) = (Instant::now(), look());
    tokio::time::sleep(time).await;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), look());
    let of_each = seconds * IDLE_PEERS as f64;
    let core = 100.0 * (after.0 - before.0) / of_each;
    let mut sum = 0.0;
    for (index, kind) in SentKind::ALL.into_iter().enumerate() {
        let rate = after.1[index].saturating_sub(before.1[index]) as f64 / of_each;
        sum += rate;
        report.figures.push(Figure::new(&format!("sent by each peer: {}", kind.name()), rate, "bytes/s"));
    }
    report.bars = vec![
        Bar::at_most("% of a core for each peer", core, 1.0),
        Bar::at_most("bytes/s sent by each peer, 10 KB", sum, 10_000.0),
    ];
    cluster.stop().await;
    Ok(report)
}

fn sent(cluster: &Cluster, kind: SentKind) -> u64 {
    cluster.peers.iter().map(|peer| peer.sent_to_peers().of(kind)).sum()
}

/// Processor time of this process so far, as the operating system counts it.
fn process_seconds() -> f64 {
    /// `USER_HZ`, the same on all architectures that Linux runs on today.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may have blanks; user and system time are the 12th and 13th behind it.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = |index: usize| behind.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / TICKS
}
