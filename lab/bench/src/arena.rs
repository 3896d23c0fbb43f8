//! The network of a cell: a client and servers on one switch, with the cell's network faults.

use std::net::Ipv4Addr;

use stage::StageError;
use stage::namespace::Namespace;
use stage::network::{call, drop_datagrams};

/// The network faults at the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The part of the packets that each server loses independently, in per cent. A train of
    /// datagrams that the kernel has not yet split counts as one packet.
    pub loss: u8,
    /// Whether trains are split before they reach a server, so that datagrams are lost one by one.
    pub cut_trains: bool,
    /// Whether the first server's link is limited to 100 Mbit/s.
    pub slow_link: bool,
}

/// The rate of a slow link, in bits per second.
pub const SLOW_LINK: f64 = 100e6;

/// The network of a cell: namespaces that a bridge joins.
#[derive(Debug)]
pub struct Arena {
    switch: Namespace,
    /// The namespace of the sender.
    pub client: Namespace,
    /// The namespaces of the receivers.
    pub servers: Vec<Namespace>,
}

impl Arena {
    /// Makes a network with `servers` receivers, at most 100, and without faults.
    ///
    /// # Errors
    /// Namespaces are not permitted, or `ip` is missing or fails.
    pub fn new(servers: usize) -> Result<Self, StageError> {
        let switch = Namespace::new().map_err(StageError::Namespace)?;
        call(&switch, "ip", "link add switch type bridge")?;
        call(&switch, "ip", "link set switch up")?;
        let client = join(&switch, "client", CLIENT_ADDRESS)?;
        let servers = (0..servers)
            .map(|index| join(&switch, &port(index), server_address(index)))
            .collect::<Result<_, _>>()?;
        Ok(Self { switch, client, servers })
    }

    /// Sets the network's faults, in place of the faults of an earlier call.
    ///
    /// # Errors
    /// `nft`, `ip` or `tc` is missing or fails.
    pub fn set_faults(&self, faults: Faults) -> Result<(), StageError> {
        for (index, server) in self.servers.iter().enumerate() {
            let port = port(index);
            let segments = if faults.cut_trains { 1 } else { 65_535 };
            call(&self.switch, "ip", &format!("link set {port} gso_max_segs {segments}"))?;
            if faults.slow_link && index == 0 {
                call(
                    &self.switch,
                    "tc",
                    &format!(
                        "qdisc replace dev {port} root tbf rate 100mbit burst 64kb latency 50ms"
                    ),
                )?;
            } else {
                call(&self.switch, "tc", &format!("qdisc replace dev {port} root noqueue"))?;
            }
            if faults.loss == 0 {
                // Without any loss so far there are no rules, and nft may be missing.
                let _ = call(server, "nft", "flush ruleset");
                continue;
            }
            call(server, "nft", "flush ruleset")?;
            drop_datagrams(server, faults.loss)?;
        }
        Ok(())
    }
}

/// The address of the client.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 103);

/// The address of the server with this index, from 0 to 99.
#[must_use]
pub fn server_address(index: usize) -> Ipv4Addr {
    // An arena has at most a hundred servers.
    Ipv4Addr::new(192, 168, 122, 110 + index as u8)
}

fn port(index: usize) -> String {
    format!("server{index}")
}

fn join(switch: &Namespace, port: &str, address: Ipv4Addr) -> Result<Namespace, StageError> {
    let node = Namespace::new().map_err(StageError::Namespace)?;
    let path = node.path();
    let path = path.display();
    call(switch, "ip", &format!("link add {port} type veth peer name eth0 netns {path}"))?;
    call(switch, "ip", &format!("link set {port} master switch up"))?;
    call(&node, "ip", &format!("addr add {address}/24 broadcast + dev eth0"))?;
    call(&node, "ip", "link set lo up")?;
    call(&node, "ip", "link set eth0 up")?;
    call(&node, "ip", "route add default via 192.168.122.1")?;
    Ok(node)
}
