//! Ports that have to be known before a node listens on them.
//!
//! A port that is merely free at this moment may be another's before the node has it, and again whenever the node is down: another
//! test's, or the near end of any connection of this machine. So ports are taken from below those that the kernel gives away, and each
//! belongs to this process until it ends.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what Linux gives to port 0 and to connections (`net.ipv4.ip_local_port_range`).
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What says that a port is ours: a name in the kernel that goes with the process.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
static NEXT: AtomicU16 = AtomicU16::new(PORTS.start);

/// A port of this process alone.
pub fn free_port() -> u16 {
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(PORTS.contains(&port), "every port is taken");
        let name = SocketAddr::from_abstract_name(format!("moldau-test-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        // Somebody who knows nothing of claims may listen there.
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
}
