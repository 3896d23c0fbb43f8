//! Nodes that are systems of their own: each has a copy-on-write view of one root file system.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

use crate::LabError;
use crate::binaries::Binaries;
use crate::network::{GATEWAY, Node};

/// Where the programs are on a node.
pub const PROGRAMS: &str = "/usr/local/bin";
const DEVICES: [&str; 3] = ["null", "random", "urandom"];

/// The views of all nodes. What nodes write into theirs is gone with the lab, but for what
/// they share with it. They are taken down when this is dropped.
#[derive(Debug)]
pub struct Views {
    dir: PathBuf,
}

impl Views {
    /// Views of `rootfs`, below `dir`, into which the programs are copied; `shared` is at the
    /// same place on the nodes. To be called after
    /// [`own_mounts`](crate::namespace::own_mounts).
    ///
    /// # Errors
    /// `rootfs` is none, or the kernel refuses a mount.
    pub fn new(
        rootfs: &Path,
        dir: &Path,
        nodes: &[Node],
        shared: &Path,
        programs: &Binaries,
    ) -> Result<Self, LabError> {
        let rootfs = rootfs.canonicalize().map_err(LabError::file(rootfs))?;
        for part in ["bin", "etc", "usr"] {
            let part = rootfs.join(part);
            part.metadata().map_err(LabError::file(&part))?;
        }
        for path in [&rootfs, dir] {
            if path.to_string_lossy().contains([',', ':', '\\']) {
                let error = io::Error::other("an overlay's path cannot have ',', ':' or '\\'");
                return Err(LabError::file(path)(error));
            }
        }
        // An overlay's upper part cannot lie on an overlay, as in containers.
        mounted("tmpfs", dir, "")?;
        let views = Self { dir: dir.to_owned() };
        for node in nodes {
            let home = dir.join(node.name);
            let parts = ["view", "upper", "work"].map(|part| home.join(part));
            for part in &parts {
                fs::create_dir_all(part).map_err(LabError::file(part))?;
            }
            let [view, upper, work] = &parts;
            let (lower, upper, work) = (rootfs.display(), upper.display(), work.display());
            mounted("overlay", view, &format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
            furnish(view, node, shared, programs)?;
        }
        Ok(views)
    }

    /// A node's root, as the lab sees it.
    #[must_use]
    pub fn root(&self, node: Node) -> PathBuf {
        self.dir.join(node.name).join("view")
    }

    /// Makes the calling thread, and what it starts, see a node's root.
    ///
    /// # Errors
    /// The kernel does not permit it.
    pub fn enter(&self, node: Node) -> io::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        chroot(&self.root(node))?;
        std::env::set_current_dir("/")
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        // With all that is mounted below; what still runs there keeps it until it ends.
        let detached = umount2(&self.dir, MntFlags::MNT_DETACH).map_err(io::Error::from);
        if let Err(error) = detached.and_then(|()| fs::remove_dir(&self.dir)) {
            log::warn!("{}: {error}", self.dir.display());
        }
    }
}

fn furnish(view: &Path, node: &Node, shared: &Path, programs: &Binaries) -> Result<(), LabError> {
    let at = |path: &str| view.join(path.trim_start_matches('/'));
    let write = |path: &str, text: String| {
        let path = at(path);
        stays_inside(view, &path)?;
        // It may be a link, which would be followed out of the view.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).map_err(LabError::file(&path))
    };
    write("etc/hostname", format!("{}\n", node.name))?;
    write("etc/hosts", "127.0.0.1 localhost\n".to_owned())?;
    write("etc/resolv.conf", format!("nameserver {}\n", GATEWAY.address))?;
    bound(Path::new("/proc"), &at("proc"))?;
    mounted("tmpfs", &at("dev"), "")?;
    for device in DEVICES {
        let path = at("dev").join(device);
        File::create(&path).map_err(LabError::file(&path))?;
        bound(&Path::new("/dev").join(device), &path)?;
    }
    bound(shared, &at(&shared.to_string_lossy()))?;
    let to = at(PROGRAMS);
    fs::create_dir_all(&to).map_err(LabError::file(&to))?;
    stays_inside(view, &to.join("program"))?;
    for program in programs.programs() {
        let path = to.join(program.file_name().unwrap_or_default());
        fs::copy(&program, &path).map_err(LabError::file(&path))?;
    }
    Ok(())
}

/// An absolute link in the root file system would lead out of it.
fn stays_inside(view: &Path, path: &Path) -> Result<(), LabError> {
    let dir = path.parent().unwrap_or(view);
    let is_inside = dir.canonicalize().and_then(|dir| Ok(dir.starts_with(view.canonicalize()?)));
    match is_inside.map_err(LabError::file(dir))? {
        true => Ok(()),
        false => Err(LabError::file(dir)(io::Error::other("leads out of the root file system"))),
    }
}

fn mounted(kind: &str, at: &Path, options: &str) -> Result<(), LabError> {
    fs::create_dir_all(at).map_err(LabError::file(at))?;
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|error| LabError::file(at)(error.into()))
}

/// Also what is mounted below.
fn bound(from: &Path, to: &Path) -> Result<(), LabError> {
    if from.is_dir() {
        fs::create_dir_all(to).map_err(LabError::file(to))?;
    }
    let no_text: Option<&str> = None;
    mount(Some(from), to, no_text, MsFlags::MS_BIND | MsFlags::MS_REC, no_text)
        .map_err(|error| LabError::file(to)(error.into()))
}
