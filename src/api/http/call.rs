//! One request: who sends it, what it may do, and what its address says.
use super::Shared;
use super::body;
use super::problem::Problem;
use super::query::Query;
use crate::base::{EntryRef, GroupName, TopicName};
use crate::identity::role::Rights;
use crate::identity::token::{Claims, is_read_only};
use crate::runtime::{Handle, SystemClock, WallClock as _};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};

/// A request whose token holds.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) claims: Arc<Claims>,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    params: Vec<(String, String)>,
    /// Behind a lock that nobody waits for: it is what makes this one thing that tasks may share.
    body: Mutex<Body>,
}

impl FromRequest<Arc<Shared>> for Call {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        shared.counters.requests.add(1);
        let made = Self::begin(&mut parts, shared).await;
        let (claims, query, params) = made.inspect_err(|problem| {
            let counters = &shared.counters;
            if problem.is_forbidden() { &counters.requests_forbidden } else { &counters.requests_malformed }
                .add(1);
        })?;
        Ok(Self {
            shared: shared.clone(),
            claims,
            headers: parts.headers,
            query,
            params,
            body: Mutex::new(body),
        })
    }
}

type Begun = (Arc<Claims>, Query, Vec<(String, String)>);

impl Call {
    async fn begin(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Begun, Problem> {
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let claims = authorized(parts, &query, shared)?;
        let params = RawPathParams::from_request_parts(parts, &()).await;
        let params = params.map_err(|_| Problem::malformed("the address is not percent-encoded UTF-8"))?;
        let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok((claims, query, params))
    }

    pub(super) fn handle(&self) -> &Handle {
        self.shared.handle()
    }

    pub(super) fn rights(&self) -> &Rights {
        &self.claims.rights
    }

    fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// The topic in the address, which may be one of Conveyor's own.
    pub(super) fn topic(&self) -> Result<TopicName, Problem> {
        Ok(TopicName::system(self.param("topic"))?)
    }

    /// The group in the address.
    pub(super) fn group(&self) -> Result<GroupName, Problem> {
        Ok(GroupName::new(self.param("group"))?)
    }

    /// The entry in the address.
    pub(super) fn entry(&self) -> Result<EntryRef, Problem> {
        let id = format!("{}/{}/{}", self.topic()?, self.param("log"), self.param("seq"));
        Ok(EntryRef::parse(&id)?)
    }

    /// The text of a header; at most one line of it.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut lines = self.headers.get_all(name).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(Problem::malformed(format!("{name} stands twice among the headers")));
        }
        let text = std::str::from_utf8(line.as_bytes());
        text.map(Some).map_err(|_| Problem::malformed(format!("{name} is not UTF-8; encode it with %")))
    }

    /// Whether the caller wants this to be made only where it is not there.
    pub(super) fn only_if_new(&self) -> Result<bool, Problem> {
        Ok(self.header("if-none-match")? == Some("*"))
    }

    /// The body, at most so many bytes of it.
    pub(super) async fn take_body(&mut self, bytes_max: usize) -> Result<Bytes, Problem> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        body::read(&self.shared, &self.headers, body, bytes_max).await
    }

    /// The body, which is JSON; none at all is `{}`.
    pub(super) async fn take_json<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        if let Some(kind) = self.header("content-type")? {
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            // What curl says of -d where nobody says otherwise.
            let is_json = kind == "application/json" || kind == "application/x-www-form-urlencoded";
            if !is_json && kind != "application/merge-patch+json" {
                return Err(Problem::new("media-type", format!("give application/json, not {kind:?}")));
            }
        }
        let body = self.take_body(body::JSON_BYTES_MAX).await?;
        let body = if body.trim_ascii().is_empty() { b"{}" } else { body.trim_ascii() };
        // A list would count as the fields in their order.
        if !body.starts_with(b"{") {
            return Err(Problem::malformed("the body is no JSON object"));
        }
        serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
    }
}

/// What the request's token allows.
fn authorized(parts: &Parts, query: &Query, shared: &Shared) -> Result<Arc<Claims>, Problem> {
    let now_s = SystemClock.unix_ms() / 1000;
    let mut lines = parts.headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next(), query.get("token")) {
        (Some(_), Some(_), _) => Err(Problem::malformed("Authorization stands twice among the headers")),
        (Some(line), None, _) => {
            let words = line.to_str().ok().and_then(|line| line.split_once(' '));
            let word = words
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, word)| word.trim());
            let word = word.ok_or_else(|| Problem::unauthorized("give Authorization: Bearer TOKEN", None))?;
            Ok(shared.tokens.check(word, now_s)?)
        }
        (None, _, Some(word)) => {
            let claims = shared.tokens.check(word, now_s)?;
            // Addresses stand in logs and histories.
            let is_reading = matches!(parts.method, Method::GET | Method::HEAD);
            match is_reading && is_read_only(&claims.rights) {
                true => Ok(claims),
                false => {
                    let told = "a token in the address must be one that allows reading alone; give others as a header";
                    Err(Problem::unauthorized(told, Some("invalid_request")))
                }
            }
        }
        (None, _, None) => {
            let told = "give Authorization: Bearer TOKEN; `conveyor cert token` makes tokens, and a peer's first start leaves \
                        one in identity/client.token of its data directory";
            Err(Problem::unauthorized(told, None))
        }
    }
}

/// JSON that changes with time.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| Problem::malformed(error.to_string()))?;
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
