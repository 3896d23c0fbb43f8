//! The plan of the lab in GNS3: nodes, links, notes, and the files that nodes need.

use std::fmt::Write as _;
use std::io::{self, Cursor, Write};
use std::net::Ipv4Addr;

use clap::ValueEnum;
use serde_json::{Value, json};
use stage::StageError;
use stage::node::{CLIENT, GATEWAY, Node, SERVERS};
use stage::programs::{Programs, STYLES};
use stage::target::read_static;

/// The default name of the project.
pub const PROJECT: &str = "siar-lab";
/// The folder of the programs on a node.
pub const HOME: &str = "/siar";
const SWITCH: &str = "switch-1";
const NAT: &str = "nat-1";
/// The default image of Docker nodes.
pub const DOCKER_IMAGE: &str = "alpine:latest";
/// The default disk image of QEMU nodes, as GNS3's appliance for Alpine names it.
pub const QEMU_IMAGE: &str = "alpine-virt-3.18.4.qcow2";
/// The command that gives a QEMU node its address and its programs; it is typed once.
pub const SETUP: &str = "mkdir -p /media/cdrom; mount -t vfat -o ro /dev/sr0 /media/cdrom; \
                         sh /media/cdrom/setup.sh";
/// The command that runs `setup.sh` unless this disk was set up already; `setup.sh` copies the
/// digest at its end.
pub const SETUP_IF_NEEDED: &str = "mkdir -p /media/cdrom; umount /media/cdrom 2>/dev/null; \
     mount -t vfat -o ro /dev/sr0 /media/cdrom && \
     { cmp -s /media/cdrom/digest /siar/digest || sh /media/cdrom/setup.sh; }";
const MEDIUM: &str = "siar.img";
/// The bytes of a CD-ROM's sector.
const SECTOR: u16 = 2048;
/// The bytes that a file system needs besides its files.
const MEDIUM_MARGIN: usize = 1 << 20;

/// The kind of the three Alpine nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Docker containers.
    Docker,
    /// QEMU virtual machines.
    Qemu,
}

/// A file in a node's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// The file's path in the node's folder.
    pub path: String,
    /// The file's content.
    pub bytes: Vec<u8>,
    /// Whether GNS3 adds lines to the file; the file then needs only to have all planned lines.
    pub is_extended: bool,
}

/// A planned node.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// The node's name, as GNS3 shows it.
    pub name: String,
    /// The node's kind: GNS3's `node_type`.
    pub node_type: &'static str,
    /// Whether the node has a telnet console.
    pub has_console: bool,
    /// The path of the node's symbol in GNS3.
    pub symbol: &'static str,
    /// The position on the canvas, x and y in pixels.
    pub position: (i32, i32),
    /// The planned values of GNS3's properties; properties that are not listed may have any value.
    pub properties: Value,
    /// Properties that can be set only after the node's files are written.
    pub later_properties: Value,
    /// The files in the node's folder.
    pub files: Vec<NodeFile>,
}

/// A port of a node: a port number of GNS3's adapter 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The node's name.
    pub node: String,
    /// The port number; the adapter number is always 0.
    pub number: u32,
}

/// A note on the canvas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The note as an SVG file.
    pub svg: String,
    /// The position on the canvas, x and y in pixels.
    pub position: (i32, i32),
}

/// The plan of the whole lab.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// The Alpine nodes, then switch and NAT node.
    pub nodes: Vec<PlannedNode>,
    /// The links, each with its two ends.
    pub links: Vec<[Port; 2]>,
    /// The notes on the canvas.
    pub notes: Vec<Note>,
}

/// The Alpine nodes: the client and the servers.
#[must_use]
pub fn alpines() -> [Node; 3] {
    [CLIENT, SERVERS[0], SERVERS[1]]
}

