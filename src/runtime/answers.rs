//! Answers on their way to whoever asked.
use crate::node::Answer;
use crate::runtime::handle::Taken;
use crate::runtime::import::UnderWay;
use crate::wire::outcome::{AppendError, Appended, ImportError, TopicChange, TopicChanged, TopicError};
use crate::wire::peer::RunRange;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Who waits for an answer.
pub(super) enum Asker {
    Append(oneshot::Sender<Result<Appended, AppendError>>, Taken),
    /// With the change, where that is asked for again should its step not fit on the disk.
    Change(oneshot::Sender<Result<TopicChanged, TopicError>>, Option<TopicChange>),
    Import(oneshot::Sender<Result<(), ImportError>>, Box<UnderWay>),
    Probe(oneshot::Sender<Option<Vec<RunRange>>>),
}

/// An answer that waits for its step.
pub(super) struct Held {
    pub(super) step: u64,
    pub(super) asker: Asker,
    pub(super) answer: Answer,
}

/// Why nobody gets what they wait for.
pub(super) enum Refusal {
    Stopped(String),
    DiskFull {
        reserve_bytes: u64,
    },
    /// The peer was removed from the cluster.
    Removed,
}

/// Lets go of all answers that wait for `step` or an earlier one.
pub(super) fn release(held: &mut VecDeque<Held>, step: u64) {
    while let Some(held) = held.pop_front_if(|held| held.step <= step) {
        reply(held.asker, held.answer);
    }
}

/// Who left without waiting for the answer does not get it; what was appended stays.
pub(super) fn reply(asker: Asker, answer: Answer) {
    match (asker, answer) {
        (Asker::Append(to, _room), Answer::Appended(result)) => drop(to.send(result)),
        (Asker::Change(to, _again), Answer::Changed(result)) => drop(to.send(result)),
        (Asker::Import(to, _under_way), Answer::Imported(result)) => drop(to.send(result)),
        (Asker::Probe(to), Answer::Alone(alone)) => drop(to.send(alone)),
        _ => unreachable!("the engine answers what it was asked"),
    }
}

pub(super) fn refuse(asker: Asker, refusal: &Refusal) {
    match asker {
        Asker::Append(to, _room) => drop(to.send(Err(match refusal {
            Refusal::Stopped(reason) => AppendError::Stopped { reason: reason.clone() },
            Refusal::Removed => AppendError::Removed,
            Refusal::DiskFull { reserve_bytes } => {
                AppendError::DiskFull { free_bytes: 0, reserve_bytes: *reserve_bytes }
            }
        }))),
        // Whoever waits is told that nobody answers.
        Asker::Probe(_) => {}
        Asker::Change(to, _again) => drop(to.send(Err(match refusal {
            Refusal::Stopped(reason) => TopicError::Stopped { reason: reason.clone() },
            Refusal::Removed => TopicError::Removed,
            Refusal::DiskFull { reserve_bytes } => {
                TopicError::DiskFull { free_bytes: 0, reserve_bytes: *reserve_bytes }
            }
        }))),
        Asker::Import(to, _under_way) => drop(to.send(Err(match refusal {
            Refusal::Stopped(_) | Refusal::Removed => ImportError::Stopped,
            Refusal::DiskFull { reserve_bytes } => {
                ImportError::DiskFull { free_bytes: 0, reserve_bytes: *reserve_bytes }
            }
        }))),
    }
}
