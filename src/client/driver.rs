//! The task behind a producer: writes chunks, reads answers, and starts over when the connection is lost.
use crate::base::{Durability, TopicName};
use crate::client::clock;
use crate::client::connect::{Connector, Live};
use crate::client::error::ClientError;
use crate::client::queue::{Queue, Step};
use crate::quic::stream::{CANCELLED, FrameReader, FrameWriter, StreamError};
use crate::wire::frame::{FrameError, Kind};
use crate::wire::message::{self, Refusal, Reply, Request};
use crate::wire::outcome::AppendError;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time;

/// How one stream ended.
enum Ended {
    /// The producer was closed or dropped.
    Done,
    /// Nothing is under way, and somebody else waits for a stream: go on with another when there is something to send.
    Released,
    /// The connection was lost, or the peer stops: try again, here or elsewhere.
    Lost { leave: bool },
    /// What was under way came to the peer too slowly, as over a link that was cut for a while: the same again, here or
    /// elsewhere, unless nothing gets through for long.
    Slow(Refusal),
    /// There is no point in trying again.
    Failed(ClientError),
}

/// Since when what is under way comes too slowly, and how many chunks had been answered by then.
struct SlowSince {
    since: time::Instant,
    answered_count: u64,
}

/// Runs until the producer ends, or no peer could be reached for too long.
pub(crate) async fn run(
    connector: Arc<Connector>,
    queue: Arc<Queue>,
    topic: TopicName,
    durability: Option<Durability>,
) {
    let request = Request::Append { topic, durability };
    let mut slow: Option<SlowSince> = None;
    let error = loop {
        if let Step::End = wait_for_work(&queue).await {
            break ClientError::Closed;
        }
        let live = tokio::select! {
            biased;
            () = dropped(&queue) => break ClientError::Closed,
            live = connector.live_retrying() => match live {
                Ok(live) => live,
                Err(error) => break error,
            },
        };
        match one_stream(&live, &queue, &request).await {
            Ended::Done => break ClientError::Closed,
            Ended::Released => {}
            Ended::Failed(error) => break error,
            Ended::Slow(refusal) => {
                let answered_count = queue.answered_count();
                slow = slow.filter(|slow| slow.answered_count == answered_count);
                let since =
                    slow.get_or_insert_with(|| SlowSince { since: clock::now(), answered_count }).since;
                if since.elapsed() >= connector.give_up_after() {
                    break refusal.into();
                }
                time::sleep(LEAVE_PAUSE).await;
            }
            Ended::Lost { leave } => {
                if leave {
                    connector.leave(&live).await;
                }
                // The next peer may be the same one, and its connection may stand: do not ask it again at once.
                if live.connection.close_reason().is_none() {
                    time::sleep(LEAVE_PAUSE).await;
                }
            }
        }
        queue.rewind();
    };
    queue.fail(&error);
}

/// How long a busy producer keeps a stream that others wait for.
const TURN_TIME: time::Duration = time::Duration::from_millis(100);
/// Pause before a peer that is stopping is asked again.
const LEAVE_PAUSE: time::Duration = time::Duration::from_millis(100);

/// A producer opens its stream with its first entry. Puts back what it looked at.
async fn wait_for_work(queue: &Queue) -> Step {
    loop {
        match queue.step() {
            Step::Wait => queue.wake.notified().await,
            Step::End => return Step::End,
            step => {
                queue.rewind();
                return step;
            }
        }
    }
}

/// Resolves once the producer was dropped.
async fn dropped(queue: &Queue) {
    while !queue.is_dropped() {
        queue.wake.notified().await;
    }
}

