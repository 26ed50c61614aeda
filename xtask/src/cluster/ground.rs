//! Where the nodes of a cluster stand: each in a network namespace of its own, joined by a bridge, or all on the loopback interface.
//!
//! The namespaces belong to a process that has network, mount and process namespaces of its own ([`enter`]): when it ends, however it ends, the
//! kernel takes bridge, interfaces, rules, mounts and processes away with it. What is cut is dropped where it arrives, by nftables rules in
//! the receiver's namespace (set by iptables in its nft form), so that senders see silence, as on a network, and no error.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{NODES, must};
use crate::{apt, toolbox};

/// Ports inside of namespaces, where nobody else listens.
const PORTS: (u16, u16) = (9092, 9093);
const BRIDGE: &str = "bridge";
const IPTABLES: &str = "usr/sbin/xtables-nft-multi";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PACKAGES: [&str; 8] = [
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libmnl0",
    "libnfnetlink0",
    "libnftnl11",
    "libnetfilter-conntrack3",
];

/// Someone on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A node, by its place from 0.
    Node(usize),
    /// All clients.
    Clients,
}

impl Party {
    /// Everybody but one.
    pub fn others(of: Party) -> Vec<Party> {
        let all = (0..NODES).map(Party::Node).chain([Party::Clients]);
        all.filter(|party| *party != of).collect()
    }

    fn address(self) -> String {
        match self {
            Party::Node(at) => format!("10.77.0.{}", at + 1),
            Party::Clients => "10.77.0.254".into(),
        }
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Party::Node(at) => write!(f, "node {}", at + 1),
            Party::Clients => f.write_str("clients"),
        }
    }
}

/// Where the nodes stand.
pub enum Ground {
    /// On the loopback interface; ports of clients and of controllers.
    Loopback(Vec<(u16, u16)>),
    /// In namespaces of their own, which are files of this folder.
    Namespaces(PathBuf),
}

impl Ground {
    /// Ports of the loopback interface that are free now.
    pub fn loopback() -> Result<Self> {
        let free = || TcpListener::bind("127.0.0.1:0");
        let held = (0..2 * NODES).map(|_| free()).collect::<std::io::Result<Vec<_>>>()?;
        let ports = held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        Ok(Self::Loopback(ports.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()))
    }

    /// Makes the namespaces, their files in `folder`, and joins them; for a process that has [entered](enter) its own.
    pub fn lay(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let ground = Self::Namespaces(folder.to_owned());
        let ip = |words: &str| must(Command::new("ip").args(words.split(' ')));
        ip("link set lo up")?;
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("addr add {}/24 dev {BRIDGE}", Party::Clients.address()))?;
        ip(&format!("link set {BRIDGE} up"))?;
        for at in 0..NODES {
            let file = namespace(folder, at);
            std::fs::File::create(&file)?;
            must(Command::new("unshare").arg(net(&file)).arg("true"))?;
            let inside = |words: &str| must(ground.command(at, Path::new("ip")).args(words.split(' ')));
            let own = std::process::id();
            inside("link set lo up")?;
            inside(&format!("link add eth0 type veth peer name node{at} netns {own}"))?;
            ip(&format!("link set node{at} master {BRIDGE} up"))?;
            inside(&format!("addr add {}/24 dev eth0", Party::Node(at).address()))?;
            inside("link set eth0 up")?;
        }
        Ok(ground)
    }

    /// Where clients reach a node.
    pub fn client_address(&self, at: usize) -> String {
        match self {
            Self::Loopback(ports) => format!("127.0.0.1:{}", ports[at].0),
            Self::Namespaces(_) => format!("{}:{}", Party::Node(at).address(), PORTS.0),
        }
    }

    /// Where controllers reach a node.
    pub fn controller_address(&self, at: usize) -> String {
        match self {
            Self::Loopback(ports) => format!("127.0.0.1:{}", ports[at].1),
            Self::Namespaces(_) => format!("{}:{}", Party::Node(at).address(), PORTS.1),
        }
    }

    /// A program that runs where a node stands.
    pub fn command(&self, at: usize, program: &Path) -> Command {
        match self {
            Self::Loopback(_) => Command::new(program),
            Self::Namespaces(folder) => {
                let mut command = Command::new("nsenter");
                command.arg(net(&namespace(folder, at))).arg(program);
                command
            }
        }
    }

    fn at(&self, party: Party, program: &Path) -> Command {
        match party {
            Party::Node(at) => self.command(at, program),
            Party::Clients => Command::new(program),
        }
    }
}

