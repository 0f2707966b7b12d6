//! The tour in README.md, run line by line against the real program.
#![allow(clippy::disallowed_methods, reason = "this test starts the program and looks at files")]

use std::path::Path;
use std::process::Command;

/// The lines of all `sh` blocks, but for the first block's build, and with ports and directories of this test.
fn tour() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 5, "the tour has its blocks");
    let program = Path::new(env!("CARGO_BIN_EXE_conveyor")).parent().unwrap().display().to_string();
    blocks
        .concat()
        .replace("cargo build --release\n", "")
        .replace("$PWD/target/release", &program)
        .replace("127.0.0.1:8019", "127.0.0.1:0")
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
    assert!(told.contains("\"key\":\"anna\"") && told.trim_end().ends_with("all good"), "{told}\n{log}");
}
