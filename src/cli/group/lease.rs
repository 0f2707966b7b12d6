//! A lease as people pass it on: the entry's id, `@`, and the lease's number in 16 hexadecimal digits.
use crate::base::{EntryRef, NameError, TopicName};
use crate::client::{Client, Delivered, Lease};
use anyhow::{Result, bail};
use std::str::FromStr;

/// An entry, and the lease under which it was handed out, where one was given.
#[derive(Debug, Clone)]
pub struct LeaseRef {
    pub id: EntryRef,
    pub number: Option<u64>,
}

impl FromStr for LeaseRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.rsplit_once('@') {
            Some((id, number)) if number.len() == 16 => {
                let number = u64::from_str_radix(number, 16).map_err(|_| NameError::Entry)?;
                Ok(Self { id: EntryRef::parse(id)?, number: Some(number) })
            }
            _ => Ok(Self { id: EntryRef::parse(text)?, number: None }),
        }
    }
}

/// How a lease is printed.
pub fn word(delivered: &Delivered) -> String {
    crate::wire::json::lease_word(&delivered.record.to_string(), delivered.lease.number)
}

/// What the words mean: a peer looks up what is abbreviated.
pub async fn resolve(client: &Client, topic: &TopicName, words: &[LeaseRef]) -> Result<Vec<Lease>> {
    let ids: Vec<EntryRef> = words.iter().map(|word| word.id.clone()).collect();
    if let Some(other) = ids.iter().find(|id| id.topic != *topic) {
        bail!("{other} is an entry of another topic");
    }
    let mut leases = Vec::with_capacity(ids.len());
    for (word, found) in words.iter().zip(client.get(&ids, None).await?) {
        let record = found.map_err(crate::client::ClientError::from)?;
        leases.push(Lease { id: record.id, number: word.number.unwrap_or(0) });
    }
    Ok(leases)
}
