//! Faults of the network: loss, a link that goes down, MTU and receive buffers.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use siar_core::event::EventKind;
use stage::network::{Network, call};
use stage::node::{Node, SERVERS};
use stage::samples::noise;

use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered};

/// Drops the UDP packets that an nftables expression selects, at each server.
pub(crate) fn lossy(scene: &Scene, picked: &str, len: usize) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", len)])?;
    let servers = scene.servers()?;
    for node in SERVERS {
        let Some(namespace) = scene.network.namespace(node) else { continue };
        for command in [
            "add table ip faults",
            "add chain ip faults input { type filter hook input priority 0 ; policy accept ; }",
            &format!("add rule ip faults input meta l4proto udp {picked} drop"),
        ] {
            call(namespace, "nft", command)?;
        }
    }
    // Without trains each datagram is a packet, so that datagrams are lost one by one.
    let arguments = ["--servers", "2", "--no-segmentation", &source.url(0)];
    let begin = Instant::now();
    let ended = scene.client("mt", "client", &arguments)?.wait()?;
    ended.expect(0, &[])?;
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    let (of_source, repair) = ended.datagrams();
    let what = format!(
        "{:.1} s, {:.2} datagrams for each of the source",
        begin.elapsed().as_secs_f64(),
        (of_source + repair) as f64 / of_source as f64
    );
    Ok(Observed::new(what, copies))
}

pub(crate) fn link_down(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 64 << 20)])?;
    let servers = scene.servers()?;
    let arguments = ["--servers", "2", "--rate", "268mbit", &source.url(0)];
    let client = scene.client("mt", "client", &arguments)?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::BroadcastStarted { .. })
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let Network::Namespaces { switch, .. } = &scene.network else {
        return Err("no switch".into());
    };
    let port = SERVERS[1].name;
    call(switch, "ip", &format!("link set {port} down"))?;
    std::thread::sleep(Duration::from_secs(3));
    call(switch, "ip", &format!("link set {port} up"))?;
    let since = Instant::now();
    client.wait()?.expect(0, &[])?;
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    Ok(Observed::new("both have it", copies).recovered(since))
}

pub(crate) fn small_receive_buffer(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 64 << 20)])?;
    let first = scene.server(SERVERS[0], &[])?;
    let second = scene.server(SERVERS[1], &["--recv-buffer", "128KiB"])?;
    let buffer = receive_buffer(scene, SERVERS[1])?;
    if buffer > 256 << 10 {
        return Err(format!("its receive buffer holds {buffer} bytes").into());
    }
    let begin = Instant::now();
    let ended = scene.client("mt", "client", &["--servers", "2", &source.url(0)])?.wait()?;
    ended.expect(0, &[])?;
    let copies = delivered(&first, &source.samples)? + delivered(&second, &source.samples)?;
    let (_, repair) = ended.datagrams();
    let took = begin.elapsed().as_secs_f64();
    let what = format!("{} KiB: {took:.1} s, {repair} repair datagrams", buffer >> 10);
    Ok(Observed::new(what, copies))
}

/// The size of the receive buffer of a node's server in bytes, by the kernel's account.
fn receive_buffer(scene: &Scene, node: Node) -> Result<u64, Box<dyn std::error::Error>> {
    let mut command = Command::new("ss");
    command.args(["--no-header", "--udp", "--all", "--memory"]).stdout(Stdio::piped());
    let output = scene.network.spawn(node, &mut command)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let bytes = text.split_once(",rb").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    bytes.ok_or_else(|| format!("no receive buffer in {text:?}").into())
}

pub(crate) fn mtu(scene: &Scene, mtu: usize) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 16 << 20)])?;
    let Network::Namespaces { switch, nodes, .. } = &scene.network else {
        return Err("no switch".into());
    };
    for node in stage::node::NODES {
        call(switch, "ip", &format!("link set {} mtu {mtu}", node.name))?;
    }
    for node in nodes {
        call(node, "ip", &format!("link set eth0 mtu {mtu}"))?;
    }
    let servers = scene.servers()?;
    let ended = scene.client("mt", "client", &["--servers", "2", &source.url(0)])?.wait()?;
    ended.expect(0, &[])?;
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    let (of_source, repair) = ended.datagrams();
    let bytes = source.samples[0].bytes.len() as u64 / of_source.max(1);
    Ok(Observed::new(format!("{bytes} bytes a datagram, {repair} repair datagrams"), copies))
}