fn namespace(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("net-{}", at + 1))
}

fn net(file: &Path) -> OsString {
    let mut word = OsString::from("--net=");
    word.push(file);
    word
}

/// The program that sets the rules, and what it needs of the environment.
pub struct Filter {
    program: PathBuf,
    folder: Option<PathBuf>,
}

impl Filter {
    /// The machine's iptables, or Debian's unpacked into `.tools/`.
    pub fn obtain() -> Result<Self> {
        if let Some(program) = toolbox::find("iptables") {
            return Ok(Self { program, folder: None });
        }
        let dir = toolbox::dir("iptables")?;
        let recipe = PACKAGES.join(" ");
        toolbox::once(&dir, &recipe, || apt::unpack(&PACKAGES, &dir))
            .context("iptables cannot be installed into .tools")?;
        let program = dir.join(IPTABLES);
        ensure!(program.is_file(), "the package iptables has no {IPTABLES}");
        Ok(Self { program, folder: Some(dir) })
    }

    fn rule(&self, ground: &Ground, party: Party, words: &[&str]) -> Result<()> {
        let mut command = ground.at(party, &self.program);
        if let Some(folder) = &self.folder {
            let libraries = folder.join(LIBRARIES);
            command.arg("iptables").env("XTABLES_LIBDIR", libraries.join("xtables"));
            command.env("LD_LIBRARY_PATH", libraries);
        }
        must(command.args(words))
    }

    /// Whether rules can be set here at all.
    pub fn try_out(&self, ground: &Ground) -> Result<()> {
        self.rule(ground, Party::Clients, &["-S", "INPUT"])
    }

    /// Drops what goes from each first to its second.
    pub fn cut(&self, ground: &Ground, ways: &[(Party, Party)]) -> Result<()> {
        for (from, to) in ways {
            self.rule(ground, *to, &["-A", "INPUT", "-s", &from.address(), "-j", "DROP"])?;
        }
        Ok(())
    }

    /// Hands what arrives at a node to a program that listens to queue 0 there; while none does, it passes.
    pub fn queue(&self, ground: &Ground, at: usize) -> Result<()> {
        let words = ["-A", "INPUT", "!", "-i", "lo", "-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass"];
        self.rule(ground, Party::Node(at), &words)
    }

    /// Takes all rules away.
    pub fn heal(&self, ground: &Ground) -> Result<()> {
        let all = (0..NODES).map(Party::Node).chain([Party::Clients]);
        all.into_iter().try_for_each(|party| self.rule(ground, party, &["-F", "INPUT"]))
    }
}

/// What a process with namespaces of its own is started by. Its death is theirs, and the death of this process is its own.
const ENTER: [&str; 10] = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
];

/// Which network a process with namespaces of its own has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own.
    Own,
    /// That of the machine.
    Shared,
}

/// A command that runs this program in mount and process namespaces of its own, and such a network; an error where that is not allowed.
pub fn enter(network: Network) -> Result<Command> {
    toolbox::need(&["setpriv", "unshare", "nsenter", "ip"])?;
    let is_root = rustix::process::geteuid().is_root();
    let command = || {
        let mut command = Command::new(ENTER[0]);
        command.args(&ENTER[1..]);
        if network == Network::Own {
            command.arg("--net");
        }
        if !is_root {
            command.arg("--map-root-user");
        }
        command
    };
    let tried = match network {
        Network::Own => command().args(["ip", "link", "add", BRIDGE, "type", "bridge"]).output()?,
        Network::Shared => command().arg("true").output()?,
    };
    if !tried.status.success() {
        bail!("{}", String::from_utf8_lossy(&tried.stderr).trim());
    }
    let mut own = command();
    own.arg(std::env::current_exe()?);
    Ok(own)
}
