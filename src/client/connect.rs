//! The one connection a client has at a time: made when it is needed, made again when it is lost.
//!
//! Whoever needs it asks [`Connector::live`], which tries each address once, or [`Connector::live_retrying`], which
//! goes on with jittered back-off until the client's patience ends. Only one task dials at a time; the others wait for
//! what it gets. A peer that says it is stopping is left with [`Connector::leave`], and the next address is tried.
use crate::client::attempt::attempt_error;
use crate::client::builder::Environment;
use crate::client::clock;
use crate::client::error::{AttemptError, ClientError, ConnectError, attempts};
use crate::client::learn;
use crate::client::stagger::stagger;
use crate::client::wanted::Wanted;
use crate::identity::Authority;
use crate::quic::socket;
use crate::quic::stream::{FrameReader, FrameWriter, StreamError};
use crate::wire::frame::Kind;
use crate::wire::message::{FEATURES, Hello, PROGRAM, Reply, Request, VERSION, Welcome};
use crate::wire::outcome::About;
use crate::wire::verify::Remembered;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time;

/// How long one address may take to answer.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(5);
/// Addresses of one host name that are tried.
const RESOLVED_MAX: usize = 8;
/// How long a peer that would not serve is passed over where another answers: what it does then takes longer.
const LEFT_TIME: Duration = Duration::from_secs(5);
/// How long a client that closes waits for its goodbye to leave.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(5);
/// The first pause between rounds over all addresses; each next one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A connection over which a peer said who it is.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    pub(crate) about: About,
    /// Who waits for a stream because the peer allows no more of them on one connection.
    wanted: Arc<Wanted>,
}

/// How long a request waits for a stream.
const STREAM_TIME_MAX: Duration = Duration::from_secs(5);

impl Live {
    /// Opens a stream and writes `request` on it.
    pub(crate) async fn open(&self, request: &Request) -> Result<(FrameWriter, FrameReader), StreamError> {
        let (send, receive) = self.open_stream().await?;
        let mut writer = FrameWriter::new(send);
        writer.message(Kind::Request, request).await?;
        Ok((writer, FrameReader::new(receive, &[Kind::Reply, Kind::Batch, Kind::Entry, Kind::Certificate])))
    }

    /// A stream; when the peer allows no more of them, one that another request gives back in time.
    async fn open_stream(&self) -> Result<(SendStream, RecvStream), StreamError> {
        tokio::select! {
            biased;
            opened = self.connection.open_bi() => return Ok(opened?),
            () = std::future::ready(()) => {}
        }
        let _waiting = self.wanted.wait();
        match time::timeout(STREAM_TIME_MAX, self.connection.open_bi()).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(StreamError::Exhausted),
        }
    }

    /// Whether somebody waits for a stream.
    pub(crate) fn is_stream_wanted(&self) -> bool {
        self.wanted.is_any()
    }

    /// Resolves when somebody waits for a stream, for whoever could do without theirs.
    pub(crate) async fn stream_is_wanted(&self) {
        self.wanted.any().await;
    }
}

/// Makes and keeps the connection.
#[derive(Debug)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    addresses: Vec<String>,
    /// Where other peers are, as the one that was reached last says.
    learned: Mutex<Vec<String>>,
    give_up_after: Duration,
    environment: Environment,
    authority: Authority,
    remembered: Remembered,
    current: Mutex<Option<Live>>,
    /// Why there is no connection, while one is being made.
    trouble: Mutex<Option<String>>,
    /// Addresses of peers that would not serve, and since when: they are dialled when no other answers.
    left: Mutex<BTreeMap<String, time::Instant>>,
    /// Held while dialling: the address to try first.
    dialling: tokio::sync::Mutex<String>,
}

