//! Peers that are removed for good, as an administrator does it.
use crate::peers::{Peers, good, lines, told, wait_until};

/// What a command that removes says.
fn removed(peers: &Peers, at: &str, args: &[&str]) -> serde_json::Value {
    let args = [&["peer", "remove", "--yes", "-o", "json"], args].concat();
    lines(&peers.says(at, &args)).remove(0)
}

#[test]
fn what_a_removed_peer_alone_had_is_set_aside_and_comes_back_as_new_entries() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma"]);
    peers.append("gamma", &["jobs", "--durability", "replicas=3"], "shared\n");
    peers.append("gamma", &["old", "--durability", "replicas=3"], "of the day before\n");
    ["alpha", "beta"].iter().for_each(|name| peers.kill(name));
    peers.append("gamma", &["jobs"], "alone\nand again\n");
    peers.kill("gamma");
    ["alpha", "beta"].iter().for_each(|name| peers.start(name, &[]));
    peers.until_connected("alpha", 1);

    let plan = peers.says("alpha", &["peer", "remove", "gamma", "--successor", "beta", "--dry-run"]);
    assert!(plan.contains("asked       alpha, beta") && plan.contains("nothing was done"), "{plan}");
    assert!(plan.contains("of jobs counts what it wrote up to entry 1"), "{plan}");
    let done = removed(&peers, "alpha", &["gamma", "--successor", "beta"]);
    assert_eq!((&done["is_done"], &done["successor"]), (&true.into(), &"beta".into()), "{done}");
    assert_eq!(done["asked"], serde_json::json!(["alpha", "beta"]), "{done}");
    assert_eq!((&done["not_asked"], &done["not_told"]), (&serde_json::json!([]), &serde_json::json!([])));

    // It comes back with a certificate that is as good as before, hears of it, and stays out.
    peers.start("gamma", &[]);
    wait_until("it hears of its removal", || {
        peers.log("gamma").contains("this peer was removed from the cluster")
    });
    wait_until("it sets aside what it alone has", || {
        let output = peers.run("gamma", &["peer", "set-aside"]);
        String::from_utf8(output.stdout).unwrap() == told_aside(&peers)
    });
    let output = peers.run_with("gamma", &["append", "jobs"], "more\n");
    assert!(
        !output.status.success() && told(&output).contains("removed from the cluster"),
        "{}",
        told(&output)
    );
    peers.until_connected("alpha", 1);
    let members = peers.says("alpha", &["cluster", "members"]);
    assert!(!members.contains("gamma"), "{members}");

    let file = peers.path("kept.cvy").display().to_string();
    let export = ["export", "jobs", "--set-aside", "--file", &file];
    assert!(peers.says("gamma", &export).starts_with("2 entries in "));
    let as_they_are = peers.run("alpha", &["import", &file]);
    assert!(as_they_are.status.code() == Some(4) && told(&as_they_are).contains("--as-new"));
    peers.says("alpha", &["import", &file, "--as-new"]);
    for name in ["alpha", "beta"] {
        peers.until_holds(name, "jobs", &["shared", "alone", "and again"]);
    }
    // Its successor trims what it wrote, for all.
    peers.says("alpha", &["topic", "delete", "old"]);
    for name in ["alpha", "beta"] {
        wait_until("the successor trimmed it", || peers.run(name, &["read", "old"]).status.code() == Some(3));
    }
}

/// The line that tells of what gamma alone has.
fn told_aside(peers: &Peers) -> String {
    let asides = lines(&peers.says("gamma", &["peer", "set-aside", "-o", "json"]));
    let of_jobs: Vec<_> = asides.iter().filter(|aside| aside["topic"] == "jobs").collect();
    let [aside] = of_jobs[..] else { return String::from("nothing yet") };
    assert_eq!((&aside["first_seq"], &aside["next_seq"]), (&2.into(), &4.into()), "{aside}");
    format!("jobs  gamma: entries 2 to 3 of run {}\n", &aside["run"].as_str().unwrap()[..8])
}

#[test]
fn a_peer_that_runs_hears_of_its_removal_and_who_was_away_is_named() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma", "delta"]);
    peers.append("gamma", &["jobs", "--durability", "replicas=4"], "one\n");
    peers.signal("delta", "-INT");
    assert_eq!(peers.ended("delta"), Some(0));
    peers.until_connected("alpha", 2);
    let done = removed(&peers, "alpha", &["gamma", "--wait", "2s"]);
    let not_asked = done["not_asked"].as_array().unwrap();
    assert!(not_asked.len() == 1 && not_asked[0]["name"] == "delta", "{done}");
    wait_until("it takes nothing any more", || {
        let output = peers.run_with("gamma", &["append", "jobs"], "more\n");
        !output.status.success() && told(&output).contains("removed from the cluster")
    });
    for name in ["alpha", "beta"] {
        peers.until_connected(name, 1);
        peers.until_holds(name, "jobs", &["one"]);
    }
    // Whoever was away hears of it, and has no session with it either.
    peers.start("delta", &[]);
    peers.until_connected("delta", 2);
    let names = |printed: &str| -> Vec<String> {
        lines(printed).iter().map(|member| member["name"].as_str().unwrap().to_owned()).collect()
    };
    let members = names(&peers.says("delta", &["cluster", "members", "-o", "json"]));
    assert_eq!(members, ["alpha", "beta", "delta"]);
    peers.signal("gamma", "-INT");
    assert_eq!(peers.ended("gamma"), Some(0));
    let log = peers.log("gamma");
    assert!(log.contains("this peer was removed: what it has set aside may be nowhere else"), "{log}");
    assert!(!log.contains("another peer holds all that this one wrote"), "{log}");
}

#[test]
fn who_is_meant_has_to_be_clear_and_who_asks_an_administrator() {
    let peers = Peers::started(&["alpha", "beta"]);
    let refused = |args: &[&str]| {
        let output = peers.run("alpha", &[&["peer", "remove", "--yes"], args].concat());
        (output.status.code(), told(&output))
    };
    let (code, words) = refused(&["gamma"]);
    assert!(code == Some(3) && words.contains("no peer called gamma is known"), "{words}");
    let (code, words) = refused(&["alpha"]);
    assert!(code == Some(4) && words.contains("--connect another"), "{words}");
    let (code, words) = refused(&["beta", "--successor", "beta"]);
    assert!(code == Some(2) && words.contains("cannot succeed itself"), "{words}");
    let out = peers.path("worker");
    let identity = peers.data_dir("alpha");
    let mut cert = std::process::Command::new(env!("CARGO_BIN_EXE_conveyor"));
    cert.args(["cert", "client", "--rights", "read,write,admin", "--prefix", "jobs/"]);
    good(&cert.arg("--data-dir").arg(identity).arg("--out").arg(&out).output().unwrap());
    let file = |name: &str| out.join(name).display().to_string();
    let mut as_worker = std::process::Command::new(env!("CARGO_BIN_EXE_conveyor"));
    as_worker.args(["peer", "remove", "beta", "--yes", "--connect", &peers.address("alpha")]);
    as_worker.args(["--cert", &file("client.crt"), "--key", &file("client.key"), "--ca", &file("ca.crt")]);
    let output = as_worker.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
}
