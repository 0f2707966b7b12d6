//! A peer on any free port, and its clients.
use crate::client::{Answer, raw, request};
use conveyor::identity::token::{self, Claims};
use conveyor::identity::{Rights, load_local_client};
use conveyor::server::Server;
use conveyor::server::config::Config;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub struct Peer {
    pub server: Server,
    pub address: SocketAddr,
    /// What a first start left for the user of this machine.
    pub token: String,
    pub dir: TempDir,
}

pub fn config(dir: &TempDir) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config { data_dir: dir.path().join("data"), listen: any, http: Some(any), ..Config::default() }
}

impl Peer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(set: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        set(&mut config);
        let server = Server::start(&config).await.unwrap();
        let address = server.http().unwrap();
        let token = std::fs::read_to_string(config.data_dir.join("identity/client.token")).unwrap();
        Self { server, address, token: token.trim().to_owned(), dir }
    }

    /// A token for these rights.
    pub fn token(&self, rights: Rights) -> String {
        self.token_until(rights, now_s() + 1000)
    }

    pub fn token_until(&self, rights: Rights, until_s: u64) -> String {
        let admin = load_local_client(&self.dir.path().join("data")).unwrap();
        let cluster = admin.certificate().cluster;
        token::make(&admin, &Claims { cluster, client: "test".to_owned(), rights, until_s }).unwrap()
    }

    /// As the user of this machine.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask_as(&self.token, method, path, headers, body).await
    }

    pub async fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        let request = [request(method, path, &all, body.len()).as_bytes(), body].concat();
        raw(self.address, &request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body.as_bytes()).await
    }

    /// Appends a payload, and says its lasting id.
    pub async fn append(&self, topic: &str, payload: &str) -> String {
        let answer = self.post(&format!("/v1/topics/{topic}/entries"), payload).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

pub fn reader() -> Rights {
    Rights { read: true, ..Rights::default() }
}
