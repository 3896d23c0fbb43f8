//! The check of what a server can receive: its folder, its addresses, its buffer, its key.

use std::fs;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::statvfs::statvfs;

use super::ReceiveConfig;
use crate::io::net::{Interface, ReceiveSocket, ip};
use crate::io::seal::Key;
use crate::io::store::FolderTraits;

/// What a check has found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Check {
    /// What there is, in lines of a subject and its description.
    pub found: Vec<(&'static str, String)>,
    /// What keeps the server from running.
    pub faults: Vec<String>,
    /// What can make it slow or deaf.
    pub warnings: Vec<String>,
}

impl Check {
    fn find(&mut self, subject: &'static str, description: impl Into<String>) {
        self.found.push((subject, description.into()));
    }
}

/// Checks what a server of this configuration could receive. Its port is bound for a moment, as
/// another server on this machine would bind it.
#[must_use]
pub fn check(config: &ReceiveConfig) -> Check {
    let mut check = Check::default();
    check_folder(config, &mut check);
    check_socket(config, &mut check);
    check_addresses(config, &mut check);
    match config.key_file.as_deref().map(Key::load) {
        Some(Ok(_)) => check.find("key", "only frames that are sealed with it are taken"),
        Some(Err(error)) => check.faults.push(error.to_string()),
        None => check.find("key", "none: whoever is on the network can send files"),
    }
    let limit = |limit: u64| if limit == u64::MAX { "none".to_owned() } else { size(limit) };
    check.find(
        "limits",
        format!("one file {}, all files {}", limit(config.max_file), limit(config.quota)),
    );
    check
}

fn check_folder(config: &ReceiveConfig, check: &mut Check) {
    let dir = config.dir.display();
    let traits = match FolderTraits::examine(&config.dir) {
        Ok(traits) => traits,
        Err(error) => return check.faults.push(format!("cannot write to {dir}: {error}")),
    };
    let free = statvfs(&config.dir)
        .map_or(0, |space| space.blocks_available().saturating_mul(space.fragment_size()));
    let (free, longest) = (size(free), traits.longest_name());
    check.find("folder", format!("{dir}: {free} free, names of at most {longest} bytes"));
}

fn check_socket(config: &ReceiveConfig, check: &mut Check) {
    let bound = ReceiveSocket::bind(config.bind, &config.groups, config.interface.as_ref());
    let socket = match bound {
        Ok(socket) => socket,
        Err(error) => return check.faults.push(error.to_string()),
    };
    check.find("listens at", config.bind.to_string());
    for group in &config.groups {
        check.find("group", format!("{group}: joined"));
    }
    let granted = socket.set_recv_buffer(config.recv_buffer).and_then(|()| socket.recv_buffer());
    match granted {
        // The kernel tells twice the size that it grants.
        Ok(granted) => {
            let (granted, wanted) = (u64::from(granted) / 2, config.recv_buffer as u64);
            check.find("buffer", format!("{} of {} granted", size(granted), size(wanted)));
            if granted < wanted {
                check.warnings.push(format!(
                    "a small receive buffer loses datagrams: sysctl -w net.core.rmem_max={wanted}"
                ));
            }
        }
        Err(error) => check.faults.push(format!("receive buffer: {error}")),
    }
}

fn check_addresses(config: &ReceiveConfig, check: &mut Check) {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            return check.warnings.push(format!("the interfaces cannot be listed: {error}"));
        }
    };
    let mut hears_broadcasts = false;
    for interface in interfaces {
        let name = &interface.interface_name;
        let Some(address) = interface.address.as_ref().and_then(ip) else { continue };
        let is_heard = match &config.interface {
            None => config.bind.ip().is_unspecified() || config.bind.ip() == address,
            Some(Interface::Name(only)) => only == name,
            Some(Interface::Address(only)) => *only == address,
        };
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        if !is_heard || !is_up || address.is_ipv4() != config.bind.is_ipv4() {
            continue;
        }
        let broadcast = interface.broadcast.as_ref().and_then(ip);
        let broadcast =
            broadcast.filter(|_| interface.flags.contains(InterfaceFlags::IFF_BROADCAST));
        hears_broadcasts |= broadcast.is_some() && config.bind.ip().is_unspecified();
        let broadcast = broadcast.map_or(String::new(), |it| format!(", broadcast {it}"));
        let mtu = fs::read_to_string(format!("/sys/class/net/{name}/mtu")).unwrap_or_default();
        let mtu = if mtu.is_empty() { String::new() } else { format!(", MTU {}", mtu.trim()) };
        check.find("address", format!("{name} {address}{broadcast}{mtu}"));
    }
    if !hears_broadcasts && config.groups.is_empty() {
        check.warnings.push(
            "no broadcast reaches this server: no interface that can is up, or --bind names one \
             address; bind 0.0.0.0, or join a multicast --group"
                .to_owned(),
        );
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}
