//! The programs in examples/ do what they say, against the program that they are built beside.
#![allow(clippy::disallowed_methods, reason = "this test starts programs and waits for them")]
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `cargo test` builds the examples before it runs any test, unless one test alone is asked for.
fn example(name: &str, data: &Path) -> Command {
    let beside = Path::new(env!("CARGO_BIN_EXE_conveyor")).parent().unwrap();
    let path: PathBuf = beside.join("examples").join(name);
    assert!(path.exists(), "{} is missing: `cargo build --examples` makes it", path.display());
    let mut command = Command::new(path);
    command.arg("--data-dir").arg(data).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

fn said(name: &str, data: &Path) -> String {
    let output = example(name, data).output().unwrap();
    assert!(output.status.success(), "{name}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_example_does_what_its_first_line_says() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_conveyor"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--http", "none", "--log-level", "warn", "--data-dir"]);
    let peer = Running(serve.arg(&data).spawn().unwrap());
    while !data.join("run.json").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut tail = Running(example("tail", &data).spawn().unwrap());
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap());
    let first = std::thread::spawn(move || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        (line, lines)
    });
    // It follows from now on, and does not say when it has begun to.
    while !first.is_finished() {
        let said = said("append_and_read", &data);
        assert!(said.starts_with("appended number ") && said.contains("  hello\n"), "{said}");
        assert!(said.contains("  good evening\n") && said.contains("entries with that key: "), "{said}");
    }
    let (line, mut lines) = first.join().unwrap();
    assert!(line.starts_with("example/greetings/"), "{line}");
    let stopped = Command::new("kill").arg("-INT").arg(tail.0.id().to_string()).status().unwrap();
    assert!(stopped.success() && tail.0.wait().unwrap().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    assert!(rest.contains("go on with: conveyor tail example/greetings --from cv1_"), "{rest}");
    assert_eq!(said("pipeline", &data), "100000 entries are on the peer's disk\n");
    drop(peer);
}
