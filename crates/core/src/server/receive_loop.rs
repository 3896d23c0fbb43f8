//! The receive loop: a server's socket, signals and deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use siar_proto::Peer;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::writers::Wake;
use super::{ReceiveConfig, ReceiveError, ReceiveSummary, Server};
use crate::event::{EventKind, Observer};
use crate::io::net::{NetError, RECEIVE_BUFFER, ReceiveSocket};
use crate::io::notify::{READY, STOPPING, tell_service_manager};
use crate::io::seal::Key;
use crate::io::store::{FolderTraits, remove_abandoned_files};

/// How often the kernel's count of dropped datagrams is read while symbols are missing.
const OVERFLOW_INTERVAL: Duration = Duration::from_millis(10);
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);
const REMOVAL_INTERVAL: Duration = Duration::from_secs(300);
/// How long senders may still ask for confirmation after the last file.
const LINGER: Duration = Duration::from_secs(2);
/// How long a server that has enough files waits for those under way.
const LONGEST_FINISH: Duration = Duration::from_secs(3600);
const LINGER_AFTER_SIGNAL: Duration = Duration::from_millis(300);

/// How long after a signal another one ends the process at once. `timeout` and terminals send one
/// signal twice.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(500);

/// Receives until SIGINT, SIGTERM, SIGHUP, or `exit_after` files.
///
/// # Errors
/// The socket cannot be bound, the folder cannot be written to, or the socket fails.
pub fn receive(
    config: &ReceiveConfig,
    observer: &dyn Observer,
) -> Result<ReceiveSummary, ReceiveError> {
    remove_abandoned_files(&config.dir);
    let folder = FolderTraits::examine(&config.dir)
        .map_err(|error| ReceiveError::Dir { dir: config.dir.clone(), error })?;
    let mut socket = ReceiveSocket::bind(config.bind, &config.groups, config.interface.as_ref())?;
    socket.set_recv_buffer(config.recv_buffer).map_err(NetError::from)?;
    let recv_buffer = socket.recv_buffer().map_err(NetError::from)?;
    // The kernel reports twice the size that it grants.
    let given = recv_buffer / 2;
    if config.recv_buffer != RECEIVE_BUFFER && (given as usize) < config.recv_buffer {
        log::warn!("receive buffer of {given} bytes only: net.core.rmem_max allows no more");
    }
    let stop = Stop::at_signals(&socket).map_err(NetError::from)?;
    let key = config.key_file.as_deref().map(Key::load).transpose()?;
    let wakeup = socket.wakeup().map_err(NetError::from)?;
    let wake: Wake = Arc::new(move || wakeup.wake());
    let mut server = Server::start(config, observer, key.as_ref(), recv_buffer, folder, &wake)
        .map_err(ReceiveError::Start)?;
    let address = socket.local_address().map_err(NetError::from)?.to_string();
    server.tell(EventKind::Listening { address });
    tell_service_manager(READY);
    Deadlines::new(Instant::now()).run(&mut server, &mut socket, &stop)?;
    stop.become_urgent();
    server.count_losses(socket.overflowed());
    // After this, each file that was being verified is published or has failed, and was reported.
    server.finish();
    Ok(server.summary)
}

/// The end of a server by signals.
struct Stop {
    /// Set by the first signal, which also interrupts the wait.
    is_asked: Arc<AtomicBool>,
    /// Whether a signal ends the process at once.
    is_urgent: Arc<AtomicBool>,
}

