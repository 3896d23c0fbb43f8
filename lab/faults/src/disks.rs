//! Faults of disks and file names: full and read-only disks, quotas, equal names.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use siar_core::event::EventKind;
use stage::node::SERVERS;
use stage::outcome::compare;
use stage::samples::{Sample, noise};

use crate::play::{CaseResult, Observed};
use crate::scene::{Scene, delivered, names};

const MIB: usize = 1 << 20;

pub(crate) fn full_at_server(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 16 * MIB)])?;
    let first = scene.server(SERVERS[0], &[])?;
    let disk = scene.small_disk(SERVERS[1].name, 8 * MIB as u64)?;
    let second = scene.server_in(SERVERS[1], disk.path(), &[])?;
    let ended = scene.client("mt", "client", &["--servers", "2", &source.url(0)])?.wait()?;
    ended.expect(1, &["192.168.122.132:5005 did not confirm large.bin", "bytes free"])?;
    let copies = delivered(&first, &source.samples)?;
    nothing_in(&second.files())?;
    let smaller = scene.serve_more(vec![noise("tiny.bin", 20_000), noise("small.bin", MIB)])?;
    // The server writes a small file without a check of the free space beforehand.
    let ballast = disk.path().join("ballast");
    let free = fill(disk.path(), &ballast)?;
    let three_pages = 12_288;
    fs::File::options().write(true).open(&ballast)?.set_len(free - three_pages)?;
    let ended = scene.client("mt", "tiny", &["--servers", "2", &smaller.url(0)])?.wait()?;
    let reason = "12288 bytes free, the file has 20000";
    ended.expect(1, &["192.168.122.132:5005 did not confirm tiny.bin", reason])?;
    fs::remove_file(&ballast)?;
    nothing_in(&second.files())?;
    let ended = scene.client("mt", "small", &["--servers", "2", &smaller.url(1)])?.wait()?;
    ended.expect(0, &[])?;
    let (both, last) = (&smaller.samples[..], &smaller.samples[1..]);
    for (server, samples) in [(&first, both), (&second, last)] {
        if let Some(fault) = compare(&server.files(), samples).first() {
            return Err(format!("{}: {fault}", server.node.name).into());
        }
    }
    Ok(Observed::new("refused and named; smaller files still arrive", copies + 3))
}

/// Fills a disk with one file, and returns the number of bytes that were free.
fn fill(disk: &Path, ballast: &Path) -> Result<u64, Box<dyn Error>> {
    let space = statvfs(disk)?;
    let free = space.blocks_available() * space.fragment_size();
    match fs::write(ballast, vec![1; free as usize]) {
        // A server may use some of the space meanwhile, so that the disk is full earlier.
        Err(error) if error.kind() != std::io::ErrorKind::StorageFull => Err(error.into()),
        _ => Ok(free),
    }
}

/// The disk has room when the file is announced, and is filled during the transfer.
pub(crate) fn filled_in_mid_transfer(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 32 * MIB)])?;
    let first = scene.server(SERVERS[0], &[])?;
    let disk = scene.small_disk(SERVERS[1].name, 48 * MIB as u64)?;
    let second = scene.server_in(SERVERS[1], disk.path(), &[])?;
    let arguments = ["--servers", "2", "--rate", "134mbit", &source.url(0)];
    let client = scene.client("mt", "client", &arguments)?;
    client.wait_for("the broadcast", |event| {
        matches!(event.kind, EventKind::BroadcastStarted { .. })
    })?;
    thread::sleep(Duration::from_millis(500));
    let ballast = disk.path().join("ballast");
    let free = fill(disk.path(), &ballast)?;
    let ended = client.wait()?;
    ended.expect(1, &["192.168.122.132:5005 did not confirm large.bin", "No space left"])?;
    let copies = delivered(&first, &source.samples)?;
    nothing_in(&second.files())?;
    fs::remove_file(&ballast)?;
    let small = scene.serve_more(vec![noise("small.bin", MIB)])?;
    let ended = scene.client("mt", "again", &["--servers", "2", &small.url(0)])?.wait()?;
    ended.expect(0, &[])?;
    let again = delivered(&second, &small.samples)?;
    if let Some(fault) = compare(&first.files(), &small.samples).first() {
        return Err(format!("{}: {fault}", first.node.name).into());
    }
    let what = format!("refused after {} of 32 MiB and named; nothing half is left", {
        let broken = 48 * MIB as u64 - free;
        broken / MIB as u64
    });
    Ok(Observed::new(what, copies + 1 + again))
}

