//! The page at /metrics of a real peer, read as Prometheus would.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this test is a scraper, with a socket"
)]
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry, TopicName};
use conveyor::server::Server;
use conveyor::server::config::Config;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every line of the page: name and labels, and the value.
async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let page = answer.split_once("\r\n\r\n").unwrap().1;
    let lines = page.lines().filter(|line| line.starts_with("conveyor_"));
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    lines.map(value).collect()
}

/// The buckets of a histogram, by their bounds; `labels` are those beside `le`.
fn buckets(page: &BTreeMap<String, f64>, name: &str, labels: &str) -> Vec<(f64, f64)> {
    let of_histogram = |(line, count): (&String, &f64)| {
        let rest = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
        let (bound, rest) = rest.split_once('"')?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        (rest.trim_start_matches(',').trim_end_matches('}') == labels).then_some((bound, *count))
    };
    let mut buckets: Vec<(f64, f64)> = page.iter().filter_map(of_histogram).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_steps_are_histograms_and_the_scrub_has_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config =
        Config { data_dir: dir.path().join("data"), listen: any, http: Some(any), ..Config::default() };
    let server = Server::start(&config).await.unwrap();
    for index in 0..10 {
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(format!("entry {index}"))).unwrap();
        let chunk = Chunk::parse(builder.finish(Codec::None)).unwrap();
        server.handle().append(TopicName::new("jobs").unwrap(), None, chunk).await.unwrap();
    }
    let page = scrape(server.http().unwrap()).await;
    let steps = page["conveyor_steps_total"];
    assert!(steps >= 10.0, "each append waited for a step of its own");
    let parts = ["gather", "seal", "sync", "release"].map(|part| {
        let label = format!("part=\"{part}\"");
        ("conveyor_step_part_seconds", label)
    });
    for (name, labels) in [("conveyor_step_seconds", String::new())].into_iter().chain(parts) {
        let buckets = buckets(&page, name, &labels);
        assert_eq!(buckets.len(), 17, "{name} {labels}");
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "each bucket holds those before it: {buckets:?}");
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let (count, sum) = (page[&format!("{name}_count{braces}")], page[&format!("{name}_sum{braces}")]);
        assert_eq!(buckets[16], (f64::INFINITY, count));
        // One may be under way.
        assert!((count - steps).abs() <= 1.0 && sum >= 0.0, "{name} {labels}: {count}, {sum}");
    }
    for name in ["bytes_total", "rounds_total", "last_round_seconds", "damage_total", "errors_total"] {
        assert_eq!(page[&format!("conveyor_scrub_{name}")], 0.0, "a start is quiet");
    }
    server.stop().await;
}
