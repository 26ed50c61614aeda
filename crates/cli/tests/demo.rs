//! `moldau demo failover` shows what it says, loses nothing, and leaves nothing behind.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn nodes_are_killed_and_nothing_is_lost() {
    let folder = std::env::temp_dir().join(format!("moldau-demo-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_moldau"));
    demo.args(["--output", "json", "demo", "failover", "--seconds", "1"]).env("TMPDIR", &folder);
    let out = demo.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}{errors}");
    let shown: serde_json::Value = serde_json::from_str(&said).unwrap();
    let faults = shown["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3);
    for fault in faults {
        assert!(fault["acknowledged"].as_u64().unwrap() > 0, "{fault}");
        assert_eq!(fault["missing"], 0, "{fault}");
    }
    assert_eq!(shown["missing_at_the_end"], 0);
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir(&folder).unwrap();
}
