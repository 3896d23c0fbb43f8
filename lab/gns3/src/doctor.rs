//! Checks that this machine has what the lab and GNS3 need, with a remedy for each failed check.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use stage::system;
use stage::target::{NodeTarget, read_static};

use crate::api::Server;
use crate::error::ServerError;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The check passed.
    Well,
    /// The check failed; a part of the lab does not work.
    Lacking,
    /// The check failed; `cargo lab` cannot do its main job.
    Ill,
}

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The lab on this machine.
    Lab,
    /// Programs that are copied to other machines.
    Dist,
    /// The lab in GNS3.
    Gns3,
}

impl Purpose {
    /// All purposes, in the order of the output.
    pub const ALL: [Self; 3] = [Self::Lab, Self::Dist, Self::Gns3];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lab => "the lab on this machine (cargo lab)",
            Self::Dist => "programs for other machines (cargo lab dist)",
            Self::Gns3 => "the lab in GNS3 (cargo lab gns3)",
        })
    }
}

/// One check with its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the check is for.
    pub purpose: Purpose,
    /// The name of the check.
    pub what: &'static str,
    /// The result.
    pub health: Health,
    /// The observation, in words.
    pub seen: String,
    /// The remedy; empty if the check passed.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.health {
            Health::Well => "ok  ",
            Health::Lacking => "warn",
            Health::Ill => "FAIL",
        };
        write!(f, "{word}  {:<24} {}", self.what, self.seen)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n      -> {}", self.remedy) }
    }
}

fn finding(what: &'static str, health: Health, seen: impl Into<String>, remedy: &str) -> Finding {
    let remedy = if health == Health::Well { String::new() } else { remedy.to_owned() };
    Finding { purpose: Purpose::Lab, what, health, seen: seen.into(), remedy }
}

/// The findings as text: those of each purpose under a heading, and a verdict for each purpose.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let of = |purpose| findings.iter().filter(move |found| found.purpose == purpose);
    for purpose in Purpose::ALL {
        text.push_str(&format!("{purpose}\n"));
        of(purpose).for_each(|found| text.push_str(&format!("{found}\n")));
        text.push('\n');
    }
    for purpose in Purpose::ALL {
        let lacking = |health| {
            let lacking = of(purpose).filter(|found| found.health == health);
            lacking.map(|found| found.what).collect::<Vec<_>>().join(", ")
        };
        let verdict = match (lacking(Health::Ill), lacking(Health::Lacking)) {
            (ill, _) if !ill.is_empty() => format!("does not work without: {ill}"),
            (_, lacking) if !lacking.is_empty() => format!("works in part; see: {lacking}"),
            _ => "ready".to_owned(),
        };
        text.push_str(&format!("{purpose}: {verdict}\n"));
    }
    text
}

/// Checks this machine, and the GNS3 server at the URL `address`.
#[must_use]
pub fn examine(address: &str, user: &str, password: &str) -> Vec<Finding> {
    let mut lab = vec![
        compiler(),
        namespaces(),
        program("iproute2", &["ip", "-V"], Health::Ill, "apt install iproute2"),
        program(
            "nftables",
            &["nft", "--version"],
            Health::Lacking,
            "apt install nftables, for --loss and faults",
        ),
        receive_buffer(),
        overlay(),
    ];
    lab.extend(offloads());
    let gns3 = vec![
        bridge_filter(),
        docker(),
        busybox(),
        program(
            "QEMU",
            &["qemu-system-x86_64", "--version"],
            Health::Lacking,
            "apt install qemu-system-x86, for --nodes qemu",
        ),
        program(
            "dynamips",
            &["dynamips", "-P", "7200"],
            Health::Lacking,
            "apt install dynamips (Debian: non-free), for GNS3's switch",
        ),
        program(
            "ubridge",
            &["ubridge", "-v"],
            Health::Lacking,
            "GNS3's packages have it: it carries packets between nodes",
        ),
        nat(),
        gns3(address, user, password),
    ];
    let with = |purpose| move |found| Finding { purpose, ..found };
    let lab = lab.into_iter().map(with(Purpose::Lab));
    let dist = targets().into_iter().map(with(Purpose::Dist));
    lab.chain(dist).chain(gns3.into_iter().map(with(Purpose::Gns3))).collect()
}

