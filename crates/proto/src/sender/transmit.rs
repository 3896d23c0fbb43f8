//! The datagrams of a sender: announcements, symbols, polls and the end.

use std::io;
use std::time::{Duration, Instant};

use siar_code::CAUCHY_CODE;

use super::config::TransmitBatch;
use super::interleaving::Conditions;
use super::schedule::BlockSource;
use super::{MAX_ANNOUNCE_INTERVAL, Phase, Sender, UNSLOTTED_RECEIVERS};
use crate::units::{Blocks, Symbols};
use crate::wire::{Announce, Body, End, Frame, Poll, SYMBOL_HEADER_LEN};

/// The number of announcements at the short interval: the sender does not wait for a receiver that
/// misses all announcements.
const EARLY_ANNOUNCES: u32 = 4;
const EARLY_ANNOUNCE_INTERVAL: Duration = Duration::from_millis(5);
/// The length of a poll's slot for each receiver, in microseconds.
const SLOT_MICROS_PER_RECEIVER: usize = 20;

impl Sender {
    /// Fills `batch` with the next datagrams, at most `max_segments` of them. Returns whether there
    /// are any to send now.
    ///
    /// # Errors
    /// The file cannot be read from `source`.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        source: &mut dyn BlockSource,
        max_segments: usize,
        batch: &mut TransmitBatch,
    ) -> io::Result<bool> {
        let transfer = self.config.transfer;
        if let Phase::Ended { copies_left, reason } = &mut self.phase {
            let Some(left) = copies_left.checked_sub(1) else { return Ok(false) };
            *copies_left = left;
            let reason = *reason;
            batch.single(&Frame { transfer, body: Body::End(End { reason }) });
            return Ok(true);
        }
        if now >= self.next_announce {
            self.announce(now, batch);
            if self.announced == 1 {
                self.append_small_file(now, source, max_segments, batch)?;
            }
            return Ok(true);
        }
        if !matches!(self.phase, Phase::Transferring) {
            return Ok(false);
        }
        let receive_window = self.members.receive_window();
        let room = self.congestion.room(self.in_flight()).datagrams();
        if now >= self.poll_due_at() {
            self.poll(now, batch);
            return Ok(true);
        }
        if self.congestion.paced_until(now).is_some() {
            return Ok(false);
        }
        batch.bytes.clear();
        batch.segment_len = SYMBOL_HEADER_LEN + self.config.layout.symbol_size();
        let paced = self.congestion.paced_segments(batch.segment_len);
        let room = room.min(max_segments).min(paced).min(self.congestion.batch_segments());
        let loss = self.members.worst_loss();
        let receivers = self.members.receiving_count();
        let conditions = Conditions { round: self.polls.round(), receive_window, receivers, loss };
        for _ in 0..room {
            if !self.schedule.emit(source, conditions, &mut batch.bytes)? {
                break;
            }
        }
        self.congestion.on_sent(now, batch.bytes.len());
        Ok(!batch.bytes.is_empty())
    }

    fn announce(&mut self, now: Instant, batch: &mut TransmitBatch) {
        let layout = self.config.layout;
        // The milliseconds of a transfer fit 64 bits, so that the cast is exact.
        let since_begin = now.saturating_duration_since(self.created).as_millis() as u64;
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Announce(Announce {
                size: layout.size(),
                // The layout was made from a 16-bit value, so that the cast is exact.
                symbol_size: layout.symbol_size() as u16,
                block_symbols: layout.block_symbols(),
                code: CAUCHY_CODE,
                blake3: self.config.digest.name(),
                time_ms: self.config.unix_time_ms.saturating_add(since_begin),
                name: &self.config.name,
            }),
        });
        self.announced += 1;
        let is_complete = self.config.servers.is_some_and(|n| self.members.len() >= n);
        if is_complete {
            // Only late receivers need further announcements.
            self.next_announce = now + MAX_ANNOUNCE_INTERVAL;
        } else if self.announced < EARLY_ANNOUNCES {
            self.next_announce = now + EARLY_ANNOUNCE_INTERVAL;
        } else {
            self.next_announce = now + self.announce_interval;
            self.announce_interval = (self.announce_interval * 2).min(MAX_ANNOUNCE_INTERVAL);
        }
    }

    /// Appends a whole file that fits the first congestion window to its first announcement. A
    /// receiver that takes the file so confirms it without a Join, a round trip earlier.
    fn append_small_file(
        &mut self,
        now: Instant,
        source: &mut dyn BlockSource,
        max_segments: usize,
        batch: &mut TransmitBatch,
    ) -> io::Result<()> {
        let symbols = self.file_symbols();
        let frame_len = SYMBOL_HEADER_LEN + self.config.layout.symbol_size();
        let segment_len = frame_len.max(batch.segment_len);
        let most = max_segments.min(self.congestion.paced_segments(segment_len));
        let fits = symbols > Symbols::ZERO
            && symbols <= self.congestion.window()
            && symbols.datagrams() < most;
        // Only the last datagram of a batch may be shorter than the others.
        if !fits || (symbols > Symbols(1) && frame_len < segment_len) {
            return Ok(());
        }
        batch.bytes.resize(segment_len, 0);
        batch.segment_len = segment_len;
        let (round, receive_window) = (self.polls.round(), Blocks(usize::MAX));
        let conditions = Conditions { round, receive_window, receivers: 0, loss: 0.0 };
        for _ in 0..symbols.0 {
            self.schedule.emit(source, conditions, &mut batch.bytes)?;
        }
        self.congestion.on_sent(now, batch.bytes.len());
        Ok(())
    }

    /// The time when the next poll is due.
    pub(super) fn poll_due_at(&mut self) -> Instant {
        let (receive_window, sent) = (self.members.receive_window(), self.schedule.sent());
        let room = self.congestion.room(self.in_flight());
        // Without a symbol to send, or with a full congestion window, only an answer helps.
        let all_sent = room == Symbols::ZERO || !self.schedule.has_symbols_to_send(receive_window);
        self.polls.due_at(sent, self.congestion.window(), all_sent)
    }

    fn poll(&mut self, now: Instant, batch: &mut TransmitBatch) {
        let receivers = self.members.receiving_count();
        self.polls.set_pace(receivers, self.members.worst_loss());
        let slot_micros =
            if receivers <= UNSLOTTED_RECEIVERS { 0 } else { receivers * SLOT_MICROS_PER_RECEIVER };
        // MAX_MEMBERS bounds the value, so that the cast is exact.
        let slot_micros = slot_micros as u32;
        let slot = Duration::from_micros(u64::from(slot_micros));
        let round = self.polls.send(now, self.schedule.sent(), self.congestion.retry_after(), slot);
        batch.single(&Frame {
            transfer: self.config.transfer,
            body: Body::Poll(Poll { round, horizon: self.schedule.horizon(), slot_micros }),
        });
    }
}
