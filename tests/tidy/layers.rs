//! Layers point down: every `crate::` path against the table in docs/architecture.md.
use crate::{expect_none, files, quoted, read, table};
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = "docs/architecture.md";
const HEADING: &str = "## Layers";

struct Layer {
    uses: BTreeSet<String>,
    never_names: Vec<String>,
}

/// The table in reading order: module, what it may use, what it never names.
fn layers() -> Vec<(String, Layer)> {
    let row = |cells: Vec<String>| {
        let module = quoted(&cells[0]).concat();
        let uses = quoted(&cells[1]).into_iter().collect();
        (module, Layer { uses, never_names: quoted(&cells[2]) })
    };
    table(DOCUMENT, HEADING).into_iter().map(row).collect()
}

/// The module at the top that a file belongs to; none for lib.rs, and `main` for the program.
fn module_of(path: &str) -> Option<String> {
    let below = path.strip_prefix("src/")?;
    let first = below.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then(|| name.to_owned())
}

/// The modules at the top that a line names by `crate::` or, in the program, by the library's own name.
fn names_modules(line: &str, of_program: bool) -> Vec<String> {
    let own = if of_program { "conveyor::" } else { "crate::" };
    let code = line.split("//").next().unwrap_or_default();
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let found = code.split(own).skip(1).flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => list.split(',').map(|item| word(item.trim())).collect(),
        None => vec![word(rest)],
    });
    found.filter(|name| !name.is_empty() && name.chars().all(|c| !c.is_uppercase())).collect()
}

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let layers: BTreeMap<String, Layer> = layers().into_iter().collect();
    let mut findings = Vec::new();
    for path in files(&["src"], &[".rs"]) {
        let Some(module) = module_of(&path) else { continue };
        let Some(layer) = layers.get(&module) else {
            findings.push(format!("{path}: module `{module}` has no row in {DOCUMENT}"));
            continue;
        };
        for (index, line) in read(&path).lines().enumerate() {
            for used in names_modules(line, module == "main") {
                if used != module && !layer.uses.contains(&used) {
                    findings.push(format!("{path}:{}: `{module}` may not use `{used}`", index + 1));
                }
            }
        }
    }
    expect_none(findings);
}

#[test]
fn no_module_names_what_it_never_knows_about() {
    let layers: BTreeMap<String, Layer> = layers().into_iter().collect();
    let mut findings = Vec::new();
    for path in files(&["src"], &[".rs"]) {
        let Some(layer) = module_of(&path).and_then(|module| layers.get(&module)) else { continue };
        for (index, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for name in layer.never_names.iter().filter(|name| code.contains(&format!("{name}::"))) {
                findings.push(format!("{path}:{}: names `{name}`", index + 1));
            }
        }
    }
    expect_none(findings);
}

#[test]
fn the_table_itself_points_down() {
    let (mut below, mut findings) = (BTreeSet::new(), Vec::new());
    for (module, layer) in layers() {
        for used in layer.uses.difference(&below) {
            findings.push(format!(
                "{DOCUMENT}: `{module}` names `{used}`, which does not stand above it in the table"
            ));
        }
        below.insert(module);
    }
    expect_none(findings);
}