/// Looks for the C compiler, with which cargo links every program.
fn compiler() -> Finding {
    program("C compiler", &["cc", "--version"], Health::Ill, "apt install gcc libc6-dev")
}

/// Checks for which processors programs can be built that need nothing of the machine they run on.
fn targets() -> Vec<Finding> {
    let targets = match NodeTarget::all() {
        Ok(targets) => targets,
        Err(error) => {
            let remedy = "install Rust: https://rustup.rs";
            return vec![finding("Rust compiler", Health::Ill, error.to_string(), remedy)];
        }
    };
    let of = |arch| targets.iter().find(|target| target.arch() == arch);
    let check = |what, arch, without, remedy: &str| match of(arch) {
        Some(target) => finding(what, Health::Well, target.to_string(), ""),
        None => finding(what, without, "no target with its C compiler", remedy),
    };
    let is_arm = cfg!(target_arch = "aarch64");
    let without = |is_native| if is_native { Health::Ill } else { Health::Lacking };
    vec![
        check(
            "x86_64",
            "x86_64",
            without(!is_arm),
            "rustup target add x86_64-unknown-linux-musl, apt install musl-tools",
        ),
        check(
            "aarch64",
            "aarch64",
            without(is_arm),
            "rustup target add aarch64-unknown-linux-gnu, apt install gcc-aarch64-linux-gnu",
        ),
    ]
}

/// Tries a network namespace, on a separate thread, so that this process stays in its own.
fn namespaces() -> Finding {
    let tried = thread::spawn(|| -> io::Result<()> {
        if geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
            return Ok(());
        }
        // A process with several threads may not make a user namespace, but a child may.
        let status = system::command("unshare")
            .args(["--user", "--map-root-user", "--net", "true"])
            .stderr(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    });
    match tried.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
        Ok(()) => finding("network namespaces", Health::Well, "permitted", ""),
        Err(error) => finding(
            "network namespaces",
            Health::Ill,
            error.to_string(),
            "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000, on Ubuntu also \
             kernel.apparmor_restrict_unprivileged_userns=0; or run as root; or use --loopback",
        ),
    }
}

fn program(what: &'static str, words: &[&str], without: Health, remedy: &str) -> Finding {
    match first_line(words) {
        Some(line) => finding(what, Health::Well, line, ""),
        None => finding(what, without, format!("no {}", words[0]), remedy),
    }
}

/// The first line of a program's output. Some programs print it on standard error, and with an
/// exit code other than 0.
fn first_line(words: &[&str]) -> Option<String> {
    let output = system::command(words[0]).args(&words[1..]).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

const WANTED_BUFFER: usize = siar_core::io::net::RECEIVE_BUFFER;

fn receive_buffer() -> Finding {
    let what = "receive buffer";
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    let limit = limit.trim().parse::<usize>().unwrap_or(0);
    if geteuid().is_root() {
        return finding(what, Health::Well, "root may have any", "");
    }
    let health = if limit >= WANTED_BUFFER { Health::Well } else { Health::Lacking };
    let remedy = format!("sysctl -w net.core.rmem_max={WANTED_BUFFER}: a fast sender loses less");
    finding(what, health, format!("at most {limit} bytes"), &remedy)
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = known.lines().any(|line| line.split('\t').next_back() == Some("overlay"));
    let health = if is_known { Health::Well } else { Health::Lacking };
    let seen = if is_known { "known" } else { "not loaded" };
    finding("overlay file system", health, seen, "modprobe overlay, for --rootfs")
}

/// Checks the filter for bridges, which Docker enables: bridges then drop the unicast answers of
/// servers.
fn bridge_filter() -> Finding {
    let what = "bridge-nf-call-iptables";
    match fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables") {
        Err(_) => finding(what, Health::Well, "not there: bridges are not filtered", ""),
        Ok(text) if text.trim() == "0" => finding(what, Health::Well, "0", ""),
        Ok(text) => finding(
            what,
            Health::Lacking,
            text.trim(),
            "sysctl -w net.bridge.bridge-nf-call-iptables=0: with Docker's rules, broadcasts arrive at \
             GNS3's nodes, and no answer comes back",
        ),
    }
}