impl Topology {
    /// Plans the assignment's lab with nodes of this kind and image, and with these programs.
    ///
    /// # Errors
    /// A program cannot be read or is not static, or a disk for QEMU cannot be made.
    pub fn new(kind: Kind, image: &str, programs: &Programs) -> Result<Self, StageError> {
        // GNS3 adds this tag to a name without a tag.
        let has_tag = image.rsplit('/').next().is_some_and(|name| name.contains(':'));
        let image = match kind {
            Kind::Docker if !has_tag => &format!("{image}:latest"),
            _ => image,
        };
        let mut nodes = Vec::new();
        let mut links = Vec::new();
        for (number, node) in (0..).zip(alpines()) {
            let programs = programs_of(node, programs)?;
            nodes.push(match kind {
                Kind::Docker => docker_node(node, number, image, programs),
                Kind::Qemu => qemu_node(node, number, image, programs)?,
            });
            links.push([port(node.name, 0), port(SWITCH, number)]);
        }
        let ports: Vec<Value> = (0..8)
            .map(|number| {
                let name = format!("Ethernet{number}");
                json!({"name": name, "port_number": number, "type": "access", "vlan": 1})
            })
            .collect();
        let joining = |name: &str, node_type, symbol, position, properties| PlannedNode {
            name: name.to_owned(),
            node_type,
            has_console: false,
            symbol,
            position,
            properties,
            later_properties: json!({}),
            files: Vec::new(),
        };
        let ports = json!({ "ports_mapping": ports });
        let symbol = ":/symbols/ethernet_switch.svg";
        nodes.push(joining(SWITCH, "ethernet_switch", symbol, (0, 0), ports));
        nodes.push(joining(NAT, "nat", ":/symbols/cloud.svg", (0, -160), json!({})));
        links.push([port(NAT, 0), port(SWITCH, 7)]);
        Ok(Self { nodes, links, notes: notes(kind) })
    }

    /// Removes the NAT node and its link.
    pub fn remove_nat(&mut self) {
        self.nodes.retain(|node| node.name != NAT);
        self.links.retain(|ends| ends.iter().all(|end| end.node != NAT));
    }
}

fn port(node: &str, number: u32) -> Port {
    Port { node: node.to_owned(), number }
}

/// The programs for a node: all four styles for the client, only the server for a server.
fn programs_of(node: Node, programs: &Programs) -> Result<Vec<(String, Vec<u8>)>, StageError> {
    let paths = match node == CLIENT {
        true => STYLES.map(|style| programs.client(style)).into(),
        false => vec![programs.server()],
    };
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, read_static(&path)?))
    };
    paths.into_iter().chain([programs.observer()]).map(read).collect()
}

fn place(number: u32) -> (i32, i32) {
    [(-260, 160), (0, 160), (260, 160)][number as usize % 3]
}

/// The node's network configuration as a file, see interfaces(5); busybox' `ifup` reads it too.
fn interfaces(address: Ipv4Addr) -> String {
    let gateway = GATEWAY.address;
    format!(
        "auto lo\n\
         iface lo inet loopback\n\
         \n\
         auto eth0\n\
         iface eth0 inet static\n\
         \taddress {address}\n\
         \tnetmask 255.255.255.0\n\
         \tgateway {gateway}\n\
         \tup echo nameserver {gateway} > /etc/resolv.conf\n"
    )
}

