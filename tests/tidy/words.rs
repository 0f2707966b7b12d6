//! Words that belong to one machine or one unfinished evening, and so not to the project.
use crate::{expect_none, files, read};

// Put together here, so that this file does not find itself.
const ANYWHERE: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/", "wt"),
    concat!("C:", "\\"),
];
const IN_CODE: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

#[test]
fn nothing_in_the_project_belongs_to_one_machine() {
    let ends = [".rs", ".md", ".toml", ".sh", ".yml", "run"];
    expect_none(findings(files(&[""], &ends), ANYWHERE));
}

/// A test that only another test may run says which one: `#[ignore = "…: run by …"]`.
#[test]
fn no_test_is_put_aside() {
    let aside = findings(files(&["src", "sim", "tests", "examples"], &[".rs"]), &[concat!("#[ig", "nore")]);
    let is_run = |finding: &String| {
        let (path, rest) = finding.split_once(':').unwrap_or_default();
        let line: usize = rest.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(1);
        read(path).lines().nth(line - 1).is_some_and(|line| line.contains("run by "))
    };
    expect_none(aside.into_iter().filter(|finding| !is_run(finding)).collect());
}

#[test]
fn no_code_waits_to_be_finished() {
    expect_none(findings(files(&["src", "sim", "tests", "examples"], &[".rs"]), IN_CODE));
}

fn findings(paths: Vec<String>, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (index, line) in read(&path).lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{path}:{}: {word}", index + 1));
            }
        }
    }
    found
}
