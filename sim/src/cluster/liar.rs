//! Peers that lie: what such a peer sends is rewritten on its way, so its own engine stays as it is.
//!
//! ```text
//! send(liar to b, message) ──> the lies of its kind ──> none, one or many messages ──> weather
//! ```
//!
//! A liar has its own key and nobody else's. What it holds counts for nothing; what others hold must not suffer from it.
use crate::cluster::{CLUSTER, SECRET};
use crate::random::Random;
use conveyor::base::batch::{Batch, HEADER_BYTES, state};
use conveyor::base::{
    Chunk, ChunkBuilder, Codec, Digest, Entry, Head, LogId, PeerId, RunId, Seq, StoreId, Timestamp, TopicId,
    TopicName,
};
use conveyor::identity::sign::sign_statement;
use conveyor::identity::{MacSigner, MacVerifier, Signer};
use conveyor::wire::peer::{Bucket, LogSummary, LogTag, PeerMessage, Prefix, RunRange, RunSummary, SentEnd};
use std::collections::VecDeque;

/// A kind of lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It says that it holds what it does not.
    HoldsMore,
    /// It is asked for entries, and answers that this was all.
    AnswersEmpty,
    /// It sends long lists of things that are not there.
    Oversize,
    /// It says again what it said before.
    Replays,
    /// Signatures in what it passes on are wrong.
    BadSignatures,
    /// Bits of batches are turned over.
    FlipsBits,
    /// Its own batches say one thing to some and another to others.
    TwoContents,
    /// It hands on batches with entries in them emptied.
    Thins,
    /// It says that the logs of others are trimmed.
    TrimsOthers,
    /// It offers as much as it can, and does not answer who asks for that.
    Floods,
}

/// All of them, but for the flood, which is too dear to be met in every tenth seed.
pub const LIES: [Lie; 9] = [
    Lie::HoldsMore,
    Lie::AnswersEmpty,
    Lie::Oversize,
    Lie::Replays,
    Lie::BadSignatures,
    Lie::FlipsBits,
    Lie::TwoContents,
    Lie::Thins,
    Lie::TrimsOthers,
];

/// Messages that are kept to be sent again.
const KEPT_MAX: usize = 200;
/// Things in a list that is too long.
const LONG: u64 = 2_000;

/// Lists that are too long which it sends.
const LISTS_MAX: u64 = 20;

/// A peer that lies.
pub(super) struct Liar {
    lies: Vec<Lie>,
    random: Random,
    signer: MacSigner,
    kept: VecDeque<PeerMessage>,
    /// Lists that it still sends: what others ask because of one would bring forth the next.
    lists_left: u64,
}

impl Liar {
    /// A peer that tells these lies.
    pub(super) fn new(peer: PeerId, lies: Vec<Lie>, random: Random) -> Self {
        let (signer, kept) = (MacVerifier::new(SECRET).signer(peer), VecDeque::new());
        Self { lies, random, signer, kept, lists_left: LISTS_MAX }
    }

    /// What it sends in the place of `message`.
    pub(super) fn tell(&mut self, to: StoreId, message: PeerMessage) -> Vec<PeerMessage> {
        let PeerMessage::Push { number, batch } = message else { return self.tell_asked(to, message) };
        // What it sends without being asked is no better.
        let told = self.tell_asked(to, PeerMessage::Batch(batch)).into_iter();
        let push = |message| match message {
            PeerMessage::Batch(batch) => PeerMessage::Push { number, batch },
            message => message,
        };
        told.map(push).collect()
    }

