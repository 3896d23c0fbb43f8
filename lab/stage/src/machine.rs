//! A description of the machine that a run was made on.

use std::fs;

/// Processor, number of cores and kernel version, in words.
#[must_use]
pub fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    // The part of the version after a dash is the distribution's.
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    format!("{cores} cores of {processor}, Linux {kernel}")
}
