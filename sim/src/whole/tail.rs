//! Programs that follow a topic: the library goes on behind the cursor at another peer when its own dies.
use crate::cluster::lock;
use crate::whole::seen::Seen;
use crate::whole::user::User;
use conveyor::base::{Cursor, TopicName};
use conveyor::client::{Client, Reader};
use conveyor::wire::outcome::ReadFrom;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A program that follows a topic.
pub struct Tail {
    user: User,
    topic: TopicName,
    cursor: Option<Cursor>,
    seen: Arc<Mutex<Seen>>,
}

impl Tail {
    /// A program on a host, and what it is given.
    pub fn new(user: User, topic: TopicName) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::<Mutex<Seen>>::default();
        (Self { user, topic, cursor: None, seen: seen.clone() }, seen)
    }

    /// Follows for as long as the run lasts. What it keeps of one read for the next is the cursor, as a word.
    pub async fn work(mut self) {
        loop {
            let client = self.user.connect().await;
            self.read_with(&client).await;
            self.user.stack.recorder.note(format_args!("{} reads anew", self.user.host));
        }
    }

    async fn read_with(&mut self, client: &Client) {
        loop {
            let from = match &self.cursor {
                None => ReadFrom::Start,
                Some(cursor) => {
                    ReadFrom::Cursor(cursor.to_string().parse().expect("a cursor survives being a word"))
                }
            };
            let mut reader = client.read(&self.topic).from(from).follow(true).stream();
            if self.follow(&mut reader).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(self.user.random.between(100, 1_000))).await;
        }
    }

    /// Takes what a read brings; true when the program begins anew by itself.
    async fn follow(&mut self, reader: &mut Reader) -> bool {
        loop {
            match reader.next().await {
                Some(Ok(item)) => {
                    let (stack, who) = (&self.user.stack, self.user.host.to_string());
                    lock(&self.seen).take(stack, &who, item);
                    self.cursor = reader.cursor().cloned();
                }
                Some(Err(error)) => {
                    self.user.stack.recorder.note(format_args!("{} cannot read: {error}", self.user.host));
                    return false;
                }
                None => panic!("a tail has no end"),
            }
            if self.user.random.one_in(500) {
                return true;
            }
        }
    }
}
