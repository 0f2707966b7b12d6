//! How this peer is doing, who else there is, and what it lacks of them.
use super::call::{Call, json};
use super::problem::Problem;
use crate::runtime::Handle;
use crate::wire::json::{MemberJson, StatusJson, SyncJson};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json as value;

pub(super) async fn status(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let mut status = call.handle().aside(Handle::status).await?;
    status.connection_count = call.shared.counters.connections.get();
    json(StatusCode::OK, &StatusJson::new(&status))
}

pub(super) async fn members(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let members: Vec<_> = call.shared.among.members().iter().map(MemberJson::new).collect();
    json(StatusCode::OK, &value!({ "members": members }))
}

pub(super) async fn sync(call: Call) -> Result<Response, Problem> {
    call.query.only(&[])?;
    let status = call.shared.among.sync().await;
    json(StatusCode::OK, &SyncJson::new(call.handle().about().name.to_string(), &status))
}
