//! The server's job: datagrams to verified files.

mod freshness;
mod patience;
mod writers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::event::{Event, EventKind, Observer};
use crate::net::{Interface, NetError, RECEIVE_BUFFER, ReceiveSocket};
use crate::protocol::{AnnouncedFile, Receiver, ReceiverConfig, ReceiverEvent, TransferKey};
use crate::seal::{Key, KeyError, OpenError, SEALED_MAGIC, Sealing};
use crate::store::{IncomingFile, Naming, StoreError, remove_abandoned_files, temporary_file};
use crate::wire::{ParseError, ReceiverId, RefuseReason};
use freshness::Freshness;
use patience::Patience;
use writers::{StoreJob, StoreResult, Writers};

/// Most bytes of unfinished blocks, over all transfers.
const BLOCK_MEMORY: usize = 24 << 20;
/// A sender that says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);
const OVERFLOW_INTERVAL: Duration = Duration::from_millis(10);
const REMOVAL_INTERVAL: Duration = Duration::from_secs(300);
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes of raw files that wait to be written.
const RAW_MEMORY: usize = 16 << 20;
/// What one of them costs besides its bytes.
const RAW_JOB_COST: usize = 1024;
const TOO_MANY_FILES: &str = "too many files at once";
/// For sockets, logs, and what looks at the system.
const SPARE_FILES: usize = 64;
const LEAST_CHARGE: u64 = 4096;
const TOO_MANY: &str = "one of more useless announcements than can be told of";
const NO_KEY: &str = "sealed, and this server has no --key-file";
const MAX_STRANGERS: usize = 1024;
const STOPPING: &str = "the server is stopping";
/// After the last file, senders may ask again for this long.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_AFTER_SIGNAL: Duration = Duration::from_millis(300);

/// `--names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NamingChoice {
    /// The sender's name, made safe.
    Original,
    /// `img1.png`, `img2.gif`, …
    Img,
}

/// What a server goes by.
#[derive(Debug, Clone)]
pub struct ReceiveConfig {
    /// Where to listen.
    pub bind: SocketAddr,
    /// Multicast groups to join.
    pub groups: Vec<IpAddr>,
    /// Where to receive.
    pub interface: Option<Interface>,
    /// Where files go.
    pub dir: PathBuf,
    /// How they are called.
    pub names: NamingChoice,
    /// Most bytes of one file.
    pub max_file: u64,
    /// Most bytes of all files of this run.
    pub quota: u64,
    /// Bytes of receive buffer to ask for.
    pub recv_buffer: usize,
    /// Stop after so many files.
    pub exit_after: Option<u64>,
    /// Holds the key that frames must be sealed with.
    pub key_file: Option<PathBuf>,
}

/// The server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Its socket fails.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Files cannot be written where they are to go.
    #[error("cannot write to {dir}: {error}")]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// What a server did until it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveSummary {
    /// Files published.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Transfers that failed or were broken off.
    pub failed: u64,
}

struct Transfer {
    file: AnnouncedFile,
    started: Instant,
    /// What was left of it by another process, until a writer has something to do with it.
    found: Option<IncomingFile>,
    /// Whether a writer has it.
    is_open: bool,
}

/// Raises this process's limit of open files as far as it may; gives what it is then.
fn allow_many_files() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

/// What a file counts against the quota: an empty one takes room too.
fn charge(size: u64) -> u64 {
    size.max(LEAST_CHARGE)
}

/// What the sender is told: a frame holds few words, and paths are not its business.
fn refusal(error: &StoreError) -> (RefuseReason, String) {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        StoreError::NoSpace { available, size, .. } => {
            (RefuseReason::NoSpace, format!("{available} bytes free, the file has {size}"))
        }
        StoreError::Io { error, .. } if matches!(error.kind(), StorageFull | QuotaExceeded) => {
            (RefuseReason::NoSpace, error.to_string())
        }
        StoreError::Io { error, .. } => (RefuseReason::Storage, error.to_string()),
        StoreError::Corrupt { .. } => {
            (RefuseReason::Corrupt, "the bytes written are not those announced".to_owned())
        }
    }
}

struct Server<'a> {
    config: &'a ReceiveConfig,
    observer: &'a dyn Observer,
    machine: Receiver,
    sealing: Option<Sealing>,
    /// Senders with another key that were told of.
    strangers: HashSet<IpAddr>,
    patience: Patience,
    /// Asked with a key only.
    freshness: Freshness,
    writers: Writers,
    transfers: HashMap<TransferKey, Transfer>,
    /// Bytes published or promised to transfers under way.
    quota_used: u64,
    /// Files that writers have.
    open_files: usize,
    max_open_files: usize,
    /// Bytes of raw files that wait to be written.
    raw_waiting: usize,
    stopping: bool,
    summary: ReceiveSummary,
    overflowed: u64,
    dropped: BTreeMap<String, u64>,
}