async fn one_stream(live: &Live, queue: &Queue, request: &Request) -> Ended {
    let opened = tokio::select! {
        biased;
        () = dropped(queue) => return Ended::Done,
        opened = live.open(request) => opened,
    };
    let (mut writer, mut reader) = match opened {
        Ok(streams) => streams,
        Err(error) => return lost(error),
    };
    let ended = tokio::select! {
        biased;
        ended = read_answers(live, &mut reader, queue) => ended,
        ended = write_chunks(live, &mut writer, queue) => ended,
    };
    match ended {
        // A producer that was dropped may have stopped in the middle of a chunk.
        Ended::Done | Ended::Released if queue.is_idle() => writer.finish(),
        _ => writer.reset(CANCELLED),
    }
    ended
}

async fn write_chunks(live: &Live, writer: &mut FrameWriter, queue: &Queue) -> Ended {
    let opened = clock::now();
    loop {
        // A busy producer gives way too, after a while: what is under way is answered first.
        if live.is_stream_wanted() && opened.elapsed() >= TURN_TIME {
            if queue.owes_nothing() {
                return Ended::Released;
            }
            queue.wake.notified().await;
            continue;
        }
        match queue.step() {
            Step::Write(chunk) => {
                match write_chunk(writer, queue, chunk.bytes).await {
                    Ok(()) => chunk.outcome.is_sent(live.about.peer),
                    // The reader hears why; this side only ever learns that it was stopped.
                    Err(StreamError::Reset { .. }) => std::future::pending().await,
                    Err(error) => return lost(error),
                }
            }
            Step::Wait => tokio::select! {
                biased;
                () = queue.wake.notified() => {}
                () = live.stream_is_wanted(), if queue.is_idle() => return Ended::Released,
            },
            Step::WaitUntil(due) => {
                let _ = time::timeout_at(due, queue.wake.notified()).await;
            }
            Step::End => return Ended::Done,
        }
    }
}

async fn write_chunk(writer: &mut FrameWriter, queue: &Queue, bytes: Bytes) -> Result<(), StreamError> {
    tokio::select! {
        biased;
        written = writer.object(Kind::Chunk, &[], bytes) => written,
        // A peer that takes nothing must not keep a dropped producer's task. The stream is reset behind this.
        () = dropped(queue) => Ok(()),
    }
}

async fn read_answers(live: &Live, reader: &mut FrameReader, queue: &Queue) -> Ended {
    let peer = live.about.peer;
    loop {
        let reply = match reader.next().await {
            Ok(Some(frame)) if frame.kind == Kind::Reply => message::decode(&frame.payload),
            Ok(Some(_)) => return Ended::Failed(ClientError::unexpected()),
            Ok(None) => return Ended::Lost { leave: true },
            Err(error) => return lost(error),
        };
        match reply {
            Ok(Reply::Ready) => {}
            Ok(Reply::Appended(Err(AppendError::Stopped { .. }))) | Ok(Reply::Refused(Refusal::Stopping)) => {
                return Ended::Lost { leave: true };
            }
            Ok(Reply::Appended(Ok(appended))) => {
                if appended.count as usize != queue.oldest_entry_count() || !queue.answer(peer, Ok(appended))
                {
                    return Ended::Failed(ClientError::unexpected());
                }
            }
            Ok(Reply::Appended(Err(error))) => {
                if !queue.answer(peer, Err(error.into())) {
                    return Ended::Failed(ClientError::unexpected());
                }
            }
            // The peer has no room for more at the moment: the same again, after a pause.
            Ok(Reply::Refused(Refusal::Limit { .. })) => return Ended::Lost { leave: false },
            // What it was sent is whole, so it was the rest that did not come.
            Ok(Reply::Refused(refusal @ Refusal::Frame(FrameError::Truncated))) => {
                return Ended::Slow(refusal);
            }
            Ok(Reply::Refused(refusal)) => return Ended::Failed(refusal.into()),
            Ok(_) => return Ended::Failed(ClientError::unexpected()),
            Err(error) => return lost(error.into()),
        }
    }
}

fn lost(error: StreamError) -> Ended {
    match ClientError::from(error) {
        ClientError::Lost { .. } => Ended::Lost { leave: false },
        other => Ended::Failed(other),
    }
}
