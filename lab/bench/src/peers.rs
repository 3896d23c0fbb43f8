//! Runs of other programs: UFTP, UDPcast and, for the download that both lack, curl.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::BenchError;
use crate::arena::server_address;
use crate::origin::SUFFIX;
use crate::run::{ORIGIN, Place, Run, Source, end_unconfirmed_receivers, fault, is_everywhere};

/// Runs UFTP at `rate` kbit/s, with a list of its receivers, so that it waits for no others.
///
/// # Errors
/// The lab itself fails.
pub fn uftp(place: &Place<'_>, source: &Source, rate: u32) -> Result<Run, BenchError> {
    const BUFFER: &str = "104857600";
    let receivers = place.start_receivers("Loaded", |dir| {
        let mut command = Command::new("uftpd");
        command.args(["-d", "-I", "eth0", "-B", BUFFER, "-D"]).arg(dir);
        command
    })?;
    // The receiver prints its first line before it joins its multicast group.
    thread::sleep(Duration::from_millis(300));
    let hosts = (0..receivers.len()).map(|index| server_address(index).to_string());
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let mut command = Command::new("uftp");
    command
        .args(["-R", &rate.to_string(), "-I", "eth0", "-B", BUFFER, "-b", "1440", "-H", &hosts])
        .arg(&source.path);
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !is_everywhere(place, source, source.path.file_name().unwrap_or_default().as_ref())? {
        return Ok(Run::fault("a file differs at a receiver"));
    }
    let output = place.client_output();
    let elapsed = output.lines().find_map(|line| {
        line.strip_prefix("Total elapsed time: ")?.split(' ').next()?.parse().ok()
    });
    Ok(Run {
        wall: sender.wall,
        transfer: elapsed,
        sender: Some(sender),
        receivers: costs,
        ..Run::default()
    })
}

/// Downloads the source with curl, because UFTP and UDPcast download nothing.
///
/// # Errors
/// The lab itself fails.
pub fn curl(place: &Place<'_>, source: &Source) -> Result<Run, BenchError> {
    let file = place.dir.join("file");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--output"]).arg(&file);
    command.arg(format!("http://{ORIGIN}/{}/source{SUFFIX}", source.len));
    let (status, sender) = place.run_client(&mut command, source)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !source.is_at(&file) {
        return Ok(Run::fault("the download differs"));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), ..Run::default() })
}

/// Runs UDPcast in full duplex.
///
/// # Errors
/// The lab itself fails.
pub fn udpcast(place: &Place<'_>, source: &Source) -> Result<Run, BenchError> {
    let receivers = place.start_receivers("UDP receiver", |_| {
        let mut command = Command::new("udp-receiver");
        command.args(["--file", "file", "--nokbd", "--interface", "eth0", "--rcvbuf", "16m"]);
        command
    })?;
    let mut command = Command::new("udp-sender");
    command
        .args(["--full-duplex", "--nokbd", "--interface", "eth0", "--sendbuf", "4m"])
        .args(["--min-receivers", &receivers.len().to_string(), "--file"])
        .arg(&source.path);
    let (status, sender) = place.run_client(&mut command, source)?;
    let costs = end_unconfirmed_receivers(receivers)?;
    if let Some(fault) = fault(status) {
        return Ok(Run::fault(fault));
    }
    if !is_everywhere(place, source, Path::new("file"))? {
        return Ok(Run::fault("a file differs at a receiver"));
    }
    Ok(Run { wall: sender.wall, sender: Some(sender), receivers: costs, ..Run::default() })
}
