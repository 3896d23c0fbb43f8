//! Events: what happened, as data. All output and all records are made from events.

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
    /// Returns the name of the style's crate and program, as its lines show it.
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

/// One event, which is written as one JSON line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The time of the event, to the microsecond.
    #[serde(with = "microseconds")]
    pub time: Timestamp,
    /// The kind, in the JSON field `event`, with fields of its own.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The id of the process in which the event happened.
    pub pid: u32,
    /// The id of the thread in which the event happened, as the kernel numbers it.
    pub tid: i32,
    /// The style of the client; `None` at the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// The task's key in the URL list; `None` if the event concerns no single task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// The process id, which the kernel is asked for only once because events are many.
static PID: LazyLock<u32> = LazyLock::new(std::process::id);

thread_local! {
    static TID: i32 = nix::unistd::gettid().as_raw();
}

impl Event {
    /// Makes an event of the calling thread, at the present time.
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

/// The kinds of events, at a client and at a server.
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
    /// The times, in seconds from the start of the broadcast, of the first and the last repair
    /// datagram; both are zero without repair datagrams.
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
    /// Whether the event is only written to the record (`--events`), and printed only with `-v`.
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

/// The progress of a task within a phase; it is reported often and never recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The task's key in the URL list; at a server, the transfer.
    pub task: String,
    /// The phase of the task.
    pub phase: Phase,
    /// The amount that is done, in the phase's unit (bytes, milliseconds, servers).
    pub done: u64,
    /// The whole amount, in the same unit as `done`; zero if it is unknown.
    pub total: u64,
}

/// The phases of a task, with the units of their progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Download over HTTP, in bytes.
    Downloading,
    /// Simulated work, in milliseconds.
    Waiting,
    /// Broadcast of the file, in bytes.
    Broadcasting,
    /// Confirmation, in servers that have confirmed.
    Confirming,
    /// At a server: reception of the file, in bytes.
    Receiving,
}

/// The receiver of all events and progress reports.
pub trait Observer: Send + Sync {
    /// Whether a record is kept, or all is printed. If not, tasks do not report events that are
    /// [only recorded](EventKind::is_only_recorded).
    fn is_recording(&self) -> bool;
    /// Reports an event.
    fn event(&self, event: Event);
    /// Reports progress.
    fn progress(&self, progress: Progress);
}

/// A task's voice: it adds the task's style and key to what the task reports.
#[derive(Clone)]
pub struct TaskVoice {
    style: Style,
    task: String,
    observer: Arc<dyn Observer>,
}

impl TaskVoice {
    /// Makes the voice of `task`.
    #[must_use]
    pub fn new(style: Style, task: &str, observer: Arc<dyn Observer>) -> Self {
        Self { style, task: task.to_owned(), observer }
    }

    /// Reports an event.
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

    /// Reports progress; `done` and `total` have the unit of `phase`.
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
