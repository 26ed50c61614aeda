//! Clients on this machine are not paced.
//!
//! Where the system's congestion control is BBR, the kernel spaces out what a connection sends with a timer of high resolution, on the
//! loopback interface too, which has no queue to be spared. That timer was a third of the cost of a large fetch. A connection that has
//! once been under BBR is paced for good, so the listener itself is taken from it, and connections from elsewhere are put back.
//! Any other congestion control is left alone: it may have been agreed upon with the network (DCTCP).

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use tokio::net::{TcpListener, TcpStream};

const PACED: &str = "bbr";
/// In every kernel, open to every process, and not paced.
const UNPACED: &str = "reno";

/// What a listener's connections have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// The system's choice stays.
    System,
    /// The system has chosen BBR, and the listener hands out connections without it.
    Remote,
}

impl Pacing {
    /// Prepares a listener.
    pub fn of(listener: &TcpListener) -> Pacing {
        let is_paced = tcp_congestion(listener).is_ok_and(|name| name == PACED);
        match is_paced && set_tcp_congestion(listener, UNPACED).is_ok() {
            true => Pacing::Remote,
            false => Pacing::System,
        }
    }

    /// Gives a connection from another machine what the system has chosen.
    pub fn apply(self, stream: &TcpStream) {
        if self == Pacing::System || is_local(stream) {
            return;
        }
        if let Err(error) = set_tcp_congestion(stream, PACED) {
            tracing::warn!(%error, "a connection goes without the system's congestion control");
        }
    }
}

/// Whether both ends have the same address; packets between them never leave the machine.
fn is_local(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(own), Ok(peer)) => own.ip() == peer.ip(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_on_this_machine_is_not_paced_and_one_elsewhere_is_as_the_system_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let system = tcp_congestion(&listener).unwrap();
        let pacing = Pacing::of(&listener);
        let address = listener.local_addr().unwrap();
        let accepted = async |from: &str| {
            let client = tokio::net::TcpSocket::new_v4().unwrap();
            client.bind(from.parse().unwrap()).unwrap();
            let (client, accepted) = tokio::join!(client.connect(address), listener.accept());
            let (stream, _) = accepted.unwrap();
            pacing.apply(&stream);
            drop(client.unwrap());
            tcp_congestion(&stream).unwrap()
        };
        assert_ne!(accepted("127.0.0.1:0").await, PACED);
        // Another address is another machine, as far as one socket can tell.
        assert_eq!(accepted("127.0.0.2:0").await, system);
    }
}
