//! The one function that all four styles run: download, delay, broadcast.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::broadcast::{BroadcastConfig, BroadcastError, broadcast};
use super::fetch::{FetchConfig, FetchError, NameSource, Redirections, SpeedFloor, fetch};
use super::time_limit::TimeLimit;
use super::turns::Turn;
use super::urls::Task;
use crate::event::{EventKind, Phase, TaskVoice};
use crate::panics::caught;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The configuration that all tasks of a run share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskConfig {
    /// The folder for downloads.
    pub dir: PathBuf,
    /// The largest download, in bytes.
    pub max_file: u64,
    /// Whether a server's `Content-Disposition` names its file.
    pub remote_name: bool,
    /// Which redirections are followed.
    pub redirections: Redirections,
    /// The rate below which a download is given up.
    pub speed: SpeedFloor,
    /// The longest time that a task may take.
    pub max_time: Option<Duration>,
    /// Simulated work between download and broadcast.
    pub delay: Duration,
    /// Whether the connection and the socket are kept for a moment, for the next task of the
    /// process.
    pub keeps_open: bool,
    /// The configuration of the broadcast.
    pub broadcast: BroadcastConfig,
}

/// The reason why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The broadcast failed.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// The code panicked, with this message.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// Downloads a task's file, waits the configured delay, broadcasts the file and waits for confirmation, as
/// the Python scripts' `download_bc_gambar` (`library.py`, line 20). Returns how long the task
/// took.
///
/// # Errors
/// The download or the broadcast failed or panicked; a panic affects no other task.
pub fn download_and_broadcast(
    task: &Task,
    config: &TaskConfig,
    voice: &TaskVoice,
) -> Result<Duration, TaskError> {
    download_and_broadcast_in_turn(Turn::wait(&task.url), task, config, voice)
}

/// Does the same as [`download_and_broadcast`], with a turn that was waited for before.
///
/// # Errors
/// The errors are those of [`download_and_broadcast`].
pub fn download_and_broadcast_in_turn(
    turn: Turn,
    task: &Task,
    config: &TaskConfig,
    voice: &TaskVoice,
) -> Result<Duration, TaskError> {
    caught(|| perform(turn, task, config, voice))
        .unwrap_or_else(|said| Err(TaskError::Panicked(said)))
}

fn perform(
    turn: Turn,
    task: &Task,
    config: &TaskConfig,
    voice: &TaskVoice,
) -> Result<Duration, TaskError> {
    let started = Instant::now();
    let time_limit = config.max_time.map(|allowed| TimeLimit { began: started, allowed });
    voice.event(EventKind::DownloadStarted);
    let mut last_progress = started;
    let progress = |bytes, total| {
        let now = Instant::now();
        if now >= last_progress + PROGRESS_INTERVAL {
            last_progress = now;
            voice.progress(Phase::Downloading, bytes, total);
        }
    };
    let fetch_config = FetchConfig {
        dir: &config.dir,
        name: match &task.file_name {
            Some(name) => NameSource::Given(name),
            None if config.remote_name => NameSource::Response,
            None => NameSource::Url,
        },
        limit: config.max_file,
        redirections: config.redirections,
        speed: config.speed,
        time_limit,
        keeps_open: config.keeps_open,
    };
    let file = fetch(turn, &task.url, &fetch_config, progress)?;
    voice.event(EventKind::DownloadFinished { bytes: file.bytes });

    let delay = time_limit.map_or(config.delay, |limit| config.delay.min(limit.left()));
    simulate_work(delay, voice);
    voice.event(EventKind::DelayFinished);

    broadcast(&file, &config.broadcast, time_limit, config.keeps_open, voice)?;
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

    use siar_proto::SlowReceivers;

    use super::*;
    use crate::client::broadcast::Wire;
    use crate::event::{Event, Observer, Progress, Style};
    use crate::io::net::Destinations;

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
        let destinations = Destinations { addresses: Vec::new(), port: 5005, interface: None };
        let config = TaskConfig {
            dir: PathBuf::from("."),
            max_file: u64::MAX,
            max_time: None,
            remote_name: false,
            redirections: Redirections::Safe,
            speed: SpeedFloor { bytes_per_second: 0, time: Duration::ZERO },
            delay: Duration::ZERO,
            keeps_open: false,
            broadcast: BroadcastConfig {
                destinations,
                wire: Wire::Reliable,
                servers: None,
                join_wait: Duration::ZERO,
                rate: None,
                segmentation: true,
                repair_memory: 0,
                least_gain: 1,
                slow: SlowReceivers::Wait,
                key_file: None,
            },
        };
        let voice = TaskVoice::new(Style::Mt, "a file", Arc::new(Panicking));
        let task = Task::new("a file", "file:///missing");
        let error = download_and_broadcast(&task, &config, &voice).unwrap_err();
        assert_eq!(error.to_string(), "panicked: at once");
    }
}
