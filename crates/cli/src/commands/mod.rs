//! One module per command.

pub mod config;
pub mod consume;
pub mod demo;
pub mod groups;
pub mod local;
pub mod log;
pub mod nodes;
pub mod produce;
pub mod start;
pub mod supervise;
pub mod topics;

use anyhow::{Context, bail};
use moldau_client::{Client, Options, Position};

use crate::args::Global;
use crate::output;

/// Runs a command that talks to brokers.
pub fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command)
}

/// A client of the brokers that were named.
async fn connect(global: &Global) -> anyhow::Result<Client> {
    Ok(Client::connect(&global.bootstrap_server, Options::default()).await?)
}

/// `key=value`.
fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').with_context(|| format!("`{text}`: write it as key=value"))?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// `beginning`, `end`, an offset, or `@` and milliseconds.
fn position(text: &str) -> anyhow::Result<Position> {
    let time = text.strip_prefix('@').map(str::parse::<i64>);
    match (text, time, text.parse::<i64>()) {
        ("beginning" | "earliest", ..) => Ok(Position::Beginning),
        ("end" | "latest", ..) => Ok(Position::End),
        (_, Some(Ok(timestamp)), _) if timestamp >= 0 => Ok(Position::Time(timestamp)),
        (_, None, Ok(offset)) if offset >= 0 => Ok(Position::Offset(offset)),
        _ => bail!(
            "`{text}` is no position: write beginning, end, an offset, or @ and milliseconds since 1970"
        ),
    }
}

/// Prints the version.
pub fn version(global: &Global) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    output::done(global.output, &format!("moldau {version}"), &serde_json::json!({ "version": version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read() {
        assert_eq!(position("beginning").unwrap(), Position::Beginning);
        assert_eq!(position("end").unwrap(), Position::End);
        assert_eq!(position("17").unwrap(), Position::Offset(17));
        assert_eq!(position("@17").unwrap(), Position::Time(17));
        for bad in ["", "-1", "@", "@-1", "start"] {
            assert!(position(bad).unwrap_err().to_string().contains("is no position"), "{bad}");
        }
    }
}
