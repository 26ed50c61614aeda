//! Listeners: `NAME://host:port`, what each name's protocol is, which ones clients are told of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use moldau_broker::Role;

use super::settings::{Checked, Origin};

/// A host and a port. An empty host means every interface where it is listened on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port; 0 lets the kernel choose one.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Endpoint {
    /// Reads `host:port`, `[ipv6]:port` or `:port`.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let fine = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
        let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
        fine.then(|| Endpoint { host: host.to_owned(), port })
    }

    /// True if the host stands for every interface.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty() || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

/// A named listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: String,
    /// Where it listens, or where clients are told to connect.
    pub endpoint: Endpoint,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.endpoint)
    }
}

/// All listeners of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listeners {
    pub client: Vec<Listener>,
    pub controller: Vec<Listener>,
    pub advertised: Vec<Listener>,
    pub inter_broker: String,
}

/// What the keys about listeners say.
pub(super) struct Keys<'a> {
    pub role: Role,
    pub listeners: &'a [String],
    pub advertised: &'a [String],
    pub controller_names: &'a [String],
    pub protocol_map: &'a [String],
    pub inter_broker: Option<&'a str>,
    pub hostname: &'a str,
}

pub(super) fn resolve(keys: &Keys<'_>, checked: &mut Checked) -> Listeners {
    let all = parse_all("listeners", keys.listeners, checked);
    let protocols = protocols(keys.protocol_map, checked);
    distinct(&all, checked);
    for listener in &all {
        plaintext(listener, &protocols, keys.controller_names, checked);
    }
    let is_controller = |l: &Listener| keys.controller_names.iter().any(|n| n.eq_ignore_ascii_case(&l.name));
    let (controller, client): (Vec<_>, Vec<_>) = all.into_iter().partition(is_controller);
    fit_role(keys, &client, &controller, &protocols, checked);
    if keys.role == Role::Controller {
        // Its file may say how brokers reach each other; it asks them there whether they are alive.
        let inter_broker = keys.inter_broker.unwrap_or_default().to_ascii_uppercase();
        return Listeners { client: Vec::new(), controller, advertised: Vec::new(), inter_broker };
    }
    let advertised = advertised(keys, &client, checked);
    let inter_broker = inter_broker(keys, &client, checked);
    Listeners { client, controller, advertised, inter_broker }
}

/// A broker listens to clients, a controller to nodes, and a node that is only one of them does nothing else.
fn fit_role(
    keys: &Keys<'_>,
    client: &[Listener],
    controller: &[Listener],
    protocols: &BTreeMap<String, String>,
    checked: &mut Checked,
) {
    let origin = checked.origin("listeners").cloned();
    let mut problem = |message: String| checked.problem(origin.as_ref(), message);
    match keys.role {
        Role::Controller => {
            if let Some(listener) = client.first() {
                problem(format!(
                    "listener {} is for clients, and with process.roles=controller there are none; remove it from listeners, or add \
                     its name to controller.listener.names",
                    listener.name
                ));
            }
            if controller.is_empty() {
                problem(
                    "no listener is for nodes; add one to listeners, such as CONTROLLER://:9093, and its name to \
                     controller.listener.names"
                        .to_owned(),
                );
            }
        }
        Role::Broker | Role::Both if client.is_empty() => problem(
            "no listener is for clients; add one that is not in controller.listener.names, such as \
             PLAINTEXT://127.0.0.1:9092"
                .to_owned(),
        ),
        Role::Broker | Role::Both => {}
    }
    if keys.role != Role::Broker {
        return;
    }
    if let Some(listener) = controller.first() {
        problem(format!(
            "listener {} is one for nodes (controller.listener.names), and with process.roles=broker there is none; remove it from \
             listeners",
            listener.name
        ));
    }
    let Some(name) = keys.controller_names.first() else {
        return problem(
            "controller.listener.names is not set; name the listener of the controllers there, such as CONTROLLER".to_owned(),
        );
    };
    // How the controllers are reached is said by the protocol of their listener's name.
    if let Some(protocol @ ("SSL" | "SASL_SSL" | "SASL_PLAINTEXT")) =
        protocols.get(&name.to_ascii_uppercase()).map(String::as_str)
    {
        problem(format!(
            "controllers are to be reached by {protocol} ({name} in listener.security.protocol.map), and connections between nodes are \
             not encrypted or authenticated yet; map it to PLAINTEXT and protect the ports"
        ));
    }
}

fn parse_all(key: &str, texts: &[String], checked: &mut Checked) -> Vec<Listener> {
    let origin = checked.origin(key).cloned();
    let mut listeners = Vec::new();
    for text in texts {
        match parse(text) {
            Some(listener) => listeners.push(listener),
            None => checked.problem(
                origin.as_ref(),
                format!("{key}: `{text}` is no listener; write NAME://host:port, such as PLAINTEXT://127.0.0.1:9092"),
            ),
        }
    }
    listeners
}

fn parse(text: &str) -> Option<Listener> {
    let (name, address) = text.split_once("://")?;
    let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let endpoint = Endpoint::parse(address)?;
    fine.then(|| Listener { name: name.to_ascii_uppercase(), endpoint })
}