    fn tell_asked(&mut self, to: StoreId, message: PeerMessage) -> Vec<PeerMessage> {
        let lie = *self.random.pick(&self.lies);
        if self.lies.contains(&Lie::Replays) {
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(message.clone());
        }
        match (lie, message) {
            (Lie::HoldsMore, message) => vec![holds_more(message)],
            (Lie::AnswersEmpty, PeerMessage::Batch(_)) => vec![],
            (Lie::AnswersEmpty, PeerMessage::Sent { range, .. }) => {
                let end = *self.random.pick(&[SentEnd::Enough, SentEnd::NotHere]);
                vec![PeerMessage::Sent { range, until: range.from, end }]
            }
            (Lie::Oversize, message) if self.lists_left > 0 && self.random.one_in(20) => {
                self.lists_left -= 1;
                vec![message, self.long_list()]
            }
            (Lie::Replays, message) => {
                let index = self.random.below(self.kept.len() as u64) as usize;
                vec![message, self.kept[index].clone()]
            }
            (Lie::BadSignatures, message) => vec![self.badly_signed(message)],
            (Lie::FlipsBits, PeerMessage::Batch(bytes)) => {
                let mut bytes = bytes.to_vec();
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
                vec![PeerMessage::Batch(bytes.into())]
            }
            (Lie::TwoContents, PeerMessage::Batch(bytes)) => vec![self.two_faced(to, bytes)],
            (Lie::Thins, PeerMessage::Batch(bytes)) => vec![thinned(bytes)],
            (Lie::TrimsOthers, PeerMessage::Have(range, link)) => self.trimmed(range, link),
            // What is asked because of it is not answered.
            (Lie::Floods, PeerMessage::Sent { .. }) => vec![],
            (Lie::Floods, message) if self.lists_left > 0 => {
                self.lists_left -= 1;
                vec![message, self.flood()]
            }
            (_, message) => vec![message],
        }
    }

    /// A message that is as large as a message may be, of each kind that others remember something of.
    fn flood(&mut self) -> PeerMessage {
        let first = self.random.number() % (1 << 32);
        match first % 4 {
            0 | 1 => PeerMessage::Logs { held: (0..500).map(|at| shown(first + at)).collect(), ask: vec![] },
            2 => PeerMessage::Neighbors((0..LONG).map(|at| StoreId(first + at)).collect()),
            _ => PeerMessage::Logs { held: vec![in_pieces(first)], ask: vec![] },
        }
    }

    fn badly_signed(&mut self, message: PeerMessage) -> PeerMessage {
        let at = self.random.below(64) as usize;
        match message {
            PeerMessage::Batch(bytes) => resigned(bytes, |signature| signature[at] ^= 1),
            PeerMessage::Head(head, mut signature) => {
                signature.0[at] ^= 1;
                PeerMessage::Head(Head { start: head.until, ..head }, signature)
            }
            PeerMessage::Lost(lost, mut signature) => {
                signature.0[at] ^= 1;
                PeerMessage::Lost(lost, signature)
            }
            message => message,
        }
    }

    /// Its own entries with other payloads, properly signed, for half of the stores.
    fn two_faced(&self, to: StoreId, bytes: bytes::Bytes) -> PeerMessage {
        let Ok(batch) = Batch::parse(bytes.clone()) else { return PeerMessage::Batch(bytes) };
        if batch.statement().log.peer != self.signer.peer() || to.0.is_multiple_of(2) {
            return PeerMessage::Batch(bytes);
        }
        let Some(chunk) = emptied(&batch) else { return PeerMessage::Batch(bytes) };
        let chunks = [chunk];
        let statement = state(batch.statement(), &chunks);
        let signature = sign_statement(&self.signer, &statement);
        PeerMessage::Batch(Batch::assemble(statement, signature, &chunks).bytes().clone())
    }

    /// Beside what it says it holds of a log: that the log is trimmed up to there.
    fn trimmed(&self, range: RunRange, link: u64) -> Vec<PeerMessage> {
        let RunRange { log, run, until, .. } = range;
        let (time, last) = (Timestamp::from_ms(1_900_000_000_000), Digest::ZERO);
        let (parent, from) = (RunId::NONE, Seq::FIRST);
        let head = Head { log, run, parent, from, start: until, until, time, last, is_sealed: false };
        let own = Head { log: LogId { peer: self.signer.peer(), ..log }, ..head };
        // It signs in its own name, and puts that under a statement of somebody else.
        let signature = sign_statement(&self.signer, &own);
        let said = PeerMessage::Have(range, link);
        if log.peer == self.signer.peer() {
            vec![said]
        } else {
            vec![said, PeerMessage::Head(head, signature)]
        }
    }

