//! One peer on a disk in memory, on any free port, with a CA of its own.
use conveyor::api::rpc::Rpc;
use conveyor::base::{PeerName, TopicName};
use conveyor::client::{Client, Credentials, Item, Reader};
use conveyor::disk::{DiskControl, IoExec, Job, Lane, MemDisk, ThreadLanes};
use conveyor::identity::trust::ClusterTrust;
use conveyor::identity::{Ca, Rights, Role, Validity};
use conveyor::net::{Counters, NetConfig, NetEnv, Services, open, serve};
use conveyor::node::NodeConfig;
use conveyor::runtime::{Alone, Env, Handle, RuntimeConfig, SystemClock, SystemEntropy, TokioSpawn, start};
use quinn::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix seconds now.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub struct Peer {
    pub ca: Ca,
    pub credentials: Credentials,
    pub handle: Handle,
    pub counters: Arc<Counters>,
    pub address: SocketAddr,
    /// What goes wrong on its disk.
    pub disk: DiskControl,
    config: NetConfig,
    endpoint: Endpoint,
}

/// Lanes in which each step takes a while.
struct SlowSteps(ThreadLanes, Duration);

impl IoExec for SlowSteps {
    fn run(&self, lane: Lane, job: Job) {
        let pause = if lane == Lane::Sync { self.1 } else { Duration::ZERO };
        let slow = move || {
            std::thread::sleep(pause);
            job();
        };
        self.0.run(lane, Box::new(slow));
    }
}

impl Peer {
    pub fn start() -> Self {
        Self::start_with(NetConfig::default())
    }

    /// One whose disk takes so long for each step, as a real one does.
    pub fn start_slow(pause: Duration) -> Self {
        Self::start_on(NetConfig::default(), Arc::new(SlowSteps(ThreadLanes::start(2).unwrap(), pause)))
    }

    pub fn start_with(config: NetConfig) -> Self {
        Self::start_on(config, Arc::new(ThreadLanes::start(2).unwrap()))
    }

    fn start_on(config: NetConfig, io: Arc<dyn IoExec>) -> Self {
        let validity = Validity::days(now_s(), 10);
        let ca = Ca::create(validity).unwrap();
        let name = PeerName::new("alpha").unwrap();
        let issued = ca.issue(&Role::Peer { name: name.clone() }, validity).unwrap();
        let credentials = issued.credentials(ca.certificate()).unwrap();
        let mut node = NodeConfig::new(ca.cluster(), credentials.certificate().key);
        node.replication.replicas_timeout_ms = 100;
        let certificate = Arc::from(issued.certificate.as_ref());
        let mut runtime = RuntimeConfig::new(node, name, certificate);
        runtime.log.journal_file_bytes = 4 << 20;
        runtime.trust = Arc::new(ClusterTrust::new(credentials.authority().clone()));
        let disk = MemDisk::new(1);
        let control = disk.control();
        let env = Env {
            peers: Arc::new(Alone),
            spawn: Arc::new(TokioSpawn),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            disk: Arc::new(disk),
            io,
        };
        let (handle, _) = start(env, credentials.signer().clone(), runtime).unwrap();
        let counters = Arc::new(Counters::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = listen(any, &credentials, &handle, &counters, &config);
        let address = endpoint.local_addr().unwrap();
        Self { ca, credentials, handle, counters, address, disk: control, config, endpoint }
    }

    /// Cuts all connections, as a crash of the network would, and listens again at once.
    pub async fn cut(&mut self) {
        self.endpoint.close(9u32.into(), b"cut");
        self.endpoint.wait_idle().await;
        let idle = std::mem::replace(&mut self.endpoint, quinn_client());
        drop(idle);
        for _ in 0..100 {
            if std::net::UdpSocket::bind(self.address).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.endpoint = listen(self.address, &self.credentials, &self.handle, &self.counters, &self.config);
    }

    pub fn client_credentials(&self, rights: Rights) -> Credentials {
        let issued = self.ca.issue(&Role::Client(rights), Validity::days(now_s(), 10)).unwrap();
        issued.credentials(self.ca.certificate()).unwrap()
    }

    pub async fn client(&self) -> Client {
        self.client_with(Rights::all()).await
    }

    pub async fn client_with(&self, rights: Rights) -> Client {
        let credentials = self.client_credentials(rights);
        Client::builder().address(self.address.to_string()).credentials(credentials).connect().await.unwrap()
    }
}

fn quinn_client() -> Endpoint {
    Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn listen(
    address: SocketAddr,
    credentials: &Credentials,
    handle: &Handle,
    counters: &Arc<Counters>,
    config: &NetConfig,
) -> Endpoint {
    let env = NetEnv::default();
    let rpc = Rpc::new(handle.clone(), counters.clone(), env.runtime.clone(), config);
    let services = Services::clients(rpc, 10_000);
    let port = open(address, credentials, &services.protocols(), config, &env).unwrap();
    let endpoint = port.endpoint.clone();
    let served = serve(port, services, config.clone(), counters.clone(), env.runtime);
    tokio::spawn(served);
    endpoint
}

pub fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// Payloads of the entries up to the end of the stream, or of `count` of them.
pub async fn payloads(reader: &mut Reader, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match reader.next().await {
            Some(Ok(Item::Entry(record))) => {
                seen.push(String::from_utf8(record.entry.payload.to_vec()).unwrap());
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => panic!("{error}"),
            None => break,
        }
    }
    seen
}