/// Receives until SIGINT, SIGTERM, or `exit_after` files.
///
/// # Errors
/// The socket cannot be bound, the folder not be written to, or the socket fails.
pub fn receive(
    config: &ReceiveConfig,
    observer: &dyn Observer,
) -> Result<ReceiveSummary, ReceiveError> {
    remove_abandoned_files(&config.dir);
    temporary_file(&config.dir)
        .map_err(|error| ReceiveError::Dir { dir: config.dir.clone(), error })?;
    let mut socket = ReceiveSocket::bind(config.bind, &config.groups, config.interface.as_ref())?;
    socket.set_recv_buffer(config.recv_buffer).map_err(NetError::from)?;
    // The kernel tells twice what it gives.
    let given = socket.recv_buffer().map_err(NetError::from)? / 2;
    if config.recv_buffer != RECEIVE_BUFFER && (given as usize) < config.recv_buffer {
        log::warn!("receive buffer of {given} bytes only: net.core.rmem_max allows no more");
    }
    let stopped = stop_flag(&socket).map_err(NetError::from)?;
    let naming = match config.names {
        NamingChoice::Original => Naming::original(),
        NamingChoice::Img => Naming::numbered(),
    };
    let (results, finished) = channel::unbounded();
    let key = config.key_file.as_deref().map(Key::load).transpose()?;
    let mut server = Server {
        config,
        observer,
        sealing: key.as_ref().map(Sealing::new),
        strangers: HashSet::new(),
        patience: Patience::new(),
        freshness: Freshness::default(),
        machine: Receiver::new(ReceiverConfig {
            id: ReceiverId(rand::random()),
            recv_buffer: socket.recv_buffer().map_err(NetError::from)?,
            block_memory: BLOCK_MEMORY,
            silence: SILENCE,
        }),
        writers: Writers::start(&config.dir, naming, &socket, results).map_err(NetError::from)?,
        transfers: HashMap::new(),
        quota_used: 0,
        open_files: 0,
        max_open_files: allow_many_files().saturating_sub(SPARE_FILES),
        raw_waiting: 0,
        stopping: false,
        summary: ReceiveSummary::default(),
        overflowed: 0,
        dropped: BTreeMap::new(),
    };
    let address = socket.local_address().map_err(NetError::from)?.to_string();
    server.tell(EventKind::Listening { address });
    server.run(&mut socket, &finished, &stopped)?;
    // What was being verified is published or not by now, and told.
    server.writers.stop();
    for result in finished.try_iter() {
        server.handle_store_result(result);
    }
    server.count_losses(socket.overflowed());
    server.tell_dropped();
    Ok(server.summary)
}

/// Set by the first SIGINT or SIGTERM, which also interrupts the wait; the second ends the
/// process at once.
fn stop_flag(socket: &ReceiveSocket) -> std::io::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopped))?;
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
        socket.wakeup()?.wake_on_signal(signal)?;
    }
    Ok(stopped)
}

