//! Logs: `tracing` events to standard error, one line each, for people on a terminal and as JSON otherwise.
//! Standard output is never touched: it belongs to the one `ready` line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Variable with the filter: a level, or `module=level` separated by commas.
pub const FILTER_VARIABLE: &str = "MOLDAU_LOG";

/// What is logged without it: the consensus library tells of every vote at `info`, and of every message to a voter that is away at `warn`.
const DEFAULT_FILTER: &str = "info,openraft=error";

/// Why logs cannot be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is no filter.
    #[error("{FILTER_VARIABLE}={filter} is no filter: {cause}; write a level such as debug, or module=level")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        cause: ParseError,
    },
    /// Somebody else takes the events of this process already.
    #[error("logs are set up twice: {0}")]
    Twice(#[from] TryInitError),
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// An object per line.
    Json,
}

impl Format {
    /// For people if standard error is a terminal.
    pub fn for_stderr() -> Format {
        if std::io::stderr().is_terminal() { Format::Human } else { Format::Json }
    }
}

/// Sends the events of this process to standard error; call it once.
pub fn init(format: Format) -> Result<(), LoggingError> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let parsed = EnvFilter::try_new(&filter).map_err(|cause| LoggingError::Filter { filter, cause })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Human => registry.with(layer.with_ansi(true).with_target(false)).try_init()?,
        Format::Json => {
            let json = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(json).try_init()?;
        }
    }
    Ok(())
}
