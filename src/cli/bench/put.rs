//! Clients that wait for each acknowledgement: how many entries a second, and how long each waits.
use super::latency::Latencies;
use super::load::{Until, payload, topic};
use super::peer::{Measured, Peer};
use super::report::{Bar, Limits, Phase, Report};
use super::{Setup, disk, quic};
use crate::base::limits::PAYLOAD_BYTES_MAX;
use crate::base::{TopicName, TopicSettings};
use crate::cli::output::show_count;
use crate::client::{Client, ProducerOptions, TopicChange};
use anyhow::Result;
use std::time::Duration;

/// Topics with the durability that is measured.
pub async fn create_topics(
    client: &Client,
    setup: &Setup,
    workload: &str,
    count: usize,
) -> Result<Vec<TopicName>> {
    let settings = TopicSettings { durability: setup.durability, ..TopicSettings::default() };
    let mut topics = Vec::with_capacity(count);
    for index in 0..count {
        let name = topic(workload, index)?;
        client.change_topic(TopicChange::Create { topic: name.clone(), settings }).await?;
        topics.push(name);
    }
    Ok(topics)
}

/// The disk's limits, measured on a thread that may block.
pub async fn disk_limits(peer: &impl Measured, setup: &Setup) -> Result<Option<disk::DiskLimits>> {
    if setup.no_limits {
        return Ok(None);
    }
    super::watched::begin("the limits of the disk");
    let (dir, bytes, time) = (peer.scratch().to_path_buf(), setup.payload_bytes(), setup.limit_time());
    Ok(Some(tokio::task::spawn_blocking(move || disk::measure(&dir, bytes, time)).await??))
}

