//! What a peer serves over HTTP: three pages for monitoring, and beside them the interface of `api::http`.
//!
//! ```text
//! /livez    200 ok                 the process answers; restarting it would not help more
//! /readyz   200 ok | 503 reason    appends are taken, or why not (reads may go on all the same)
//! /metrics  200                    OpenMetrics text; docs/metrics.md
//! ```
//!
//! The pages need no token, so they stand on loopback unless configured otherwise. Nothing in them changes anything.
mod interface;
mod listen;
mod tls;

pub(super) use interface::interface;
pub use listen::{Listen, serve};
pub use tls::tls;

use crate::runtime::Readiness;
use crate::server::metrics::{self, Process, Reading, RoundTrip, TOPIC_COUNT_MAX, Totals};
use crate::wire::outcome::{AppendsState, Status, TopicInfo};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;

/// A peer as monitoring sees it.
pub trait Watched: Send + Sync + 'static {
    /// Whether it takes appends. Costs nothing.
    fn readiness(&self) -> Readiness;
    /// How many entries others hold that are not here, where that is more than a peer may lack that calls itself ready.
    /// Costs nothing.
    fn behind(&self) -> Option<u64>;
    /// How far other peers are. Costs little.
    fn round_trips(&self) -> Vec<RoundTrip>;
    /// How it is doing. Looks at all logs.
    fn status(&self) -> Status;
    /// Its topics by name, at least the first `count_max`.
    fn topics(&self, count_max: usize) -> Vec<TopicInfo>;
    /// What it counted since its start.
    fn totals(&self) -> Totals;
}

/// The pages.
pub fn pages(watched: Arc<dyn Watched>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(watched)
}

async fn metrics_page(State(watched): State<Arc<dyn Watched>>) -> impl IntoResponse {
    let page = aside(move || {
        metrics::page(Reading {
            status: watched.status(),
            topics: watched.topics(TOPIC_COUNT_MAX),
            totals: watched.totals(),
            round_trips: watched.round_trips(),
            process: Process::read(),
        })
    });
    let page = page.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok::<_, StatusCode>((kind, page))
}

#[expect(clippy::disallowed_methods, reason = "it looks at all logs, which would hold up a worker")]
fn aside(page: impl FnOnce() -> String + Send + 'static) -> tokio::task::JoinHandle<String> {
    tokio::task::spawn_blocking(page)
}

async fn readyz(State(watched): State<Arc<dyn Watched>>) -> (StatusCode, String) {
    let ready = watched.readiness();
    match ready.appends {
        AppendsState::Open => match watched.behind() {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(missing) => {
                let reason = format!("other peers hold {missing} entries that are not here yet\n");
                (StatusCode::SERVICE_UNAVAILABLE, reason)
            }
        },
        AppendsState::DiskFull => {
            let (free, reserve) = (ready.disk_free_bytes, ready.disk_reserve_bytes);
            let reason = format!("the disk has {free} bytes free, and {reserve} are kept in reserve\n");
            (StatusCode::SERVICE_UNAVAILABLE, reason)
        }
        AppendsState::Stopped { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::metrics::tests::reading;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    /// A peer that can be asked whether it takes appends, and that counts who looks at all its logs.
    struct Peer(Mutex<AppendsState>, AtomicUsize, AtomicU64);

    impl Watched for Peer {
        fn readiness(&self) -> Readiness {
            let appends = self.0.lock().unwrap().clone();
            Readiness { appends, disk_free_bytes: 11, disk_reserve_bytes: 12 }
        }

        fn behind(&self) -> Option<u64> {
            Some(self.2.load(Ordering::Relaxed)).filter(|missing| *missing > 10)
        }

        fn round_trips(&self) -> Vec<RoundTrip> {
            reading().round_trips
        }

        fn status(&self) -> Status {
            self.1.fetch_add(1, Ordering::Relaxed);
            Status { appends: self.0.lock().unwrap().clone(), ..reading().status }
        }

        fn topics(&self, _count_max: usize) -> Vec<TopicInfo> {
            reading().topics
        }

        fn totals(&self) -> Totals {
            Totals::default()
        }
    }

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_peer_that_cannot_take_appends_is_alive_and_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = Arc::new(Peer(Mutex::new(AppendsState::Open), AtomicUsize::new(0), AtomicU64::new(10)));
        let (stop, stopping) = watch::channel(false);
        let listen = Listen { tls: None, connection_count_max: 8, connections: Arc::default(), stopping };
        let serving = tokio::spawn(serve(listener, pages(peer.clone()), listen));

        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        peer.2.store(11, Ordering::Relaxed);
        let answer = fetch(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("hold 11 entries"), "{answer}");
        peer.2.store(0, Ordering::Relaxed);
        *peer.0.lock().unwrap() = AppendsState::Stopped { reason: "a flush failed".to_owned() };
        let answer = fetch(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("a flush failed\n"), "{answer}");
        assert_eq!(peer.1.load(Ordering::Relaxed), 0, "who is asked so often looks at no log");
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/metrics").await.contains("conveyor_appends_open 0.0"));
        assert!(fetch(address, "/other").await.starts_with("HTTP/1.1 404"));

        stop.send_replace(true);
        serving.await.unwrap();
    }
}
