//! Appends that other peers are to hold: who does, and what is said where too few do.
use crate::peers::{Peers, good, lines, told};

#[test]
fn a_receipt_names_all_who_hold_an_entry() {
    let peers = Peers::started(&["alpha", "beta", "gamma"]);
    let args = ["append", "jobs", "--durability", "replicas=3", "-o", "json"];
    let printed = good(&peers.run_with("beta", &args, "one\ntwo\n"));
    let members = lines(&peers.says("beta", &["cluster", "members", "-o", "json"]));
    for entry in lines(&printed) {
        let held_by = entry["held_by"].as_array().unwrap();
        let named: Vec<&str> = held_by.iter().map(|holder| holder["name"].as_str().unwrap()).collect();
        assert_eq!((named[0], named.len()), ("beta", 3), "who took it comes first: {named:?}");
        for holder in held_by {
            let is_it = |member: &&serde_json::Value| member["name"] == holder["name"];
            let member = members.iter().find(is_it).unwrap();
            assert_eq!((&member["peer"], &member["store"]), (&holder["peer"], &holder["store"]));
        }
        assert_eq!(entry["holders"].as_array().unwrap().len(), 2, "the others");
    }
    let alone = lines(&good(&peers.run_with("alpha", &["append", "jobs", "-o", "json"], "three\n")));
    assert_eq!(alone[0]["held_by"].as_array().unwrap().len(), 1);
}

#[test]
fn what_too_few_hold_in_time_is_told_with_its_ids_and_nobody_is_called_away() {
    let mut peers = Peers::started(&["alpha", "beta", "gamma"]);
    // Stopped with a word: who dies without one counts as connected for some seconds.
    peers.signal("gamma", "-INT");
    assert_eq!(peers.ended("gamma"), Some(0));
    peers.until_connected("alpha", 1);
    // Longer than the two seconds after which people are told what they wait for.
    let three = ["append", "jobs", "--durability", "replicas=3"];
    let output = peers.run_with("alpha", &three, "one\ntwo\n");
    let (printed, words) = (String::from_utf8(output.stdout.clone()).unwrap(), told(&output));
    assert_eq!((output.status.code(), printed.as_str()), (Some(7), ""), "{words}");
    assert!(!words.contains("no peer answers"), "{words}");
    assert!(words.contains("alpha answers, and has not confirmed yet"), "{words}");
    let ids: Vec<&str> =
        words.lines().filter_map(|line| line.split("stored, and not confirmed: ").nth(1)).collect();
    assert!(ids.len() == 2 && ids[0].starts_with("jobs/alpha."), "{words}");
    assert_eq!(peers.says("alpha", &[&["get"], &ids[..]].concat()), "one\ntwo\n");
    assert!(words.contains("2 of 3 peers hold it in time (beta too), and 2 could"), "{words}");
    let output = peers.run_with("alpha", &[&three[..], &["-o", "json"]].concat(), "three\n");
    let told = lines(&told(&output));
    let receipt = told.iter().find_map(|line| line.get("unconfirmed")).expect("the receipt so far");
    assert!(receipt["id"].as_str().unwrap().ends_with("/3"), "{receipt}");
    assert_eq!(receipt["held_by"][1]["name"], "beta");
    assert_eq!(told.last().unwrap()["exit"], 7);
}
