//! The assignment's nodes: a client, two servers and a gateway.

use std::net::Ipv4Addr;

use crate::StageError;

/// One node of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The node's name, as GNS3 shows it.
    pub name: &'static str,
    /// The node's IPv4 address on the switch.
    pub address: Ipv4Addr,
}

/// The assignment's client.
pub const CLIENT: Node = Node { name: "alpine-1", address: Ipv4Addr::new(192, 168, 122, 103) };
/// The assignment's two servers.
pub const SERVERS: [Node; 2] = [
    Node { name: "alpine-2", address: Ipv4Addr::new(192, 168, 122, 90) },
    Node { name: "alpine-3", address: Ipv4Addr::new(192, 168, 122, 132) },
];
/// The gateway, which serves the files in place of the internet.
pub const GATEWAY: Node = Node { name: "gateway", address: Ipv4Addr::new(192, 168, 122, 1) };
/// All nodes.
pub const NODES: [Node; 4] = [CLIENT, SERVERS[0], SERVERS[1], GATEWAY];

/// Finds a node by its name.
///
/// # Errors
/// No node has the name.
pub fn find(name: &str) -> Result<Node, StageError> {
    let found = NODES.into_iter().find(|node| node.name == name);
    found.ok_or_else(|| StageError::UnknownNode(name.to_owned()))
}
