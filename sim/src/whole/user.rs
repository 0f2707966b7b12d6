//! A host with a program that uses the client library.
use crate::cluster::life::{Life, LifeSpawn};
use crate::cluster::surroundings::SimClock;
use crate::random::Random;
use crate::whole::host::POLLS_MAX;
use crate::whole::socket::{CertificateClock, SimRuntime, SimSocket};
use crate::whole::{Stack, address};
use conveyor::client::{Client, Credentials, Environment};
use conveyor::runtime::Spawn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A host of a client.
pub struct User {
    /// Everything.
    pub stack: Arc<Stack>,
    /// Behind its choices.
    pub random: Random,
    /// Its address.
    pub host: IpAddr,
    /// Its tasks.
    pub life: Arc<Life>,
    credentials: Credentials,
    /// The peers that it is told of, in the order in which it tries them.
    peers: Vec<usize>,
    ports: u16,
    /// How long the library tries to reach a peer.
    pub patience: Duration,
}

impl User {
    /// A host whose program is told of these peers.
    pub fn new(stack: &Arc<Stack>, peers: Vec<usize>) -> Self {
        let (host, credentials) = stack.new_client();
        let life = Life::polled(stack.recorder.clone(), POLLS_MAX);
        let random = stack.fork();
        let patience = Duration::from_secs(60);
        Self { stack: stack.clone(), random, host, life, credentials, peers, ports: 10_000, patience }
    }

    /// A client; one try for each peer.
    pub async fn try_connect(&mut self) -> Result<Client, String> {
        self.ports += 1;
        let socket = SimSocket::bind(&self.stack.udp, SocketAddr::new(self.host, self.ports));
        let clock = SimClock::new(self.stack.recorder.clone());
        let environment = Environment {
            runtime: Arc::new(SimRuntime(self.life.clone())),
            socket: Some(socket.expect("a port of its own")),
            clock: Arc::new(CertificateClock(Arc::new(clock))),
        };
        let builder = Client::builder()
            .addresses(self.peers.iter().map(|peer| address(*peer).to_string()))
            .credentials(self.credentials.clone())
            .give_up_after(self.patience)
            .environment(environment);
        builder.connect().await.map_err(|error| error.to_string())
    }

    /// A client, as soon as one can be had.
    pub async fn connect(&mut self) -> Client {
        loop {
            match self.try_connect().await {
                Ok(client) => return client,
                Err(why) => self.stack.recorder.note(format_args!("{} cannot connect: {why}", self.host)),
            }
            let pause = self.random.between(100, 2_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Runs something beside, for as long as the host lives.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        LifeSpawn(self.life.clone()).spawn(Box::pin(task));
    }
}

impl User {
    /// Runs its program, for as long as the host lives.
    pub fn spawn_self<F: Future<Output = ()> + Send + 'static>(self, program: impl FnOnce(Self) -> F) {
        let life = self.life.clone();
        LifeSpawn(life).spawn(Box::pin(program(self)));
    }
}
