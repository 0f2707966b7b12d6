//! Which pages of other origins may call: those that the operator named, and no others.
use super::Shared;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const TAKEN: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, accept, range, if-none-match, last-event-id, idempotency-key, conveyor-key, \
     conveyor-tags, conveyor-headers, conveyor-priority, conveyor-deliver-at, conveyor-expire-at, conveyor-unique, \
     conveyor-durability",
);
const SHOWN: HeaderValue = HeaderValue::from_static(
    "location, etag, link, content-range, www-authenticate, conveyor-id, conveyor-time, conveyor-key, conveyor-tags, \
     conveyor-headers, conveyor-priority, conveyor-deliver-at, conveyor-expire-at, conveyor-unique",
);
/// Seconds for which a browser need not ask again.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

pub(super) async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| is_allowed(&shared.cors_origins, origin));
    let is_asking = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_asking && allowed.is_some() {
        true => asked(),
        false => next.run(request).await,
    };
    if shared.cors_origins.is_empty() {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
    }
    response
}

fn is_allowed(origins: &[String], origin: &HeaderValue) -> bool {
    origins.iter().any(|of| of == "*" || of.as_bytes() == origin.as_bytes())
}

/// The answer to a browser that asks before it calls.
fn asked() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    (StatusCode::NO_CONTENT, headers).into_response()
}