impl Connector {
    pub(crate) fn new(
        endpoint: Endpoint,
        config: quinn::ClientConfig,
        addresses: Vec<String>,
        give_up_after: Duration,
        environment: Environment,
        authority: Authority,
    ) -> Arc<Self> {
        let first = addresses.first().cloned().unwrap_or_default();
        Arc::new(Self {
            endpoint,
            config,
            addresses,
            learned: Mutex::default(),
            give_up_after,
            environment,
            authority,
            remembered: Remembered::default(),
            current: Mutex::new(None),
            trouble: Mutex::new(None),
            left: Mutex::default(),
            dialling: tokio::sync::Mutex::new(first),
        })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// For how long it is tried to get through.
    pub(crate) fn give_up_after(&self) -> Duration {
        self.give_up_after
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    fn current(&self) -> MutexGuard<'_, Option<Live>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Option<Live> {
        self.current().as_ref().filter(|live| live.connection.close_reason().is_none()).cloned()
    }

    /// Who the peer is that the client talked to last.
    pub(crate) fn about(&self) -> Option<About> {
        self.current().as_ref().map(|live| live.about.clone())
    }

    /// Why there is no connection, while one is being made.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What the connection broke with that must now be made again.
    fn what_broke(&self) -> String {
        let reason = self.current().as_ref().and_then(|live| live.connection.close_reason());
        let words = reason.map_or_else(|| "no connection".to_owned(), |reason| reason.to_string());
        format!("{}: {words}", self.addresses.join(", "))
    }

    /// Takes what another peer says of where all are.
    pub(super) fn learn(&self, addresses: Vec<String>) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// All addresses, those that were given before those that were learned, from one on and around.
    fn from(&self, first: &str) -> Vec<String> {
        let mut all = self.addresses.clone();
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(learned.iter().filter(|address| !self.addresses.contains(address)).cloned());
        let at = all.iter().position(|address| address == first).unwrap_or(0);
        all.rotate_left(at);
        all
    }

    /// How many addresses are known.
    pub(crate) fn address_count(&self) -> usize {
        self.from("").len()
    }

    /// The connection; when there is none, tries each address once.
    pub(crate) async fn live(self: &Arc<Self>) -> Result<Live, ConnectError> {
        if let Some(live) = self.alive() {
            return Ok(live);
        }
        let mut first = self.dialling.lock().await;
        if let Some(live) = self.alive() {
            return Ok(live);
        }
        if self.trouble().is_none() {
            self.set_trouble(Some(self.what_broke()));
        }
        let mut addresses = self.from(&first);
        if self.current().is_some() && addresses.len() > 1 {
            // What was lost a moment ago is most likely still away.
            addresses.rotate_left(1);
        }
        let (stopping, others): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| self.was_left(address));
        let (mut reached, mut tried) = self.race(others).await;
        if reached.is_none() {
            let (again, failed) = self.race(stopping).await;
            reached = again;
            tried.extend(failed);
        }
        if let Some((address, live)) = reached {
            *first = address;
            *self.current() = Some(live.clone());
            self.set_trouble(None);
            self.environment.spawn(learn::others(Arc::downgrade(self), live.clone()));
            return Ok(live);
        }
        self.set_trouble(Some(attempts(&tried)));
        Err(ConnectError::Unreachable { tried })
    }

    /// Dials one address after the other, the next one as soon as one fails or has not answered for a while, and takes the
    /// first that answers. Each has as long as if it were alone.
    async fn race(
        self: &Arc<Self>,
        addresses: Vec<String>,
    ) -> (Option<(String, Live)>, Vec<(String, AttemptError)>) {
        stagger(addresses.into_iter().map(|address| {
            let (connector, to) = (self.clone(), address.clone());
            let attempt = async move {
                let dialled = time::timeout(ATTEMPT_TIME_MAX, connector.dial(&to)).await;
                dialled.unwrap_or(Err(AttemptError::Silent))
            };
            (address, attempt)
        }))
        .await
    }

