//! The answers of a receiver, and their times.

use std::time::{Duration, Instant};

use super::reassembly::Reassembly;
use super::stale::DiscardFrom;
use super::transfers::{Entry, Question, State};
use super::{MIN_RECEIVE_WINDOW, Receiver, TransferKey};
use crate::wire::{Body, Confirm, Frame, Join, Poll, ReceiverId, ReceiverState, Refuse, Status};

/// Below this receive window, in blocks, a sender may have to wait: it is told when the window
/// opens.
const NEARLY_CLOSED_WINDOW: usize = 16;

impl Receiver {
    /// Takes a poll. The answer is due in this receiver's slot.
    pub(super) fn handle_poll(&mut self, now: Instant, key: TransferKey, poll: Poll) {
        let slot = now + slot(self.config.id, &poll);
        let Some(Entry { transfer, .. }) = self.transfers.entry(key) else { return };
        // An older poll is late, or somebody sends it again: its answer would be worth nothing.
        if poll.round < transfer.latest_round {
            return;
        }
        transfer.latest_round = poll.round;
        // A newer poll does not postpone an answer: else a fast sender would never get one.
        let due = transfer.status_due.map_or(slot, |(due, _)| due.min(slot));
        transfer.status_due = Some((due, Question { poll, received: transfer.received }));
        if due <= now {
            self.answer_due_poll(now, key);
        }
    }

    /// Answers the transfer's latest poll, if the answer is due.
    pub(super) fn answer_due_poll(&mut self, now: Instant, key: TransferKey) {
        let Some(Entry { transfer, .. }) = self.transfers.entry(key) else { return };
        if let Some((_, question)) = transfer.status_due.take_if(|(due, _)| *due <= now) {
            transfer.is_known = true;
            // A sender keeps to the receive window that it is told and sends no symbol that would
            // show the lack of memory: stale blocks have to go before the answer.
            if self.memory.is_half_used() {
                self.discard_stale_blocks(now, key, DiscardFrom::OtherTransfers);
            }
            self.reply(key, Some(question));
        }
    }

    /// Answers the sender of a transfer: to `question`, or to an announcement if it is `None`. The
    /// answers of a transfer never have more bytes than its datagrams: a receiver does not amplify
    /// traffic.
    pub(super) fn reply(&mut self, key: TransferKey, question: Option<Question>) {
        let receiver = self.config.id;
        let active = self.active_transfers().max(1);
        let available = self.memory.available();
        let Some(Entry { transfer, .. }) = self.transfers.entry(key) else { return };
        // What may be said is known before the answer is worked out.
        let allowed = transfer.bytes_in.saturating_sub(transfer.bytes_out);
        let max_runs = Status::runs_within(allowed);
        if question.is_some() && max_runs.is_none() {
            return;
        }
        let max_runs = max_runs.unwrap_or(0);
        let unwritten = transfer.unwritten;
        let receive_window = |reassembly: &Reassembly| {
            let block = reassembly.largest_block().max(1);
            let free = available / block / active;
            let promised = MIN_RECEIVE_WINDOW.saturating_sub(unwritten);
            (reassembly.open_blocks() + free).max(promised).min(usize::from(u16::MAX)) as u16
        };
        let mut window_closed = transfer.window_closed;
        let body = match (transfer.state(), question) {
            (State::Offered(_) | State::Ended, _) => return,
            (State::Receiving(reassembly), None) => Body::Join(Join {
                receiver,
                recv_buffer: self.config.recv_buffer,
                window: receive_window(reassembly),
            }),
            (State::Receiving(reassembly), Some(Question { poll, received })) => {
                let (runs, covered) = reassembly.deficits(poll.horizon, max_runs);
                let window = receive_window(reassembly);
                let nearly_closed = usize::from(window) < NEARLY_CLOSED_WINDOW;
                window_closed = (nearly_closed && unwritten > 0).then_some(poll);
                Body::Status(Status {
                    receiver,
                    round: poll.round,
                    covered,
                    received,
                    overflowed: self.overflowed,
                    window,
                    state: ReceiverState::Receiving,
                    runs,
                })
            }
            (State::Verifying, None) => Body::Join(Join {
                receiver,
                recv_buffer: self.config.recv_buffer,
                window: u16::MAX,
            }),
            (State::Verifying, Some(Question { poll, received })) => Body::Status(Status {
                receiver,
                round: poll.round,
                covered: poll.horizon,
                received,
                overflowed: self.overflowed,
                window: u16::MAX,
                state: ReceiverState::Verifying,
                runs: Vec::new(),
            }),
            (State::Confirmed(proof), _) => Body::Confirm(Confirm { receiver, proof: *proof }),
            (State::Refused(reason, text), _) => {
                Body::Refuse(Refuse { receiver, reason: *reason, text })
            }
        };
        let bytes = Frame { transfer: key.1, body }.to_datagram();
        transfer.window_closed = window_closed;
        if transfer.bytes_out + bytes.len() as u64 <= transfer.bytes_in {
            transfer.bytes_out += bytes.len() as u64;
            self.replies.push_back((key.0, bytes));
        }
    }
}

/// The delay of this receiver's answer to `poll`. A hash of id and round spreads the delays evenly
/// over the poll's slot.
fn slot(id: ReceiverId, poll: &Poll) -> Duration {
    if poll.slot_micros == 0 {
        return Duration::ZERO;
    }
    let mut mixed = id.0 ^ u64::from(poll.round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    Duration::from_micros(mixed % u64::from(poll.slot_micros))
}