    fn long_list(&mut self) -> PeerMessage {
        let mut number = || self.random.number();
        match number() % 5 {
            0 => PeerMessage::Neighbors((0..LONG).map(|_| StoreId(number())).collect()),
            1 => {
                let bucket = |_| Bucket { prefix: Prefix { depth: 16, bits: number() }, hash: 1, count: 1 };
                PeerMessage::Digest { salt: 1, buckets: (0..LONG).map(bucket).collect() }
            }
            2 => {
                let logs = (0..LONG).map(|_| (LogTag(number()), 1)).collect();
                PeerMessage::Leaves { salt: 1, prefix: Prefix::ALL, logs }
            }
            3 => PeerMessage::Logs { held: vec![], ask: (0..LONG).map(|_| LogTag(number())).collect() },
            _ => {
                PeerMessage::Logs { held: (0..LONG / 100).map(|_| invented(number())).collect(), ask: vec![] }
            }
        }
    }
}

/// A log that is not there, with many runs of many ranges.
fn invented(number: u64) -> LogSummary {
    let topic = TopicName::new(&format!("invented/{number}")).expect("a legal name");
    let log = LogId { topic: TopicId::of(CLUSTER, topic.as_str()), peer: PeerId(Random::key(number)) };
    let run = |index: u64| RunSummary {
        run: RunId(number ^ index),
        parent: RunId(number ^ (index + 1)),
        from: Seq(1),
        held: (0..8).map(|at| (Seq(1 + 10 * at), Seq(5 + 10 * at))).collect(),
        link: number,
    };
    LogSummary { log, topic, runs: (1..6).map(run).collect(), heads: vec![], lost: vec![], forks: vec![] }
}

/// A log that is not there, with one run.
fn shown(number: u64) -> LogSummary {
    let mut log = invented(number);
    log.runs.truncate(1);
    log
}

/// A run that is not there, in as many pieces as a message takes.
fn in_pieces(number: u64) -> LogSummary {
    let mut log = shown(number);
    log.runs
        .iter_mut()
        .for_each(|run| run.held = (0..4 * LONG).map(|at| (Seq(1 + 10 * at), Seq(5 + 10 * at))).collect());
    log
}

fn holds_more(message: PeerMessage) -> PeerMessage {
    match message {
        PeerMessage::Have(range, link) => {
            PeerMessage::Have(RunRange { from: Seq(1), until: range.until.after(1_000), ..range }, link)
        }
        PeerMessage::Logs { mut held, ask } => {
            let runs = held.iter_mut().flat_map(|log| &mut log.runs);
            runs.filter_map(|run| run.held.last_mut()).for_each(|last| last.1 = last.1.after(1_000));
            PeerMessage::Logs { held, ask }
        }
        message => message,
    }
}

/// All entries of a batch with payloads of zeros, as long as they were.
fn emptied(batch: &Batch) -> Option<Chunk> {
    let mut builder = ChunkBuilder::new();
    let walked = batch.for_each_entry(|_, _, view| {
        let entry = view.to_entry();
        let payload = vec![0; entry.payload.len()].into();
        builder.push(&Entry { payload, ..entry }).is_ok()
    });
    walked.ok().and_then(|()| Chunk::parse(builder.finish(Codec::None)).ok())
}

/// The same statement and signature over entries that were emptied.
fn thinned(bytes: bytes::Bytes) -> PeerMessage {
    let batch = Batch::parse(bytes.clone()).ok();
    let thinned = batch.and_then(|batch| {
        let chunk = emptied(&batch)?;
        Some(Batch::assemble(*batch.statement(), *batch.signature(), &[chunk]).bytes().clone())
    });
    PeerMessage::Batch(thinned.unwrap_or(bytes))
}

/// The same batch under another signature, with a checksum that fits.
fn resigned(bytes: bytes::Bytes, change: impl FnOnce(&mut [u8])) -> PeerMessage {
    let mut bytes = bytes.to_vec();
    change(&mut bytes[160..224]);
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    PeerMessage::Batch(bytes.into())
}