    /// The connection, made again with growing pauses until the client's patience ends.
    pub(crate) async fn live_retrying(self: &Arc<Self>) -> Result<Live, ClientError> {
        let until = clock::now() + self.give_up_after;
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.live().await {
                Ok(live) => return Ok(live),
                Err(error) => error,
            };
            let wait = jittered(pause);
            if clock::now() + wait >= until {
                return Err(error.into());
            }
            time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Gives a connection up because its peer will not serve; the next one goes to another address where there is one.
    pub(crate) async fn leave(&self, live: &Live) {
        let mut first = self.dialling.lock().await;
        let mut current = self.current();
        if current.as_ref().is_some_and(|now| now.connection.stable_id() == live.connection.stable_id()) {
            *current = None;
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.retain(|_, since| since.elapsed() < LEFT_TIME);
            left.insert(first.clone(), clock::now());
            drop(left);
            if let Some(next) = self.from(&first).into_iter().nth(1) {
                *first = next;
            }
        }
    }

    /// Whether the peer there would not serve a moment ago.
    fn was_left(&self, address: &str) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(address).is_some_and(|since| since.elapsed() < LEFT_TIME)
    }

    /// Ends the connection and all that use it.
    pub(crate) fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"closed");
    }

    /// Resolves once the peer was told that the connection ends, or after a few milliseconds.
    pub(crate) async fn closed(&self) {
        let _ = time::timeout(GOODBYE_TIME_MAX, self.endpoint.wait_idle()).await;
    }

    /// Tries all that a name stands for, as one host may have addresses that are not reached from here, and some none.
    async fn dial(&self, address: &str) -> Result<Live, AttemptError> {
        let found = self.resolve(address).await?;
        let (reached, tried) = stagger(found.into_iter().map(|to| (to, self.dial_one(to)))).await;
        let failed = || tried.into_iter().next().map(|(_, error)| error);
        let none = || AttemptError::Resolve { reason: "no such host".to_owned() };
        reached.map(|(_, live)| live).ok_or_else(|| failed().unwrap_or_else(none))
    }

    async fn dial_one(&self, to: SocketAddr) -> Result<Live, AttemptError> {
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), to, "conveyor")
            .map_err(|error| AttemptError::Lost { reason: error.to_string() })?;
        let connection = connecting.await.map_err(attempt_error)?;
        let welcome = match greet(&connection).await {
            Ok(welcome) => welcome?,
            // TLS 1.3: a client whose certificate is refused hears of it only after its own handshake is done.
            Err(error) => {
                return Err(connection
                    .close_reason()
                    .map_or(AttemptError::Lost { reason: error.to_string() }, attempt_error));
            }
        };
        Ok(Live { connection, about: welcome.about, wanted: Arc::default() })
    }

    async fn resolve(&self, address: &str) -> Result<Vec<SocketAddr>, AttemptError> {
        let error = |reason: String| AttemptError::Resolve { reason };
        let found: Vec<SocketAddr> = match address.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let found =
                    tokio::net::lookup_host(address).await.map_err(|failed| error(failed.to_string()))?;
                found.take(RESOLVED_MAX).collect()
            }
        };
        let local = self.endpoint.local_addr().ok();
        Ok(found.into_iter().map(|found| socket::reach(local, found)).collect())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.close();
    }
}

async fn greet(connection: &Connection) -> Result<Result<Welcome, AttemptError>, StreamError> {
    let (send, receive) = connection.open_bi().await?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive, &[Kind::Reply]));
    let hello =
        Hello { version_min: VERSION, version_max: VERSION, features: FEATURES, program: PROGRAM.to_owned() };
    writer.message(Kind::Request, &Request::Hello(hello)).await?;
    writer.finish();
    Ok(match reader.message::<Reply>().await? {
        Some(Reply::Welcome(welcome)) if welcome.version == VERSION => Ok(welcome),
        Some(Reply::Refused(refusal)) => Err(refusal.into()),
        _ => Err(AttemptError::Lost { reason: "the peer does not keep to the protocol".to_owned() }),
    })
}

/// Between a half and the whole of `pause`, so that clients that lost one peer do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(f64::from(random_u32()) / f64::from(u32::MAX) / 2.0)
}

fn random_u32() -> u32 {
    random_u64() as u32
}

/// Random bits from the operating system. Where it has none the client cannot do TLS either.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
