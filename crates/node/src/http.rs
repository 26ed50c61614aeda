//! The node's own HTTP port: `/metrics` in Prometheus form, `/healthz` (the process works), `/readyz` (clients are
//! served). It answers from memory, takes a bounded number of connections for a bounded time, and never touches
//! the data path.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::config::Endpoint;

/// Most connections at one time; further ones wait to be accepted.
const CONNECTIONS: usize = 64;
/// Longest life of a connection.
const LIFETIME: Duration = Duration::from_secs(30);
/// The content type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the node says of itself; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
    missing: Arc<Mutex<Option<String>>>,
}

/// What a probe is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Recovering; clients are not served yet.
    #[default]
    Starting,
    /// Clients are served.
    Ready,
    /// No further clients are taken; those that are here are finished.
    Stopping,
    /// Part of the node does not work, and why.
    Failed(String),
}

impl Health {
    /// Changes what probes are told. A failure stays.
    pub fn set(&self, state: HealthState) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*current, HealthState::Failed(_)) {
            *current = state;
        }
    }

    /// Who is missing in the metadata quorum, if nobody can lead it for that.
    pub fn set_missing(&self, missing: Option<String>) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// Who is missing in the metadata quorum.
    pub fn missing(&self) -> Option<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What probes are told.
    pub fn get(&self) -> HealthState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    health: Health,
}

/// Binds the port. Refused by name if it is taken.
pub async fn bind(endpoint: &Endpoint) -> io::Result<TcpListener> {
    let host = if endpoint.host.is_empty() { "0.0.0.0" } else { &endpoint.host };
    TcpListener::bind((host, endpoint.port)).await.map_err(|error| {
        let fix = "set moldau.http.listener to another address, or leave it empty to switch /metrics off";
        io::Error::new(error.kind(), format!("{endpoint} for /metrics: {error}; {fix}"))
    })
}

/// Serves until `stop` completes; open connections are then given up.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    health: Health,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let bounded = Bounded { listener, permits: Arc::new(Semaphore::new(CONNECTIONS)) };
    let router = router(Shared { registry, health });
    tokio::select! {
        served = async { axum::serve(bounded, router).await } => served,
        () = stop => Ok(()),
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match shared.health.get() {
        HealthState::Failed(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {why}\n")).into_response()
        }
        _ => "ok\n".into_response(),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let missing = shared.health.missing();
    let (status, text) = match (shared.health.get(), missing) {
        (HealthState::Ready, None) => (StatusCode::OK, "ready\n".to_owned()),
        // What is committed is still read from here, but nothing is decided.
        (HealthState::Ready, Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        (HealthState::Starting, None) => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        (HealthState::Starting, Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("starting: {why}\n")),
        (HealthState::Stopping, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        (HealthState::Failed(why), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {why}\n")),
    };
    (status, text).into_response()
}

/// Accepts only while a permit is free, and gives each connection a last moment.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let deadline = Box::pin(tokio::time::sleep(LIFETIME));
                    return (Held { stream, deadline, _permit: permit }, address);
                }
                // Out of descriptors, or a client that left: neither ends the port.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Held {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    fn expired(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.expired(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.expired(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_metrics_are_answered() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("moldau_test", "A test", counter.clone());
        counter.inc();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 0 };
        let listener = bind(&endpoint).await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, Arc::new(registry), health.clone(), stopped));

        assert!(ask(address, "/metrics").await.contains("moldau_test_total 1"));
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        health.set(HealthState::Ready);
        assert!(ask(address, "/readyz").await.ends_with("ready\n"));
        assert!(ask(address, "/readyz").await.ends_with("ready\n"));
        health.set_missing(Some("voter 2 is missing".to_owned()));
        let told = ask(address, "/readyz").await;
        assert!(told.starts_with("HTTP/1.1 503") && told.ends_with("voter 2 is missing\n"), "{told}");
        health.set_missing(None);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        health.set(HealthState::Failed("disk".to_owned()));
        health.set(HealthState::Ready);
        assert!(ask(address, "/healthz").await.ends_with("failed: disk\n"));
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        let taken = bind(&Endpoint { host: "127.0.0.1".to_owned(), port: address.port() }).await.unwrap_err();
        assert!(taken.to_string().contains("moldau.http.listener"), "{taken}");
        drop(stop);
        server.await.unwrap().unwrap();
    }
}
