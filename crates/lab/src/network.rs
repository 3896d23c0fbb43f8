//! The seed's network: three Alpine nodes and a gateway on one switch.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command};

use crate::LabError;
use crate::namespace::Namespace;
use crate::rootfs::Views;

/// One node of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// As GNS3 shows it.
    pub name: &'static str,
    /// Its address on the switch.
    pub address: Ipv4Addr,
}

const PREFIX_LENGTH: u8 = 24;

/// The seed's client.
pub const CLIENT: Node = Node { name: "alpine-1", address: Ipv4Addr::new(192, 168, 122, 103) };
/// The seed's two servers.
pub const SERVERS: [Node; 2] = [
    Node { name: "alpine-2", address: Ipv4Addr::new(192, 168, 122, 90) },
    Node { name: "alpine-3", address: Ipv4Addr::new(192, 168, 122, 132) },
];
/// Where the internet would be: it serves the files.
pub const GATEWAY: Node = Node { name: "gateway", address: Ipv4Addr::new(192, 168, 122, 1) };
/// All of them.
pub const NODES: [Node; 4] = [CLIENT, SERVERS[0], SERVERS[1], GATEWAY];

/// Where the nodes are.
#[derive(Debug)]
pub enum Network {
    /// Each in a network namespace, joined by a bridge in one more.
    Namespaces {
        /// Holds the switch.
        switch: Namespace,
        /// In the order of [`NODES`].
        nodes: Vec<Namespace>,
        /// Where the nodes have their own root file systems.
        views: Option<Views>,
    },
    /// All on this machine's loopback interface.
    Loopback,
}

impl Network {
    /// Makes the seed's network.
    ///
    /// # Errors
    /// Namespaces are not permitted, or `ip` of iproute2 is missing or fails.
    pub fn namespaces() -> Result<Self, LabError> {
        let switch = Namespace::new().map_err(LabError::Namespace)?;
        ip(&switch, "link add switch type bridge")?;
        ip(&switch, "link set switch up")?;
        let mut nodes = Vec::new();
        for node in NODES {
            let namespace = Namespace::new().map_err(LabError::Namespace)?;
            let (port, path) = (node.name, namespace.path());
            let path = path.display();
            ip(&switch, &format!("link add {port} type veth peer name eth0 netns {path}"))?;
            ip(&switch, &format!("link set {port} master switch up"))?;
            let address = node.address;
            ip(&namespace, &format!("addr add {address}/{PREFIX_LENGTH} broadcast + dev eth0"))?;
            ip(&namespace, "link set lo up")?;
            ip(&namespace, "link set eth0 up")?;
            if node != GATEWAY {
                ip(&namespace, &format!("route add default via {}", GATEWAY.address))?;
            }
            nodes.push(namespace);
        }
        Ok(Self::Namespaces { switch, nodes, views: None })
    }

    /// Gives the client and the servers root file systems of their own; not on loopback.
    pub fn set_views(&mut self, of_nodes: Views) {
        if let Self::Namespaces { views, .. } = self {
            *views = Some(of_nodes);
        }
    }

    /// The namespace of a node; `None` on loopback.
    #[must_use]
    pub fn namespace(&self, node: Node) -> Option<&Namespace> {
        match self {
            Self::Namespaces { nodes, .. } => {
                NODES.iter().position(|other| *other == node).and_then(|index| nodes.get(index))
            }
            Self::Loopback => None,
        }
    }

    /// Where a client broadcasts to.
    #[must_use]
    pub fn broadcast_address(&self) -> IpAddr {
        match self {
            Self::Namespaces { .. } => Ipv4Addr::BROADCAST.into(),
            Self::Loopback => LOOPBACK_BROADCAST.into(),
        }
    }

    /// Where a server listens; on loopback only there, so that nothing from outside gets in.
    #[must_use]
    pub fn listen_address(&self) -> IpAddr {
        match self {
            Self::Namespaces { .. } => Ipv4Addr::UNSPECIFIED.into(),
            Self::Loopback => LOOPBACK_BROADCAST.into(),
        }
    }

    /// A node's own address.
    #[must_use]
    pub fn address(&self, node: Node) -> IpAddr {
        match self {
            Self::Namespaces { .. } => node.address.into(),
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Starts a process on a node, in its own root file system if it has one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, node: Node, command: &mut Command) -> io::Result<Child> {
        self.on(node, || {
            if let Self::Namespaces { views: Some(views), .. } = self
                && node != GATEWAY
            {
                views.enter(node)?;
            }
            command.spawn()
        })
    }

    /// Does something on a node.
    ///
    /// # Errors
    /// The node's namespace cannot be entered, or `work` fails.
    pub fn on<T: Send>(
        &self,
        node: Node,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        match self.namespace(node) {
            Some(namespace) => namespace.enter(work),
            None => work(),
        }
    }

    /// Makes a node lose this many per cent of the packets that reach it; not on loopback.
    ///
    /// # Errors
    /// `nft` is not installed, or fails.
    pub fn drop_datagrams(&self, node: Node, percent: u8) -> Result<(), LabError> {
        self.namespace(node).map_or(Ok(()), |namespace| drop_datagrams(namespace, percent))
    }
}

/// Makes a namespace lose this many per cent of the UDP packets that reach it.
pub(crate) fn drop_datagrams(namespace: &Namespace, percent: u8) -> Result<(), LabError> {
    for command in [
        "add table ip lab",
        "add chain ip lab input { type filter hook input priority 0 ; policy accept ; }",
        &format!("add rule ip lab input meta l4proto udp numgen random mod 100 < {percent} drop"),
    ] {
        call(namespace, "nft", command)?;
    }
    Ok(())
}

const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

fn ip(namespace: &Namespace, arguments: &str) -> Result<(), LabError> {
    call(namespace, "ip", arguments)
}

/// Runs a program of the system in a namespace, to set it up.
pub(crate) fn call(namespace: &Namespace, program: &str, arguments: &str) -> Result<(), LabError> {
    let command =
        || LabError::Command { command: format!("{program} {arguments}"), output: String::new() };
    let output = namespace
        .enter(|| Command::new(program).args(arguments.split_ascii_whitespace()).output())
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LabError::MissingProgram {
                program: program.to_owned(),
                remedy: "apt install iproute2 nftables (Debian, Ubuntu), dnf install iproute nftables \
                         (Fedora), apk add iproute2 nftables (Alpine)",
            },
            _ => LabError::Namespace(error),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let mut error = command();
    if let LabError::Command { output: said, .. } = &mut error {
        *said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    Err(error)
}
