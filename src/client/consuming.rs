//! The task of a consumer: asks on one stream, at one peer after the other, and remembers what it was handed.
use crate::base::EntryId;
use crate::client::clock;
use crate::client::connect::Live;
use crate::client::consumer::{ConsumerOptions, Job};
use crate::client::error::ClientError;
use crate::client::group::{Answers, Delivered, Group, delivered, millis};
use crate::client::record::Record;
use crate::quic::stream::FrameWriter;
use crate::wire::frame::Kind;
use crate::wire::group::{GROUP_COUNT_MAX, GroupAnswer, GroupError, GroupRequest, Lease};
use crate::wire::message::{GroupAsk, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

/// How long one fetch waits for entries.
const WAIT_MS: u64 = 30_000;
/// Requests with acknowledgements that may be under way.
const ACKS_UNDER_WAY: usize = 4;
/// The pause after an error that may pass.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a consumer that stops waits for its last answers.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) type Told = oneshot::Sender<Result<bool, ClientError>>;

/// What jobs and the consumer tell the task.
pub(super) enum Order {
    Ack(Lease, Option<Told>),
    Nack { lease: Lease, delay: Option<Duration>, counts: bool },
    Stop(oneshot::Sender<()>),
}

/// What a request was about, until it is answered.
enum Asked {
    Next,
    Ack(Vec<(Lease, Option<Told>)>),
    Nack,
    Extend(Vec<Lease>),
}

struct Held {
    lasts: Duration,
    renew_at: Instant,
}

/// The task of a consumer.
pub(super) struct Driver {
    group: Group,
    prefetch: u32,
    bytes_max: u64,
    lease_ms: Option<u64>,
    hand: mpsc::Sender<Result<Job, ClientError>>,
    orders: mpsc::WeakUnboundedSender<Order>,
    /// What was fetched and is not done.
    held: BTreeMap<Lease, Held>,
    acks: VecDeque<(Lease, Option<Told>)>,
    nacks: Vec<(Lease, Option<Duration>, bool)>,
    under_way: BTreeMap<u32, Asked>,
    next_number: u32,
    /// Nothing is fetched before, after an error.
    not_before: Instant,
    stopping: Option<(oneshot::Sender<()>, Instant)>,
}

/// Why the work at one peer ends.
enum Over {
    /// Another connection is needed.
    Lost,
    /// The peer does not serve.
    Leave,
    /// Nothing is left to do.
    Done,
    /// It cannot go on.
    Failed(ClientError),
}

impl From<ClientError> for Over {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Lost { .. } | ClientError::Streams => Self::Lost,
            ClientError::Refused(Refusal::Stopping) => Self::Leave,
            error => Self::Failed(error),
        }
    }
}

impl Driver {
    /// One that holds nothing yet.
    pub(super) fn new(
        group: &Group,
        prefetch: u32,
        options: &ConsumerOptions,
        hand: mpsc::Sender<Result<Job, ClientError>>,
        orders: mpsc::WeakUnboundedSender<Order>,
    ) -> Self {
        Self {
            group: group.clone(),
            prefetch,
            bytes_max: options.prefetch_bytes,
            lease_ms: options.lease.map(millis),
            hand,
            orders,
            held: BTreeMap::new(),
            acks: VecDeque::new(),
            nacks: Vec::new(),
            under_way: BTreeMap::new(),
            next_number: 0,
            not_before: clock::now(),
            stopping: None,
        }
    }

    /// Works until the consumer and its jobs are gone, or it cannot go on.
    pub(super) async fn run(mut self, mut ordered: mpsc::UnboundedReceiver<Order>) {
        loop {
            let live = match self.group.connector.live_retrying().await {
                Ok(live) => live,
                Err(error) => return self.fail(error).await,
            };
            match self.work(&live, &mut ordered).await {
                Over::Lost => {}
                Over::Leave => self.group.connector.leave(&live).await,
                Over::Done => break,
                Over::Failed(error) => return self.fail(error).await,
            }
            self.again();
        }
        if let Some((told, _)) = self.stopping.take() {
            // Whoever gave up waiting needs no answer.
            let _ = told.send(());
        }
    }

    async fn fail(mut self, error: ClientError) {
        let under_way = std::mem::take(&mut self.under_way).into_values();
        let acks = under_way.flat_map(|asked| match asked {
            Asked::Ack(acks) => acks,
            _ => vec![],
        });
        acks.chain(self.acks.drain(..)).filter_map(|(_, told)| told).for_each(|told| {
            drop(told.send(Err(error.clone())));
        });
        // There is room for one more than is fetched.
        drop(self.hand.send(Err(error)).await);
    }

