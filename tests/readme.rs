//! The tour in README.md, run line by line against the real program.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this test starts the program, looks at files, and finds free ports"
)]

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

/// The lines of all `sh` blocks, but for the first block's build, and with ports and directories of this test.
fn tour() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 5, "the tour has its blocks");
    // Held together, so that they differ; nobody else takes them in the moment after.
    let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let free = sockets.map(|socket| socket.local_addr().unwrap().to_string());
    let program = Path::new(env!("CARGO_BIN_EXE_conveyor")).parent().unwrap().display().to_string();
    blocks
        .concat()
        .replace("cargo build --release\n", "")
        .replace("$PWD/target/release", &program)
        .replace("127.0.0.1:8019", "127.0.0.1:0")
        .replace("127.0.0.1:8031", &free[0])
        .replace("127.0.0.1:8032", &free[1])
        .replace("127.0.0.1:8033", &free[2])
}

#[test]
fn every_line_of_the_tour_works_when_pasted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), dir.path().join("Cargo.lock"))
        .unwrap();
    // As at a prompt: job control, and every line that fails is told. `kill` and `wait` on a job that was killed are
    // the two whose answer is not 0 by design.
    let script = format!(
        "set -m\ntrap 'echo \"FAILED: $BASH_COMMAND\"; kill %1' ERR\n{}",
        tour().replace("; wait", "; wait || true")
    );
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("TMPDIR", dir.path())
        .env_remove("CONVEYOR_CONNECT")
        .output()
        .unwrap();
    let (told, log) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && !told.contains("FAILED"), "{told}\n{log}");
    for line in ["hello", "servus", "ciao", "topic       jobs", "keeps       the last 7 d"] {
        assert!(told.lines().any(|said| said == line), "{line}\n{told}\n{log}");
    }
    for words in ["\"key\":\"anna\"", "all good\n", "alpha", "everywhere\nmeanwhile"] {
        assert!(told.contains(words), "{words}\n{told}\n{log}");
    }
}

#[test]
fn the_settings_of_the_example_for_systemd_are_legal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |name: &str| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_conveyor"));
        check.args(["config", "check", "-c"]).arg(root.join("examples/deploy").join(name)).output().unwrap()
    };
    let checked = check("conveyor.toml");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("peers.join = \"10.0.0.1:8011,10.0.0.2:8011,10.0.0.3:8011\""), "{told}");
    assert!(!check("conveyor.service").status.success(), "what is no settings is not taken for some");
}

fn deployed(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("examples/deploy").join(name)).unwrap()
}

/// The words of a list in brackets: `["serve", "--listen", "0.0.0.0:8011"]`.
fn words(list: &str) -> Vec<String> {
    let inner = list.split_once('[').unwrap().1.rsplit_once(']').unwrap().0;
    inner.split(", ").map(|word| word.trim().trim_matches('"').to_owned()).collect()
}

/// What the examples start, each as the words behind `conveyor`.
fn commands() -> Vec<Vec<String>> {
    let (unit, docker, compose) =
        (deployed("conveyor.service"), deployed("Dockerfile"), deployed("compose.yaml"));
    let split = |command: &str| command.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut commands: Vec<Vec<String>> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/conveyor "))
        .map(split)
        .collect();
    commands.extend(docker.lines().filter_map(|line| line.strip_prefix("CMD ")).map(words));
    commands.extend(compose.lines().filter_map(|line| line.trim().strip_prefix("command: [")).map(|rest| {
        // `- |` is a script, whose lines come below.
        words(&format!("[{rest}"))
    }));
    commands.extend(compose.lines().filter_map(|line| line.trim().strip_prefix("conveyor ")).map(split));
    commands
}

#[test]
fn every_command_of_the_examples_for_deployment_is_one() {
    let commands = commands();
    assert_eq!(commands.len(), 6, "{commands:?}");
    for words in commands {
        let known = |words: &[String]| {
            let asked =
                Command::new(env!("CARGO_BIN_EXE_conveyor")).args(words).arg("--help").output().unwrap();
            asked.status.success()
        };
        assert!(known(&words), "{words:?}");
        let wrong = [&words[..], &["--no-such-flag".to_owned()]].concat();
        assert!(!known(&wrong), "what is no flag is noticed");
    }
}

#[test]
fn the_unit_for_systemd_says_what_systemd_knows() {
    let unit = deployed("conveyor.service");
    let known = [
        ("[Unit]", "Description After Wants"),
        (
            "[Service]",
            "ExecStart KillSignal TimeoutStopSec Restart RestartSec User StateDirectory StateDirectoryMode LimitNOFILE \
             NoNewPrivileges ProtectSystem ProtectHome PrivateTmp PrivateDevices RestrictAddressFamilies \
             CapabilityBoundingSet SystemCallFilter",
        ),
        ("[Install]", "WantedBy"),
    ];
    let mut section = "";
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            None => section = line,
            Some((key, _)) => {
                let keys = known.iter().find(|(name, _)| *name == section).map_or("", |(_, keys)| keys);
                assert!(keys.split_whitespace().any(|known| known == key), "{section}: {line}");
            }
        }
    }
    assert!(
        unit.contains("KillSignal=SIGINT\nTimeoutStopSec=60\n"),
        "a polite stop, and longer than peers.drain_ms"
    );
    let settings = deployed("conveyor.toml");
    assert!(
        settings.contains("data_dir = \"/var/lib/conveyor\"") && unit.contains("StateDirectory=conveyor\n")
    );
}

#[test]
fn the_three_peers_of_the_compose_file_join_one_another_and_each_keeps_its_own() {
    let compose = deployed("compose.yaml");
    let (services, volumes) =
        compose.split_once("\nservices:\n").unwrap().1.split_once("\nvolumes:\n").unwrap();
    let names = ["alpha", "beta", "gamma"];
    let join = names.map(|name| format!("{name}:8011")).join(",");
    assert!(compose.contains(&format!("\"--join\", \"{join}\"")), "{join}");
    let kept: Vec<&str> = volumes.lines().map(|line| line.trim().trim_end_matches(':')).collect();
    assert_eq!(kept, names);
    let mut ports = std::collections::BTreeSet::new();
    for name in names {
        let service = services.split_once(&format!("\n  {name}:\n")).unwrap().1;
        let service =
            service.split("\n  ").take_while(|line| line.starts_with("  ")).collect::<Vec<_>>().concat();
        assert!(
            service.contains("<<: *peer") && service.contains(&format!("[\"{name}:/data\"]")),
            "{service}"
        );
        let port = service.split_once("ports: [\"").unwrap().1.split_once(":8011/udp\"]").unwrap().0;
        assert!(ports.insert(port.to_owned()), "two at port {port}");
    }
    assert!(deployed("Dockerfile").contains("EXPOSE 8011/udp") && compose.contains("stop_grace_period: 60s"));
}