/// Names and ports are each used once; one port may serve an IPv4 and an IPv6 address.
fn distinct(listeners: &[Listener], checked: &mut Checked) {
    let origin = checked.origin("listeners").cloned();
    for (at, later) in listeners.iter().enumerate() {
        for earlier in &listeners[..at] {
            if earlier.name == later.name {
                let message = format!("listeners: the name {} is used twice; give each its own", later.name);
                checked.problem(origin.as_ref(), message);
            }
            if collide(&earlier.endpoint, &later.endpoint) {
                let message = format!(
                    "listeners: {earlier} and {later} are on one port; give {} a port of its own",
                    later.name
                );
                checked.problem(origin.as_ref(), message);
            }
        }
    }
}

fn collide(a: &Endpoint, b: &Endpoint) -> bool {
    let two_families = match (a.host.parse::<IpAddr>(), b.host.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a.is_ipv4() != b.is_ipv4(),
        _ => false,
    };
    a.port == b.port && a.port != 0 && !two_families
}

fn protocols(map: &[String], checked: &mut Checked) -> BTreeMap<String, String> {
    let origin = checked.origin("listener.security.protocol.map").cloned();
    let mut protocols = BTreeMap::new();
    for text in map {
        match text.split_once(':') {
            Some((name, protocol)) => {
                protocols.insert(name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase());
            }
            None => checked.problem(
                origin.as_ref(),
                format!("listener.security.protocol.map: `{text}` is no pair; write NAME:PLAINTEXT"),
            ),
        }
    }
    protocols
}

fn plaintext(
    listener: &Listener,
    protocols: &BTreeMap<String, String>,
    controllers: &[String],
    checked: &mut Checked,
) {
    let protocol = protocols.get(&listener.name).map(String::as_str);
    let unmapped_controller = checked.origin("listener.security.protocol.map").is_none()
        && controllers.iter().any(|name| name.eq_ignore_ascii_case(&listener.name));
    let message = match protocol {
        Some("PLAINTEXT") => return,
        None if unmapped_controller => return,
        Some(protocol @ ("SSL" | "SASL_SSL" | "SASL_PLAINTEXT")) => format!(
            "listener {} asks for {protocol}, and no listener encrypts or authenticates yet; map it to PLAINTEXT in \
             listener.security.protocol.map and protect the port, or remove the listener",
            listener.name
        ),
        Some(protocol) => {
            format!("listener {} has the unknown protocol {protocol}; use PLAINTEXT", listener.name)
        }
        None => format!(
            "listener {} has no protocol; add {}:PLAINTEXT to listener.security.protocol.map",
            listener.name, listener.name
        ),
    };
    let origin: Option<Origin> =
        checked.origin("listener.security.protocol.map").or(checked.origin("listeners")).cloned();
    checked.problem(origin.as_ref(), message);
}

fn advertised(keys: &Keys<'_>, client: &[Listener], checked: &mut Checked) -> Vec<Listener> {
    let key = if keys.advertised.is_empty() { "listeners" } else { "advertised.listeners" };
    let origin = checked.origin(key).cloned();
    if keys.advertised.is_empty() {
        return client
            .iter()
            .map(|listener| own_name(listener, keys.hostname, origin.as_ref(), checked))
            .collect();
    }
    let told = parse_all("advertised.listeners", keys.advertised, checked);
    let is_controller = |l: &Listener| keys.controller_names.iter().any(|n| n.eq_ignore_ascii_case(&l.name));
    let told: Vec<Listener> = told.into_iter().filter(|listener| !is_controller(listener)).collect();
    for listener in &told {
        let name = &listener.name;
        if !client.iter().any(|l| l.name == *name) {
            let message =
                format!("advertised.listeners: {name} is not in listeners; add it there or remove it here");
            checked.problem(origin.as_ref(), message);
        }
        if listener.endpoint.is_wildcard() {
            let message = format!(
                "advertised.listeners: clients cannot connect to {}; write the name or address that they reach",
                listener.endpoint
            );
            checked.problem(origin.as_ref(), message);
        }
    }
    told
}

/// What clients are told where nobody said: the listener's host, or this machine's name for every interface.
fn own_name(listener: &Listener, hostname: &str, origin: Option<&Origin>, checked: &mut Checked) -> Listener {
    let mut listener = listener.clone();
    if listener.endpoint.host.is_empty() {
        listener.endpoint.host = hostname.to_owned();
    } else if listener.endpoint.is_wildcard() {
        let message = format!(
            "listener {} is on every interface, and clients need one address: set advertised.listeners={}://NAME:{}",
            listener.name, listener.name, listener.endpoint.port
        );
        checked.problem(origin, message);
    }
    listener
}

fn inter_broker(keys: &Keys<'_>, client: &[Listener], checked: &mut Checked) -> String {
    let first = client.first().map(|l| l.name.clone()).unwrap_or_default();
    let Some(name) = keys.inter_broker else { return first };
    let name = name.to_ascii_uppercase();
    if !client.iter().any(|l| l.name == name) {
        let names: Vec<&str> = client.iter().map(|l| l.name.as_str()).collect();
        let message =
            format!("inter.broker.listener.name={name} is not among the listeners {}", names.join(", "));
        let origin = checked.origin("inter.broker.listener.name").cloned();
        checked.problem(origin.as_ref(), message);
    }
    name
}
