//! What we link: licences and banned crates, over the lock file and without a network.
//!
//! deny.toml is the one place where both lists stand; cargo-deny reads it too, for whoever has it.
use crate::{expect_none, read, root};
use std::collections::BTreeSet;
use std::process::Command;

fn deny() -> toml::Table {
    read("deny.toml").parse().expect("deny.toml is TOML")
}

fn strings(value: &toml::Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str())
}

/// Whether the SPDX expression can be satisfied with allowed licences. Knows OR over AND, and the old slash.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // "(A OR B) AND C" is read as "A, or B and C" or as "A and C, or B": both sides of every AND must pass.
    if expression.contains('(') && expression.contains(" AND ") {
        return expression.split(" AND ").all(|part| is_allowed(&part.replace(['(', ')'], " "), allowed));
    }
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(|licence| allowed.contains(licence.trim())))
}

#[test]
fn every_licence_we_link_is_on_the_list() {
    let deny = deny();
    let allowed: BTreeSet<&str> = strings(&deny["licenses"]["allow"]).collect();
    let mut findings = Vec::new();
    for package in metadata()["packages"].as_array().into_iter().flatten() {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none stated"));
        if !is_allowed(licence, &allowed) {
            findings.push(format!("{name}: {licence}"));
        }
    }
    expect_none(findings);
}

/// `cargo metadata` for this host, from what the build has fetched already.
fn metadata() -> serde_json::Value {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[test]
fn no_banned_crate_is_in_the_lock_file() {
    let deny = deny();
    let banned: Vec<&str> = deny["bans"]["deny"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.get("crate").and_then(toml::Value::as_str))
        .collect();
    assert!(!banned.is_empty(), "deny.toml bans something");
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().into_iter().flatten();
    let names = packages.filter_map(|package| package["name"].as_str());
    expect_none(names.filter(|name| banned.contains(name)).map(|name| format!("{name} is banned")).collect());
}

#[test]
fn there_is_one_source_of_crates() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().into_iter().flatten();
    let sources = packages.filter_map(|package| package.get("source").and_then(toml::Value::as_str));
    let strange = sources.filter(|source| *source != "registry+https://github.com/rust-lang/crates.io-index");
    expect_none(strange.map(|source| format!("{source}: crates come from crates.io alone")).collect());
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0"]);
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "Apache-2.0 AND ISC", "(MIT OR GPL-3.0) AND ISC"]
    {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "none stated"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
