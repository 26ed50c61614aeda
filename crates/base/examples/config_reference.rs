//! Prints docs/config.md; `cargo xtask docs` runs it, because it builds in seconds where the whole binary does not.

fn main() {
    print!("{}", moldau_base::config::reference());
}
