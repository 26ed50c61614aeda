//! The floor program from end to end, with volumes too small to say anything about speed.

use std::process::Command;

#[test]
fn every_floor_is_measured_and_leaves_nothing_behind() {
    let dir = std::env::temp_dir().join(format!("moldau-bench-test-{}", std::process::id()));
    let mut floor = Command::new(env!("CARGO_BIN_EXE_moldau-bench"));
    let out =
        floor.args(["floor", "--megabytes", "1", "--seconds", "5", "--dir"]).arg(&dir).output().unwrap();
    let table = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for name in ["append 256K", "append 16K", "send 1M", "send 64K", "sync 16K", "ping c1", "ping c32"] {
        assert!(table.contains(name), "{table}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    std::fs::remove_dir(&dir).unwrap();
}
