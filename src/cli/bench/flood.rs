//! As much as goes through: one producer with many entries in flight, one consumer, and reading everything again.
use super::latency::Latencies;
use super::load::{Until, payload};
use super::peer::Peer;
use super::put::{create_topics, disk_limits};
use super::report::{Bar, Limits, Phase, Report};
use super::{Setup, quic};
use crate::base::TopicName;
use crate::client::{Client, Item, ProducerOptions, ReadFrom};
use anyhow::{Result, bail};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Appends until `until` says so; how many, how long each waited, and how long it took until all were acknowledged.
pub async fn produce(
    client: &Client,
    setup: &Setup,
    topic: &TopicName,
    until: Until,
) -> Result<(Latencies, Duration)> {
    let options = ProducerOptions {
        in_flight_entries_max: setup.in_flight(),
        in_flight_bytes_max: (setup.in_flight() * (setup.payload_bytes() + 64)).clamp(1 << 20, 64 << 20),
        ..ProducerOptions::default()
    };
    let producer = client.producer(topic.clone(), options).await?;
    let (payload, mut latencies, mut waiting) =
        (payload(setup.payload_bytes(), 7), Latencies::new(), VecDeque::new());
    while until.goes_on() {
        let sent = Instant::now();
        waiting.push_back((sent, producer.send(payload.clone()).await?));
        while waiting.len() >= setup.in_flight() {
            settle(&mut waiting, &mut latencies).await?;
        }
    }
    while !waiting.is_empty() {
        settle(&mut waiting, &mut latencies).await?;
    }
    producer.close().await?;
    Ok((latencies, until.elapsed()))
}

async fn settle(
    waiting: &mut VecDeque<(Instant, crate::client::Receipt)>,
    latencies: &mut Latencies,
) -> Result<()> {
    if let Some((sent, receipt)) = waiting.pop_front() {
        receipt.await?;
        latencies.add(sent.elapsed());
    }
    Ok(())
}

/// Reads entries until there are `count`; how long it took.
async fn consume(client: &Client, topic: &TopicName, count: u64) -> Result<Duration> {
    let mut reader = client.read(topic).from(ReadFrom::Start).follow(true).stream();
    let (mut left, started) = (count, Instant::now());
    while left > 0 {
        match reader.next().await.transpose()? {
            Some(Item::Entry(_)) => left -= 1,
            Some(item) => bail!("the reader met {item:?}"),
            None => bail!("the reader ended with {left} entries missing"),
        }
    }
    Ok(started.elapsed())
}

/// A phase of which only the whole was timed.
pub fn rate_phase(name: &str, count: u64, payload_bytes: usize, took: Duration) -> Phase {
    let rate = count as f64 / took.as_secs_f64();
    Phase {
        name: name.to_owned(),
        seconds: took.as_secs_f64(),
        entries_per_second: rate,
        bytes_per_second: rate * payload_bytes as f64,
        latency: None,
    }
}

/// `flood`.
pub async fn flood(setup: &Setup) -> Result<Report> {
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("flood", setup, (1, setup.in_flight()), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let client = peer.client(setup).await?;
    let topics = create_topics(&client, setup, "flood", 2).await?;

    super::watched::begin("producer alone");
    let until = Until::begin(setup, setup.time());
    let (latencies, took) = produce(&client, setup, &topics[0], until).await?;
    report.phases.push(super::put::phase(
        "producer alone".to_owned(),
        setup.payload_bytes(),
        &latencies,
        took,
    ));

    super::watched::begin("producer with consumer");
    let until = Until::begin(setup, setup.time());
    let consumer = peer.client(setup).await?;
    let (produced, (counted, tailed)) = {
        let producing = produce(&client, setup, &topics[1], until);
        let tailing = tail(&consumer, &topics[1], setup.time());
        let (produced, tailed) = tokio::join!(producing, tailing);
        (produced?, tailed?)
    };
    let (latencies, took) = produced;
    report.phases.push(super::put::phase(
        "producer with consumer".to_owned(),
        setup.payload_bytes(),
        &latencies,
        took,
    ));
    report.phases.push(rate_phase("consumer", counted, setup.payload_bytes(), tailed));

    if let Some(disk) = disk {
        let stream = quic::stream_rate(setup.limit_time()).await?;
        let lower = disk.write_bytes_per_second.min(stream);
        let reached = report.phases[0].bytes_per_second;
        let mib = f64::from(1 << 20);
        report.bars.push(Bar::at_least(
            "MiB/s, 50 % of the lower of write and stream",
            reached / mib,
            0.5 * lower / mib,
        ));
        let quic = quic::QuicLimits { stream_bytes_per_second: Some(stream), ..quic::QuicLimits::default() };
        report.limits = Some(Limits { disk, quic });
    }
    drop((client, consumer));
    peer.stop().await;
    Ok(report)
}

/// Follows a topic for `time`; how many entries came, and how long that took.
async fn tail(client: &Client, topic: &TopicName, time: Duration) -> Result<(u64, Duration)> {
    let mut reader = client.read(topic).from(ReadFrom::Start).follow(true).stream();
    let (mut count, started) = (0, Instant::now());
    while let Ok(item) = tokio::time::timeout(time.saturating_sub(started.elapsed()), reader.next()).await {
        match item.transpose()? {
            Some(Item::Entry(_)) => count += 1,
            Some(item) => bail!("the reader met {item:?}"),
            None => bail!("a tail ended by itself"),
        }
    }
    Ok((count, started.elapsed()))
}

/// `replay`.
pub async fn replay(setup: &Setup, bytes: u64) -> Result<Report> {
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("replay", setup, (1, setup.in_flight()), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let client = peer.client(setup).await?;
    let topic = create_topics(&client, setup, "replay", 1).await?.swap_remove(0);
    let count = bytes.div_ceil(setup.payload_bytes.max(1));
    let fill = Setup { count: Some(count), ..setup.clone() };
    super::watched::begin("filling");
    // However long it takes: the count ends it.
    let until = Until::begin(&fill, Duration::from_secs(86_400));
    let (latencies, took) = produce(&client, &fill, &topic, until).await?;
    report.phases.push(super::put::phase("filling".to_owned(), setup.payload_bytes(), &latencies, took));
    for name in ["replay, first", "replay, warm"] {
        super::watched::begin(name);
        let took = consume(&peer.client(setup).await?, &topic, count).await?;
        report.phases.push(rate_phase(name, count, setup.payload_bytes(), took));
    }
    if let Some(disk) = disk {
        let stream = quic::stream_rate(setup.limit_time()).await?;
        let share = if setup.payload_bytes >= 16 << 10 { 0.7 } else { 0.5 };
        let (mib, reached) = (f64::from(1 << 20), report.phases[2].bytes_per_second);
        let name = format!("MiB/s, {:.0} % of raw quinn on one stream", share * 100.0);
        report.bars.push(Bar::at_least(name, reached / mib, share * stream / mib));
        let quic = quic::QuicLimits { stream_bytes_per_second: Some(stream), ..quic::QuicLimits::default() };
        report.limits = Some(Limits { disk, quic });
    }
    drop(client);
    peer.stop().await;
    Ok(report)
}