impl Server<'_> {
    fn run(
        &mut self,
        socket: &mut ReceiveSocket,
        finished: &channel::Receiver<StoreResult>,
        stopped: &AtomicBool,
    ) -> Result<(), NetError> {
        // When the kernel's drops were counted, and whether anything has come since.
        let (mut counted_at, mut is_uncounted) = (Instant::now(), false);
        let mut next_dropped = Instant::now() + DROPPED_INTERVAL;
        let mut next_removal = Instant::now() + REMOVAL_INTERVAL;
        let mut linger_until = None;
        let mut sealed = Vec::new();
        loop {
            let received = socket.receive(|datagrams| {
                let now = Instant::now();
                for datagram in datagrams.iter() {
                    self.handle_datagram(now, datagrams.from, datagram);
                    // At once: the next one may concern the same transfer.
                    self.handle_events();
                }
            })?;
            let now = Instant::now();
            is_uncounted |= received;
            // Only who still lacks symbols is asked for it.
            let is_receiving = self.machine.receiving_transfers() > 0;
            let interval = if is_receiving { OVERFLOW_INTERVAL } else { DROPPED_INTERVAL };
            if now >= counted_at + interval {
                counted_at = now;
                is_uncounted = false;
                self.count_losses(socket.overflowed());
            }
            self.writers.sync();
            for result in finished.try_iter() {
                self.handle_store_result(result);
            }
            self.machine.handle_timeout(now);
            self.handle_events();
            while let Some((to, bytes)) = self.machine.poll_transmit() {
                match &mut self.sealing {
                    None => socket.reply(to, &bytes),
                    Some(sealing) => {
                        sealed.clear();
                        sealing.sealer.seal(&bytes, &mut sealed);
                        socket.reply(to, &sealed);
                    }
                }
            }
            if now >= next_removal {
                next_removal = now + REMOVAL_INTERVAL;
                remove_abandoned_files(&self.config.dir);
            }
            if now >= next_dropped {
                next_dropped = now + DROPPED_INTERVAL;
                self.tell_dropped();
            }

            if linger_until.is_none() {
                let is_enough = self.config.exit_after.is_some_and(|n| self.summary.files >= n);
                if stopped.load(Ordering::Relaxed) {
                    linger_until = Some(now + LINGER_AFTER_SIGNAL);
                } else if is_enough {
                    linger_until = Some(now + LINGER);
                }
                if linger_until.is_some() {
                    self.stop();
                    continue;
                }
            }
            let settled =
                self.machine.unsettled_transfers() == 0 && self.machine.active_transfers() == 0;
            let verifying = self.machine.is_verifying();
            if linger_until.is_some_and(|until| settled || (now >= until && !verifying)) {
                return Ok(());
            }
            if !received {
                let linger = linger_until.filter(|_| !verifying);
                let due = [
                    self.machine.poll_timeout(),
                    linger,
                    self.next_tell(next_dropped),
                    is_uncounted.then_some(counted_at + DROPPED_INTERVAL),
                    Some(next_removal),
                ];
                let due = due.into_iter().flatten().min();
                let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
                // Small files come whole, and each is waited for.
                socket.wait(timeout, self.machine.receiving_transfers() > 0)?;
            }
        }
    }

    fn count_losses(&mut self, overflowed: u64) {
        let lost = [
            ("the socket's receive buffer was full", overflowed.saturating_sub(self.overflowed)),
            ("no memory for another block", self.machine.take_without_room()),
        ];
        self.overflowed = overflowed;
        self.machine.handle_overflow(overflowed);
        for (reason, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
            *self.dropped.entry(reason.to_owned()).or_default() += count;
        }
    }

    fn next_tell(&self, next_dropped: Instant) -> Option<Instant> {
        (!self.dropped.is_empty()).then_some(next_dropped)
    }

    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let result = match &mut self.sealing {
            None if bytes.starts_with(&SEALED_MAGIC) => {
                *self.dropped.entry(NO_KEY.to_owned()).or_default() += 1;
                return;
            }
            None => self.machine.handle_datagram(now, from, bytes),
            Some(sealing) => match sealing.opener.open(bytes) {
                Ok(frame) => self.machine.handle_datagram(now, from, frame),
                Err(error) => {
                    self.drop_unopened(from, error);
                    return;
                }
            },
        };
        match result {
            Ok(()) => {}
            // The seed's format: the datagram is the file.
            Err(ParseError::NotAFrame) if self.sealing.is_none() => self.handle_raw(from, bytes),
            Err(error) => {
                // What the sender of nonsense can choose must not make a line of its own.
                let reason = match error {
                    ParseError::Kind(_) => "unknown frame kind".to_owned(),
                    ParseError::Version(_) => "another version of the protocol".to_owned(),
                    other => other.to_string(),
                };
                *self.dropped.entry(reason).or_default() += 1;
            }
        }
    }

    /// Counted, and told once of each sender.
    fn drop_unopened(&mut self, from: SocketAddr, error: OpenError) {
        *self.dropped.entry(error.to_string()).or_default() += 1;
        if self.strangers.len() < MAX_STRANGERS && self.strangers.insert(from.ip()) {
            log::warn!("{}: {error}: nothing of it is taken", from.ip());
        }
    }

    fn handle_raw(&mut self, from: SocketAddr, bytes: &[u8]) {
        let size = bytes.len() as u64;
        if let Err((_, text)) = self.check_size(size) {
            self.summary.failed += 1;
            if self.patience.take(Instant::now()) {
                self.tell(EventKind::TransferFailed {
                    transfer: "raw".to_owned(),
                    from: from.to_string(),
                    reason: text,
                });
            } else {
                *self.dropped.entry(TOO_MANY.to_owned()).or_default() += 1;
            }
            return;
        }
        if self.raw_waiting + bytes.len() + RAW_JOB_COST > RAW_MEMORY {
            let reason = "raw files come faster than they can be written".to_owned();
            *self.dropped.entry(reason).or_default() += 1;
            return;
        }
        self.raw_waiting += bytes.len() + RAW_JOB_COST;
        self.quota_used += charge(size);
        self.tell(EventKind::TransferStarted {
            transfer: "raw".to_owned(),
            from: from.to_string(),
            name: String::new(),
            bytes: size,
        });
        self.writers.submit_raw(from, bytes.to_vec());
    }

    fn check_size(&self, size: u64) -> Result<(), (RefuseReason, String)> {
        let (max_file, quota) = (self.config.max_file, self.config.quota);
        if self.stopping {
            return Err((RefuseReason::Stopping, STOPPING.to_owned()));
        }
        if size > max_file {
            let text = format!("{size} bytes, the limit for one file is {max_file}");
            return Err((RefuseReason::TooLarge, text));
        }
        if charge(size) > quota.saturating_sub(self.quota_used) {
            let used = self.quota_used;
            let text = format!("{size} bytes, of the quota of {quota} are {used} used");
            return Err((RefuseReason::NoSpace, text));
        }
        Ok(())
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                ReceiverEvent::Announced { key, file } => self.handle_announced(key, file),
                ReceiverEvent::Block { key, block } => {
                    self.open(key);
                    self.writers.submit(StoreJob::Block { key, block });
                }
                ReceiverEvent::Complete { key } => {
                    self.open(key);
                    if let Some(transfer) = self.transfers.get(&key) {
                        let file = transfer.file.clone();
                        self.writers.submit(StoreJob::Finish { key, file });
                    }
                }
                ReceiverEvent::Abandoned { key, reason } => {
                    self.writers.submit(StoreJob::Discard { key });
                    let reason = match reason {
                        Some(_) => "the sender ended the transfer",
                        None => "the sender fell silent",
                    };
                    self.fail(key, reason);
                }
            }
        }
    }

    fn handle_announced(&mut self, key: TransferKey, file: AnnouncedFile) {
        let started = Instant::now();
        let announced = file.clone();
        let is_under_way = |key: &TransferKey| self.transfers.contains_key(key);
        let checked = match self.sealing {
            Some(_) => self.freshness.check(started, key, file.announced_ms, is_under_way),
            None => Ok(()),
        };
        if let Err(text) = checked {
            // An answer would bind a sender whose announcement somebody else repeats.
            self.machine.ignore(key);
            if self.patience.take(started) {
                log::warn!("{}: {}: {text}", key.0, file.name);
            }
            *self.dropped.entry("announcement that is not fresh".to_owned()).or_default() += 1;
            return;
        }
        if self.patience.take(started) {
            self.tell(EventKind::TransferStarted {
                transfer: key.1.to_string(),
                from: key.0.to_string(),
                name: file.name.clone(),
                bytes: file.size,
            });
        }
        let checked = self.check_size(file.size);
        self.transfers.insert(key, Transfer { file, started, found: None, is_open: false });
        if let Err((reason, text)) = checked {
            self.machine.refuse(key, reason, &text);
            self.fail(key, &text);
            return;
        }
        // A file is not made before its first block: announcements cost their sender nothing.
        match IncomingFile::find(&self.config.dir, &announced) {
            Ok(Some((file, whole))) => {
                let len = |block: &u32| {
                    let range = announced.layout.byte_range(*block);
                    range.end - range.start
                };
                let bytes: u64 = whole.iter().map(len).sum();
                if bytes > 0 {
                    let (transfer, name) = (key.1.to_string(), announced.name);
                    self.tell(EventKind::Resumed { transfer, name, bytes });
                }
                if let Some(transfer) = self.transfers.get_mut(&key) {
                    transfer.found = Some(file);
                }
                self.accept(key, &whole);
            }
            Ok(None) => self.accept(key, &[]),
            Err(error) => self.store_failed(key, &error),
        }
    }

    /// One that is not offered any more needs nothing.
    fn accept(&mut self, key: TransferKey, whole: &[u32]) {
        if !self.machine.accept(key, whole)
            && let Some(found) = self.transfers.remove(&key).and_then(|transfer| transfer.found)
        {
            found.leave();
        }
    }

    /// Hands the file to its writer, if it has not got it yet; from then on it counts. Where
    /// that fails, the writer gets blocks of a file that it does not know, and drops them.
    fn open(&mut self, key: TransferKey) {
        let Some(transfer) = self.transfers.get_mut(&key).filter(|transfer| !transfer.is_open)
        else {
            return;
        };
        let (size, announced) = (transfer.file.size, transfer.file.clone());
        if let Err((reason, text)) = self.check_size(size) {
            self.machine.refuse(key, reason, &text);
            self.fail(key, &text);
            return;
        }
        if self.open_files >= self.max_open_files {
            self.machine.refuse(key, RefuseReason::Storage, TOO_MANY_FILES);
            self.fail(key, TOO_MANY_FILES);
            return;
        }
        let found = self.transfers.get_mut(&key).and_then(|transfer| transfer.found.take());
        let job = match found {
            Some(file) => StoreJob::Open { key, file },
            None if !IncomingFile::is_resumable(&announced) => StoreJob::Create { key, size },
            None => match IncomingFile::resume(&self.config.dir, &announced) {
                Ok((file, _)) => StoreJob::Open { key, file },
                Err(error) => return self.store_failed(key, &error),
            },
        };
        self.quota_used += charge(size);
        self.open_files += 1;
        if let Some(transfer) = self.transfers.get_mut(&key) {
            transfer.is_open = true;
        }
        self.writers.submit(job);
    }

    fn handle_store_result(&mut self, result: StoreResult) {
        match result {
            StoreResult::Written { key, buffer, result } => {
                self.machine.handle_block_written(key, buffer);
                if let Err(error) = result {
                    self.store_failed(key, &error);
                }
            }
            StoreResult::Failed { key, error } => self.store_failed(key, &error),
            StoreResult::Published { key, result: Err(error) } => self.store_failed(key, &error),
            StoreResult::Published { key, result: Ok(published) } => {
                let Some(transfer) = self.transfers.remove(&key) else { return };
                self.freshness.note_received(key.1, Instant::now());
                self.machine.handle_published(key, &published.digest);
                self.open_files -= 1;
                self.summary.files += 1;
                self.summary.bytes += transfer.file.size;
                self.tell(EventKind::Received {
                    transfer: key.1.to_string(),
                    from: key.0.to_string(),
                    path: published.path.display().to_string(),
                    bytes: transfer.file.size,
                    blake3: blake3::Hash::from_bytes(transfer.file.blake3).to_string(),
                    seconds: transfer.started.elapsed().as_secs_f64(),
                });
            }
            StoreResult::Raw { from, bytes, blake3, result } => {
                self.raw_waiting -= bytes + RAW_JOB_COST;
                self.raw_stored(from, bytes as u64, blake3, result);
            }
        }
    }

    fn raw_stored(
        &mut self,
        from: SocketAddr,
        bytes: u64,
        blake3: blake3::Hash,
        result: Result<PathBuf, StoreError>,
    ) {
        let (transfer, from) = ("raw".to_owned(), from.to_string());
        match result {
            Ok(path) => {
                self.summary.files += 1;
                self.summary.bytes += bytes;
                let (path, blake3) = (path.display().to_string(), blake3.to_string());
                let seconds = 0.0;
                self.tell(EventKind::Received { transfer, from, path, bytes, blake3, seconds });
            }
            Err(error) => {
                self.summary.failed += 1;
                self.quota_used -= charge(bytes);
                let reason = error.to_string();
                self.tell(EventKind::TransferFailed { transfer, from, reason });
            }
        }
    }

    fn store_failed(&mut self, key: TransferKey, error: &StoreError) {
        self.writers.submit(StoreJob::Discard { key });
        let (reason, text) = refusal(error);
        self.machine.refuse(key, reason, &text);
        self.fail(key, &error.to_string());
    }

    fn fail(&mut self, key: TransferKey, reason: &str) {
        let Some(transfer) = self.transfers.remove(&key) else { return };
        if let Some(found) = transfer.found {
            found.leave();
        }
        if transfer.is_open {
            self.open_files -= 1;
            self.quota_used -= charge(transfer.file.size);
        }
        self.summary.failed += 1;
        if !self.patience.take(Instant::now()) {
            *self.dropped.entry(TOO_MANY.to_owned()).or_default() += 1;
            return;
        }
        self.tell(EventKind::TransferFailed {
            transfer: key.1.to_string(),
            from: key.0.to_string(),
            reason: format!("{}: {reason}", transfer.file.name),
        });
    }

    /// Takes nothing new and breaks off what still needs its sender.
    fn stop(&mut self) {
        self.stopping = true;
        for key in self.machine.unfinished_transfers() {
            self.writers.submit(StoreJob::Discard { key });
            self.machine.refuse(key, RefuseReason::Stopping, STOPPING);
            self.fail(key, STOPPING);
        }
    }

    fn tell(&self, kind: EventKind) {
        self.observer.event(Event::now(kind));
    }

    fn tell_dropped(&mut self) {
        for (reason, count) in std::mem::take(&mut self.dropped) {
            self.tell(EventKind::Dropped { reason, count });
        }
    }
}
