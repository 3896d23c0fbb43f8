//! A session: one transfer at the server, from its announcement to its single end.
//!
//! ```text
//! announced ──accepted──> Waiting ──first block──> Open ──all blocks──> published
//!     │                      │                       │
//!     └──────────────────────┴───────────────────────┴──> refused, failed, given up
//! ```
//!
//! A session's resources (its entry in the list, its part of the limits, its open file) are given
//! back in [`Server::end_session`] and nowhere else.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, Instant};

use siar_proto::wire::RefuseReason;
use siar_proto::{Abandonment, AnnouncedFile, ReceivedBlock, TransferKey};

use super::limits::{Claim, Refusal};
use super::writers::FileHandle;
use super::{FileNames, Server};
use crate::event::{EventKind, Phase, Progress};
use crate::io::clock::unix_time_ms;
use crate::io::store::{
    IncomingFile, PARTIAL_FILE_LIFETIME, PartId, PublishedFile, StoreError, part_id,
};

/// The largest number of published files that are remembered.
const MAX_PUBLISHED: usize = 1 << 16;
/// How often the progress of a file is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// One transfer that is under way.
#[derive(Debug)]
pub(super) struct Session {
    file: AnnouncedFile,
    /// What a part of the file is named by.
    part: PartId,
    started: Instant,
    storage: Storage,
    /// The bytes of all blocks that have come.
    received: u64,
    last_progress: Instant,
}

/// The place where a session's blocks go.
#[derive(Debug)]
enum Storage {
    /// No block has come yet. The sender was told of blocks, if any, that an earlier transfer has
    /// left; they are not locked, for an announcement may be anybody's.
    Waiting { promised: Vec<u32> },
    /// A writer holds the file.
    Open { file: FileHandle, claim: Claim },
}

/// The reason why a session ends.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The file is verified and has its final name.
    Published(PublishedFile),
    /// The server refuses the file.
    Refused(Refusal),
    /// The file cannot be stored, or is not the announced one.
    Failed(StoreError),
    /// The sender aborted the transfer or went silent, or the session made room for others.
    Abandoned(Abandonment),
}

impl SessionEnd {
    /// Whether a later transfer may continue what has come: nothing is wrong with it.
    fn leaves_a_part(&self) -> bool {
        match self {
            Self::Published(_) | Self::Failed(_) => false,
            Self::Refused(refusal) => refusal.reason == RefuseReason::Stopping,
            Self::Abandoned(_) => true,
        }
    }

    /// Returns the reason of a failure, for the report.
    fn reason(&self) -> String {
        match self {
            Self::Published(_) => String::new(),
            Self::Refused(refusal) => refusal.text.clone(),
            Self::Failed(error) => error.to_string(),
            Self::Abandoned(Abandonment::Ended(_)) => "the sender ended the transfer".to_owned(),
            Self::Abandoned(Abandonment::Silent) => "the sender fell silent".to_owned(),
            Self::Abandoned(Abandonment::Replaced) => {
                "its host had begun most, it had brought least, and others needed the room"
                    .to_owned()
            }
        }
    }
}

