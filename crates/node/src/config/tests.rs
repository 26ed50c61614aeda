//! Files as operators write them, and what each mistake is answered with.

use moldau_base::config::properties;
use moldau_broker::Role;

use super::*;

fn machine() -> Machine {
    Machine { cores: 4, memory_bytes: 8 << 30, hostname: "box".to_owned() }
}

fn settings_of(text: &str) -> Vec<Setting> {
    let setting = |p: properties::Property| Setting {
        origin: Origin::File { path: "server.properties".to_owned(), line: p.line },
        key: p.key,
        value: p.value,
    };
    properties::parse(text.as_bytes()).unwrap().into_iter().map(setting).collect()
}

fn config(text: &str) -> NodeConfig {
    build(&settings_of(text), &machine()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refusal(text: &str) -> String {
    match build(&settings_of(text), &machine()) {
        Ok(_) => "accepted".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

const KAFKA: &str = "process.roles=broker,controller
node.id=7
broker.rack=z1
controller.quorum.voters=7@127.0.0.1:19093
listeners=PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093
advertised.listeners=PLAINTEXT://127.0.0.1:19092
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=/tmp/a,/tmp/b
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
num.network.threads=3
";

#[test]
fn a_file_of_kafka_starts_a_node() {
    let config = config(KAFKA);
    assert_eq!(config.node_id.0, 7);
    assert_eq!(config.rack.as_deref(), Some("z1"));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.controller_listeners[0].to_string(), "CONTROLLER://127.0.0.1:19093");
    assert_eq!(config.advertised, config.listeners);
    assert_eq!(config.http.as_ref().map(ToString::to_string).as_deref(), Some("127.0.0.1:19644"));
    assert_eq!(config.log_dirs.len(), 2);
    assert_eq!(config.voters[0].endpoint.port, 19093);
    assert_eq!(config.groups.initial_rebalance_delay_ms, 0);
    let expected = [
        "server.properties:13: transaction.state.log.replication.factor has no effect: transactions do not exist yet, \
         and transactional requests are refused",
        "server.properties:14: transaction.state.log.min.isr has no effect: transactions do not exist yet, and \
         transactional requests are refused",
        "server.properties:15: share.coordinator.state.topic.replication.factor has no effect: share groups are not \
         served yet",
        "server.properties:16: num.network.threads has no effect: there are no such threads: moldau.shards sets the \
         number of event loops",
    ];
    assert_eq!(config.warnings, expected);
}

#[test]
fn a_dynamic_quorum_of_one_starts_a_node() {
    let file = "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                controller.quorum.bootstrap.servers=localhost:9093\ncontroller.listener.names=CONTROLLER\n";
    let config = config(file);
    assert_eq!(config.advertised[0].to_string(), "PLAINTEXT://box:9092");
    assert!(config.is_alone() && config.bootstrap.is_empty());
    let advertised = file.to_owned() + "advertised.listeners=PLAINTEXT://c1:9092,CONTROLLER://c1:9093\n";
    assert!(self::config(&advertised.replace("localhost:9093", "c1:9093")).is_alone());
}

#[test]
fn a_node_finds_a_running_cluster() {
    let file = "process.roles=broker,controller\nnode.id=4\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                controller.quorum.bootstrap.servers=c1:9093,c2:9093,box:9093\ncontroller.listener.names=CONTROLLER\n";
    let found = config(file);
    let servers: Vec<String> = found.bootstrap.iter().map(ToString::to_string).collect();
    assert_eq!((servers.join(","), found.is_alone()), ("c1:9093,c2:9093".to_owned(), false));
    assert_eq!(found.groups.offsets_replication_factor, 3);
    assert!(
        config(&file.replace("broker,controller", "controller").replace("PLAINTEXT://:9092,", ""))
            .bootstrap
            .len()
            == 2
    );
    let broker = file.replace("broker,controller", "broker").replace(",CONTROLLER://:9093", "");
    assert_eq!(config(&broker).bootstrap.len(), 3);
    let without = file.replace(",CONTROLLER://:9093", "").replace("controller.listener.names=CONTROLLER", "");
    assert!(
        refusal(&without)
            .contains("controller.quorum.bootstrap.servers names other nodes, and this node has no listener")
    );
    assert!(refusal(&file.replace("c2:9093", "c2")).contains("`c2` is no address"));
}

#[test]
fn nothing_at_all_is_a_safe_single_node() {
    let config = config("");
    assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(config.log_dirs, [std::path::PathBuf::from("moldau-data")]);
    assert_eq!(config.groups.offsets_replication_factor, 1);
    assert_eq!(config.shards, 3);
    assert_eq!(config.limits.request_memory_bytes, 1 << 30);
    assert_eq!(config.http.map(|e| e.port), Some(9644));
    assert!(config.warnings.is_empty());
}

#[test]
fn every_mistake_names_its_line_and_the_fix() {
    let cases = [
        (
            "\nnum.partitons=3",
            "server.properties:2: there is no key num.partitons; did you mean num.partitions?",
        ),
        (
            "retention.ms=5",
            "server.properties:1: retention.ms is a key of topics; its default for all topics is set with \
             log.retention.ms",
        ),
        (
            "qqqqqqqqqqqqqqqq=5",
            "server.properties:1: there is no key qqqqqqqqqqqqqqqq; `moldau config reference` lists them all",
        ),
        (
            "num.partitions=0",
            "server.properties:1: Invalid value 0 for configuration num.partitions: Value must be at least 1 \
             (default: 1)",
        ),
        (
            "listeners=PLAINTEXT://127.0.0.1:9092,OTHER://127.0.0.1:9092\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT",
            "server.properties:1: listeners: PLAINTEXT://127.0.0.1:9092 and OTHER://127.0.0.1:9092 are on one port; \
             give OTHER a port of its own",
        ),
        (
            "listeners=SSL://127.0.0.1:9092",
            "server.properties:1: listener SSL asks for SSL, and no listener encrypts or authenticates yet; map it to \
             PLAINTEXT in listener.security.protocol.map and protect the port, or remove the listener",
        ),
        (
            "listeners=PLAINTEXT://0.0.0.0:9092",
            "server.properties:1: listener PLAINTEXT is on every interface, and clients need one address: set \
             advertised.listeners=PLAINTEXT://NAME:9092",
        ),
        (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "server.properties:1: authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer is \
             refused: requests are not authorised yet, so everybody may do everything; leave authorizer.class.name \
             empty and protect the port",
        ),
        (
            "node.id=1\ncontroller.quorum.voters=1@a:1,2@b:1,3@c:1",
            "server.properties:2: controller.quorum.voters names other nodes, and this node has no listener for them; \
             add one to listeners, and its name to controller.listener.names",
        ),
        (
            "zookeeper.connect=a:2181",
            "server.properties:1: zookeeper.connect is a key of Kafka before 4.0; the metadata is kept in the node \
             itself: remove the line",
        ),
        (
            "queued.max.request.bytes=5",
            "server.properties:1: queued.max.request.bytes=5 is less than socket.request.max.bytes=104857600; raise it",
        ),
        ("listener.name.plaintext.ssl.keystore.location=/x", "accepted"),
        (
            "listener.name.plaintext.max.connections=5",
            "server.properties:1: max.connections cannot be set for one listener; set max.connections for all of them",
        ),
        ("rsm.config.bucket=b", "accepted"),
        ("listener.name.external.scram-sha-256.sasl.jaas.config=x", "accepted"),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(file), expected, "{file}");
    }
}

const CONTROLLER: &str = "process.roles=controller
node.id=1
controller.quorum.voters=1@localhost:9093,2@localhost:9094,3@localhost:9095
listeners=CONTROLLER://:9093
advertised.listeners=CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
";

const BROKER: &str = "process.roles=broker
node.id=11
controller.quorum.voters=1@localhost:9093,2@localhost:9094,3@localhost:9095
listeners=PLAINTEXT://localhost:9092
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
";

#[test]
fn the_files_of_separate_controllers_and_brokers_start_nodes() {
    let controller = config(CONTROLLER);
    assert_eq!((controller.role, controller.is_alone(), controller.shards), (Role::Controller, false, 1));
    assert_eq!((controller.listeners.len(), controller.advertised.len()), (0, 0));
    assert_eq!(controller.controller_listeners[0].to_string(), "CONTROLLER://:9093");
    assert_eq!(controller.http.map(|http| http.port), Some(9645));
    let broker = config(BROKER);
    assert_eq!((broker.role, broker.is_alone(), broker.shards), (Role::Broker, false, 3));
    assert_eq!((broker.controller_listeners.len(), broker.voters.len()), (0, 3));
    assert_eq!(broker.groups.offsets_replication_factor, 3);
}

#[test]
fn a_role_that_the_rest_of_the_file_does_not_fit_is_refused() {
    let voters = "1@localhost:9093,2@localhost:9094,3@localhost:9095";
    let cases = [
        (
            CONTROLLER
                .replace("listeners=CONTROLLER://:9093", "listeners=CONTROLLER://:9093,PLAINTEXT://:9092"),
            "listener PLAINTEXT is for clients, and with process.roles=controller there are none",
        ),
        (
            CONTROLLER.replace("node.id=1", "node.id=4"),
            "names the nodes 1, 2, 3, and this is node 4; add it there",
        ),
        (
            CONTROLLER.replace("controller.listener.names=CONTROLLER", ""),
            "no listener is for nodes; add one to listeners, such as CONTROLLER://:9093",
        ),
        (
            BROKER.replace("node.id=11", "node.id=2"),
            "names node 2, which is this one, and with process.roles=broker it is no voter",
        ),
        (
            BROKER.replace("localhost:9092", "localhost:9092,CONTROLLER://localhost:9093"),
            "listener CONTROLLER is one for nodes (controller.listener.names), and with process.roles=broker there is none",
        ),
        (BROKER.replace(voters, ""), "controller.quorum.voters is not set; name the controllers there"),
        (
            BROKER.replace("controller.listener.names=CONTROLLER", ""),
            "controller.listener.names is not set; name the listener of the controllers",
        ),
        (BROKER.replace("CONTROLLER:PLAINTEXT", "CONTROLLER:SSL"), "controllers are to be reached by SSL"),
    ];
    for (file, said) in cases {
        let refused = refusal(&file);
        assert!(refused.contains(said), "{file}\n{refused}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(refusal("nope.nope.nope=1\nnum.partitions=x\nprocess.roles=zookeeper").lines().count(), 3);
}

#[test]
fn the_environment_and_the_command_line_win_in_this_order() {
    let environment: Vec<(String, String)> = [
        ("MOLDAU_NUM_PARTITIONS", "5"),
        ("MOLDAU_SHARDS", "2"),
        ("MOLDAU_NODE_ID", "4"),
        ("MOLDAU_LOG", "debug"),
        ("MOLDAU_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec();
    let mut settings = settings_of("node.id=3\nnum.partitions=2");
    let mut problems = Vec::new();
    settings::from_environment(&environment, &mut settings, &mut problems);
    settings::from_command_line(&["node.id=9".to_owned()], &mut settings, &mut problems);
    assert_eq!(problems, []);
    let config = build(&settings, &machine()).unwrap();
    assert_eq!((config.node_id.0, config.topics.partitions, config.shards), (9, 5, 2));

    let strange = [("MOLDAU_NUM_PARTITION".to_owned(), "5".to_owned())];
    settings::from_environment(&strange, &mut settings, &mut problems);
    settings::from_command_line(&["oops".to_owned()], &mut settings, &mut problems);
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "MOLDAU_NUM_PARTITION: there is no such key; did you mean MOLDAU_NUM_PARTITIONS?",
            "--set oops: write it as key=value, such as --set num.partitions=3",
        ]
    );
}

#[test]
fn no_two_keys_share_a_variable() {
    let mut seen = std::collections::BTreeSet::new();
    for def in moldau_base::config::broker_keys() {
        assert!(seen.insert(settings::variable(def.name)), "{}", def.name);
    }
}
