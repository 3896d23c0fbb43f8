//! The verdict on the network: whether the files went over it as UDP broadcasts.

use std::net::SocketAddr;

use siar_core::event::{Event, EventKind};
use siar_proto::wire::transfer_of;
use stage::programs::STYLES;

use super::collected::{Evidence, ServerEvidence, StyleEvidence};
use super::sentence::said;
use super::{Judgement, Sentence};

struct Transfer<'a> {
    id: &'a str,
    name: &'a str,
    bytes: u64,
    digest: &'a str,
    task: &'a str,
}

/// Judges every server by the captured packets and by its own events.
pub(super) fn judge(evidence: &Evidence) -> Judgement {
    let mut datagrams = 0;
    for style in STYLES {
        let run = evidence.style(style)?;
        let transfers: Vec<Transfer<'_>> = run.events.iter().filter_map(transfer).collect();
        for file in &evidence.manifest.files {
            if !transfers.iter().any(|transfer| transfer.digest == file.blake3) {
                return Err(said!("{}: {} was not broadcast", style, file.name));
            }
        }
        for server in &run.servers {
            let port = evidence.manifest.port;
            let judged = judge_server(run, server, &transfers, port);
            datagrams += judged
                .map_err(|fault| said!("{}, {}: {}", style, server.node.name).about(fault))?;
        }
    }
    Ok(said!("{} broadcast datagrams or trains seen at the servers", datagrams))
}

fn transfer(event: &Event) -> Option<Transfer<'_>> {
    let EventKind::BroadcastStarted { transfer, name, bytes, blake3 } = &event.kind else {
        return None;
    };
    let task = event.task.as_deref()?;
    Some(Transfer { id: transfer, name, bytes: *bytes, digest: blake3, task })
}

/// Checks that the transfers reached a server, and returns the number of their datagrams.
fn judge_server(
    run: &StyleEvidence,
    server: &ServerEvidence,
    transfers: &[Transfer<'_>],
    port: u16,
) -> Result<usize, Sentence> {
    for event in &server.events {
        if let EventKind::Received { transfer, .. } = &event.kind
            && !transfers.iter().any(|known| known.id == transfer)
        {
            return Err(said!("received transfer {}, which the client never began", transfer));
        }
    }
    let Some(seen) = &server.datagrams else {
        return Err(said!("no packets were recorded: the lab ran on loopback"));
    };
    let mut count = 0;
    for transfer in transfers {
        let Transfer { id, name, .. } = transfer;
        let received = server.events.iter().any(|event| {
            matches!(&event.kind, EventKind::Received { transfer: received, blake3, bytes, .. }
                if received == id && blake3 == transfer.digest && *bytes == transfer.bytes)
        });
        if !received {
            return Err(said!("never told that it received {} (transfer {})", name, id));
        }
        let confirmed = run.events.iter().any(|event| {
            matches!(&event.kind, EventKind::Confirmed { server: by }
                if event.task.as_deref() == Some(transfer.task)
                    && by.parse::<SocketAddr>().is_ok_and(|by| by.ip() == server.node.address))
        });
        if !confirmed {
            return Err(said!("the client never told that it confirmed {}", name));
        }
        let (mut bytes, mut datagrams) = (0, 0);
        for datagram in seen.iter().filter(|datagram| datagram.is_broadcast) {
            if datagram.port == port && is_of(&datagram.payload, id) {
                bytes += datagram.len as u64;
                datagrams += 1;
            }
        }
        if bytes < transfer.bytes {
            return Err(said!(
                "of {}, {} bytes, {} bytes came as broadcasts to port {}",
                name,
                transfer.bytes,
                bytes,
                port
            ));
        }
        count += datagrams;
    }
    Ok(count)
}

/// Whether a datagram with this payload is a frame of the transfer.
fn is_of(payload: &[u8], transfer: &str) -> bool {
    transfer_of(payload).is_some_and(|id| id.to_string() == transfer)
}
