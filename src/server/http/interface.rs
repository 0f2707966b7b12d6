//! The HTTP interface of a peer, where its address may have it.
use crate::api;
use crate::identity::Credentials;
use crate::runtime::Handle;
use crate::server::config::Config;
use crate::server::door::Door;
use axum::Router;
use std::net::SocketAddr;
use tokio::sync::watch;

/// What serves `/v1` at an address that was bound, with TLS or without.
pub fn interface(
    config: &Config,
    credentials: &Credentials,
    handle: &Handle,
    door: &Door,
    (bound, has_tls): (SocketAddr, bool),
    stopping: &watch::Receiver<bool>,
) -> Router {
    if !bound.ip().is_loopback() {
        tracing::warn!(%bound, "/metrics can be read from other machines without a certificate");
        if !has_tls {
            return api::http::closed();
        }
    }
    let settings = api::http::HttpConfig {
        authority: credentials.authority().clone(),
        cors_origins: config.http_cors_origins.clone(),
        topic_defaults: config.topic_defaults,
        stopping: stopping.clone(),
    };
    api::http::router(handle.clone(), door.counters().clone(), Some(door.peers().clone()), settings)
}
