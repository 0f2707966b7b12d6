//! Every relative link of the documents leads to a file that is there, and to a heading of it.
use crate::{expect_none, files, read, root};
use std::path::{Component, Path, PathBuf};

fn documents() -> Vec<String> {
    let mut documents = files(&["docs", "examples", ".github"], &[".md"]);
    documents.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(str::to_owned));
    documents
}

/// The targets of inline links, with their line, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut in_code) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in plain.split("](").skip(1) {
            found.push((index + 1, rest.split([')', ' ']).next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The anchors that the headings of a document get.
fn anchors(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if !in_code && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// `path` without `..` and `.`, relative to the top.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => (),
            other => out.push(other),
        }
    }
    out
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut findings = Vec::new();
    for document in documents() {
        let text = read(&document);
        for (line, link) in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { PathBuf::from(&document) } else { normal(&folder.join(file)) };
            if !root().join(&target).exists() {
                findings.push(format!("{document}:{line}: {link}: no such file"));
            } else if !anchor.is_empty()
                && !anchors(&read(&target.display().to_string())).contains(&anchor.to_owned())
            {
                findings.push(format!("{document}:{line}: {link}: no such heading"));
            }
        }
    }
    expect_none(findings);
}

#[test]
fn files_that_the_documents_name_are_there() {
    let mut findings = Vec::new();
    for document in documents() {
        for (index, line) in read(&document).lines().enumerate() {
            for name in line.split('`').skip(1).step_by(2) {
                let is_path =
                    ["src/", "docs/", "tests/", "examples/"].iter().any(|top| name.starts_with(top));
                let plain = name.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
                if is_path && plain && !root().join(name).exists() {
                    findings.push(format!("{document}:{}: `{name}` is not there", index + 1));
                }
            }
        }
    }
    expect_none(findings);
}