pub(crate) fn full_at_client(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("large.bin", 16 * MIB), noise("small.bin", MIB)])?;
    let servers = scene.servers()?;
    let disk = scene.small_disk("client", 8 * MIB as u64)?;
    let client =
        scene.client("mt", "client", &["--servers", "2", &source.url(0), &source.url(1)])?;
    let dir = client.dir.clone();
    let ended = client.wait()?;
    ended.expect(1, &["url1: ", "No space left on device"])?;
    let left = names(&dir);
    if left != ["small.bin"] {
        return Err(format!("the client's folder has {left:?}").into());
    }
    for server in &servers {
        if compare(&server.files(), &source.samples).len() != 1 {
            return Err(format!("{} lacks small.bin", server.node.name).into());
        }
    }
    drop(disk);
    Ok(Observed::new("its task fails and says so, the other arrives; nothing half is left", 2))
}

pub(crate) fn read_only_at_server(scene: &Scene) -> CaseResult {
    let disk = scene.small_disk(SERVERS[0].name, MIB as u64)?;
    fs::create_dir_all(disk.path().join("files"))?;
    disk.make_read_only()?;
    let mut command = Command::new(scene.program("server"));
    command.arg("--dir").arg(disk.path().join("files")).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = scene.network.spawn(SERVERS[0], &mut command)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(1) || !text.contains("cannot write to") {
        return Err(format!("{}: {text}", output.status).into());
    }
    Ok(Observed::new("the server does not start, and says why", 0))
}

pub(crate) fn read_only_at_client(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("small.bin", MIB)])?;
    let _servers = scene.servers()?;
    let disk = scene.small_disk("downloads", MIB as u64)?;
    disk.make_read_only()?;
    let dir = disk.path().display().to_string();
    let arguments = ["--servers", "2", "--dir", &dir, &source.url(0)];
    let ended = scene.client("mp-async", "client", &arguments)?.wait()?;
    ended.expect(1, &["url1: ", "Read-only file system"])?;
    Ok(Observed::new("its task fails and says why", 0))
}

pub(crate) fn quota(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("one.bin", MIB), noise("two.bin", MIB)])?;
    let first = scene.server(SERVERS[0], &[])?;
    let second = scene.server(SERVERS[1], &["--quota", "1500KiB"])?;
    let arguments = ["--servers", "2", "--workers", "1", &source.url(0), &source.url(1)];
    let ended = scene.client("mt-async", "client", &arguments)?.wait()?;
    ended.expect(1, &["192.168.122.132:5005 did not confirm two.bin", "quota"])?;
    let copies = delivered(&first, &source.samples)? + 1;
    let there = names(&second.files());
    let is_same = fs::read(second.files().join("one.bin"))? == source.samples[0].bytes;
    if there != ["one.bin"] || !is_same {
        return Err(format!("{} has {there:?}", SERVERS[1].name).into());
    }
    Ok(Observed::new("the second file is refused there and named", copies))
}

pub(crate) fn one_name_two_files(scene: &Scene) -> CaseResult {
    // The two paths have the same last component.
    let named = |path: &'static str| Sample { path, ..noise(path, 4 * MIB) };
    let source = scene.serve(vec![named("/a/photo.bin"), named("/b/photo.bin")])?;
    let servers = scene.servers()?;
    let one = scene.client("mt", "one", &["--servers", "2", &source.url(0)])?;
    let two = scene.client("mt", "two", &["--servers", "2", &source.url(1)])?;
    one.wait()?.expect(0, &[])?;
    two.wait()?.expect(0, &[])?;
    for server in &servers {
        let there = names(&server.files());
        if there != ["photo-1.bin", "photo.bin"] {
            return Err(format!("{} has {there:?}", server.node.name).into());
        }
        let mut bytes: Vec<Vec<u8>> = there
            .iter()
            .map(|name| fs::read(server.files().join(name)))
            .collect::<Result<_, _>>()?;
        let mut wanted: Vec<Vec<u8>> =
            source.samples.iter().map(|sample| sample.bytes.clone()).collect();
        bytes.sort();
        wanted.sort();
        if bytes != wanted {
            return Err(format!("{} has other bytes", server.node.name).into());
        }
    }
    Ok(Observed::new("both are kept, one with a number", 4))
}

pub(crate) fn same_file_twice(scene: &Scene) -> CaseResult {
    let source = scene.serve(vec![noise("photo.bin", 4 * MIB)])?;
    let servers = scene.servers()?;
    let url = source.url(0);
    let arguments = ["--servers", "2", &url, &url];
    scene.client("mt", "client", &arguments)?.wait()?.expect(0, &[])?;
    scene.client("mt", "client", &arguments[..3])?.wait()?.expect(0, &[])?;
    let copies =
        delivered(&servers[0], &source.samples)? + delivered(&servers[1], &source.samples)?;
    Ok(Observed::new("three times, twice of them at once: it is there once", copies))
}

fn nothing_in(dir: &std::path::Path) -> Result<(), String> {
    let there = names(dir);
    if there.is_empty() { Ok(()) } else { Err(format!("{} has {there:?}", dir.display())) }
}
