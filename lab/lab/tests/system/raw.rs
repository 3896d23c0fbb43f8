//! Tests of the raw format with the Python scripts, in both directions.

use std::fs;
use std::process::{Command, Stdio};

use siar_core::event::Style;
use stage::node::{CLIENT, SERVERS};
use stage::samples::noise;

use crate::lab::{Lab, assert_success, text, wait_for};

const PYTHON_SERVER: &str = "
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('', 5005))
print('ready', flush=True)
data, addr = sock.recvfrom(65535)
open(sys.argv[1], 'wb').write(data)
";

const PYTHON_CLIENT: &str = "
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.sendto(open(sys.argv[1], 'rb').read(), ('255.255.255.255', 5005))
";

pub(crate) fn raw_to_python() {
    let lab = Lab::new(vec![noise("photo.png", 48_000)]);
    let received = lab.path("received");
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_SERVER]).arg(&received).stdout(Stdio::piped());
    let mut server = lab.network.spawn(SERVERS[0], &mut python).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let output = lab.client(Style::Mt, &["--wire", "raw"]);
    assert_success(&output);
    assert!(text(&output.stderr).contains("nothing confirms it"));
    wait_for("the Python server's end", || server.try_wait().unwrap().is_some());
    assert!(fs::read(received).unwrap() == lab.samples[0].bytes);
}

pub(crate) fn raw_from_python() {
    let lab = Lab::new(vec![noise("photo.png", 60_000)]);
    let server = lab.server(SERVERS[0], &["--dump", "--wire", "both"]);
    let source = lab.path("source.png");
    let mut picture = b"\x89PNG\r\n\x1a\n'".to_vec();
    picture.extend_from_slice(&lab.samples[0].bytes);
    fs::write(&source, &picture).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON_CLIENT]).arg(&source);
    assert!(lab.network.spawn(CLIENT, &mut python).unwrap().wait().unwrap().success());
    let received = server.files().join("img1.png");
    wait_for("the file", || received.exists());
    assert!(fs::read(received).unwrap() == picture);
    let log = server.dir.join("server.log");
    wait_for("the scripts' lines", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("dikirim oleh"))
    });
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("diterima  b'\\x89PNG\\r\\n\\x1a\\n\\'"), "{}", &log[..200]);
}
