//! The one function that all four styles run: download, delay, broadcast.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::broadcast::{BroadcastConfig, BroadcastError, broadcast};
use crate::event::{EventKind, Phase, TaskVoice};
use crate::fetch::{FetchError, fetch};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What every task of a run has in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskConfig {
    /// Where downloads are kept.
    pub dir: PathBuf,
    /// Most bytes of one download.
    pub max_file: u64,
    /// Simulated work between download and broadcast.
    pub delay: Duration,
    /// Whether another download follows soon, so that the connection is kept for a moment.
    pub keep_connection: bool,
    /// How the file is broadcast.
    pub broadcast: BroadcastConfig,
}

/// A task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// In the download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// In the broadcast.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
}

/// Downloads `url`, waits the configured delay, broadcasts the file and waits for
/// confirmation: the seed's `download_bc_gambar` (`library.py`, line 20). Returns how long
/// that took.
///
/// # Errors
/// The download or the broadcast failed.
pub fn download_and_broadcast(
    url: &str,
    config: &TaskConfig,
    voice: &TaskVoice,
) -> Result<Duration, TaskError> {
    let started = Instant::now();
    let mut last_progress = started;
    let tell_start = || voice.event(EventKind::DownloadStarted);
    let progress = |bytes, total| {
        let now = Instant::now();
        if now >= last_progress + PROGRESS_INTERVAL {
            last_progress = now;
            voice.progress(Phase::Downloading, bytes, total);
        }
    };
    let (dir, limit, keep) = (&config.dir, config.max_file, config.keep_connection);
    let file = fetch(url, dir, limit, keep, tell_start, progress)?;
    voice.event(EventKind::DownloadFinished { bytes: file.bytes });

    simulate_work(config.delay, voice);
    voice.event(EventKind::DelayFinished);

    broadcast(&file, &config.broadcast, voice)?;
    let took = started.elapsed();
    voice.event(EventKind::TaskFinished { seconds: took.as_secs_f64() });
    Ok(took)
}

fn simulate_work(delay: Duration, voice: &TaskVoice) {
    let started = Instant::now();
    while let Some(rest) = delay.checked_sub(started.elapsed()).filter(|rest| !rest.is_zero()) {
        // Milliseconds of a delay fit 64 bits.
        let done = started.elapsed().as_millis() as u64;
        voice.progress(Phase::Waiting, done, delay.as_millis() as u64);
        std::thread::sleep(rest.min(PROGRESS_INTERVAL));
    }
}
