//! Writes the inputs that the code makes for the fuzzer to begin with: `seeds FOLDER`, a folder in it for each target.

use std::path::Path;

use moldau_hostile::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: seeds FOLDER");
        std::process::exit(2);
    };
    for target in TARGETS {
        let folder = Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in seeds::of(target.name).iter().enumerate() {
            std::fs::write(folder.join(format!("made-{number}")), input)?;
        }
    }
    Ok(())
}
