//! The command line: every command, argument and default, with the text of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A Kafka-wire-compatible log broker, and the tools to look at it.
#[derive(Debug, Parser)]
#[command(name = "moldau", version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    /// Without a command: start a single node with safe defaults
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What all commands take.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Brokers to connect to, as host:port,host:port
    #[arg(
        long,
        short = 'b',
        global = true,
        value_name = "HOST:PORT",
        env = "MOLDAU_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap_server: String,
    /// Tables for people or JSON for machines
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    Table,
    /// JSON for machines
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node; prints `ready HOST:PORT` when clients can connect
    Start(Start),
    /// Start a cluster on this machine, each node in a zone of its own
    Local(Local),
    /// See for yourself what the brokers do
    Demo(Demo),
    /// List nodes, and drain those that are to go
    Nodes(Nodes),
    /// List, create, describe, change and delete topics
    Topics(Topics),
    /// Send the lines of standard input, or of a file, as records
    Produce(Produce),
    /// Print records
    Consume(Consume),
    /// List, describe, reset and delete consumer groups
    Groups(Groups),
    /// Look into log files, without a running node
    Log(Log),
    /// What can be configured
    Config(Config),
    /// Print the version
    Version,
}

impl Default for Command {
    fn default() -> Command {
        Command::Start(Start::default())
    }
}

/// Arguments of `start`.
#[derive(Debug, Default, Args)]
pub struct Start {
    /// A server.properties, as Kafka has it
    #[arg(long, short = 'c', value_name = "FILE", env = "MOLDAU_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set a key; wins over the file and the environment
    #[arg(long, short = 's', value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stop when the process that started this one is gone
    #[arg(long, hide = true)]
    pub ends_with_parent: bool,
    /// Say over standard input that this process runs
    #[arg(long, hide = true)]
    pub watched: bool,
}

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct Local {
    /// Number of nodes, each in a zone of its own
    #[arg(long, short = 'z', default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=5))]
    pub zones: u16,
    /// Port of the first node; the others follow, and controllers listen 100 above
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
    /// Where the nodes keep their data
    #[arg(long, default_value = "moldau-local", value_name = "FOLDER")]
    pub data: PathBuf,
    /// Set a key on every node
    #[arg(long, short = 's', value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    #[command(subcommand)]
    pub action: DemoAction,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum DemoAction {
    /// Kill nodes of a cluster under load: how long writes stop, and that nothing acknowledged is lost
    Failover(Failover),
}

/// Arguments of `demo failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// Records a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub rate: u32,
    /// Seconds of load before and after each fault
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// Port of the first node, as of `moldau local`; free ones where not given
    #[arg(long)]
    pub port: Option<u16>,
}

/// Arguments of `nodes`.
#[derive(Debug, Args)]
pub struct Nodes {
    #[command(subcommand)]
    pub action: NodesAction,
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodesAction {
    /// List nodes, what they lead and what they hold
    List,
    /// Move everything away from a node, so that it can be stopped for good
    Drain {
        /// Its id
        #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
        id: i32,
        /// Only give leadership away; the node keeps its replicas
        #[arg(long)]
        leaders_only: bool,
        /// Most partitions that move at one time
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        at_once: u16,
        /// Print what would be moved, and move nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Arguments of `topics`.
#[derive(Debug, Args)]
pub struct Topics {
    #[command(subcommand)]
    pub action: TopicsAction,
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsAction {
    /// List topics
    List {
        /// Those of the brokers themselves, too
        #[arg(long)]
        internal: bool,
    },
    /// Create a topic
    Create {
        /// Its name
        name: String,
        /// Number of partitions; the broker's num.partitions where not given
        #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Number of replicas; the broker's default.replication.factor where not given
        #[arg(long, short = 'r', value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// Set a config of the topic, such as retention.ms=3600000
        #[arg(long, short = 's', value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Succeed if the topic is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Show a topic's partitions and its own configs
    Describe {
        /// Its name
        name: String,
        /// All configs, with the defaults
        #[arg(long)]
        all_configs: bool,
    },
    /// Change a topic
    Alter {
        /// Its name
        name: String,
        /// Give it more partitions: this many in all
        #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Set a config
        #[arg(long, short = 's', value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Take a config back to its default
        #[arg(long, short = 'u', value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete a topic with all its records
    Delete {
        /// Its name
        name: String,
        /// Succeed if there is no such topic
        #[arg(long)]
        if_exists: bool,
    },
}

/// Arguments of `produce`.
#[derive(Debug, Args)]
pub struct Produce {
    /// The topic
    pub topic: String,
    /// Read lines from here, not from standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The part of a line before this is the record's key
    #[arg(long, short = 'k', value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Send everything to this partition
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Compression of batches
    #[arg(long, short = 'z', value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Acknowledgements: all, 1 or 0
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
}

/// A compression codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// None
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

/// Acknowledgements asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// Of all replicas in sync
    All,
    /// Of the leader
    #[value(name = "1")]
    Leader,
    /// None
    #[value(name = "0")]
    None,
}

/// Arguments of `consume`.
#[derive(Debug, Args)]
pub struct Consume {
    /// The topics
    #[arg(required = true)]
    pub topics: Vec<String>,
    /// Read as a member of this consumer group, and commit
    #[arg(long, short = 'g')]
    pub group: Option<String>,
    /// Where to begin (in a group: where nothing is committed): beginning, end, an offset, or a time such as
    /// @1700000000000 in milliseconds
    #[arg(long, short = 'o', default_value = "end", value_name = "POSITION")]
    pub from: String,
    /// Only this partition
    #[arg(long, short = 'p', conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub max: Option<u64>,
    /// Stop at what is the end now
    #[arg(long, short = 'e')]
    pub until_end: bool,
    /// Print the key and this text before each value
    #[arg(long, short = 'k', value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Only records of committed transactions
    #[arg(long)]
    pub read_committed: bool,
}

/// Arguments of `groups`.
#[derive(Debug, Args)]
pub struct Groups {
    #[command(subcommand)]
    pub action: GroupsAction,
}

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupsAction {
    /// List groups
    List,
    /// Show a group's members, offsets and lag
    Describe {
        /// Its id
        group: String,
    },
    /// Set the offsets of a group without members
    Reset {
        /// Its id
        group: String,
        /// The topic
        #[arg(long, short = 't')]
        topic: String,
        /// Where the group goes on: beginning, end, an offset, or a time such as @1700000000000 in milliseconds
        #[arg(long, value_name = "POSITION")]
        to: String,
    },
    /// Delete a group without members, and its offsets
    Delete {
        /// Its id
        group: String,
    },
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct Log {
    #[command(subcommand)]
    pub action: LogAction,
}

/// What to do with log files.
#[derive(Debug, Subcommand)]
pub enum LogAction {
    /// Show a partition's segments and batches, check every checksum and index
    Dump {
        /// Directory of the partition, such as moldau-data/hello-0
        directory: PathBuf,
        /// Segments and what is wrong only, not every batch
        #[arg(long)]
        summary: bool,
    },
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What to show of the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print the reference of all keys, as Markdown
    Reference,
    /// Check a configuration and print what a node would be started with
    Check(Start),
}
