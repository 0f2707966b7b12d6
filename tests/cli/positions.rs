//! Positions that `read` and `tail` keep in a file.
use crate::Peer;

#[test]
fn a_cursor_file_leaves_its_neighbours_alone() {
    let peer = Peer::start();
    let path = |name: &str| peer.dir.path().join(name);
    peer.says(&["append", "jobs"], "one\n");
    std::fs::write(path("worker.new"), "mine").unwrap();
    let read = |name: &str| peer.says(&["read", "jobs", "--cursor-file", path(name).to_str().unwrap()], "");
    assert_eq!(read("worker.1"), "one\n");
    assert_eq!(read("worker"), "one\n");
    peer.says(&["append", "jobs"], "two\n");
    assert_eq!((read("worker.1").as_str(), read("worker.2").as_str()), ("two\n", "one\ntwo\n"));
    assert_eq!(std::fs::read_to_string(path("worker.new")).unwrap(), "mine");
    let entries = std::fs::read_dir(peer.dir.path()).unwrap();
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let ours: Vec<&String> = names.iter().filter(|name| name.contains("worker")).collect();
    assert_eq!(ours.len(), 4, "nothing else stays there: {names:?}");
}
