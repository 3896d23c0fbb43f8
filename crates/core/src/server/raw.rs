//! Files in the Python scripts' format: one datagram each, without a name or a confirmation.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Server;
use crate::event::EventKind;
use crate::io::store::StoreError;

/// The memory for raw files that wait to be written, in bytes.
const RAW_MEMORY: usize = 16 << 20;
/// The memory that one waiting raw file takes besides its content, in bytes.
const JOB_COST: usize = 1024;
const TRANSFER: &str = "raw";

impl Server<'_> {
    /// Handles a datagram that is a whole file (`udpserver_broadcast.py`, line 17).
    pub(super) fn handle_raw(&mut self, from: SocketAddr, bytes: &[u8]) {
        let cost = bytes.len() + JOB_COST;
        if self.raw_waiting + cost > RAW_MEMORY {
            self.dropped.count("raw files come faster than they can be written", 1);
            return;
        }
        if let Err(refusal) = self.limits.charge_raw(bytes.len() as u64) {
            return self.tell_failed(TRANSFER.to_owned(), from.to_string(), refusal.text);
        }
        self.raw_waiting += cost;
        self.tell(EventKind::TransferStarted {
            transfer: TRANSFER.to_owned(),
            from: from.to_string(),
            name: String::new(),
            bytes: bytes.len() as u64,
        });
        self.writers.publish_raw(from, bytes.to_vec());
    }

    pub(super) fn handle_raw_stored(
        &mut self,
        from: SocketAddr,
        len: usize,
        blake3: blake3::Hash,
        result: Result<PathBuf, StoreError>,
    ) {
        self.raw_waiting -= len + JOB_COST;
        let (transfer, from, bytes) = (TRANSFER.to_owned(), from.to_string(), len as u64);
        match result {
            Ok(path) => {
                self.summary.files += 1;
                self.summary.raw += 1;
                self.summary.bytes += bytes;
                let (path, blake3) = (path.display().to_string(), blake3.to_string());
                let seconds = 0.0;
                self.tell(EventKind::Received { transfer, from, path, bytes, blake3, seconds });
            }
            Err(error) => {
                self.limits.discharge_raw(bytes);
                self.tell_failed(transfer, from, error.to_string());
            }
        }
    }
}
