//! This checkout is as its `arch.toml` says, and each kind of breach is seen.

use serde_json::json;

use super::metadata::Metadata;
use super::{Arch, edges, sources};

const ARCH: &str = r#"
[crates]
base = { ring = 0, uses = [] }
wire = { ring = 0, uses = ["base"] }
group = { ring = 1, uses = ["base", "wire"] }
check = { ring = 1, uses = ["base"] }
node = { ring = 3, uses = ["base", "group"] }
[tests]
uses = ["check"]
[cores]
host_ring = 3
packages = ["tokio"]
modules = ["std::fs"]
methods = ["std::thread::spawn"]
types = ["std::fs::File"]
[cores.guests]
openraft = "a guest"
[unsafe]
files = ["crates/node/src/fs.rs"]
"#;

fn arch() -> Arch {
    Arch::parse(ARCH).expect("the text above is right")
}

/// A workspace with the crates of [`ARCH`] and the arrows `(from, to, kind)`.
fn workspace(arrows: &[(&str, &str, Option<&str>)]) -> Metadata {
    let members = ["base", "wire", "group", "check", "node"];
    let names: Vec<&str> = members.into_iter().chain(["tokio", "openraft", "http"]).collect();
    let nodes = names.iter().map(|name| {
        let leaving = arrows.iter().filter(|(from, ..)| from == name);
        let deps = leaving.map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]}));
        json!({"id": name, "deps": deps.collect::<Vec<_>>()})
    });
    let value = json!({
        "packages": names.iter().map(|n| json!({"id": n, "name": format!("moldau-{n}")})).collect::<Vec<_>>(),
        "workspace_members": members,
        "resolve": {"nodes": nodes.collect::<Vec<_>>()},
    });
    Metadata::parse(value.to_string().as_bytes()).expect("the value above is right")
}

#[test]
fn this_checkout_is_as_arch_toml_says() {
    if let Err(why) = super::check(&crate::root()) {
        panic!("{why:#}");
    }
}

#[test]
fn allowed_arrows_pass() {
    let metadata = workspace(&[
        ("wire", "base", None),
        ("group", "wire", None),
        ("group", "check", Some("dev")),
        ("node", "tokio", None),
    ]);
    assert_eq!(edges::breaches(&arch(), &metadata), Vec::<String>::new());
}

#[test]
fn a_turned_arrow_is_named() {
    let found = edges::breaches(&arch(), &workspace(&[("base", "wire", None)]));
    assert_eq!(found, ["crates/base/Cargo.toml: `base` must not use `wire` (see arch.toml)"]);
    let found = edges::breaches(&arch(), &workspace(&[("base", "wire", Some("build"))]));
    assert_eq!(found, ["crates/base/Cargo.toml: `base` must not use `wire` (see arch.toml)"]);
}

#[test]
fn siblings_know_each_other_only_in_tests_and_only_where_listed() {
    let found =
        edges::breaches(&arch(), &workspace(&[("group", "check", None), ("check", "group", Some("dev"))]));
    assert_eq!(
        found,
        [
            "crates/check/Cargo.toml: tests of `check` must not use `group`",
            "crates/group/Cargo.toml: `group` must not use `check` (see arch.toml)",
        ]
    );
}

#[test]
fn arch_toml_itself_cannot_allow_siblings() {
    let arch = Arch::parse(
        &ARCH
            .replace(r#"check = { ring = 1, uses = ["base"] }"#, r#"check = { ring = 1, uses = ["group"] }"#),
    );
    let found = edges::breaches(&arch.expect("well formed"), &workspace(&[]));
    assert_eq!(found, ["arch.toml: `check` (ring 1) uses `group` (ring 1): an arrow goes to a lower ring"]);
}

#[test]
fn a_core_is_not_linked_with_the_outer_world_except_through_a_guest() {
    let metadata = workspace(&[("group", "openraft", None), ("openraft", "tokio", None)]);
    assert_eq!(edges::breaches(&arch(), &metadata), Vec::<String>::new());
    let metadata = workspace(&[("group", "http", None), ("http", "tokio", None)]);
    assert_eq!(
        edges::breaches(&arch(), &metadata),
        ["`group` must not be linked with tokio (by http, by group)"]
    );
}

#[test]
fn sources_are_read() {
    let arch = arch();
    assert_eq!(
        sources::missing_bans(&arch, "group", "{ path = \"std::thread::spawn\" }"),
        ["crates/group/clippy.toml does not ban std::fs::File"]
    );
    assert_eq!(
        sources::outer_world(&arch, "a.rs", "// std::fs in a comment\nuse std::fs;\n"),
        ["a.rs:2 names std::fs: cores do no I/O of their own"]
    );
    let text = format!("#![{}(unsafe_code)]", "allow");
    assert!(sources::unsafe_allowed(&arch, "crates/node/src/fs.rs", &text).is_none());
    assert!(sources::unsafe_allowed(&arch, "crates/node/src/conn.rs", &text).is_some());
}
