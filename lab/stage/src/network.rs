//! The assignment's network: its nodes on one switch, or all of them on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::StageError;
use crate::namespace::{Namespace, become_lab_root};
use crate::node::{GATEWAY, NODES, Node};
use crate::rootfs::Views;
use crate::system;

const PREFIX_LENGTH: u8 = 24;
/// The time that processes have to end before they are killed.
const END_TIME: Duration = Duration::from_secs(2);

/// The network that the nodes share.
#[derive(Debug)]
pub enum Network {
    /// Each node is a network namespace; a bridge in a further namespace joins them.
    Namespaces {
        /// The namespace of the bridge.
        switch: Namespace,
        /// The namespaces of the nodes, in the order of [`NODES`].
        nodes: Vec<Namespace>,
        /// The root file systems of the nodes; `None`: the nodes see this machine's.
        views: Option<Views>,
    },
    /// All nodes share this machine's loopback interface.
    Loopback,
}

impl Network {
    /// Makes the assignment's network.
    ///
    /// # Errors
    /// Namespaces are not permitted, or `ip` of iproute2 is missing or fails.
    pub fn namespaces() -> Result<Self, StageError> {
        let switch = Namespace::new().map_err(StageError::Namespace)?;
        ip(&switch, "link add switch type bridge")?;
        ip(&switch, "link set switch up")?;
        let mut nodes = Vec::new();
        for node in NODES {
            let namespace = Namespace::new().map_err(StageError::Namespace)?;
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

    /// Makes the assignment's network. Where namespaces are not permitted, prints a warning and
    /// returns [`Network::Loopback`]. The function must be called before any thread is started:
    /// the process becomes root of a new user namespace.
    ///
    /// # Errors
    /// `ip` of iproute2 is missing or fails.
    pub fn namespaces_or_loopback() -> Result<Self, StageError> {
        let network =
            become_lab_root().map_err(StageError::Namespace).and_then(|()| Self::namespaces());
        match network {
            Err(StageError::Namespace(error)) => {
                eprintln!(
                    "no network namespaces here ({error}): running over loopback, 127.255.255.255, \
                     instead"
                );
                Ok(Self::Loopback)
            }
            other => other,
        }
    }

    /// Gives the client and the servers root file systems of their own. On loopback nothing
    /// happens.
    pub fn set_views(&mut self, of_nodes: Views) {
        if let Self::Namespaces { views, .. } = self {
            *views = Some(of_nodes);
        }
    }

    /// The namespace of a node, or `None` on loopback.
    #[must_use]
    pub fn namespace(&self, node: Node) -> Option<&Namespace> {
        match self {
            Self::Namespaces { nodes, .. } => {
                NODES.iter().position(|other| *other == node).and_then(|index| nodes.get(index))
            }
            Self::Loopback => None,
        }
    }

    /// The address that a client broadcasts to.
    #[must_use]
    pub fn broadcast_address(&self) -> IpAddr {
        match self {
            Self::Namespaces { .. } => Ipv4Addr::BROADCAST.into(),
            Self::Loopback => LOOPBACK_BROADCAST.into(),
        }
    }

    /// The address that a server listens on. On loopback it is the loopback network's broadcast
    /// address, so that nothing from outside reaches the server.
    #[must_use]
    pub fn listen_address(&self) -> IpAddr {
        match self {
            Self::Namespaces { .. } => Ipv4Addr::UNSPECIFIED.into(),
            Self::Loopback => LOOPBACK_BROADCAST.into(),
        }
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, node: Node) -> IpAddr {
        match self {
            Self::Namespaces { .. } => node.address.into(),
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Starts a process on a node, in the node's own root file system if the node has one.
    ///
    /// # Errors
    /// The process cannot be started.
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

    /// Does `work` in the namespace of a node.
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

    /// Ends the processes on all nodes: first with SIGTERM, and after two seconds with SIGKILL. On
    /// loopback nothing happens.
    ///
    /// # Errors
    /// The list of processes cannot be read.
    pub fn end_processes(&self) -> io::Result<()> {
        let Self::Namespaces { nodes, .. } = self else { return Ok(()) };
        let begin = Instant::now();
        let mut is_asked = false;
        loop {
            let mut left = Vec::new();
            for node in nodes {
                left.extend(node.processes()?);
            }
            if left.is_empty() || begin.elapsed() > END_TIME * 2 {
                return Ok(());
            }
            let signal = match (is_asked, begin.elapsed() > END_TIME) {
                (false, _) => Some(Signal::SIGTERM),
                (true, false) => None,
                (true, true) => Some(Signal::SIGKILL),
            };
            for pid in left {
                // The process may have ended meanwhile.
                let _ = signal.map(|signal| kill(pid, signal));
            }
            is_asked = true;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a node drop `percent` per cent of the UDP packets that reach it.
    ///
    /// # Errors
    /// The nodes share loopback, or `nft` is not installed, or fails.
    pub fn drop_datagrams(&self, node: Node, percent: u8) -> Result<(), StageError> {
        let namespace = self.namespace(node).ok_or(StageError::NoLossOnLoopback)?;
        drop_datagrams(namespace, percent)
    }

    /// Counts the UDP packets that have reached a node since [`Network::drop_datagrams`].
    ///
    /// # Errors
    /// The node drops none, or `nft` is not installed, or fails.
    pub fn packet_counts(&self, node: Node) -> Result<PacketCounts, StageError> {
        let namespace = self.namespace(node).ok_or(StageError::NoLossOnLoopback)?;
        let count = |counter: &str| {
            let text = call(namespace, "nft", &format!("list counter ip lab {counter}"))?;
            let mut words = text.split_ascii_whitespace().skip_while(|word| *word != "packets");
            let count = words.nth(1).and_then(|count| count.parse().ok());
            count.ok_or_else(|| StageError::Command {
                command: format!("nft list counter ip lab {counter}"),
                output: format!("no count of packets in {text:?}"),
            })
        };
        Ok(PacketCounts { arrived: count("arrived")?, dropped: count("dropped")? })
    }
}

/// The UDP packets that reached a node. A packet may hold several datagrams (segmentation offload).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketCounts {
    /// The packets that reached the node.
    pub arrived: u64,
    /// Those of `arrived` that the node dropped.
    pub dropped: u64,
}

/// Makes a namespace drop `percent` per cent of the UDP packets that reach it.
///
/// # Errors
/// `nft` is not installed, or fails.
pub fn drop_datagrams(namespace: &Namespace, percent: u8) -> Result<(), StageError> {
    for command in [
        "add table ip lab",
        "add counter ip lab arrived",
        "add counter ip lab dropped",
        "add chain ip lab input { type filter hook input priority 0 ; policy accept ; }",
        "add rule ip lab input meta l4proto udp counter name arrived",
        &format!(
            "add rule ip lab input meta l4proto udp numgen random mod 100 < {percent} counter \
             name dropped drop"
        ),
    ] {
        call(namespace, "nft", command)?;
    }
    Ok(())
}

const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

fn ip(namespace: &Namespace, arguments: &str) -> Result<(), StageError> {
    call(namespace, "ip", arguments).map(drop)
}

/// Runs a program of the system in a namespace, to configure the namespace. Returns the program's
/// standard output.
///
/// # Errors
/// The program is not installed, or fails.
pub fn call(namespace: &Namespace, program: &str, arguments: &str) -> Result<String, StageError> {
    let command =
        || StageError::Command { command: format!("{program} {arguments}"), output: String::new() };
    let output = namespace
        .enter(|| system::command(program).args(arguments.split_ascii_whitespace()).output())
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StageError::MissingProgram {
                program: program.to_owned(),
                remedy: "apt install iproute2 nftables (Debian, Ubuntu), dnf install iproute nftables \
                         (Fedora), apk add iproute2 nftables (Alpine)",
            },
            _ => StageError::Namespace(error),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut error = command();
    if let StageError::Command { output: said, .. } = &mut error {
        *said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    Err(error)
}
