//! Network namespaces, made without root rights and without names in the file system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, getegid, geteuid};

use crate::StageError;

/// A network namespace. The kernel removes it when this value is dropped and all processes in
/// the namespace have ended.
#[derive(Debug)]
pub struct Namespace(File);

/// Makes this process root in a new user namespace, so that it may make network namespaces. A
/// process that is root already keeps its user namespace. The function must be called before
/// any thread is started.
///
/// # Errors
/// The kernel does not permit user or network namespaces.
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

/// Moves this process to a new mount namespace: later mounts of this process and of its
/// children are invisible to all others. The function must be called before any thread is
/// started, as root of the process's user namespace.
///
/// # Errors
/// The kernel does not permit a mount namespace.
pub fn own_mounts() -> Result<(), StageError> {
    let refused = |error: nix::errno::Errno| StageError::Namespace(error.into());
    let no_path: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(refused)?;
    mount(no_path, "/", no_path, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_path).map_err(refused)
}

impl Namespace {
    /// Makes a namespace without interfaces except loopback.
    ///
    /// # Errors
    /// The process may not make a namespace, see [`become_lab_root`].
    pub fn new() -> io::Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Self)
        })
    }

    /// Opens the namespace at a path that [`Namespace::path`] returned.
    ///
    /// # Errors
    /// There is no namespace at the path.
    pub fn open(path: &str) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Does `work` in this namespace, on a separate thread. Processes that `work` starts and
    /// sockets that it opens stay in the namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// The processes in the namespace whose main thread is there, but for this process.
    ///
    /// # Errors
    /// The list of processes cannot be read.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let own = self.0.metadata()?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end meanwhile, and those of other users cannot be looked into.
            let Ok(of_process) = fs::metadata(entry.path().join("ns/net")) else { continue };
            let is_here = (of_process.dev(), of_process.ino()) == (own.dev(), own.ino());
            if is_here && pid != Pid::this().as_raw() {
                found.push(Pid::from_raw(pid));
            }
        }
        Ok(found)
    }

    /// A path by which other processes can open the namespace while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// Does `work` on a separate thread: a thread that enters a namespace changes only itself, so
/// that the caller stays where it is.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let result = scope.spawn(work).join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
