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
