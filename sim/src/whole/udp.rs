//! The network between simulated hosts: UDP as it is, which promises nothing.
//!
//! ```text
//! socket ──> too long, cut, lost: gone · clogged: held up · else behind what the way still carries, and then late
//!        ──> flight, by when it comes ──> tend ──> queue of the socket that has the address by then ──> quinn
//! ```
//!
//! One seeded generator decides, and one task moves packets, in order of time and then of sending. Each packet goes into the
//! hash over the run: when, from, to, how long, what is in it, and what became of it.
use crate::cluster::lock;
use crate::cluster::recorder::Recorder;
use crate::random::Random;
use crate::whole::weather::{Way, Weather};
use conveyor::base::Digest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of a packet that gets through: an Ethernet frame without the headers of IPv4 and UDP.
const MTU: usize = 1_472;
/// Packets that wait at a socket.
const QUEUE_MAX: usize = 1_024;
/// Packets that a clogged way holds up, over all ways.
const HELD_MAX: usize = 4_096;
/// How far a way may be behind before it drops what comes.
const BEHIND_MAX: Duration = Duration::from_millis(250);

/// The network.
pub struct Udp {
    recorder: Arc<Recorder>,
    is_detailed: bool,
    state: Mutex<State>,
    came: Notify,
}

struct State {
    random: Random,
    weather: Weather,
    /// By the addresses that hosts have themselves.
    sockets: BTreeMap<SocketAddr, Bound>,
    /// Which of those packets for an address go to, where that is another one.
    behind: BTreeMap<SocketAddr, SocketAddr>,
    flight: BTreeMap<(Instant, u64), Packet>,
    held: VecDeque<Packet>,
    closed: BTreeSet<Way>,
    clogged: BTreeSet<Way>,
    /// How often ways were closed, and clogged.
    closures: (u64, u64),
    /// Until when each way is busy with what was sent before.
    busy: BTreeMap<Way, Instant>,
    counts: Counts,
    sent: u64,
    bound: u64,
    ports: u16,
}

/// A socket's queue.
struct Bound {
    number: u64,
    /// The address that others see.
    seen_as: SocketAddr,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
}

struct Packet {
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What became of packets so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Taken by a socket's queue.
    pub arrived: u64,
    /// Sent and gone, for whatever reason.
    pub lost: u64,
}

impl Udp {
    /// A network without hosts. With `is_detailed` each packet has a line of its own in the trace.
    pub fn new(recorder: Arc<Recorder>, random: Random, is_detailed: bool) -> Arc<Self> {
        let state = State {
            random,
            weather: Weather::FAIR,
            sockets: BTreeMap::new(),
            behind: BTreeMap::new(),
            flight: BTreeMap::new(),
            held: VecDeque::new(),
            closed: BTreeSet::new(),
            clogged: BTreeSet::new(),
            closures: (0, 0),
            busy: BTreeMap::new(),
            counts: Counts::default(),
            sent: 0,
            bound: 0,
            ports: 40_000,
        };
        Arc::new(Self { recorder, is_detailed, state: Mutex::new(state), came: Notify::new() })
    }