impl Server<'_> {
    /// Begins a session, or refuses the transfer.
    pub(super) fn handle_announced(&mut self, key: TransferKey, file: AnnouncedFile) {
        let started = Instant::now();
        if let Err(replayed) = self.check_replay(started, key, &file) {
            // An answer would bind a sender whose announcement somebody else repeats.
            self.machine.ignore(key);
            if self.log_lines.take(started) {
                log::warn!("{}: {}: {replayed}", self.name_of(key.0), file.name);
            }
            self.dropped.count("announcement that is not fresh", 1);
            return;
        }
        if self.log_lines.take(started) {
            self.tell(EventKind::TransferStarted {
                transfer: key.1.to_string(),
                from: self.name_of(key.0),
                name: file.name.clone(),
                bytes: file.size,
            });
        }
        let storage = Storage::Waiting { promised: Vec::new() };
        let (received, last_progress) = (0, started);
        let part = part_id(&file);
        let is_acceptable = self.limits.check(file.size, &part);
        let is_written = self.written.contains_key(&part);
        let session =
            Session { file: file.clone(), part, started, storage, received, last_progress };
        self.sessions.insert(key, session);
        if let Err(refusal) = is_acceptable {
            return self.end_session(key, SessionEnd::Refused(refusal));
        }
        // The file is created with its first block: an announcement costs its sender nothing.
        // What another session writes it will soon publish: it cannot be gone on with.
        let found = match is_written {
            true => Ok(Vec::new()),
            false => IncomingFile::find(&self.config.dir, &file),
        };
        let whole = match found {
            Ok(whole) => {
                let received = byte_count(&file, &whole);
                self.tell_resumed(key, &file, received);
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.storage = Storage::Waiting { promised: whole.clone() };
                    session.received = received;
                }
                whole
            }
            Err(error) => return self.end_session(key, SessionEnd::Failed(error)),
        };
        if !self.machine.accept(key, &whole) {
            self.end_session(key, SessionEnd::Abandoned(Abandonment::Replaced));
        }
    }

    fn check_replay(
        &mut self,
        now: Instant,
        key: TransferKey,
        file: &AnnouncedFile,
    ) -> Result<(), String> {
        if self.sealing.is_none() {
            return Ok(());
        }
        let is_under_way = |key: &TransferKey| self.sessions.contains_key(key);
        self.replays.check(now, unix_time_ms(), key, file.announced_ms, is_under_way)
    }

    fn tell_resumed(&mut self, key: TransferKey, file: &AnnouncedFile, bytes: u64) {
        if bytes > 0 && self.log_lines.take(Instant::now()) {
            let (transfer, name) = (key.1.to_string(), file.name.clone());
            self.tell(EventKind::Resumed { transfer, name, bytes });
        }
    }

    /// Hands a block to the writer of its session's file.
    pub(super) fn handle_block(&mut self, key: TransferKey, block: ReceivedBlock) {
        self.open(key);
        self.charge(key, block.block);
        self.show_progress(key);
        match self.sessions.get(&key).map(|session| &session.storage) {
            Some(Storage::Open { file, .. }) => self.writers.write(file, block),
            // The session has ended: only the block's memory is still needed.
            _ => self.machine.handle_block_written(key, block.into_buffer()),
        }
    }

    /// Counts a block that has come against the limits.
    fn charge(&mut self, key: TransferKey, block: u32) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let bytes = byte_count(&session.file, &[block]);
        session.received += bytes;
        if let Storage::Open { claim, .. } = &mut session.storage
            && let Err(refusal) = self.limits.grow(claim, bytes)
        {
            self.end_session(key, SessionEnd::Refused(refusal));
        }
    }

    /// Shows the progress of a file from time to time.
    fn show_progress(&mut self, key: TransferKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let now = Instant::now();
        if now >= session.last_progress + PROGRESS_INTERVAL {
            session.last_progress = now;
            self.observer.progress(Progress {
                task: key.1.to_string(),
                phase: Phase::Receiving,
                done: session.received,
                total: session.file.size,
            });
        }
    }

    /// Lets the writer verify and publish the file.
    pub(super) fn handle_complete(&mut self, key: TransferKey) {
        self.open(key);
        let session = self.sessions.get(&key);
        if let Some(Session { file, storage: Storage::Open { file: handle, .. }, .. }) = session {
            self.writers.publish(handle, file.clone());
        }
    }

    /// Gives the file to a writer if no writer has it yet; from then on it uses the limits.
    fn open(&mut self, key: TransferKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Storage::Waiting { promised } = &mut session.storage else { return };
        // A part of the file may have been there before.
        let claim = match self.limits.claim(session.received, &session.part) {
            Ok(claim) => claim,
            Err(refusal) => return self.end_session(key, SessionEnd::Refused(refusal)),
        };
        let file = if IncomingFile::is_resumable(&session.file) {
            self.writers.resume(key, session.file.clone(), std::mem::take(promised))
        } else {
            self.writers.create(key, session.file.size)
        };
        session.storage = Storage::Open { file, claim };
        *self.written.entry(session.part.clone()).or_default() += 1;
    }

    /// Whether the file was published lately, and nobody has moved it away since.
    fn is_still_there(&self, file: &AnnouncedFile) -> bool {
        let path = self.published.get(&file.blake3);
        path.and_then(|path| path.metadata().ok()).is_some_and(|found| found.len() == file.size)
    }

    /// Ends a session for any reason: tells its sender, gives its resources back, and reports the
    /// end. A session that has ended already is left alone.
    pub(super) fn end_session(&mut self, key: TransferKey, end: SessionEnd) {
        let Some(session) = self.sessions.remove(&key) else { return };
        match &end {
            SessionEnd::Published(published) => {
                if self.published.len() >= MAX_PUBLISHED {
                    self.published.clear();
                }
                self.published.insert(session.file.blake3, published.path.clone());
                self.replays.note_received(key.1, Instant::now());
                self.machine.handle_published(key, &published.digest);
            }
            SessionEnd::Refused(refusal) => {
                self.machine.refuse(key, refusal.reason, &refusal.text);
            }
            SessionEnd::Failed(error) => {
                let refusal = Refusal::of(error);
                self.machine.refuse(key, refusal.reason, &refusal.text);
            }
            // The state machine itself has ended the transfer.
            SessionEnd::Abandoned(_) => {}
        }
        if let Storage::Open { .. } = session.storage
            && let Some(count) = self.written.get_mut(&session.part)
        {
            *count -= 1;
            if *count == 0 {
                self.written.remove(&session.part);
            }
        }
        let mut is_kept = false;
        match (session.storage, &end) {
            (Storage::Open { file: _, claim }, SessionEnd::Published(published)) => {
                self.limits.keep(claim, published.is_new);
            }
            (Storage::Open { file, claim }, end) => {
                is_kept = end.leaves_a_part()
                    && session.received > 0
                    && IncomingFile::is_resumable(&session.file)
                    && self.limits.can_keep_part(&session.part)
                    // Nobody goes on with a part of what is there.
                    && !self.is_still_there(&session.file);
                if is_kept {
                    self.writers.leave(file);
                    let received = session.received;
                    self.limits.keep_part(claim, &session.part, received, Instant::now());
                } else {
                    self.writers.discard(file);
                    self.limits.give_back(claim);
                }
            }
            // What an earlier transfer has left was not touched.
            (Storage::Waiting { .. }, _) => {}
        }
        let (file, transfer, from) = (session.file, key.1.to_string(), self.name_of(key.0));
        if let SessionEnd::Published(published) = &end {
            self.summary.files += 1;
            self.summary.bytes += file.size;
            if self.config.names == FileNames::Original
                && let Some(stored) = other_name(&file.name, &published.path)
                && self.log_lines.take(Instant::now())
            {
                log::warn!("{from}: {} is stored as {stored}", file.name);
            }
            self.tell(EventKind::Received {
                transfer,
                from,
                path: published.path.display().to_string(),
                bytes: file.size,
                blake3: blake3::Hash::from_bytes(file.blake3).to_string(),
                seconds: session.started.elapsed().as_secs_f64(),
            });
        } else {
            let mut reason = format!("{}: {}", file.name, end.reason());
            if is_kept {
                let minutes = PARTIAL_FILE_LIFETIME.as_secs() / 60;
                reason.push_str(&format!("; what has come is kept for {minutes} minutes"));
            }
            self.tell_failed(transfer, from, reason);
        }
    }
}

/// Returns the number of bytes in these blocks of a file.
fn byte_count(file: &AnnouncedFile, blocks: &[u32]) -> u64 {
    let ranges = blocks.iter().map(|block| file.layout.byte_range(*block));
    ranges.map(|range| range.end - range.start).sum()
}

/// Returns the name of a stored file unless it is the one that was sent.
fn other_name<'a>(sent: &str, path: &'a Path) -> Option<Cow<'a, str>> {
    let stored = path.file_name()?.to_string_lossy();
    (stored != sent).then_some(stored)
}

#[cfg(test)]
mod tests;
