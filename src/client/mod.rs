//! The client library: append, read and tail over QUIC, with any of several peers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use conveyor::base::TopicName;
//! use conveyor::client::{Client, Credentials, Item};
//!
//! let credentials = Credentials::from_data_dir("data")?;
//! let client = Client::builder().address("127.0.0.1:8011").credentials(credentials).connect().await?;
//! let topic = TopicName::new("greetings")?;
//! let id = client.append(&topic, "hello").await?;
//! println!("appended as {}", id.seq);
//!
//! let mut reader = client.read(&topic).stream();
//! while let Some(item) = reader.next().await {
//!     if let Item::Entry(record) = item? {
//!         println!("{record} {:?}", record.entry.payload);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A connection that is lost is made again, to any of the addresses, with jittered back-off. Appends carry a producer
//! and a number, so that sending them again is recognised; reads go on behind the cursor. Memory is bounded both ways:
//! a producer waits for room, a reader takes no more than it hands out.
//!
//! Dropping a [`Client`], [`Producer`], [`Reader`] or any future of them leaves nothing running. The library knows
//! `base`, `identity` and `wire`; it opens no file, starts no thread and reads no clock but the one it is given.

mod attempt;
mod builder;
mod clock;
mod connect;
mod consumer;
mod consuming;
mod driver;
mod error;
mod group;
mod importer;
mod learn;
mod producer;
mod queue;
mod read;
mod reader;
mod record;
mod removal;
mod request;
mod source;
mod stagger;
mod wanted;

pub use crate::identity::{Credentials, IdentityError};
pub use crate::wire::group::{
    Dispensing, GroupError, GroupInfo, GroupSettings, Lease, LeaseError, Redelivered, WhenExhausted,
};
pub use crate::wire::message::Refusal;
pub use crate::wire::outcome::{
    About, Alone, AloneIn, AppendError, Appended, Aside, Blocked, BlockedReason, Explained, Gap, GapReason,
    HeldOf, Holder, ImportError, Imported, Member, MemberState, ReadError, ReadFrom, RemoveError, Status,
    SyncPeer, SyncStatus, TopicChange, TopicChanged, TopicError, TopicInfo, Why,
};
pub use crate::wire::verify::Unverified;
#[cfg(feature = "cli")]
pub(crate) use builder::transport_config;
pub use builder::{ClientBuilder, Environment};
pub use consumer::{Consumer, ConsumerOptions, Job};
pub use error::{AttemptError, ClientError, ConnectError};
pub use group::{Delivered, Exchange, Group, NextOptions};
pub use importer::Importer;
pub use producer::{Acknowledged, Producer, ProducerOptions, Receipt};
pub use read::{Page, ReadBuilder};
pub use reader::{BatchReader, Exported, Reader, SignedBatch};
pub use record::{Item, Record};
pub use removal::{AsideItem, AsideReader};
pub use request::Client;
