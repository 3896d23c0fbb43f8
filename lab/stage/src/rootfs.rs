//! Root file systems of the nodes: each node has a copy-on-write view of one root file system.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

use crate::StageError;
use crate::node::{GATEWAY, Node};
use crate::programs::Programs;

/// The folder of the programs on a node.
pub const PROGRAMS: &str = "/usr/local/bin";
const DEVICES: [&str; 3] = ["null", "random", "urandom"];

/// The views of all nodes, which are overlay mounts. Dropping the value unmounts them. Files
/// that a node writes are lost then, except in the folder that the nodes share with the lab.
#[derive(Debug)]
pub struct Views {
    dir: PathBuf,
}

impl Views {
    /// Mounts views of `rootfs` below `dir` and copies the programs into each view. The folder
    /// `shared` appears under the same path on every node. The function must be called after
    /// [`own_mounts`](crate::namespace::own_mounts).
    ///
    /// # Errors
    /// `rootfs` is no root file system, a path has a character that an overlay's options cannot
    /// have, a file cannot be written, or the kernel refuses a mount.
    pub fn new(
        rootfs: &Path,
        dir: &Path,
        nodes: &[Node],
        shared: &Path,
        programs: &Programs,
    ) -> Result<Self, StageError> {
        let rootfs = rootfs.canonicalize().map_err(StageError::file(rootfs))?;
        for part in ["bin", "etc", "usr"] {
            let part = rootfs.join(part);
            part.metadata().map_err(StageError::file(&part))?;
        }
        for path in [&rootfs, dir] {
            if path.to_string_lossy().contains([',', ':', '\\']) {
                let error = io::Error::other("an overlay's path cannot have ',', ':' or '\\'");
                return Err(StageError::file(path)(error));
            }
        }
        // An overlay's upper folder cannot lie on an overlay, and a container's root often is one.
        mount_new("tmpfs", dir, "")?;
        let views = Self { dir: dir.to_owned() };
        for node in nodes {
            let home = dir.join(node.name);
            let parts = ["view", "upper", "work"].map(|part| home.join(part));
            for part in &parts {
                fs::create_dir_all(part).map_err(StageError::file(part))?;
            }
            let [view, upper, work] = &parts;
            let (lower, upper, work) = (rootfs.display(), upper.display(), work.display());
            mount_new(
                "overlay",
                view,
                &format!("lowerdir={lower},upperdir={upper},workdir={work}"),
            )?;
            prepare_view(view, node, shared, programs)?;
        }
        Ok(views)
    }

    /// The path of a node's root folder, as the lab sees it.
    #[must_use]
    pub fn root(&self, node: Node) -> PathBuf {
        self.dir.join(node.name).join("view")
    }

    /// Makes a node's root folder the root of the calling thread and of processes that it starts.
    ///
    /// # Errors
    /// The kernel does not permit `chroot`.
    pub fn enter(&self, node: Node) -> io::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        chroot(&self.root(node))?;
        std::env::set_current_dir("/")
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        // Detaching unmounts the mounts below too; processes that still run there keep them until
        // they end.
        let detached = umount2(&self.dir, MntFlags::MNT_DETACH).map_err(io::Error::from);
        if let Err(error) = detached.and_then(|()| fs::remove_dir(&self.dir)) {
            log::warn!("{}: {error}", self.dir.display());
        }
    }
}

fn prepare_view(
    view: &Path,
    node: &Node,
    shared: &Path,
    programs: &Programs,
) -> Result<(), StageError> {
    let at = |path: &str| view.join(path.trim_start_matches('/'));
    let write = |path: &str, text: String| {
        let path = at(path);
        check_inside(view, &path)?;
        // The file may be a link that leads out of the view.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(StageError::file(&path))
    };
    write("etc/hostname", format!("{}\n", node.name))?;
    write("etc/hosts", "127.0.0.1 localhost\n".to_owned())?;
    write("etc/resolv.conf", format!("nameserver {}\n", GATEWAY.address))?;
    bind_mount(Path::new("/proc"), &at("proc"))?;
    mount_new("tmpfs", &at("dev"), "")?;
    for device in DEVICES {
        let path = at("dev").join(device);
        File::create(&path).map_err(StageError::file(&path))?;
        bind_mount(&Path::new("/dev").join(device), &path)?;
    }
    bind_mount(shared, &at(&shared.to_string_lossy()))?;
    let to = at(PROGRAMS);
    fs::create_dir_all(&to).map_err(StageError::file(&to))?;
    check_inside(view, &to.join("program"))?;
    for program in programs.paths() {
        let path = to.join(program.file_name().unwrap_or_default());
        fs::copy(&program, &path).map_err(StageError::file(&path))?;
    }
    Ok(())
}

/// Checks that a path leads to a place inside the view: an absolute link would lead out of it.
fn check_inside(view: &Path, path: &Path) -> Result<(), StageError> {
    let dir = path.parent().unwrap_or(view);
    let is_inside = dir.canonicalize().and_then(|dir| Ok(dir.starts_with(view.canonicalize()?)));
    match is_inside.map_err(StageError::file(dir))? {
        true => Ok(()),
        false => Err(StageError::file(dir)(io::Error::other("leads out of the root file system"))),
    }
}

fn mount_new(kind: &str, at: &Path, options: &str) -> Result<(), StageError> {
    fs::create_dir_all(at).map_err(StageError::file(at))?;
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|error| StageError::file(at)(error.into()))
}

/// Mounts a file or folder at a second place, with all mounts below it.
fn bind_mount(from: &Path, to: &Path) -> Result<(), StageError> {
    if from.is_dir() {
        fs::create_dir_all(to).map_err(StageError::file(to))?;
    }
    let no_text: Option<&str> = None;
    mount(Some(from), to, no_text, MsFlags::MS_BIND | MsFlags::MS_REC, no_text)
        .map_err(|error| StageError::file(to)(error.into()))
}