    /// Moves packets for as long as the run lasts.
    pub async fn tend(self: Arc<Self>) {
        loop {
            let next = lock(&self.state).flight.keys().next().map(|(at, _)| *at);
            match next {
                None => self.came.notified().await,
                Some(at) if at <= Instant::now() => self.deliver(),
                Some(at) => tokio::select! { biased;
                    () = self.came.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Opens a socket. A dead one at the same address was removed before.
    pub(super) fn bind(&self, address: SocketAddr) -> io::Result<u64> {
        let mut state = lock(&self.state);
        if state.sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.bound += 1;
        let number = state.bound;
        let bound = Bound { number, seen_as: address, queue: VecDeque::new(), waker: None };
        state.sockets.insert(address, bound);
        state.behind.insert(address, address);
        Ok(number)
    }

    /// Closes a socket, unless another one has the address by now.
    pub(super) fn unbind(&self, address: SocketAddr, number: u64) {
        let mut state = lock(&self.state);
        if state.sockets.get(&address).is_some_and(|bound| bound.number == number) {
            state.remove(address);
        }
    }

    /// Removes all sockets of a host at once: what its tasks still send goes nowhere.
    pub fn kill(&self, host: IpAddr) {
        let mut state = lock(&self.state);
        let dead: Vec<SocketAddr> =
            state.sockets.keys().filter(|address| address.ip() == host).copied().collect();
        dead.into_iter().for_each(|address| state.remove(address));
    }

    /// From now on others see what a host's sockets send as coming from another port, as behind a router that forgot them; what
    /// is sent to the port before goes nowhere.
    pub fn rebind(&self, host: IpAddr) {
        let mut state = lock(&self.state);
        let own: Vec<SocketAddr> =
            state.sockets.keys().filter(|address| address.ip() == host).copied().collect();
        for address in own {
            state.ports += 1;
            let seen_as = SocketAddr::new(host, state.ports);
            if let Some(bound) = state.sockets.get_mut(&address) {
                let before = std::mem::replace(&mut bound.seen_as, seen_as);
                state.behind.remove(&before);
                state.behind.insert(seen_as, address);
            }
        }
    }

    /// How packets fare from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.recorder.note(format_args!("{weather}"));
        lock(&self.state).weather = weather;
    }

    /// Closes these ways, so that what is on them is lost, and opens all others. Answers what to open them with again.
    pub fn close(&self, ways: BTreeSet<Way>) -> u64 {
        let mut state = lock(&self.state);
        state.closed = ways;
        state.closures.0 += 1;
        state.closures.0
    }

    /// Opens what was closed under this number, unless others were closed since; says whether it did.
    pub fn open(&self, number: u64) -> bool {
        let is_last = lock(&self.state).closures.0 == number;
        if is_last {
            self.close(BTreeSet::new());
        }
        is_last
    }

    /// On these ways, and on no others, packets are held up; those that were on others come now. Answers what to let them
    /// through with again.
    pub fn clog(&self, ways: BTreeSet<Way>) -> u64 {
        let mut state = lock(&self.state);
        state.clogged = ways;
        let held = std::mem::take(&mut state.held);
        for packet in held {
            self.put(&mut state, packet, Duration::ZERO);
        }
        state.closures.1 += 1;
        let number = state.closures.1;
        drop(state);
        self.came.notify_one();
        number
    }

    /// Lets through what was clogged under this number, unless others were since; says whether it did.
    pub fn unclog(&self, number: u64) -> bool {
        let is_last = lock(&self.state).closures.1 == number;
        if is_last {
            self.clog(BTreeSet::new());
        }
        is_last
    }

    /// What became of packets so far.
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }

    /// Puts a packet of the socket `number` at `from` on its way.
    pub(super) fn send(&self, from: SocketAddr, number: u64, to: SocketAddr, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let Some(bound) = state.sockets.get(&from).filter(|bound| bound.number == number) else { return };
        let from = bound.seen_as;
        state.sent += 1;
        state.counts.sent += 1;
        let packet = Packet { number: state.sent, from, to, bytes: bytes.to_vec() };
        self.note_sent(&packet);
        let weather = state.weather;
        let is_lost = state.random.chance(weather.lost) || bytes.len() > MTU;
        let Some(behind) = state.carry(packet.way(), bytes.len()).filter(|_| !is_lost) else {
            return self.lose(&mut state, &packet, "lost");
        };
        if state.random.chance(weather.doubled) {
            let late = state.late();
            let again = Packet { number: packet.number, from, to, bytes: packet.bytes.clone() };
            self.put(&mut state, again, behind + late);
        }
        let late = state.late();
        self.put(&mut state, packet, behind + late);
        drop(state);
        self.came.notify_one();
    }

    fn put(&self, state: &mut State, packet: Packet, late: Duration) {
        if state.clogged.contains(&packet.way()) {
            if state.held.len() < HELD_MAX {
                return state.held.push_back(packet);
            }
            return self.lose(state, &packet, "lost before a clog");
        }
        state.sent += 1;
        let key = (Instant::now() + late, state.sent);
        state.flight.insert(key, packet);
    }

    /// Hands over what is due.
    fn deliver(&self) {
        let mut state = lock(&self.state);
        let (now, mut awake) = (Instant::now(), Vec::new());
        while let Some(first) = state.flight.first_entry().filter(|first| first.key().0 <= now) {
            let packet = first.remove();
            let is_closed = state.closed.contains(&packet.way());
            let socket = state.behind.get(&packet.to).copied();
            let socket = socket.and_then(|socket| state.sockets.get_mut(&socket));
            match socket.filter(|socket| !is_closed && socket.queue.len() < QUEUE_MAX) {
                Some(socket) => {
                    awake.extend(socket.waker.take());
                    self.note(b"+", &packet, "arrives");
                    socket.queue.push_back((packet.from, packet.bytes));
                    state.counts.arrived += 1;
                }
                None => self.lose(&mut state, &packet, "finds nobody"),
            }
        }
        drop(state);
        awake.into_iter().for_each(Waker::wake);
    }

    /// The oldest packet of a socket; without one, `waker` is woken by the next. A dead socket never gets any.
    pub(super) fn take(&self, at: SocketAddr, number: u64, waker: &Waker) -> Option<(SocketAddr, Vec<u8>)> {
        let mut state = lock(&self.state);
        let bound = state.sockets.get_mut(&at).filter(|bound| bound.number == number)?;
        let packet = bound.queue.pop_front();
        if packet.is_none() {
            bound.waker = Some(waker.clone());
        }
        packet
    }

    fn lose(&self, state: &mut State, packet: &Packet, why: &str) {
        state.counts.lost += 1;
        self.note(b"-", packet, why);
    }

    fn note_sent(&self, packet: &Packet) {
        let digest = Digest::of(&packet.bytes);
        let told = format!("{} {} {}", packet.from, packet.to, packet.bytes.len());
        self.recorder.absorb(&[told.as_bytes(), &digest.0[..16]].concat());
        self.note(b">", packet, "leaves");
    }

    fn note(&self, kind: &[u8], packet: &Packet, what: &str) {
        let at = self.recorder.elapsed_ms().to_le_bytes();
        self.recorder.absorb(&[kind, &at, &packet.number.to_le_bytes()].concat());
        if self.is_detailed {
            let Packet { number, from, to, bytes } = packet;
            let bytes = bytes.len();
            self.recorder.note(format_args!("packet {number} of {bytes} bytes from {from} to {to} {what}"));
        }
    }
}

impl State {
    fn remove(&mut self, address: SocketAddr) {
        if let Some(bound) = self.sockets.remove(&address) {
            self.behind.remove(&bound.seen_as);
        }
    }

    /// How long a packet of so many bytes waits for what its way still carries; `None` where that is too much, or it is closed.
    fn carry(&mut self, way: Way, bytes: usize) -> Option<Duration> {
        let now = Instant::now();
        let free = self.busy.get(&way).copied().unwrap_or(now).max(now);
        if free - now > BEHIND_MAX || self.closed.contains(&way) {
            return None;
        }
        let free = free + Duration::from_micros(bytes as u64 * 1_000_000 / self.weather.bytes_per_s);
        self.busy.insert(way, free);
        Some(free - now)
    }

    /// How long a packet takes, beside that.
    fn late(&mut self) -> Duration {
        let Weather { latency_ms, jitter_ms, swapped, .. } = self.weather;
        // Who comes much later than the others lets those by that were sent behind it.
        let more_ms = if self.random.chance(swapped) { self.random.below(4 * (latency_ms + 5)) } else { 0 };
        Duration::from_millis(latency_ms + self.random.below(jitter_ms + 1) + more_ms)
    }
}

impl Packet {
    fn way(&self) -> Way {
        (self.from.ip(), self.to.ip())
    }
}
