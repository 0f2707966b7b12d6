//! Programs that get entries by their ids, many in one request, at whatever peer they reach.
use crate::cluster::lock;
use crate::whole::user::User;
use crate::whole::{Stack, topics};
use conveyor::base::name::PeerRef;
use conveyor::base::{EntryId, EntryRef};
use conveyor::client::{Client, ClientError, ReadError};
use std::time::Duration;

/// Ids in one request.
const IDS_MAX: usize = 40;

/// A program that gets entries.
pub struct Getter(User);

impl Getter {
    /// A program on a host.
    pub fn new(user: User) -> Self {
        Self(user)
    }

    /// Gets entries for as long as the run lasts.
    pub async fn work(mut self) {
        let client = self.0.connect().await;
        loop {
            let pause = self.0.random.between(200, 3_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let ids = self.choose();
            if !ids.is_empty() {
                self.get(&client, &ids).await;
            }
        }
    }

    /// Some of what was acknowledged.
    fn choose(&mut self) -> Vec<EntryId> {
        let model = lock(&self.0.stack.model);
        let count = model.owed_count();
        let skip = self.0.random.below(count as u64 + 1) as usize;
        model.owed().map(|(id, _)| *id).skip(skip).take(IDS_MAX).collect()
    }

    async fn get(&mut self, client: &Client, ids: &[EntryId]) {
        let (recorder, who) = (&self.0.stack.recorder, self.0.host);
        let wait = Duration::from_millis(self.0.random.below(2) * self.0.random.below(3_000));
        match get(&self.0.stack, client, ids, wait).await {
            Ok(errors) => {
                let found = ids.len() - errors.len();
                recorder.note(format_args!("{who} got {found} of {}", ids.len()));
                // Not every peer has everything yet.
                errors.iter().filter(|error| !is_late(error)).for_each(|error| {
                    recorder.note(format_args!("{who} does not get an entry: {error}"));
                });
            }
            Err(error) => recorder.note(format_args!("{who} gets nothing: {error}")),
        }
    }
}

fn is_late(error: &ReadError) -> bool {
    matches!(error, ReadError::IdAhead { .. } | ReadError::IdUnknown { .. } | ReadError::TopicUnknown { .. })
}

/// Gets entries, each of which is what it is everywhere, or is not got for the reasons that this answers.
pub async fn get(
    stack: &Stack,
    client: &Client,
    ids: &[EntryId],
    wait: Duration,
) -> Result<Vec<ReadError>, ClientError> {
    let topics = topics();
    let name = |id: &EntryId| topics.iter().find(|topic| stack.topic_id(topic) == id.topic).cloned();
    let named = |id: &EntryId| EntryRef {
        topic: name(id).expect("one of the topics"),
        peer: PeerRef::Key(id.peer),
        run: id.run.to_string(),
        signed_run: None,
        seq: id.seq,
    };
    let names: Vec<EntryRef> = ids.iter().map(named).collect();
    let got = client.get(&names, Some(wait)).await?;
    assert_eq!(got.len(), ids.len(), "each id has an answer");
    let mut errors = Vec::new();
    for (id, got) in ids.iter().zip(got) {
        match got {
            Ok(record) => {
                assert_eq!(record.id, *id, "P2: what was asked for is what was got");
                lock(&stack.model).meet(*id, record.time, &record.entry.payload);
            }
            Err(error) => {
                // Nothing is trimmed, given up or forked here.
                let is_gone = matches!(
                    error,
                    ReadError::IdTrimmed { .. } | ReadError::IdLost { .. } | ReadError::Forked { .. }
                );
                assert!(!is_gone, "P7: {id:?} was acknowledged, and one peer says: {error}");
                errors.push(error);
            }
        }
    }
    Ok(errors)
}
