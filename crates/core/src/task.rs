//! The one function that all four styles run: download, delay, broadcast.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::broadcast::{BroadcastConfig, BroadcastError, broadcast};
use crate::event::{EventKind, Phase, TaskVoice};
use crate::fetch::{FetchError, fetch};
use crate::panics::caught;

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
    /// Whether more tasks follow soon in the same process, so that the connection and the socket
    /// are kept for a moment.
    pub more_follow: bool,
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
    /// Somewhere in our code, and said this.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// Downloads `url`, waits the configured delay, broadcasts the file and waits for
/// confirmation: the seed's `download_bc_gambar` (`library.py`, line 20). Returns how long
/// that took.
///
/// # Errors
/// The download or the broadcast failed, or panicked: that costs no other task.
pub fn download_and_broadcast(
    url: &str,
    config: &TaskConfig,
    voice: &TaskVoice,
) -> Result<Duration, TaskError> {
    caught(|| perform(url, config, voice)).unwrap_or_else(|said| Err(TaskError::Panicked(said)))
}

fn perform(url: &str, config: &TaskConfig, voice: &TaskVoice) -> Result<Duration, TaskError> {
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
    let (dir, limit, keep) = (&config.dir, config.max_file, config.more_follow);
    let file = fetch(url, dir, limit, keep, tell_start, progress)?;
    voice.event(EventKind::DownloadFinished { bytes: file.bytes });

    simulate_work(config.delay, voice);
    voice.event(EventKind::DelayFinished);

    broadcast(&file, &config.broadcast, keep, voice)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;

    use super::*;
    use crate::event::{Event, Observer, Progress, Style};
    use crate::options::ClientOptions;

    struct Panicking;

    impl Observer for Panicking {
        fn is_recording(&self) -> bool {
            true
        }

        fn event(&self, _: Event) {
            panic!("at {}", "once");
        }

        fn progress(&self, _: Progress) {}
    }

    #[test]
    fn a_panic_is_the_task_s_error_and_says_what_it_said() {
        let config = ClientOptions::parse_from(["mt"]).task_config(1, false);
        let voice = TaskVoice::new(Style::Mt, "a file", Arc::new(Panicking));
        let error = download_and_broadcast("file:///missing", &config, &voice).unwrap_err();
        assert_eq!(error.to_string(), "panicked: at once");
    }
}
