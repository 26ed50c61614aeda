//! Plays the text files of `tests/transcripts`: lines that begin with `> ` are what happens to a coordinator, the lines
//! below each are what it says and writes. `UPDATE_TRANSCRIPTS=1 cargo test -p moldau-group` rewrites the answers.
//! `tests/transcripts/README.md` explains the words.

mod support;

use std::path::Path;

use support::script::Script;

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("folder").flatten().map(|e| e.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    files.sort();
    assert!(!files.is_empty());
    let update = std::env::vars().any(|(key, _)| key == "UPDATE_TRANSCRIPTS");
    let mut wrong = Vec::new();
    for path in files {
        let before = std::fs::read_to_string(&path).expect("file");
        let after = play(&before);
        if update && before != after {
            std::fs::write(&path, &after).expect("writable");
        } else if before != after {
            wrong.push(format!("{}\n{}", path.display(), difference(&before, &after)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The transcript with the answers that the coordinator gives.
fn play(text: &str) -> String {
    let mut script = Script::default();
    let mut out = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            for said in script.run(command) {
                out.push_str("  ");
                out.push_str(&said);
                out.push('\n');
            }
        } else if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn difference(before: &str, after: &str) -> String {
    let (mut expected, mut got) = (before.lines(), after.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), got.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                return format!("line {number}\n- {}\n+ {}", a.unwrap_or("(end)"), b.unwrap_or("(end)"));
            }
        }
    }
}
