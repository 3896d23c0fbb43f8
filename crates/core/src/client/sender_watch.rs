//! The watch over a sender: it turns the sender's actions into events and progress.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siar_proto::{Outcome, SendProgress, Sender, SenderEvent};

use crate::event::{EventKind, Phase, TaskVoice};

/// Returns a server's address, with the receiver's number if several share the address.
pub(super) fn label(outcome: &Outcome, all: &[Outcome]) -> String {
    let shared = all.iter().filter(|other| other.server == outcome.server).count() > 1;
    server_label(outcome.server, outcome.receiver.0, shared)
}

fn server_label(server: SocketAddr, receiver: u64, shared: bool) -> String {
    if shared { format!("{server}#{:04x}", receiver >> 48) } else { server.to_string() }
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The watch over one sender; it reports progress a few times a second.
pub(super) struct SenderWatch {
    started: Instant,
    bytes: u64,
    last_progress: Instant,
    /// The progress that was told last. What stands still is not told again: `--timeout` counts what
    /// arrives.
    told: SendProgress,
    source_told: bool,
    repair_sent: u64,
    /// The times at which the first and the latest repair were noticed.
    repairs: Option<(Instant, Instant)>,
    addresses: Vec<(SocketAddr, u64)>,
}

impl SenderWatch {
    /// Makes the watch over the broadcast of a file of `bytes` bytes.
    pub(super) fn new(started: Instant, bytes: u64) -> Self {
        Self {
            started,
            bytes,
            last_progress: started,
            told: SendProgress::default(),
            source_told: false,
            repair_sent: 0,
            repairs: None,
            addresses: Vec::new(),
        }
    }

    fn tell_source_sent(&mut self, sender: &Sender, voice: &TaskVoice) {
        if !std::mem::replace(&mut self.source_told, true) {
            voice.event(EventKind::SourceSent { datagrams: sender.progress().source_sent });
        }
    }

    /// Reports what was not reported during the transfer.
    pub(super) fn finish(&mut self, sender: &Sender, voice: &TaskVoice) {
        self.tell_source_sent(sender, voice);
        let after = |time: Instant| time.saturating_duration_since(self.started).as_secs_f64();
        let (first_seconds, last_seconds) =
            self.repairs.map_or((0.0, 0.0), |(first, last)| (after(first), after(last)));
        let datagrams = sender.repair_sent();
        voice.event(EventKind::RepairSent { datagrams, first_seconds, last_seconds });
    }

    pub(super) fn observe(
        &mut self,
        sender: &Sender,
        event: Option<SenderEvent>,
        voice: &TaskVoice,
    ) {
        let repair_sent = sender.repair_sent();
        if repair_sent > self.repair_sent {
            let now = Instant::now();
            self.repair_sent = repair_sent;
            self.repairs.get_or_insert((now, now)).1 = now;
        }
        // A small file is sent before any server has joined: progress waits for the first server.
        let is_awaited = sender.is_source_sent() && !self.addresses.is_empty();
        if is_awaited {
            self.tell_source_sent(sender, voice);
        }
        match event {
            Some(SenderEvent::Joined { receiver, server }) => {
                self.addresses.push((server, receiver.0));
                let server = self.label(server, receiver.0);
                voice.event(EventKind::ServerJoined { server });
            }
            Some(SenderEvent::Confirmed { receiver, server }) => {
                let server = self.label(server, receiver.0);
                voice.event(EventKind::Confirmed { server });
            }
            Some(SenderEvent::FinishesLater { receiver, server }) => {
                let server = self.label(server, receiver.0);
                voice.event(EventKind::FinishesLater { server });
            }
            None => {
                let now = Instant::now();
                if now >= self.last_progress + PROGRESS_INTERVAL {
                    self.last_progress = now;
                    let progress = sender.progress();
                    // What is sent again and gains nothing is no progress.
                    let repair_sent = self.told.repair_sent;
                    let advanced = SendProgress { repair_sent, ..progress } != self.told;
                    if !advanced && progress.verifying == 0 && !progress.is_announcing {
                        return;
                    }
                    self.told = SendProgress { repair_sent, ..progress };
                    if is_awaited {
                        let (done, total) = (progress.confirmed as u64, progress.joined as u64);
                        voice.progress(Phase::Confirming, done, total);
                    } else {
                        let (sent, total) = (progress.source_sent, progress.source_total.max(1));
                        let sent = u128::from(self.bytes) * u128::from(sent) / u128::from(total);
                        let sent = u64::try_from(sent).unwrap_or(self.bytes);
                        voice.progress(Phase::Broadcasting, sent, self.bytes);
                    }
                }
            }
        }
    }

    fn label(&self, server: SocketAddr, receiver: u64) -> String {
        let shared = self.addresses.iter().filter(|(address, _)| *address == server).count() > 1;
        server_label(server, receiver, shared)
    }
}
