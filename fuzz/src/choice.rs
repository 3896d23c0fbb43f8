//! Frames that an attacker would choose: well formed, with values near the limits.

use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use siar_proto::wire::{
    Announce, Body, Confirm, DeficitRun, End, EndReason, Frame, Join, Poll, ReceiverId,
    ReceiverState, Refuse, RefuseReason, Status, Symbol, TransferId,
};

/// Chooses one of a few hosts.
pub(crate) fn host(u: &mut Unstructured<'_>) -> Result<SocketAddr> {
    Ok(SocketAddr::from(([10, 0, 0, u.int_in_range(1..=4)?], 5005)))
}

/// Chooses a datagram of one of a few transfers, or bytes that are not a frame.
pub(crate) fn datagram(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(1, 8)? {
        let len = u.int_in_range(0..=200)?;
        return Ok(u.bytes(len)?.to_vec());
    }
    let transfer = TransferId(u.int_in_range(40..=43)?);
    let receiver = ReceiverId(u.int_in_range(1..=3)?);
    let payload = [7; 2000];
    let runs;
    let body = match u.int_in_range(0..=7)? {
        0 => Body::Announce(Announce {
            size: if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=5000)? },
            symbol_size: if u.ratio(1, 8)? { u.arbitrary()? } else { 100 },
            block_symbols: if u.ratio(1, 8)? { u.arbitrary()? } else { 4 },
            code: if u.ratio(1, 8)? { u.arbitrary()? } else { 1 },
            blake3: [0; 32],
            time_ms: 0,
            name: "file",
        }),
        1 => Body::Symbol(Symbol {
            block: if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=12)? },
            symbol: if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=8)? },
            payload: if u.ratio(1, 8)? {
                &payload[..u.int_in_range(0..=1500)?]
            } else {
                &payload[..100]
            },
        }),
        2 => Body::Poll(Poll {
            round: u.arbitrary()?,
            horizon: u.arbitrary()?,
            slot_micros: if u.ratio(1, 2)? { 0 } else { u.arbitrary()? },
        }),
        3 => {
            runs = u
                .arbitrary_iter::<(u16, u16, u8)>()?
                .take(6)
                .filter_map(Result::ok)
                .map(|(first, count, deficit)| DeficitRun {
                    first: u32::from(first) % 10,
                    count: 1 + u32::from(count) % 10,
                    deficit: 1 + u16::from(deficit) % 10,
                })
                .collect();
            Body::Status(Status {
                receiver,
                round: if u.ratio(1, 4)? { u.arbitrary()? } else { u.int_in_range(0..=20)? },
                covered: if u.ratio(1, 8)? { u.arbitrary()? } else { u.int_in_range(0..=8)? },
                received: u.arbitrary()?,
                overflowed: u.arbitrary()?,
                window: u.arbitrary()?,
                state: match u.arbitrary()? {
                    true => ReceiverState::Receiving,
                    false => ReceiverState::Verifying,
                },
                runs,
            })
        }
        4 => Body::Join(Join { receiver, recv_buffer: u.arbitrary()?, window: u.arbitrary()? }),
        5 => Body::Refuse(Refuse { receiver, reason: RefuseReason::Storage, text: "no" }),
        6 => Body::Confirm(Confirm { receiver, proof: [u.arbitrary()?; 32] }),
        _ => Body::End(End { reason: EndReason::Cancelled }),
    };
    Ok(Frame { transfer, body }.to_datagram())
}
