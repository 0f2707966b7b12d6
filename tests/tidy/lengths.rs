//! Files of one story and functions that fit the screen, or a reason.
//!
//! The reason stands in the table of docs/style.md, as `path` or `path::function`, or in the code directly above:
//! `// tidy: long because …` over a function, `// tidy: long file because …` anywhere in a file.
use crate::{expect_none, files, quoted, read, table};
use std::collections::BTreeSet;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 60;
const DOCUMENT: &str = "docs/style.md";
const HEADING: &str = "## What is longer, and why";
const FUNCTION_MARK: &str = concat!("// tidy: ", "long because ");
const FILE_MARK: &str = concat!("// tidy: ", "long file because ");

/// Every file and function that is past the comfortable length and has no reason of its own in the code.
fn long_without_mark() -> BTreeSet<String> {
    let mut long = BTreeSet::new();
    for path in files(&["src", "sim/src", "tests", "examples"], &[".rs"]) {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX && !text.contains(FILE_MARK) {
            long.insert(path.clone());
        }
        for (name, at, length) in functions(&lines) {
            if length > FUNCTION_LINES_MAX && !is_marked(&lines, at) {
                long.insert(format!("{path}::{name}"));
            }
        }
    }
    long
}

/// Name, first line and length of each function. The code is formatted, so a function ends with the first `}` that
/// stands as far to the right as its first line.
fn functions(lines: &[&str]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = function_name(code) else { continue };
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[at..].iter().position(|l| *l == end).map_or(1, |count| count + 1);
        let is_one_line = line.ends_with([';', '}']);
        found.push((name, at, if is_one_line { 1 } else { length }));
    }
    found
}

fn function_name(code: &str) -> Option<String> {
    const BEFORE: &[&str] =
        &["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern", "\"C\""];
    let (before, behind) = code.split_once("fn ")?;
    if !before.split_whitespace().all(|word| BEFORE.contains(&word)) {
        return None;
    }
    let name: String = behind.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Whether the comments and attributes directly above line `at` hold the reason.
fn is_marked(lines: &[&str], at: usize) -> bool {
    let above = lines[..at].iter().rev().map(|line| line.trim_start());
    let mut attached = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    attached.any(|line| line.starts_with(FUNCTION_MARK))
}

#[test]
fn what_is_long_has_its_reason_written_down() {
    let explained: BTreeSet<String> =
        table(DOCUMENT, HEADING).iter().flat_map(|cells| quoted(&cells[0])).collect();
    let long = long_without_mark();
    let unexplained = long.difference(&explained).map(|what| {
        format!("{what} is past {FILE_LINES_MAX} lines a file or {FUNCTION_LINES_MAX} a function: split it, or say why in {DOCUMENT}")
    });
    let stale =
        explained.difference(&long).map(|what| format!("{DOCUMENT} excuses {what}, which is not long"));
    expect_none(unexplained.chain(stale).collect());
}
