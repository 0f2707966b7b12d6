//! Bodies, read whole: with a bound for each and one over all, and a pace below which they are given up.
use super::Shared;
use super::problem::Problem;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use std::pin::Pin;
use tokio::time::{Instant, timeout_at};

/// A body of JSON at most: a thousand leases.
pub(super) const JSON_BYTES_MAX: usize = 1 << 20;
/// What is read of a body before room is taken for it.
const FREE_BYTES: usize = 16 << 10;

/// The whole of `body`, at most `bytes_max`.
pub(super) async fn read(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(Problem::too_large(bytes_max));
    }
    let (mut stream, mut taken, mut room) = (body.into_data_stream(), BytesMut::new(), None);
    let began = Instant::now();
    loop {
        let due = shared.unfinished.due(began, taken.len());
        let next = timeout_at(due, next(&mut stream)).await.map_err(|_| {
            shared.counters.objects_slow.add(1);
            Problem::slow()
        })?;
        let Some(part) = next.transpose().map_err(|_| Problem::malformed("the body ends before its end"))?
        else {
            return Ok(taken.freeze());
        };
        let bytes = taken.len() + part.len();
        if bytes > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        if taken.is_empty() && announced == Some(bytes) {
            return Ok(part);
        }
        if room.is_none() && bytes > FREE_BYTES {
            let whole = announced.unwrap_or(bytes_max);
            let crowded = |_| {
                shared.counters.objects_refused.add(1);
                Problem::busy("too many bodies are on their way to this peer")
            };
            room = Some(shared.unfinished.take(whole).await.map_err(crowded)?);
            taken.reserve(announced.unwrap_or(0).saturating_sub(taken.len()));
        }
        taken.extend_from_slice(&part);
    }
}

async fn next(stream: &mut BodyDataStream) -> Option<Result<Bytes, axum::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}
