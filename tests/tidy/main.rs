//! The house rules that a compiler does not keep: layers, links, lengths, words, licences.
//!
//! Each check reads the project as it stands and compares it with what a document says, so that the document is
//! where a rule is looked up and changed: layers in docs/architecture.md, lengths in docs/style.md, licences and
//! banned crates in deny.toml. Run it alone with `cargo test --test tidy`.
#![allow(clippy::disallowed_methods, reason = "these tests read the project's own files")]

mod dependencies;
mod layers;
mod lengths;
mod links;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project as text. Panics with its name when it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below `dirs` (relative to the top) whose names end in one of `ends`, sorted, without build output.
fn files(dirs: &[&str], ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for dir in dirs {
        walk(&root().join(dir), ends, &mut found);
    }
    let shown = |path: PathBuf| path.strip_prefix(root()).unwrap_or(&path).display().to_string();
    let mut found: Vec<String> = found.into_iter().map(shown).collect();
    found.sort();
    found
}

fn walk(dir: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    const NOT_OURS: &[&str] = &["target", ".git", "corpus", "artifacts"];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(&path, ends, found);
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
}

/// The cells of every table row under the heading `heading` of a Markdown document, header rows left out.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let behind = text.lines().skip_while(|line| *line != heading).skip(1);
    let section = behind.take_while(|line| !line.starts_with('#'));
    let rows: Vec<Vec<String>> = section
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(rows.len() > 1, "{document} has no table under {heading:?}");
    rows[1..].to_vec()
}

/// What stands in `backticks` in a cell.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails with one line for each finding.
fn expect_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
