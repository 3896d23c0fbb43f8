//! Tests of a machine that others use too: files of theirs under our names, stops at half a file,
//! keys of other users, and a disk that fails.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use siar_core::event::Style;
use siar_core::io::seal::Key;
use siar_proto::FileDigest;
use stage::node::{CLIENT, SERVERS};
use stage::samples::{Sample, noise};
use stage::server::RunningServer;

use crate::has;
use crate::lab::{Lab, assert_success, has_event, programs, text, wait_for};

/// A library that lets each sync of a received file fail as a broken disk does.
const FAILING_SYNC: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_received(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return strstr(path, "/files/") != NULL;
}

static int fail(void) { errno = EIO; return -1; }

int fsync(int fd) { return is_received(fd) ? fail() : (int) syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return is_received(fd) ? fail() : (int) syscall(SYS_fdatasync, fd); }
int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags) {
    if (is_received(fd)) return fail();
    return (int) syscall(SYS_sync_file_range, fd, offset, count, flags);
}
"#;

/// The name of a partial file of a sample that the client sends.
fn partial_name(sample: &Sample) -> String {
    let digest = FileDigest::of_bytes(&sample.bytes).name();
    let digest: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let sender = FileDigest::of_bytes(CLIENT.address.to_string().as_bytes()).name();
    let sender: String = sender[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!(".siar-{digest}-{:x}-{sender}-1408x128.part", sample.bytes.len())
}

fn partial_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
}

fn log_of(lab: &Lab) -> String {
    fs::read_to_string(lab.path(SERVERS[0].name).join("server.log")).unwrap()
}

/// Pipes and links under the names of temporary files, at the server and at the client, hold
/// nobody up and are not written to.
pub(crate) fn foreign_files_under_our_names() {
    let lab = Lab::new(vec![noise("piped.bin", 2 << 20), noise("linked.bin", 2 << 20)]);
    let files = lab.path(SERVERS[0].name).join("files");
    fs::create_dir_all(&files).unwrap();
    let mode = Mode::from_bits_truncate(0o666);
    let pipe = partial_name(&lab.samples[0]);
    let pipes = [files.join(".siar-abc123.part"), lab.path("downloads/.siar-abc123.part")];
    for pipe in pipes.iter().chain([&files.join(&pipe)]) {
        mkfifo(pipe, mode).unwrap();
    }
    let other = lab.path("other");
    fs::write(&other, "kept").unwrap();
    let link = partial_name(&lab.samples[1]);
    fs::hard_link(&other, files.join(&link)).unwrap();

    let _server = lab.server(SERVERS[0], &[]);
    assert_success(&lab.client(Style::Mt, &["--servers", "1"]));
    let of_new = fs::metadata(&other).unwrap().mode();
    for sample in lab.samples.iter() {
        let path = files.join(sample.file_name());
        assert!(fs::read(&path).unwrap() == sample.bytes, "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().mode(), of_new, "{}", path.display());
    }
    assert_eq!(fs::read(&other).unwrap(), b"kept");
    let log = log_of(&lab);
    for name in [pipe, link] {
        assert_eq!(log.matches(&name).count(), 1, "{log}");
    }
    assert_eq!(partial_files(&files).len(), 3);
}

/// A server that is told to stop at half a file keeps it, and goes on with it.
pub(crate) fn stopped_at_half_a_file() {
    let lab = Lab::new(vec![noise("large.bin", 32 << 20)]);
    let server = lab.server(SERVERS[0], &[]);
    let (files, events) = (server.files(), server.dir.join("server.events"));
    let client = lab.start_client(Style::Mt, &["--servers", "1", "--rate", "100mbit"]);
    wait_for("the transfer", || has_event(&events, "transfer_started"));
    thread::sleep(Duration::from_millis(700));
    assert!(server.stop().unwrap().success());
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(partial_files(&files).len(), 1);
    let log = log_of(&lab);
    assert!(log.contains("stopping; what has come is kept for 10 minutes"), "{log}");

    // The start of a server is seen by its first event.
    fs::remove_file(&events).unwrap();
    let server = lab.server(SERVERS[0], &[]);
    assert_success(&lab.client(Style::Mt, &["--servers", "1"]));
    assert!(has_event(&events, "resumed"));
    lab.assert_delivered(&server);
}

/// A key of another user, or one that is not random, is no key.
pub(crate) fn keys_that_are_no_secret() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let key = lab.path("key");
    Key::create(&key).unwrap();
    // A lab without root rights cannot give a file away; then a file of the system's owner serves.
    let is_given = std::os::unix::fs::chown(&key, Some(1), None).is_ok();
    let foreign = if is_given { key } else { PathBuf::from("/etc/passwd") };
    let weak = lab.path("weak");
    fs::write(&weak, "00".repeat(32)).unwrap();
    fs::set_permissions(&weak, fs::Permissions::from_mode(0o600)).unwrap();
    for (path, says) in [(&foreign, "belongs to user"), (&weak, "lab keygen")] {
        let output = lab.client(Style::Mp, &["--key-file", path.to_str().unwrap()]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
}

/// A file whose bytes do not reach the disk is neither confirmed nor published.
pub(crate) fn failing_sync() {
    if !has("cc") {
        println!("no cc here: a disk that fails is not tried");
        return;
    }
    let lab = Lab::new(vec![noise("large.bin", 3 << 20), noise("small.bin", 1000)]);
    let (source, library) = (lab.path("sync.c"), lab.path("sync.so"));
    fs::write(&source, FAILING_SYNC).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert_success(&compiler.output().unwrap());

    let dir = lab.path(SERVERS[0].name);
    let (log, events) = (dir.join("server.log"), dir.join("server.events"));
    fs::create_dir_all(dir.join("files")).unwrap();
    let output = fs::File::create(&log).unwrap();
    let mut command = Command::new(programs().server());
    command.arg("--dir").arg(dir.join("files")).arg("--events").arg(&events);
    command.env("LD_PRELOAD", &library).stdin(Stdio::null());
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let child = lab.network.spawn(SERVERS[0], &mut command).unwrap();
    // Dropping the server kills it.
    let server = RunningServer { node: SERVERS[0], child, dir };
    wait_for("the server", || has_event(&events, "listening"));

    let output = lab.client(Style::Mt, &["--servers", "1"]);
    let (stderr, log) = (text(&output.stderr), log_of(&lab));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains(":5005 confirmed"), "{stderr}");
    for sample in lab.samples.iter() {
        let name = sample.file_name();
        let refused = format!("192.168.122.90:5005 did not confirm {name}: ");
        assert!(stderr.contains(&refused), "{stderr}");
        let failure = log.lines().find(|line| line.contains(name) && line.contains("disk"));
        assert!(failure.is_some_and(|line| line.contains("Input/output error")), "{log}");
    }
    assert!(stderr.contains("Input/output error"), "{stderr}");
    wait_for("the end of the files", || fs::read_dir(server.files()).unwrap().count() == 0);
}