    /// What was not answered is asked again, of another peer perhaps. What was leased is not ours any more, but may be
    /// acknowledged.
    fn again(&mut self) {
        for asked in std::mem::take(&mut self.under_way).into_values().rev() {
            match asked {
                Asked::Ack(acks) => acks.into_iter().rev().for_each(|ack| self.acks.push_front(ack)),
                Asked::Next | Asked::Nack | Asked::Extend(_) => {}
            }
        }
        let never = clock::now() + Duration::from_secs(1 << 30);
        self.held.values_mut().for_each(|held| held.renew_at = never);
    }

    async fn work(&mut self, live: &Live, ordered: &mut mpsc::UnboundedReceiver<Order>) -> Over {
        let (mut writer, mut answers) = match self.group.open(live, false).await {
            Ok(open) => open,
            Err(error) => return error.into(),
        };
        loop {
            if let Err(error) = self.ask(&mut writer).await {
                return error.into();
            }
            if self.is_done() {
                writer.finish();
                return Over::Done;
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                order = ordered.recv() => match order {
                    Some(order) => {
                        self.take(order);
                        while let Ok(order) = ordered.try_recv() {
                            self.take(order);
                        }
                    }
                    // Neither the consumer nor a job is left.
                    None => return Over::Done,
                },
                answered = next_answer(&mut answers) => match answered {
                    Ok((number, answer, records)) => {
                        if let Some(over) = self.answered(number, answer, records) {
                            return over;
                        }
                    }
                    Err(over) => return over,
                },
                () = time::sleep_until(wake) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_settled = self.acks.is_empty() && self.nacks.is_empty();
        let waits = |asked: &Asked| !matches!(asked, Asked::Next);
        match &self.stopping {
            Some((_, until)) => (is_settled && !self.under_way.values().any(waits)) || clock::now() >= *until,
            None => false,
        }
    }

    fn wake(&self) -> Instant {
        let far = clock::now() + Duration::from_secs(3600);
        let renew = self.held.values().map(|held| held.renew_at).min().unwrap_or(far);
        let fetch = if self.not_before > clock::now() { self.not_before } else { far };
        let stop = self.stopping.as_ref().map_or(far, |(_, until)| *until);
        renew.min(fetch).min(stop).min(far)
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Ack(lease, told) => {
                self.held.remove(&lease);
                self.acks.push_back((lease, told));
            }
            Order::Nack { lease, delay, counts } => {
                self.held.remove(&lease);
                self.nacks.push((lease, delay, counts));
            }
            Order::Stop(told) => self.stopping = Some((told, clock::now() + STOP_TIME_MAX)),
        }
    }

    /// Writes what is due.
    async fn ask(&mut self, writer: &mut FrameWriter) -> Result<(), ClientError> {
        let acks_under_way = self.under_way.values().filter(|asked| matches!(asked, Asked::Ack(_))).count();
        if !self.acks.is_empty() && acks_under_way < ACKS_UNDER_WAY {
            let count = self.acks.len().min(GROUP_COUNT_MAX);
            let acks: Vec<(Lease, Option<Told>)> = self.acks.drain(..count).collect();
            let ids: Vec<EntryId> = acks.iter().map(|(lease, _)| lease.id).collect();
            self.put(writer, GroupRequest::Ack { ids }, Asked::Ack(acks))?;
        }
        self.ask_back(writer)?;
        self.ask_longer(writer)?;
        let is_fetching = self.under_way.values().any(|asked| matches!(asked, Asked::Next));
        let free = self.prefetch.saturating_sub(self.held.len() as u32);
        let may_fetch = self.stopping.is_none() && !self.hand.is_closed() && clock::now() >= self.not_before;
        if free > 0 && !is_fetching && may_fetch {
            let (bytes_max, lease_ms) = (self.bytes_max, self.lease_ms);
            let request =
                GroupRequest::Next { count_max: free, bytes_max, lease_ms, wait_ms: WAIT_MS, acked: vec![] };
            self.put(writer, request, Asked::Next)?;
        }
        Ok(writer.flush().await?)
    }

    /// Gives back what is to be given back: what has the same delay in one request.
    fn ask_back(&mut self, writer: &mut FrameWriter) -> Result<(), ClientError> {
        while let Some((_, delay, counts)) = self.nacks.first().copied() {
            let (mut nacks, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.nacks)
                .into_iter()
                .partition(|(_, of, does)| (*of, *does) == (delay, counts));
            self.nacks = nacks.split_off(nacks.len().min(GROUP_COUNT_MAX));
            self.nacks.extend(others);
            let leases = nacks.iter().map(|(lease, ..)| *lease).collect();
            let request = GroupRequest::Nack { leases, delay_ms: delay.map(millis), counts };
            self.put(writer, request, Asked::Nack)?;
        }
        Ok(())
    }

    /// Keeps longer what is still worked on.
    fn ask_longer(&mut self, writer: &mut FrameWriter) -> Result<(), ClientError> {
        let now = clock::now();
        let due = |(lease, held): (&Lease, &mut Held)| {
            (held.renew_at <= now).then(|| {
                held.renew_at = now + held.lasts / 3;
                *lease
            })
        };
        let leases: Vec<Lease> = self.held.iter_mut().filter_map(due).collect();
        for leases in leases.chunks(GROUP_COUNT_MAX) {
            let request = GroupRequest::Extend { leases: leases.to_vec(), lease_ms: self.lease_ms };
            self.put(writer, request, Asked::Extend(leases.to_vec()))?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        writer: &mut FrameWriter,
        request: GroupRequest,
        asked: Asked,
    ) -> Result<(), ClientError> {
        self.next_number = self.next_number.wrapping_add(1);
        let number = self.next_number;
        self.under_way.insert(number, asked);
        Ok(writer.put_message(Kind::Request, &GroupAsk { number, request })?)
    }

    /// Takes an answer in; says so when the work here ends with it.
    fn answered(
        &mut self,
        number: u32,
        answer: Result<GroupAnswer, GroupError>,
        records: Vec<Record>,
    ) -> Option<Over> {
        match (self.under_way.remove(&number), answer) {
            (Some(Asked::Next), Ok(GroupAnswer::Leased(leases))) => {
                delivered(leases, records).into_iter().for_each(|delivered| self.hand_out(delivered));
                None
            }
            (Some(Asked::Ack(acks)), Ok(GroupAnswer::Acked(news))) => {
                let told = |((_, told), is_news): ((Lease, Option<Told>), bool)| {
                    // Whoever gave up waiting needs no answer.
                    let _ = told.map(|told| told.send(Ok(is_news)));
                };
                acks.into_iter().zip(news).for_each(told);
                None
            }
            // What could not be given back ends by itself.
            (Some(Asked::Nack), Ok(GroupAnswer::Leases(_))) => None,
            (Some(Asked::Extend(leases)), Ok(GroupAnswer::Leases(outcomes))) => {
                let lost = leases.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_err());
                let never = clock::now() + Duration::from_secs(1 << 30);
                for (lease, _) in lost {
                    if let Some(held) = self.held.get_mut(lease) {
                        held.renew_at = never;
                    }
                }
                None
            }
            (Some(asked), Err(GroupError::Stopped)) => {
                self.under_way.insert(number, asked);
                Some(Over::Leave)
            }
            (Some(asked), Err(error)) => self.refused(asked, error),
            _ => Some(Over::Failed(ClientError::unexpected())),
        }
    }

    fn refused(&mut self, asked: Asked, error: GroupError) -> Option<Over> {
        match asked {
            Asked::Ack(acks) => {
                let tell = |told: Told| drop(told.send(Err(error.clone().into())));
                acks.into_iter().filter_map(|(_, told)| told).for_each(tell);
                None
            }
            // A disk may have room again, and consumers may leave.
            Asked::Next if matches!(error, GroupError::Append(_) | GroupError::Busy) => {
                self.not_before = clock::now() + PAUSE;
                None
            }
            Asked::Next => Some(Over::Failed(error.into())),
            Asked::Nack | Asked::Extend(_) => None,
        }
    }

    fn hand_out(&mut self, delivered: Delivered) {
        let (lease, lasts) = (delivered.lease, delivered.lasts);
        self.held.insert(lease, Held { lasts, renew_at: clock::now() + lasts / 3 });
        let Some(orders) = self.orders.upgrade() else { return };
        // A consumer that is gone drops it, which gives it back.
        drop(self.hand.try_send(Ok(Job::new(delivered, orders))));
    }
}

async fn next_answer(
    answers: &mut Answers,
) -> Result<(u32, Result<GroupAnswer, GroupError>, Vec<Record>), Over> {
    match answers.next().await {
        Ok(Some(answered)) => Ok(answered),
        Ok(None) => Err(Over::Lost),
        Err(error) => Err(error.into()),
    }
}
