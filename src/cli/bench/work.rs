//! Groups at work: a backlog drained by many consumers, an idle queue with many waiting, and a long backlog in strict order.
use super::Setup;
use super::latency::Latencies;
use super::load::{Until, payload};
use super::peer::Peer;
use super::put::{create_topics, phase, put};
use super::report::{Bar, Phase, Report};
use crate::base::{EntryId, GroupName, TopicName};
use crate::cli::output::show_count;
use crate::client::{Client, ConsumerOptions, Group, GroupSettings, NextOptions, ProducerOptions, ReadFrom};
use crate::server::metrics::Process;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What 100 clients drain, against what 100 clients put.
const DRAIN_RATIO: f64 = 0.6;
/// Pause between two items where consumers are idle.
const ITEM_PAUSE: Duration = Duration::from_millis(100);
/// How long one request waits.
const WAIT: Duration = Duration::from_secs(30);

async fn group(client: &Client, topic: &TopicName) -> Result<Group> {
    let group = client.group(topic, GroupName::new("bench")?);
    group.create(ReadFrom::Start, GroupSettings::default()).await?;
    Ok(group)
}

/// `work-queue`.
pub async fn queue(setup: &Setup) -> Result<Report> {
    let count = setup.clients(100);
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("work-queue", setup, (count, 1), &peer);
    let clients = peer.clients(setup, count).await?;
    let topics = create_topics(&clients[0], setup, "work", 1).await?;
    let name = format!("put-many, {}", show_count(count as u64, "client", "clients"));
    let filled = put(name, setup, &clients, &topics, setup.time()).await?;
    let put_rate = filled.entries_per_second;
    report.phases.push(filled);
    let group = group(&clients[0], &topics[0]).await?;
    let name = format!("acknowledge and take, {}", show_count(count as u64, "consumer", "consumers"));
    let drained = drain(name, setup, &clients, &group).await?;
    let bound = DRAIN_RATIO * put_rate;
    report.bars.push(Bar::at_least(
        "jobs/s, 60 % of the rate of put-many",
        drained.entries_per_second,
        bound,
    ));
    report.phases.push(drained);
    drop(clients);
    peer.stop().await;
    Ok(report)
}

