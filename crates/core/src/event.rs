//! What happened, as data: everything that is shown or judged is made from events.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The four concurrency styles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// A child process per URL.
    Mp,
    /// A thread per URL.
    Mt,
    /// A pool of worker processes.
    MpAsync,
    /// A pool of threads.
    MtAsync,
}

impl Style {
    /// As its crate, its program and its lines are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp => "mp",
            Self::Mt => "mt",
            Self::MpAsync => "mp-async",
            Self::MtAsync => "mt-async",
        }
    }
}

impl std::fmt::Display for Style {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that happened, as one JSON line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, to the microsecond.
    #[serde(with = "microseconds")]
    pub time: Timestamp,
    /// What, in the field `event`, with fields of its own.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The process that it happened in.
    pub pid: u32,
    /// The thread that it happened in, as the kernel numbers it.
    pub tid: i32,
    /// At a client: its style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// At a client: the task's key in the URL list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// The kernel is asked once: events are many.
static PID: LazyLock<u32> = LazyLock::new(std::process::id);

thread_local! {
    static TID: i32 = nix::unistd::gettid().as_raw();
}

impl Event {
    /// An event that happens now, here.
    #[must_use]
    pub fn now(kind: EventKind) -> Self {
        Self {
            time: Timestamp::now(),
            kind,
            pid: *PID,
            tid: TID.with(|tid| *tid),
            style: None,
            task: None,
        }
    }
}

/// What can happen, at a client and at a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)] // The fields' names and units are the contract of `--events`.
pub enum EventKind {
    RunStarted,
    TaskQueued {
        url: String,
    },
    DownloadStarted,
    DownloadFinished {
        bytes: u64,
    },
    DelayFinished,
    BroadcastStarted {
        transfer: String,
        name: String,
        bytes: u64,
        blake3: String,
    },
    ServerJoined {
        server: String,
    },
    SourceSent {
        datagrams: u64,
    },
    /// The seconds count from the start of the broadcast, to the first and the last of them;
    /// both are zero if there were none.
    RepairSent {
        datagrams: u64,
        first_seconds: f64,
        last_seconds: f64,
    },
    FinishesLater {
        server: String,
    },
    Confirmed {
        server: String,
    },
    Unconfirmed {
        server: String,
        reason: String,
    },
    TaskFinished {
        seconds: f64,
    },
    TaskFailed {
        error: String,
    },
    RunFinished {
        seconds: f64,
        failed: usize,
    },

    Listening {
        address: String,
    },
    TransferStarted {
        transfer: String,
        from: String,
        name: String,
        bytes: u64,
    },
    /// A part of the file was on disk already.
    Resumed {
        transfer: String,
        name: String,
        bytes: u64,
    },
    Received {
        transfer: String,
        from: String,
        path: String,
        bytes: u64,
        blake3: String,
        seconds: f64,
    },
    TransferFailed {
        transfer: String,
        from: String,
        reason: String,
    },
    Dropped {
        reason: String,
        count: u64,
    },
}

impl EventKind {
    /// Whether only a record (`--events`) tells of it, and nothing else that a client shows.
    #[must_use]
    pub fn is_only_recorded(&self) -> bool {
        matches!(
            self,
            Self::DownloadFinished { .. }
                | Self::DelayFinished
                | Self::ServerJoined { .. }
                | Self::SourceSent { .. }
                | Self::RepairSent { .. }
        )
    }
}

/// How far a task is within a phase; told often, kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The task's key.
    pub task: String,
    /// What it is doing.
    pub phase: Phase,
    /// How much is done, in the phase's unit (bytes, milliseconds, datagrams, servers).
    pub done: u64,
    /// Of how much; zero if unknown.
    pub total: u64,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Bytes over HTTP.
    Downloading,
    /// Milliseconds of the simulated work.
    Waiting,
    /// Datagrams of the file.
    Broadcasting,
    /// Servers that confirmed.
    Confirming,
}

/// Whoever is told what happens.
pub trait Observer: Send + Sync {
    /// Whether a record is kept; else a task does not tell what
    /// [is only recorded](EventKind::is_only_recorded).
    fn is_recording(&self) -> bool;
    /// Something happened.
    fn event(&self, event: Event);
    /// Something is under way.
    fn progress(&self, progress: Progress);
}

/// A task's own voice: adds its style and key to what it tells.
#[derive(Clone)]
pub struct TaskVoice {
    style: Style,
    task: String,
    observer: Arc<dyn Observer>,
}

impl TaskVoice {
    /// The voice of `task`.
    #[must_use]
    pub fn new(style: Style, task: &str, observer: Arc<dyn Observer>) -> Self {
        Self { style, task: task.to_owned(), observer }
    }

    /// Tells what happened.
    pub fn event(&self, kind: EventKind) {
        if kind.is_only_recorded() && !self.observer.is_recording() {
            return;
        }
        self.observer.event(Event {
            style: Some(self.style),
            task: Some(self.task.clone()),
            ..Event::now(kind)
        });
    }

    /// Tells how far it is.
    pub fn progress(&self, phase: Phase, done: u64, total: u64) {
        self.observer.progress(Progress { task: self.task.clone(), phase, done, total });
    }
}

mod microseconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{time:.6}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_line() {
        let mut event = Event::now(EventKind::DownloadFinished { bytes: 19_320 });
        event.time = "2021-07-19T09:05:18.675978Z".parse().unwrap();
        event.pid = 7;
        event.tid = 8;
        event.style = Some(Style::MtAsync);
        event.task = Some("its".to_owned());
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"time":"2021-07-19T09:05:18.675978Z","event":"download_finished","bytes":19320,"pid":7,"tid":8,"style":"mt-async","task":"its"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
