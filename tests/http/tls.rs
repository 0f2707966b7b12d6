//! TLS, and addresses that other machines reach.
use crate::client::{answer, raw, request};
use crate::peer::{Peer, config};
use conveyor::identity::IdentityFiles;
use conveyor::identity::{Rights, Validity, create_cluster, issue_client, issue_peer, make_local_token};
use conveyor::server::Server;
use conveyor::server::config::HttpCert;
use std::net::SocketAddr;
use std::process::Command;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_curl_appends_and_reads_with_both_versions_of_http() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let peer = Peer::start_with(|config| config.http_cert = HttpCert::Peer).await;
    let url = format!("https://{}/v1/topics/jobs/entries", peer.address);
    for version in ["--http1.1", "--http2"] {
        let bearer = format!("Authorization: Bearer {}", peer.token);
        // The peer's certificate names no host.
        let args = [
            "-sS",
            "--insecure",
            version,
            "-H",
            &bearer,
            "-w",
            "%{http_version} %{http_code}",
            "-o",
            "/dev/null",
        ];
        let curl = |more: Vec<String>| {
            let args: Vec<String> = args.iter().map(ToString::to_string).chain(more).collect();
            tokio::task::spawn_blocking(move || Command::new("curl").args(args).output().unwrap())
        };
        let told = curl(vec!["-d".to_owned(), version.to_owned(), url.clone()]).await.unwrap();
        let (out, log) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(out.ends_with(" 201"), "{out} {log}");
        assert_eq!(out.starts_with('2'), version == "--http2", "{out}");
    }
    peer.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_other_machines_reach_it_without_tls_the_interface_is_closed_and_the_pages_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.http = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    let server = Server::start(&config).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.http().unwrap().port()));
    let token = std::fs::read_to_string(config.data_dir.join("identity/client.token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let asked = request("GET", "/v1/topics", &[("authorization", &bearer)], 0);
    raw(address, asked.as_bytes()).await.is_problem("closed");
    assert_eq!(raw(address, request("GET", "/livez", &[], 0).as_bytes()).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_at_one_peer_is_good_at_every_peer_of_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let now_s = crate::peer::now_s();
    let validity = Validity::days(now_s, 10);
    let admin = dir.path().join("admin");
    let ca = create_cluster(&admin, validity).unwrap();
    let files = IdentityFiles::of(&admin);
    issue_client(&ca, &Rights::all(), validity, files.dir()).unwrap();
    make_local_token(&files, now_s).unwrap();
    let token = std::fs::read_to_string(files.client_token()).unwrap();
    for name in ["alpha", "beta"] {
        let mut config = config(&dir);
        config.data_dir = dir.path().join(name);
        let to = IdentityFiles::of(&config.data_dir);
        issue_peer(&ca, &name.parse_name(), validity, to.dir()).unwrap();
        let server = Server::start(&config).await.unwrap();
        let bearer = format!("Bearer {}", token.trim());
        let asked = request("GET", "/v1/status", &[("authorization", &bearer)], 0);
        let mut socket = tokio::net::TcpStream::connect(server.http().unwrap()).await.unwrap();
        socket.write_all(asked.as_bytes()).await.unwrap();
        assert_eq!(answer(socket).await.json()["name"], name);
        server.stop().await;
    }
}

trait ParseName {
    fn parse_name(&self) -> conveyor::base::PeerName;
}

impl ParseName for str {
    fn parse_name(&self) -> conveyor::base::PeerName {
        conveyor::base::PeerName::new(self).unwrap()
    }
}
