//! The ports of a node: they are bound before anything is started, so that one that is taken is a refusal by name; connections are
//! accepted here and dealt out to the shards. What is said on a connection is the shards' ([`crate::conn`]).

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use moldau_broker::Settings;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Limits, Listener, NodeConfig};
use crate::mailbox::{Item, Mailbox};
use crate::pacing::Pacing;
use crate::shared::Shared;
use crate::{http, settings};

/// All ports of a node.
pub(crate) struct Open {
    /// Those of clients, and behind them those of other nodes.
    listeners: Vec<Bound>,
    http: Option<TcpListener>,
}

impl Open {
    /// Binds what the configuration names.
    pub(crate) async fn of(config: &NodeConfig) -> anyhow::Result<Open> {
        let listeners = open_listeners(config)?;
        let http = match &config.http {
            Some(endpoint) => Some(http::bind(endpoint).await?),
            None => None,
        };
        Ok(Open { listeners, http })
    }

    /// Where the listeners are.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// Accepts connections, and answers on the HTTP port. Ends when that cannot go on.
    pub(crate) async fn serve(
        self,
        config: &NodeConfig,
        settings: &Settings,
        shared: &Arc<Shared>,
    ) -> anyhow::Result<()> {
        let Open { listeners, http } = self;
        tokio::select! {
            ended = accept_all(listeners, config, settings, shared) => ended,
            ended = serve_http(http, shared) => ended,
        }
    }
}

async fn serve_http(listener: Option<TcpListener>, shared: &Shared) -> anyhow::Result<()> {
    let Some(listener) = listener else { return std::future::pending().await };
    let registry = Arc::new(shared.metrics.registry());
    Ok(http::serve(listener, registry, shared.health.clone(), std::future::pending()).await?)
}

/// A listener, or what will be one.
struct Bound {
    socket: BoundSocket,
    address: SocketAddr,
    name: String,
}

enum BoundSocket {
    /// Connections are refused.
    Closed(TcpSocket),
    /// They wait to be accepted.
    Listening(TcpListener),
}

impl Bound {
    fn listen(self, backlog: u32) -> anyhow::Result<TcpListener> {
        match self.socket {
            BoundSocket::Closed(socket) => socket.listen(backlog).with_context(|| cannot_listen(&self.name)),
            BoundSocket::Listening(listener) => Ok(listener),
        }
    }
}

fn cannot_listen(listener: &str) -> String {
    format!("cannot listen on {listener}: is another process there? Name another port in listeners")
}

/// Clients of a cluster are refused until they can be served, so that they turn to another node at once; a node that is alone
/// lets them wait.
fn open_listeners(config: &NodeConfig) -> anyhow::Result<Vec<Bound>> {
    let several = !config.is_alone();
    let for_nodes = if several { config.controller_listeners.as_slice() } else { &[] };
    let clients = config.listeners.iter().map(|listener| open_listener(listener, &config.limits, !several));
    clients.chain(for_nodes.iter().map(|listener| open_listener(listener, &config.limits, true))).collect()
}

/// The listeners for other nodes alone.
pub(crate) fn for_nodes(config: &NodeConfig) -> anyhow::Result<Vec<TcpListener>> {
    let bound = config.controller_listeners.iter().map(|l| open_listener(l, &config.limits, true));
    bound.map(|bound| bound?.listen(config.limits.backlog)).collect()
}

fn open_listener(listener: &Listener, limits: &Limits, at_once: bool) -> anyhow::Result<Bound> {
    let name = listener.to_string();
    let refused = || cannot_listen(&name);
    let host = match listener.endpoint.is_wildcard() && listener.endpoint.host.is_empty() {
        true => "0.0.0.0",
        false => &listener.endpoint.host,
    };
    let address = std::net::ToSocketAddrs::to_socket_addrs(&(host, listener.endpoint.port))
        .with_context(refused)?
        .next()
        .with_context(refused)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = limits.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = limits.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address).with_context(refused)?;
    let address = socket.local_addr()?;
    let socket = match at_once {
        true => BoundSocket::Listening(socket.listen(limits.backlog).with_context(refused)?),
        false => BoundSocket::Closed(socket),
    };
    Ok(Bound { socket, address, name })
}

/// Accepts on all listeners: on those of other nodes at once, on those of clients when the cluster is known.
async fn accept_all(
    mut listeners: Vec<Bound>,
    config: &NodeConfig,
    settings: &Settings,
    shared: &Arc<Shared>,
) -> anyhow::Result<()> {
    let mut ready = shared.readiness();
    let mut all = tokio::task::JoinSet::new();
    let mut accepting = |at: usize, listener: TcpListener, shards: usize| {
        let mailboxes = shared.mailboxes()[..shards].to_vec();
        all.spawn(accept(listener, at as u16, mailboxes, shared.clone(), config.limits.clone()));
    };
    let address = listeners.first().map(|listener| listener.address).context("there is no listener")?;
    // Before this node can be ready, others have to reach it. All they say is for shard 0.
    for (at, listener) in listeners.split_off(config.listeners.len()).into_iter().enumerate() {
        accepting(config.listeners.len() + at, listener.listen(config.limits.backlog)?, 1);
    }
    ready.wait_for(|cluster| cluster.is_some()).await?;
    for (at, listener) in listeners.into_iter().enumerate() {
        accepting(at, listener.listen(config.limits.backlog)?, usize::from(settings.shards));
    }
    shared.is_serving().await;
    announce(config, settings, address)?;
    all.join_all().await;
    Ok(())
}

fn announce(config: &NodeConfig, settings: &Settings, address: SocketAddr) -> anyhow::Result<()> {
    tracing::info!(
        node = settings.node_id.0,
        cluster = &*settings.cluster_id,
        listeners = %config.listeners.iter().chain(&config.controller_listeners).map(ToString::to_string).collect::<Vec<_>>().join(","),
        data = %settings::names(&config.log_dirs),
        shards = settings.shards,
        "ready"
    );
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {address}")?;
    out.flush()?;
    Ok(())
}

/// Accepts on one listener and deals connections out to the shards in turn.
async fn accept(
    listener: TcpListener,
    at: u16,
    mailboxes: Vec<Arc<Mailbox>>,
    shared: Arc<Shared>,
    limits: Limits,
) {
    let mut next = 0;
    let pacing = Pacing::of(&listener);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: wait for connections to end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ip = address.ip();
        let most_per_ip = limits.connections_of_ip.get(&ip).copied().unwrap_or(limits.connections_per_ip);
        if !shared.connected(ip, limits.connections as usize, most_per_ip as usize) {
            tracing::warn!(address = %ip, "connection refused: too many (max.connections, max.connections.per.ip)");
            shared.metrics.connections_refused.inc();
            continue;
        }
        shared.metrics.connections_accepted.inc();
        let _ = stream.set_nodelay(true);
        pacing.apply(&stream);
        match stream.into_std() {
            Ok(stream) => {
                mailboxes[next % mailboxes.len()].send(Item::Connection {
                    stream,
                    address: ip,
                    listener: at,
                });
                next += 1;
            }
            Err(_) => shared.disconnected(ip),
        }
    }
}