impl Stop {
    fn at_signals(socket: &ReceiveSocket) -> std::io::Result<Self> {
        let stop = Self { is_asked: Arc::default(), is_urgent: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` starts a process that ignores SIGHUP.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            let is_urgent = Arc::clone(&stop.is_urgent);
            signal_hook::flag::register_conditional_shutdown(signal, 1, is_urgent)?;
            signal_hook::flag::register(signal, Arc::clone(&stop.is_asked))?;
            socket.wakeup()?.wake_on_signal(signal)?;
        }
        Ok(stop)
    }

    /// Lets a signal end the process at once, but for one that follows another one closely. The
    /// writers may still hang on a disk.
    fn become_urgent(&self) {
        let is_urgent = Arc::clone(&self.is_urgent);
        // Without the thread, only SIGKILL ends a server that hangs.
        let _ = thread::Builder::new().spawn(move || {
            thread::sleep(SIGNAL_INTERVAL);
            is_urgent.store(true, Ordering::Relaxed);
        });
    }
}

/// Whether this process ignores a signal, as far as `/proc` tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The times of the loop's periodic work.
struct Deadlines {
    /// When the kernel's dropped datagrams were last counted, and whether datagrams came since.
    counted_at: Instant,
    is_uncounted: bool,
    next_dropped: Instant,
    next_removal: Instant,
    ending: Ending,
}

/// How far the server is from its end.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Nothing asks for the end.
    Far,
    /// Enough files are there: those under way are finished, and at least until this time senders may
    /// ask again.
    Finishing(Instant),
    /// A signal has come: what is under way was given up, and until this time senders are told.
    Stopping(Instant),
}

impl Deadlines {
    fn new(now: Instant) -> Self {
        Self {
            counted_at: now,
            is_uncounted: false,
            next_dropped: now + DROPPED_INTERVAL,
            next_removal: now + REMOVAL_INTERVAL,
            ending: Ending::Far,
        }
    }

    fn run(
        &mut self,
        server: &mut Server<'_>,
        socket: &mut ReceiveSocket,
        stop: &Stop,
    ) -> Result<(), NetError> {
        let mut sealed = Vec::new();
        loop {
            let received = socket.receive(|datagrams| {
                let now = Instant::now();
                for datagram in datagrams.iter() {
                    server.handle_datagram(now, datagrams.from, datagram);
                }
            })?;
            let now = Instant::now();
            self.is_uncounted |= received;
            self.do_what_is_due(now, server, socket);
            server.handle_store_results();
            server.handle_timeout(now);
            send_replies(server, socket, &mut sealed);
            if self.begin_to_end(now, server, stop) {
                continue;
            }
            if self.is_over(now, server) {
                return Ok(());
            }
            if !received {
                let due = self.next_due(server);
                let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
                // Small files arrive whole, and their senders wait for an answer to each.
                socket.wait(timeout, server.machine.receiving_transfers() > 0)?;
            }
        }
    }

    fn do_what_is_due(&mut self, now: Instant, server: &mut Server<'_>, socket: &ReceiveSocket) {
        // The count matters only to transfers that lack symbols.
        let is_receiving = server.machine.receiving_transfers() > 0;
        let interval = if is_receiving { OVERFLOW_INTERVAL } else { DROPPED_INTERVAL };
        if now >= self.counted_at + interval {
            (self.counted_at, self.is_uncounted) = (now, false);
            server.count_losses(socket.overflowed());
        }
        if now >= self.next_removal {
            self.next_removal = now + REMOVAL_INTERVAL;
            remove_abandoned_files(&server.config.dir);
            server.limits.forget_old_parts(now);
        }
        if now >= self.next_dropped {
            self.next_dropped = now + DROPPED_INTERVAL;
            server.tell_dropped();
        }
    }

    /// Whether the server has just been told to stop, or has received as many files as it must.
    fn begin_to_end(&mut self, now: Instant, server: &mut Server<'_>, stop: &Stop) -> bool {
        let confirmed = server.summary.files - server.summary.raw;
        let has_enough = server.config.exit_after.is_some_and(|n| confirmed >= n);
        match self.ending {
            Ending::Stopping(_) => return false,
            _ if stop.is_asked.load(Ordering::Relaxed) => {
                self.ending = Ending::Stopping(now + LINGER_AFTER_SIGNAL);
                stop.become_urgent();
                tell_service_manager(STOPPING);
                server.stop();
            }
            Ending::Far if has_enough => {
                self.ending = Ending::Finishing(now + LINGER);
                server.refuse_new();
            }
            Ending::Finishing(until) if now >= until => {
                server.finish_soon(now, now >= until + LONGEST_FINISH);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn is_over(&self, now: Instant, server: &Server<'_>) -> bool {
        let machine = &server.machine;
        let nobody_asks = machine.settled_transfers() == 0 && machine.active_transfers() == 0;
        match self.ending {
            Ending::Far => false,
            _ if nobody_asks => true,
            Ending::Finishing(until) => now >= until && machine.active_transfers() == 0,
            Ending::Stopping(until) => now >= until && !machine.is_verifying(),
        }
    }

    /// The time from which on the server may be over without a further event.
    fn end_due(&self, now: Instant, server: &Server<'_>) -> Option<Instant> {
        let machine = &server.machine;
        match self.ending {
            Ending::Finishing(until) if machine.active_transfers() == 0 => Some(until),
            // Transfers that bring nothing are looked for.
            Ending::Finishing(_) => Some(now + DROPPED_INTERVAL),
            Ending::Stopping(until) => (!machine.is_verifying()).then_some(until),
            Ending::Far => None,
        }
    }

    fn next_due(&self, server: &Server<'_>) -> Option<Instant> {
        let due = [
            server.machine.poll_timeout(),
            self.end_due(Instant::now(), server),
            (!server.dropped.is_empty()).then_some(self.next_dropped),
            self.is_uncounted.then_some(self.counted_at + DROPPED_INTERVAL),
            Some(self.next_removal),
        ];
        due.into_iter().flatten().min()
    }
}

fn send_replies(server: &mut Server<'_>, socket: &ReceiveSocket, sealed: &mut Vec<u8>) {
    while let Some((peer, bytes)) = server.machine.poll_transmit() {
        let Some(to) = server.address_of(peer) else { continue };
        match &mut server.sealing {
            None => socket.reply(to, &bytes),
            Some(sealing) => {
                sealed.clear();
                sealing.sealer.seal(&bytes, sealed);
                socket.reply(to, sealed);
                if let Peer::Session(session) = peer {
                    let answer = |other| socket.reply(other, sealed);
                    sealing.opener.answer_others(session, sealed.len(), answer);
                }
            }
        }
    }
}