fn docker_node(
    node: Node,
    number: u32,
    image: &str,
    programs: Vec<(String, Vec<u8>)>,
) -> PlannedNode {
    // The container's init script reads mode, owner and group of uploaded files here.
    let mut modes = String::new();
    for (name, _) in &programs {
        let _ = writeln!(modes, "755:0:0:{HOME}/{name}");
    }
    let file = |path: String, bytes: Vec<u8>| NodeFile { path, bytes, is_extended: false };
    let mut files =
        vec![file("etc/network/interfaces".to_owned(), interfaces(node.address).into())];
    let home = HOME.trim_start_matches('/');
    files.extend(programs.into_iter().map(|(name, bytes)| file(format!("{home}/{name}"), bytes)));
    files.push(NodeFile {
        path: format!("{home}/.gns3_perms"),
        bytes: modes.into(),
        is_extended: true,
    });
    PlannedNode {
        name: node.name.to_owned(),
        node_type: "docker",
        has_console: true,
        symbol: ":/symbols/docker_guest.svg",
        position: place(number),
        properties: json!({
            "image": image,
            "adapters": 1,
            "start_command": "/bin/sh",
            "environment": format!("PATH={HOME}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            "extra_volumes": [HOME],
        }),
        later_properties: json!({}),
        files,
    }
}

fn qemu_node(
    node: Node,
    number: u32,
    image: &str,
    programs: Vec<(String, Vec<u8>)>,
) -> Result<PlannedNode, StageError> {
    let setup = format!(
        "#!/bin/sh\n\
         # Gives this node its address, and the programs a place to run from.\n\
         set -e\n\
         here=$(dirname \"$0\")\n\
         ifdown -a 2>/dev/null || true\n\
         ip addr flush dev eth0\n\
         cp \"$here/interfaces\" /etc/network/interfaces\n\
         hostname {name}\n\
         mkdir -p {HOME}\n\
         rm -f {HOME}/*\n\
         cp \"$here\"/bin/* {HOME}/\n\
         chmod 755 {HOME}/*\n\
         ifup -a\n\
         cp \"$here/digest\" {HOME}/digest\n",
        name = node.name
    );
    let mut files = vec![
        ("setup.sh".to_owned(), setup.into_bytes()),
        ("interfaces".to_owned(), interfaces(node.address).into_bytes()),
    ];
    let mut digest = blake3::Hasher::new();
    for (_, bytes) in &programs {
        digest.update(bytes);
    }
    files.push(("digest".to_owned(), digest.finalize().to_string().into_bytes()));
    files.extend(programs.into_iter().map(|(name, bytes)| (format!("bin/{name}"), bytes)));
    let medium = medium(&files).map_err(StageError::file(MEDIUM.as_ref()))?;
    Ok(PlannedNode {
        name: node.name.to_owned(),
        node_type: "qemu",
        has_console: true,
        symbol: ":/symbols/qemu_guest.svg",
        position: place(number),
        properties: json!({
            "platform": std::env::consts::ARCH,
            "hda_disk_image": image,
            "hda_disk_interface": "virtio",
            "ram": 256,
            "adapters": 1,
            "adapter_type": "virtio-net-pci",
        }),
        later_properties: json!({ "cdrom_image": MEDIUM }),
        files: vec![NodeFile { path: MEDIUM.to_owned(), bytes: medium, is_extended: false }],
    })
}

/// A FAT file system with a CD-ROM's sectors, which every Linux can mount. Equal files give
/// equal bytes.
fn medium(files: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let len: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let sectors = (len + MEDIUM_MARGIN).div_ceil(usize::from(SECTOR));
    let mut image = Cursor::new(vec![0; sectors * usize::from(SECTOR)]);
    let options = fatfs::FormatVolumeOptions::new().bytes_per_sector(SECTOR);
    fatfs::format_volume(&mut image, options.volume_label(*b"SIAR       "))?;
    image.set_position(0);
    {
        let system = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new())?;
        let root = system.root_dir();
        root.create_dir("bin")?;
        for (path, bytes) in files {
            root.create_file(path)?.write_all(bytes)?;
        }
    }
    Ok(image.into_inner())
}

fn notes(kind: Kind) -> Vec<Note> {
    let first = match kind {
        Kind::Docker => "Start all nodes, then open their consoles (double click).".to_owned(),
        Kind::Qemu => format!("Start all nodes, log in as root, and type on each: {SETUP}"),
    };
    let [one, two, three] = alpines();
    let mut notes = vec![
        note(&["Siar: one client, two servers, four kinds of concurrency", &first], (-420, -290)),
        note(
            &[
                &format!("{} ({}), the client:", one.name, one.address),
                &format!("  {HOME}/mt-async --servers 2"),
                "  then the same with mp, mt and mp-async",
            ],
            (-420, 240),
        ),
    ];
    for (node, x) in [(two, -60), (three, 220)] {
        notes.push(note(
            &[
                &format!("{} ({}), a server:", node.name, node.address),
                &format!("  mkdir -p /tmp/files && {HOME}/server --dir /tmp/files"),
            ],
            (x, 240),
        ));
    }
    notes
}

fn note(lines: &[&str], position: (i32, i32)) -> Note {
    let text = lines.join("\n");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let width = 8 * lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\
         <text font-family=\"TypeWriter\" font-size=\"10.0\" font-weight=\"bold\" \
         fill=\"#000000\" stroke=\"none\">{text}</text></svg>",
        height = 18 * lines.len()
    );
    Note { svg, position }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_medium_holds_its_files_and_is_the_same_each_time() {
        let files = vec![
            ("setup.sh".to_owned(), b"#!/bin/sh\n".to_vec()),
            ("bin/mp-async".to_owned(), vec![7; 3_000_000]),
        ];
        let bytes = medium(&files).unwrap();
        assert_eq!(bytes, medium(&files).unwrap());
        let system = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
        for (path, bytes) in files {
            let mut read = Vec::new();
            system.root_dir().open_file(&path).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{path}");
        }
    }
}
