//! The four addresses of a node, twice: where it listens, and where others reach it.

use std::net::Ipv4Addr;

/// Ports of a node, the same on every host.
const PORTS: [u16; 4] = [7400, 7401, 7402, 7403];

/// Addresses of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// For clients, peers, administrators and health checks, in this order.
    pub listen: [String; 4],
    /// The same as others reach them.
    pub reached: [String; 4],
}

/// The four addresses on a host.
pub fn on(ip: Ipv4Addr) -> [String; 4] {
    PORTS.map(|port| format!("{ip}:{port}"))
}