/// One phase: every client appends to its topic until the time is over.
pub async fn put(
    name: String,
    setup: &Setup,
    clients: &[Client],
    topics: &[TopicName],
    time: Duration,
) -> Result<Phase> {
    super::watched::begin(&name);
    let until = Until::begin(setup, time);
    let worker = |(index, client): (usize, &Client)| {
        let (client, topic, until) = (client.clone(), topics[index % topics.len()].clone(), until.clone());
        let payload = payload(setup.payload_bytes(), index as u64);
        tokio::spawn(async move {
            let mut latencies = Latencies::new();
            while until.goes_on() {
                let one = std::time::Instant::now();
                client.append(&topic, payload.clone()).await?;
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

/// A phase whose operations were timed one by one.
pub fn phase(name: String, payload_bytes: usize, latencies: &Latencies, took: Duration) -> Phase {
    let rate = latencies.count() as f64 / took.as_secs_f64();
    Phase {
        name,
        seconds: took.as_secs_f64(),
        entries_per_second: rate,
        bytes_per_second: rate * payload_bytes as f64,
        latency: Some(latencies.summary()),
    }
}

/// `put-many`.
pub async fn many(setup: &Setup) -> Result<Report> {
    let count = setup.clients(100.max(setup.topics()));
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("put-many", setup, (count, 1), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let clients = peer.clients(setup, count).await?;
    let topics = create_topics(&clients[0], setup, "put", setup.topics()).await?;
    if count > 1 {
        let one = put("1 client".to_owned(), setup, &clients[..1], &topics[..1], setup.time() / 2).await?;
        report.phases.push(one);
    }
    if topics.len() > 1 {
        let name = format!("{count} clients, 1 topic");
        report.phases.push(put(name, setup, &clients, &topics[..1], setup.time()).await?);
    }
    let topic_words = show_count(topics.len() as u64, "topic", "topics");
    let name = format!("{}, {topic_words}", show_count(count as u64, "client", "clients"));
    report.phases.push(put(name, setup, &clients, &topics, setup.time()).await?);
    if let Some(disk) = disk {
        let quic = echo_limits(setup, &report, count).await?;
        report.limits = Some(Limits { disk, quic });
    }
    report.bars = bars(&report.phases, report.limits.as_ref(), count, topics.len());
    drop(clients);
    peer.stop().await;
    Ok(report)
}

async fn echo_limits(setup: &Setup, report: &Report, count: usize) -> Result<quic::QuicLimits> {
    // The first phase is the one with one client.
    let mut limits = quic::QuicLimits::paced(setup, report.phases[0].entries_per_second).await?;
    if count >= CROWD {
        let payload = payload(setup.payload_bytes(), 9);
        limits.echo_100_per_second = Some(quic::echo_rate(payload, 100, setup.limit_time()).await?);
    }
    Ok(limits)
}

/// Clients from which on they are held against what a hundred should reach together.
const CROWD: usize = 100;

fn bars(phases: &[Phase], limits: Option<&Limits>, count: usize, topics: usize) -> Vec<Bar> {
    let (first, last) = (&phases[0], &phases[phases.len() - 1]);
    let mut bars = Vec::new();
    if let (Some(limits), Some(latency)) = (limits, &first.latency) {
        let echo_p50 = limits.quic.paced_echo.as_ref().map_or(0.0, |echo| echo.p50_us);
        let bound = limits.disk.append_sync.p50_us + echo_p50 + 150.0;
        bars.push(Bar::at_most("1 client: p50 us, flush + paced echo + 150", latency.p50_us, bound));
    }
    // What many clients share (a flush, a datagram) pays off with many: these bars are for a hundred.
    if count >= CROWD && topics == 1 {
        let rate = last.entries_per_second;
        bars.push(Bar::at_least(
            "entries/s, 8 times the rate of 1 client",
            rate,
            8.0 * first.entries_per_second,
        ));
        if let Some(echo) = limits.and_then(|limits| limits.quic.echo_100_per_second) {
            bars.push(Bar::at_least("entries/s, 45 % of the echo over 100 connections", rate, 0.45 * echo));
        }
        if let Some(latency) = &last.latency {
            bars.push(Bar::at_most("p99 us, 4 times p50", latency.p99_us, 4.0 * latency.p50_us));
            bars.push(Bar::at_most("p99.9 us, 15 times p50", latency.p999_us, 15.0 * latency.p50_us));
        }
    }
    if topics > 1 {
        let one_topic = phases[phases.len() - 2].entries_per_second;
        let share = if topics >= 1000 { 0.35 } else { 0.5 };
        let name = format!("entries/s, {:.0} % of the rate on one topic", share * 100.0);
        bars.push(Bar::at_least(name, last.entries_per_second, share * one_topic));
    }
    bars
}

/// `put-beside-bulk`.
pub async fn beside_bulk(setup: &Setup) -> Result<Report> {
    let count = setup.clients(10);
    let peer = Peer::start(setup).await?;
    let mut report = Report::begin("put-beside-bulk", setup, (count, 1), &peer);
    let disk = disk_limits(&peer, setup).await?;
    let clients = peer.clients(setup, count).await?;
    let topics = create_topics(&clients[0], setup, "beside", setup.topics() + 1).await?;
    let (bulk_topic, topics) = topics.split_at(1);
    report.phases.push(put("alone".to_owned(), setup, &clients, topics, setup.time() / 2).await?);
    let writer = tokio::spawn(write_bulk(peer.client(setup).await?, bulk_topic[0].clone(), setup.time()));
    let beside = put("beside 16 MiB entries".to_owned(), setup, &clients, topics, setup.time()).await?;
    let (bytes, seconds) = writer.await??;
    let p99_us = beside.latency.as_ref().map_or(0.0, |latency| latency.p99_us);
    report.phases.push(beside);
    report.phases.push(Phase {
        name: "16 MiB entries".to_owned(),
        seconds,
        entries_per_second: bytes as f64 / PAYLOAD_BYTES_MAX as f64 / seconds,
        bytes_per_second: bytes as f64 / seconds,
        latency: None,
    });
    if let Some(disk) = disk {
        let one_client = report.phases[0].entries_per_second / count as f64;
        report.limits = Some(Limits { disk, quic: quic::QuicLimits::paced(setup, one_client).await? });
    }
    report.bars = vec![Bar::at_most("p99 us beside 16 MiB entries, 100 ms", p99_us, 100_000.0)];
    drop(clients);
    peer.stop().await;
    Ok(report)
}

/// Appends entries of the largest size, two in flight, and says how many bytes in how many seconds.
async fn write_bulk(client: Client, topic: TopicName, time: Duration) -> Result<(u64, f64)> {
    let options =
        ProducerOptions { in_flight_bytes_max: 2 * PAYLOAD_BYTES_MAX + 4096, ..ProducerOptions::default() };
    let producer = client.producer(topic, options).await?;
    let (payload, started, mut bytes) = (payload(PAYLOAD_BYTES_MAX, 5), std::time::Instant::now(), 0);
    while started.elapsed() < time {
        // The producer keeps the first error for `close`.
        drop(producer.send(payload.clone()).await?);
        bytes += payload.len() as u64;
    }
    producer.close().await?;
    Ok((bytes, started.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crowd_should_reach_is_compared_for_a_crowd_alone() {
        let phase = |rate: f64| Phase {
            name: String::new(),
            seconds: 1.0,
            entries_per_second: rate,
            bytes_per_second: rate,
            latency: None,
        };
        let phases = [phase(100.0), phase(900.0)];
        let names = |count| bars(&phases, None, count, 1).into_iter().map(|bar| bar.name).collect::<Vec<_>>();
        assert_eq!(names(2), Vec::<String>::new());
        assert_eq!(names(CROWD), ["entries/s, 8 times the rate of 1 client"]);
    }
}
