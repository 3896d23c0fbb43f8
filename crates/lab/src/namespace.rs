//! Network namespaces without root and without names in the file system.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use crate::LabError;

/// A network of its own; it is gone when this and all its processes are.
#[derive(Debug)]
pub struct Namespace(File);

/// Makes this process root in a user namespace of its own, so that it may make networks. To
/// be called before any thread is started. Where it is root already, that is enough.
///
/// # Errors
/// The kernel does not permit it.
pub fn become_lab_root() -> io::Result<()> {
    if geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    // See user_namespaces(7): an unprivileged group map needs setgroups denied.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// What this process and those that it starts mount from now on is theirs alone. To be
/// called before any thread is started, as root of the process's user namespace.
///
/// # Errors
/// The kernel does not permit it.
pub fn own_mounts() -> Result<(), LabError> {
    let refused = |error: nix::errno::Errno| LabError::Namespace(error.into());
    let no_path: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(refused)?;
    mount(no_path, "/", no_path, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_path).map_err(refused)
}

impl Namespace {
    /// An empty network.
    ///
    /// # Errors
    /// The process may not make one, see [`become_lab_root`].
    pub fn new() -> io::Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Self)
        })
    }

    /// The network at a path such as [`Namespace::path`] gives.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &str) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Does `work` in this network, on a thread of its own; processes that it starts and
    /// sockets that it opens stay in it.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// A path under which other processes find it while this one lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// A thread's network is its own: nothing that enters one does so for its caller.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let result = scope.spawn(work).join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
