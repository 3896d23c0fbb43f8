//! A client and any number of servers on one switch, with the faults that a cell asks for.

use std::net::Ipv4Addr;

use crate::LabError;
use crate::namespace::Namespace;
use crate::network::{call, drop_datagrams};

/// What the network does to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Per cent of the packets that each server loses, independently. A train of datagrams
    /// that the kernel has not cut yet is one packet here.
    pub loss: u8,
    /// Cut trains before they reach a server, so that datagrams are lost one by one.
    pub cut_trains: bool,
    /// The first server's link carries 100 Mbit/s.
    pub slow_link: bool,
}

/// Rate of a slow link in bits per second.
pub const SLOW_LINK: f64 = 100e6;

/// The network of a cell.
#[derive(Debug)]
pub struct Arena {
    switch: Namespace,
    /// Where the sender runs.
    pub client: Namespace,
    /// Where the receivers run.
    pub servers: Vec<Namespace>,
}

impl Arena {
    /// Makes the network.
    ///
    /// # Errors
    /// Namespaces are not permitted, or `ip` is missing or fails.
    pub fn new(servers: usize) -> Result<Self, LabError> {
        let switch = Namespace::new().map_err(LabError::Namespace)?;
        call(&switch, "ip", "link add switch type bridge")?;
        call(&switch, "ip", "link set switch up")?;
        let client = join(&switch, "client", CLIENT_ADDRESS)?;
        let servers = (0..servers)
            .map(|index| join(&switch, &port(index), server_address(index)))
            .collect::<Result<_, _>>()?;
        Ok(Self { switch, client, servers })
    }

    /// Sets the network's faults; those of an earlier call are gone.
    ///
    /// # Errors
    /// `nft`, `ip` or `tc` is missing or fails.
    pub fn set_faults(&self, faults: Faults) -> Result<(), LabError> {
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
                // Where nothing was ever lost, nft need not be there.
                let _ = call(server, "nft", "flush ruleset");
                continue;
            }
            call(server, "nft", "flush ruleset")?;
            drop_datagrams(server, faults.loss)?;
        }
        Ok(())
    }
}

/// Address of the client.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 103);

/// Address of a server.
#[must_use]
pub fn server_address(index: usize) -> Ipv4Addr {
    // An arena has at most a hundred servers.
    Ipv4Addr::new(192, 168, 122, 110 + index as u8)
}

fn port(index: usize) -> String {
    format!("server{index}")
}

fn join(switch: &Namespace, port: &str, address: Ipv4Addr) -> Result<Namespace, LabError> {
    let node = Namespace::new().map_err(LabError::Namespace)?;
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
