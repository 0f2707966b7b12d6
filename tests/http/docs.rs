//! docs/http.md and docs/openapi.yaml against the interface itself.
use crate::peer::Peer;
use conveyor::api::http::problem::KINDS;
use conveyor::api::http::routes;
use std::collections::BTreeSet;
use std::path::Path;

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// Each path and method of the document, which has paths at two spaces and methods at four.
fn described() -> BTreeSet<(String, String)> {
    let (text, mut path, mut found) = (document("openapi.yaml"), String::new(), BTreeSet::new());
    let paths = text.split_once("\npaths:\n").unwrap().1.split("\ncomponents:").next().unwrap();
    for line in paths.lines() {
        if let Some(of) = line.strip_prefix("  /") {
            path = format!("/{}", of.trim_end_matches(':'));
        } else if let Some(method) = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '#'])) {
            let method = method.trim_end_matches(':').to_ascii_uppercase();
            if method != "PARAMETERS" {
                found.insert((path.clone(), method));
            }
        }
    }
    found
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let served: BTreeSet<(String, String)> = routes()
        .into_iter()
        .flat_map(|(path, methods)| methods.iter().map(move |method| (path.to_owned(), (*method).to_owned())))
        .collect();
    assert_eq!(described(), served);
}

#[test]
fn both_documents_have_the_table_of_problems() {
    let (openapi, page) = (document("openapi.yaml"), document("http.md"));
    let listed =
        openapi.split_once("Kinds of problems:").unwrap().1.split("\n\n").next().unwrap().to_owned() + "\n";
    for (kind, status, title) in KINDS {
        let row = format!("| `{kind}` | {status} | {title} |");
        assert!(page.contains(&row), "docs/http.md lacks {row}");
        assert!(listed.contains(&format!("conveyor:problem/{kind}\n")), "docs/openapi.yaml lacks {kind}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2);
    let kinds: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let told = |kind: &&str| KINDS.iter().any(|(of, ..)| of == kind);
    assert!(kinds.iter().filter(|kind| told(kind)).count() == KINDS.len(), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_of_the_table_is_served_and_each_other_is_refused() {
    let peer = Peer::start().await;
    for (path, methods) in routes() {
        let at = path
            .replace("{topic}", "jobs")
            .replace("{group}", "..")
            .replace("{log}", "x")
            .replace("{seq}", "1");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            // A word that nobody knows: nothing is done, but by what does not serve that method.
            let answer = peer.ask(method, &format!("{at}?nobody=knows"), &[], b"").await;
            let expected = if methods.contains(&method) { "malformed" } else { "method" };
            answer.is_problem(expected);
        }
    }
    peer.server.stop().await;
}

/// The lines of docs/http.md that begin with curl, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_page_work_when_pasted() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let page = document("http.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let peer = Peer::start().await;
    let data = peer.dir.path().join("data");
    let script: String = blocks.collect::<Vec<_>>().concat();
    let script = script
        .replace("127.0.0.1:8011", &peer.address.to_string())
        .replace("~/.local/share/conveyor", &data.display().to_string());
    let program = Path::new(env!("CARGO_BIN_EXE_conveyor")).parent().unwrap().display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let run = move || {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &format!("set -e\n{script}")]).env("PATH", path);
        bash.env("CONVEYOR_DATA_DIR", data).output().unwrap()
    };
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    let (told, log) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{told}\n{log}");
    for words in ["\"payload\":\"hello\"", "\"count\":2", "\"at_end\":true", "conveyor:problem/unauthorized"]
    {
        assert!(told.contains(words), "{words}\n{told}\n{log}");
    }
    peer.server.stop().await;
}
