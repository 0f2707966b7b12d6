//! The HTTP interface under `/v1` (docs/http.md, docs/openapi.yaml): topics, entries, groups and the cluster, for anything
//! with curl.
//!
//! ```text
//! request ─→ token: who, and what it allows ─→ address and words ─→ one handler ─→ JSON, a payload, or events
//!                └─ 401                             └─ 404, 400          └─ a problem (RFC 9457), see `problem`
//! ```
//!
//! Each request has a token of its own, also on loopback: whoever may reach the port is not thereby a client. What a
//! client leaves in the middle is dropped, and harms nothing.

mod append;
mod body;
mod call;
mod cors;
mod entry;
mod groups;
mod page;
mod peer;
pub mod problem;
mod query;
mod tail;
mod tokens;
mod topics;

use crate::api::cluster::Among;
use crate::base::TopicSettings;
use crate::identity::certificate::Authority;
use crate::net::{Counters, Peers};
use crate::quic::unfinished::{Unfinished, UnfinishedConfig};
use crate::runtime::Handle;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use problem::Problem;
use std::sync::Arc;
use tokens::Tokens;
use tokio::sync::watch;

/// What the interface is told before it serves.
pub struct HttpConfig {
    /// What tokens are checked against.
    pub authority: Authority,
    /// Origins whose pages may call; `*` for all.
    pub cors_origins: Vec<String>,
    /// What a topic has that is made without saying.
    pub topic_defaults: TopicSettings,
    /// True once the peer stops: what would go on for ever ends then.
    pub stopping: watch::Receiver<bool>,
}

/// What all requests share.
pub(crate) struct Shared {
    among: Among,
    counters: Arc<Counters>,
    tokens: Tokens,
    cors_origins: Vec<String>,
    topic_defaults: TopicSettings,
    unfinished: Arc<Unfinished>,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    fn handle(&self) -> &Handle {
        &self.among.handle
    }

    /// Resolves once the peer stops.
    async fn stopping(&self) {
        let mut stopping = self.stopping.clone();
        // Whoever would say so being gone is the same.
        drop(stopping.wait_for(|is_stopping| *is_stopping).await);
    }
}

type Routes = MethodRouter<Arc<Shared>>;

/// Every address, its methods, and what serves it.
fn table() -> Vec<(&'static str, &'static [&'static str], Routes)> {
    const GROUP: &str = "/v1/topics/{topic}/groups/{group}";
    vec![
        ("/v1/status", &["GET"], get(peer::status)),
        ("/v1/cluster/members", &["GET"], get(peer::members)),
        ("/v1/sync", &["GET"], get(peer::sync)),
        ("/v1/topics", &["GET"], get(topics::list)),
        (
            "/v1/topics/{topic}",
            &["GET", "PUT", "DELETE"],
            get(topics::show).put(topics::put).delete(topics::delete),
        ),
        ("/v1/topics/{topic}/entries", &["GET", "POST"], get(page::serve).post(append::serve)),
        ("/v1/topics/{topic}/entries/stream", &["GET"], get(tail::serve)),
        ("/v1/topics/{topic}/entries/{log}/{seq}", &["GET"], get(entry::serve)),
        ("/v1/topics/{topic}/groups", &["GET"], get(groups::list)),
        (
            GROUP,
            &["GET", "PUT", "PATCH", "DELETE"],
            get(groups::show).put(groups::put).patch(groups::patch).delete(groups::delete),
        ),
        ("/v1/topics/{topic}/groups/{group}/next", &["POST"], post(groups::next)),
        ("/v1/topics/{topic}/groups/{group}/ack", &["POST"], post(groups::ack)),
        ("/v1/topics/{topic}/groups/{group}/nack", &["POST"], post(groups::nack)),
        ("/v1/topics/{topic}/groups/{group}/extend", &["POST"], post(groups::extend)),
        ("/v1/topics/{topic}/groups/{group}/rewind", &["POST"], post(groups::rewind)),
    ]
}

/// Every address and its methods, as docs/openapi.yaml has them.
pub fn routes() -> Vec<(&'static str, &'static [&'static str])> {
    table().into_iter().map(|(path, methods, _)| (path, methods)).collect()
}

/// What serves the interface for `handle`, a peer among `peers`.
pub fn router(
    handle: Handle,
    counters: Arc<Counters>,
    peers: Option<Arc<Peers>>,
    config: HttpConfig,
) -> Router {
    let shared = Arc::new(Shared {
        among: Among { handle, peers },
        counters,
        tokens: Tokens::new(config.authority),
        cors_origins: config.cors_origins,
        topic_defaults: config.topic_defaults,
        unfinished: Unfinished::new(UnfinishedConfig::default()),
        stopping: config.stopping,
    });
    let mut router = Router::new();
    for (path, _, methods) in table() {
        router = router.route(path, methods);
    }
    let no_method = async || Problem::new("method", "this address has other methods; see Allow");
    let router = router.route("/v1/{*rest}", axum::routing::any(no_such_address));
    let router = router.method_not_allowed_fallback(no_method);
    router.layer(middleware::from_fn_with_state(shared.clone(), cors::around)).with_state(shared)
}

async fn no_such_address() -> Problem {
    Problem::new("no-such-address", "there is nothing at this address; docs/http.md lists what there is")
}

/// What stands in its place at an address that other machines reach without TLS.
pub fn closed() -> Router {
    let told = async || {
        Problem::new(
            "closed",
            "other machines can reach this address, and it has no TLS: tokens and entries would pass in the clear. Set \
             http_cert, or let http be an address on loopback",
        )
    };
    Router::new().route("/v1/{*rest}", axum::routing::any(told))
}
