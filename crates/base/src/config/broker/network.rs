//! Connections, requests and what bounds them.

use super::super::def::{Bounds, Def, Unit, int, list, long, text};

const BYTES: &str = "waiting requests are bounded by queued.max.request.bytes";
const EARLY: &str = "all listeners open when the broker is ready";
const ONE: &str = "the cluster is this node alone";
const PURGATORY: &str = "a waiting request leaves as soon as it is answered";
const SEC: &str = "listeners are plaintext; one that asks for TLS or SASL is refused";
const THREADS: &str = "there are no such threads: moldau.shards sets the number of event loops";

/// The keys of this part, sorted by name.
pub(super) static KEYS: &[Def] = &[
    list("advertised.listeners", "", "Names, hosts and ports that clients are told to connect to; the listeners themselves where empty.").unset(),
    int("background.threads", "10", "Threads for chores.").min(1).cluster_wide().no_meaning(THREADS),
    int("connection.failed.authentication.delay.ms", "100", "Pause before the answer to a failed authentication.").unit(Unit::Milliseconds).min(0).no_meaning(SEC),
    long("connections.max.idle.ms", "600000", "A connection on which nothing was asked for this long is closed.").unit(Unit::Milliseconds),
    long("connections.max.reauth.ms", "0", "Longest life of a SASL session before the client must authenticate again.").unit(Unit::Milliseconds).no_meaning(SEC),
    int("delete.records.purgatory.purge.interval.requests", "1", "Requests between two cleanings of a list of waiting requests.").no_meaning(PURGATORY),
    list("early.start.listeners", "", "Listeners that open before the rest of the broker is ready.").unset().no_meaning(EARLY),
    int("fetch.max.bytes", "57671680", "Most bytes in one answer to a fetch, whatever the client asks for.").unit(Unit::Bytes).min(1024),
    int("fetch.purgatory.purge.interval.requests", "1000", "Requests between two cleanings of a list of waiting requests.").no_meaning(PURGATORY),
    text("inter.broker.listener.name", "", "Name of the listener that other brokers use.").unset(),
    text("listener.security.protocol.map", "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", "Security protocol of each listener name; PLAINTEXT is the one that is served."),
    list("listeners", "PLAINTEXT://127.0.0.1:9092", "Names, hosts and ports on which the node listens; an empty host means every interface."),
    int("max.connection.creation.rate", "2147483647", "New connections per second.").min(0).only(&["2147483647"], "the rate of new connections is not limited; use max.connections and max.connections.per.ip"),
    int("max.connections", "2147483647", "Most connections at one time; further ones are closed at once.").min(0),
    int("max.connections.per.ip", "2147483647", "Most connections from one address; further ones are closed at once.").min(0),
    text("max.connections.per.ip.overrides", "", "Limits for single addresses in place of max.connections.per.ip, as `address:limit,address:limit`."),
    int("max.incremental.fetch.session.cache.slots", "1000", "Most fetch sessions that are kept; a client without one sends full requests.").min(0),
    int("max.request.partition.size.limit", "2000", "Most partitions in one answer to DescribeTopicPartitions.").min(1).only(&["2000"], "an answer has room for 2000 partitions; leave max.request.partition.size.limit=2000"),
    int("num.io.threads", "8", "Threads that execute requests.").min(1).cluster_wide().no_meaning(THREADS),
    int("num.network.threads", "3", "Threads that read and write sockets.").min(1).cluster_wide().no_meaning(THREADS),
    int("producer.purgatory.purge.interval.requests", "1000", "Requests between two cleanings of a list of waiting requests.").no_meaning(PURGATORY),
    long("queued.max.request.bytes", "-1", "Most bytes of requests in memory at one time; above it connections are not read until some are answered. -1 takes a share of the machine's memory.").unit(Unit::Bytes),
    int("queued.max.requests", "500", "Most requests waiting for a thread.").min(1).no_meaning(BYTES),
    int("request.timeout.ms", "30000", "How long a broker waits for another one's answer.").unit(Unit::Milliseconds).no_meaning(ONE),
    text("security.inter.broker.protocol", "PLAINTEXT", "Protocol between brokers where inter.broker.listener.name is not set.").bounds(Bounds::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])).only(&["PLAINTEXT"], "brokers talk to each other in plaintext; leave security.inter.broker.protocol=PLAINTEXT"),
    int("share.fetch.purgatory.purge.interval.requests", "1000", "Requests between two cleanings of a list of waiting requests.").no_meaning(PURGATORY),
    long("socket.connection.setup.timeout.max.ms", "30000", "Longest wait for a connection to another broker.").unit(Unit::Milliseconds).no_meaning(ONE),
    long("socket.connection.setup.timeout.ms", "10000", "First wait for a connection to another broker.").unit(Unit::Milliseconds).no_meaning(ONE),
    int("socket.listen.backlog.size", "50", "Connections that the kernel holds until the broker accepts them.").min(1),
    int("socket.receive.buffer.bytes", "-1", "Receive buffer of a connection; -1 lets the kernel choose and adapt.").unit(Unit::Bytes).min(-1),
    int("socket.request.max.bytes", "104857600", "Largest request; a larger one closes the connection.").unit(Unit::Bytes).min(1),
    int("socket.send.buffer.bytes", "-1", "Send buffer of a connection; -1 lets the kernel choose and adapt.").unit(Unit::Bytes).min(-1),
];