/// Every consumer takes one, acknowledges it with the next request, and so on until nothing is left or the time is over.
async fn drain(name: String, setup: &Setup, clients: &[Client], group: &Group) -> Result<Phase> {
    super::watched::begin(&name);
    let until = Until::begin(setup, setup.time());
    let workers: Vec<_> = clients
        .iter()
        .map(|client| {
            let (group, until) = (client.group(group.topic(), group.name().clone()), until.clone());
            tokio::spawn(async move {
                let (mut exchange, mut latencies, mut done) =
                    (group.exchange(false).await?, Latencies::new(), vec![]);
                while until.goes_on() {
                    let (one, acked) = (Instant::now(), std::mem::take(&mut done));
                    let taken = exchange.next(NextOptions { acked, ..NextOptions::default() }).await?;
                    let Some(job) = taken.into_iter().next() else { break };
                    latencies.add(one.elapsed());
                    done = vec![job.lease.id];
                }
                exchange.next(NextOptions { count_max: 0, acked: done, ..NextOptions::default() }).await?;
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Latencies::new();
    for worker in workers {
        latencies.merge(&worker.await??);
    }
    let took = until.elapsed();
    let acked = group.info().await?.acked_count;
    ensure!(acked == latencies.count(), "{} were taken, and {acked} are acknowledged", latencies.count());
    Ok(phase(name, setup.payload_bytes(), &latencies, took))
}

/// When items were acknowledged to their producer, and when consumers had them.
#[derive(Debug, Default)]
struct Stamps {
    put: BTreeMap<EntryId, Instant>,
    had: BTreeMap<EntryId, Instant>,
}

/// `many-clients`.
pub async fn idle(setup: &Setup) -> Result<Report> {
    let count = setup.clients(100);
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("many-clients", setup, (count, 1), &peer);
    let clients = peer.clients(setup, count).await?;
    let topics = create_topics(&clients[0], setup, "idle", 1).await?;
    let group = group(&clients[0], &topics[0]).await?;
    let stamps: Arc<Mutex<Stamps>> = Arc::default();
    let consumers: Vec<_> = clients
        .iter()
        .map(|client| {
            let (group, stamps) = (client.group(group.topic(), group.name().clone()), stamps.clone());
            tokio::spawn(async move { serve(group, stamps).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    super::watched::begin("waiting consumers alone");
    let (cpu, alone) = (cpu_time(), Instant::now());
    tokio::time::sleep(setup.time() / 2).await;
    let idle_share = (cpu_time() - cpu).as_secs_f64() / alone.elapsed().as_secs_f64();
    let name = format!("an item each 100 ms, {}", show_count(count as u64, "consumer", "consumers"));
    super::watched::begin(&name);
    let until = Until::begin(setup, setup.time());
    let payload = payload(setup.payload_bytes(), 3);
    while until.goes_on() {
        let id = clients[0].append(&topics[0], payload.clone()).await?;
        stamps.lock().unwrap_or_else(PoisonError::into_inner).put.insert(id, Instant::now());
        tokio::time::sleep(ITEM_PAUSE).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    let latencies = hand_over(&stamps.lock().unwrap_or_else(PoisonError::into_inner))?;
    let summary = latencies.summary();
    report.phases.push(phase(name, setup.payload_bytes(), &latencies, until.elapsed()));
    report.bars.push(Bar::at_most("% of a core, consumers that wait", 100.0 * idle_share, 2.0));
    report.bars.push(Bar::at_most("p50 us, from acknowledged to handed over", summary.p50_us, 2_000.0));
    report.bars.push(Bar::at_most("p99 us, from acknowledged to handed over", summary.p99_us, 10_000.0));
    drop(clients);
    peer.stop().await;
    Ok(report)
}

async fn serve(group: Group, stamps: Arc<Mutex<Stamps>>) -> Result<()> {
    let (mut exchange, mut acked) = (group.exchange(false).await?, vec![]);
    loop {
        let options = NextOptions { wait: WAIT, acked: std::mem::take(&mut acked), ..NextOptions::default() };
        for job in exchange.next(options).await? {
            let id = job.lease.id;
            stamps.lock().unwrap_or_else(PoisonError::into_inner).had.insert(id, Instant::now());
            acked.push(id);
        }
    }
}

/// How long each item took from being acknowledged to being with a consumer; 0 where that had it before.
fn hand_over(stamps: &Stamps) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for (id, put) in &stamps.put {
        let had = stamps.had.get(id).with_context(|| format!("entry {} was handed to nobody", id.seq))?;
        latencies.add(had.saturating_duration_since(*put));
    }
    ensure!(stamps.had.len() == stamps.put.len(), "an entry was handed out that nobody appended");
    Ok(latencies)
}

/// What this process used of the processors so far, by `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets, which may hold anything: user and system time are fields 14 and 15, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// `packing`.
pub async fn packing(setup: &Setup, count: u64) -> Result<Report> {
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("packing", setup, (1, setup.in_flight()), &peer);
    let client = peer.client(setup).await?;
    let topics = create_topics(&client, setup, "packing", 1).await?;
    super::watched::begin("the backlog");
    let started = Instant::now();
    fill(&client, setup, &topics[0], count).await?;
    report.phases.push(rate("append the backlog".to_owned(), setup, count, started.elapsed()));
    let group = group(&client, &topics[0]).await?;
    super::watched::begin("taking it in order");
    let started = Instant::now();
    let most = drain_in_order(&group, count).await?;
    report.phases.push(rate("take and acknowledge it in order".to_owned(), setup, count, started.elapsed()));
    let mib = most as f64 / f64::from(1 << 20);
    report.bars.push(Bar::at_most("MiB of anonymous memory, with the consumer", mib, 200.0));
    drop(client);
    peer.stop().await;
    Ok(report)
}

async fn fill(client: &Client, setup: &Setup, topic: &TopicName, count: u64) -> Result<()> {
    let producer = client.producer(topic.clone(), ProducerOptions::default()).await?;
    let filler = payload(setup.payload_bytes(), 5);
    for number in 0..count {
        let mut payload = filler.to_vec();
        let number = number.to_le_bytes();
        ensure!(payload.len() >= number.len(), "--payload-bytes is 8 at least here: items are numbered");
        payload[..number.len()].copy_from_slice(&number);
        drop(producer.send(payload).await?);
    }
    producer.flush().await?;
    Ok(producer.close().await?)
}

/// Takes all; the most memory that was seen.
async fn drain_in_order(group: &Group, count: u64) -> Result<u64> {
    let options = ConsumerOptions { prefetch_count: 1024, ..ConsumerOptions::default() };
    let (mut consumer, mut most) = (group.consumer(options), 0);
    for expected in 0..count {
        let Some(job) = consumer.next().await.transpose()? else { bail!("the consumer ended at {expected}") };
        let payload = &job.record().entry.payload;
        let number = payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        ensure!(number == Some(expected), "item {number:?} came where {expected} was due");
        job.ack_later();
        if expected % 10_000 == 0 {
            most = Process::read().anonymous_bytes.max(most);
        }
    }
    consumer.stop().await;
    let acked = group.info().await?.acked_count;
    ensure!(acked == count, "{acked} of {count} are acknowledged");
    Ok(Process::read().anonymous_bytes.max(most))
}

fn rate(name: String, setup: &Setup, count: u64, took: Duration) -> Phase {
    let rate = count as f64 / took.as_secs_f64();
    Phase {
        name,
        seconds: took.as_secs_f64(),
        entries_per_second: rate,
        bytes_per_second: rate * setup.payload_bytes() as f64,
        latency: None,
    }
}
