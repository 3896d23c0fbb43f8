//! Runs of scripts after the assignment's Python scripts.

use std::fs;
use std::process::{Command, Stdio};

use siar_core::event::Style;

use crate::BenchError;
use crate::run::{ORIGIN, Place, Run, Source, end_unconfirmed_receivers, fault};

/// Whether Python is installed with `requests`, which the Python scripts use.
pub(crate) fn has_requests() -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", "import requests"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The four Python scripts in one: the same output, without the sleep. The arguments are the
/// style, the beginning of the URLs and the number of files.
const PYTHON: &str = r#"
import concurrent.futures, logging, multiprocessing, os, requests, socket, sys, threading
from datetime import datetime
from urllib.parse import urlsplit

def task(url):
    start = datetime.now()
    data = requests.get(url).content
    name = os.path.basename(urlsplit(url).path)
    with open(name, "wb") as file:
        file.write(data)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    print(f"broadcast file {name}")
    with open(name, "rb") as file:
        sock.sendto(file.read(), ("255.255.255.255", 5005))
    took, end = datetime.now() - start, datetime.now()
    logging.warning(f"writing {name} dalam waktu {took} {start} s/d {end}")
    return took

def queued(urls):
    for url in urls:
        print(f"mendownload {url}")
        yield url

def joined(kind, urls):
    started = []
    for url in queued(urls):
        started.append(kind(target=task, args=(url,)))
        started[-1].start()
    for one in started:
        one.join()

if __name__ == "__main__":
    style, origin, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    urls = [f"{origin}/task{i}-file.bin" for i in range(count)]
    if style == "mp":
        joined(multiprocessing.Process, urls)
    elif style == "mt":
        joined(threading.Thread, urls)
    elif style == "mp-async":
        with multiprocessing.Pool(20) as pool:
            results = [pool.apply_async(task, (url,)) for url in queued(urls)]
            print([result.get() for result in results])
    else:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            results = [pool.submit(task, url) for url in queued(urls)]
            print([result.result() for result in results])
"#;

/// A receiver after the Python scripts' server, without its prints.
const PYTHON_SERVER: &str = r#"
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 5005))
print("ready", flush=True)
count = 1
while True:
    data, address = sock.recvfrom(65536)
    with open("img" + str(count) + ".jpg", "wb") as file:
        file.write(data)
    count += 1
"#;

/// Runs the script of a style with its receivers. The received files are not compared.
///
/// # Errors
/// The lab itself fails.
pub fn run(
    place: &Place<'_>,
    source: &Source,
    style: Style,
    tasks: usize,
) -> Result<Run, BenchError> {
    let receivers = place.start_receivers("ready", |_| {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON_SERVER]);
        command
    })?;
    let script = place.dir.join("script.py");
    fs::write(&script, PYTHON).map_err(BenchError::file(&script))?;
    let mut command = Command::new("python3");
    command
        .arg(&script)
        .args([style.to_string(), format!("http://{ORIGIN}/{}", source.len), tasks.to_string()])
        .current_dir(&place.dir);
    let (status, sender) = place.run_client(&mut command, source)?;
    let receivers = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers, ..Run::default() })
}