/// Checks the offloads of the interface with the route to the internet.
fn offloads() -> Option<Finding> {
    let what = "segmentation offload";
    let route = first_line(&["ip", "-o", "route", "get", "192.0.2.1"])?;
    let mut words = route.split_ascii_whitespace();
    words.find(|word| *word == "dev")?;
    let interface = words.next()?.to_owned();
    let Some(output) = system::command("ethtool").args(["-k", &interface]).output().ok() else {
        let remedy = "apt install ethtool, to look";
        return Some(finding(what, Health::Lacking, format!("{interface}: no ethtool"), remedy));
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_on = text.lines().any(|line| line.trim().starts_with("tx-checksumming: on"));
    let health = if is_on { Health::Well } else { Health::Lacking };
    let seen = format!("{interface}: transmit checksums {}", if is_on { "on" } else { "off" });
    let remedy =
        "without them each datagram takes a call of its own, as in GNS3: slower, not wrong";
    Some(finding(what, health, seen, remedy))
}

fn docker() -> Finding {
    let what = "Docker";
    let output =
        system::command("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    let Ok(output) = output else {
        let remedy = "apt install docker.io, for GNS3's Docker nodes; or use --nodes qemu";
        return finding(what, Health::Lacking, "not installed", remedy);
    };
    if output.status.success() {
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return finding(what, Health::Well, version, "");
    }
    docker_fault(&String::from_utf8_lossy(&output.stderr))
}

/// The finding for what `docker version` says when it fails.
fn docker_fault(said: &str) -> Finding {
    let (seen, remedy) = if said.contains("permission denied") {
        (
            "installed, but you may not use its socket",
            "sudo usermod -aG docker $USER, then log out and in again",
        )
    } else {
        ("installed, but its engine does not answer", "sudo systemctl start docker")
    };
    finding("Docker", Health::Lacking, seen, remedy)
}

/// Looks for the static busybox that GNS3 copies into its Docker nodes.
fn busybox() -> Finding {
    let what = "busybox, static";
    let remedy = "apt install busybox-static: GNS3's Docker nodes do not start without it";
    let Some(path) = system::find("busybox") else {
        return finding(what, Health::Lacking, "no busybox", remedy);
    };
    match read_static(&path) {
        Ok(_) => finding(what, Health::Well, path.display().to_string(), ""),
        Err(error) => finding(what, Health::Lacking, error.to_string(), remedy),
    }
}

fn nat() -> Finding {
    let is_there = Path::new("/sys/class/net/virbr0").exists();
    let health = if is_there { Health::Well } else { Health::Lacking };
    let seen = if is_there { "virbr0 is there" } else { "no virbr0" };
    let remedy =
        "apt install libvirt-daemon-system, virsh net-start default: GNS3's way to the internet";
    finding("NAT", health, seen, remedy)
}

fn gns3(address: &str, user: &str, password: &str) -> Finding {
    let what = "GNS3 server";
    match Server::connect(address, user, password) {
        Ok(server) => finding(what, Health::Well, format!("{} at {address}", server.release), ""),
        Err(ServerError::Unreachable { .. }) => {
            let remedy = "start gns3server, or name it with --server";
            finding(what, Health::Lacking, format!("none at {address}"), remedy)
        }
        Err(error) => finding(what, Health::Lacking, error.to_string(), "see docs/GNS3.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_permission_is_not_a_missing_docker() {
        let said = "permission denied while trying to connect to the Docker daemon socket";
        assert!(docker_fault(said).remedy.contains("usermod"));
        assert!(docker_fault("Cannot connect to the Docker daemon").remedy.contains("start"));
    }

    #[test]
    fn each_purpose_has_a_verdict() {
        let text = text(&examine("http://127.0.0.1:9", "admin", "admin"));
        for purpose in Purpose::ALL {
            assert_eq!(text.matches(&purpose.to_string()).count(), 2, "{text}");
        }
    }

    #[test]
    fn only_failed_checks_have_a_remedy() {
        for found in examine("http://127.0.0.1:9", "admin", "admin") {
            assert_eq!(found.health == Health::Well, found.remedy.is_empty(), "{found}");
            assert!(!found.seen.is_empty(), "{found}");
        }
    }
}
