//! Trains of equally long datagrams: one segmented send where kernel and device allow it, and
//! single datagrams where they refuse, as on a GNS3 link without checksum offload.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

/// The number of retries for a full device queue, and the time between them.
const FULL_QUEUE_RETRIES: u32 = 1000;
const FULL_QUEUE_PAUSE: Duration = Duration::from_micros(200);

/// Errors that count as losses once a first datagram has shown that the destination is valid.
const LOSSES: [Errno; 4] = [Errno::EPERM, Errno::ENETDOWN, Errno::ENETUNREACH, Errno::EHOSTUNREACH];
const REFUSALS: [Errno; 3] = [Errno::EIO, Errno::EINVAL, Errno::EMSGSIZE];

/// Datagrams of equal length, one after the other, with their destination. The last may be shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Train<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) segment_len: usize,
    pub(super) destination: SocketAddr,
}

/// The system calls that a train needs.
pub(super) trait Kernel {
    /// Sends the whole train in one call (UDP_SEGMENT).
    fn send_segmented(&mut self, train: Train<'_>) -> io::Result<()>;
    /// Sends as many datagrams as one call takes (sendmmsg; sendto for a single datagram), and
    /// returns their number.
    fn send_one_by_one(&mut self, train: Train<'_>) -> io::Result<usize>;
    /// Waits until the socket takes another datagram.
    fn wait_until_writable(&self) -> io::Result<()>;
}

/// The sender of trains, which remembers what the kernel refuses.
#[derive(Debug)]
pub(super) struct TrainSender<K> {
    kernel: K,
    segmentation: bool,
    has_sent: bool,
}

impl<K: Kernel> TrainSender<K> {
    pub(super) fn new(kernel: K, segmentation: bool) -> Self {
        Self { kernel, segmentation, has_sent: false }
    }

    /// Makes the next datagram a first one again: an unreachable network is an error then.
    pub(super) fn forget_sent(&mut self) {
        self.has_sent = false;
    }

    pub(super) fn kernel(&self) -> &K {
        &self.kernel
    }

    pub(super) fn send(&mut self, train: Train<'_>) -> io::Result<()> {
        if self.segmentation && train.bytes.len() > train.segment_len {
            match self.retry(train, |kernel, train| kernel.send_segmented(train).map(|()| 0)) {
                Err(error) if is_one_of(&error, &REFUSALS) => {
                    let to = train.destination;
                    log::debug!("{to}: no segmentation offload ({error}), sending one by one");
                    self.segmentation = false;
                }
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
        let mut rest = train;
        while !rest.bytes.is_empty() {
            let sent = self.retry(rest, K::send_one_by_one)?;
            rest.bytes = &rest.bytes[(sent * rest.segment_len).min(rest.bytes.len())..];
        }
        Ok(())
    }

    /// Repeats a call after errors that pass by themselves.
    fn retry(
        &mut self,
        train: Train<'_>,
        mut call: impl FnMut(&mut K, Train<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut retries = 0;
        loop {
            match call(&mut self.kernel, train) {
                Ok(sent) => {
                    self.has_sent = true;
                    return Ok(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.kernel.wait_until_writable()?;
                }
                // The device's queue is full at this moment.
                Err(error)
                    if is_one_of(&error, &[Errno::ENOBUFS]) && retries < FULL_QUEUE_RETRIES =>
                {
                    retries += 1;
                    std::thread::sleep(FULL_QUEUE_PAUSE);
                }
                // This error (port unreachable) answers an earlier datagram, not this one.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused
                        && retries < FULL_QUEUE_RETRIES =>
                {
                    retries += 1;
                }
                // A local firewall has dropped the datagram, or a link is down: this counts as a
                // loss.
                Err(error) if is_one_of(&error, &LOSSES) && self.has_sent => {
                    log::debug!("datagrams to {} lost: {error}", train.destination);
                    return Ok(train.bytes.len().div_ceil(train.segment_len.max(1)));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_one_of(error: &io::Error, codes: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that refuses segmentation from some call on, and takes two datagrams at a time
    /// else.
    struct Fake {
        refusal: Errno,
        segmented_calls_taken: usize,
        sent: Vec<Vec<u8>>,
        busy: bool,
    }

    impl Kernel for Fake {
        fn send_segmented(&mut self, train: Train<'_>) -> io::Result<()> {
            let Some(left) = self.segmented_calls_taken.checked_sub(1) else {
                return Err(self.refusal.into());
            };
            self.segmented_calls_taken = left;
            self.sent.extend(train.bytes.chunks(train.segment_len).map(<[u8]>::to_vec));
            Ok(())
        }

        fn send_one_by_one(&mut self, train: Train<'_>) -> io::Result<usize> {
            self.busy = !self.busy;
            if self.busy {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.sent.len();
            self.sent.extend(train.bytes.chunks(train.segment_len).take(2).map(<[u8]>::to_vec));
            Ok(self.sent.len() - before)
        }

        fn wait_until_writable(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sender(refusal: Errno, segmented_calls_taken: usize) -> TrainSender<Fake> {
        let fake = Fake { refusal, segmented_calls_taken, sent: Vec::new(), busy: false };
        TrainSender::new(fake, true)
    }

    fn train(bytes: &[u8]) -> Train<'_> {
        let destination = SocketAddr::from(([127, 0, 0, 1], 5005));
        Train { bytes, segment_len: 3, destination }
    }

    #[test]
    fn what_is_refused_is_sent_again_one_by_one() {
        for refusal in [Errno::EIO, Errno::EINVAL] {
            for taken in [0, 1, 2] {
                let mut sender = sender(refusal, taken);
                for _ in 0..3 {
                    sender.send(train(b"abcdefgh")).unwrap();
                }
                let expected = [&b"abc"[..], b"def", b"gh"].repeat(3);
                assert_eq!(sender.kernel.sent, expected, "{refusal} after {taken}");
                assert!(!sender.segmentation);
            }
        }
    }

    #[test]
    fn an_unreachable_network_is_an_error_at_first_and_loss_later() {
        let mut sender = sender(Errno::ENETUNREACH, 0);
        assert!(sender.send(train(b"abcdef")).is_err());
        sender.kernel.segmented_calls_taken = 1;
        sender.send(train(b"abcdef")).unwrap();
        sender.send(train(b"abcdef")).unwrap();
        assert_eq!(sender.kernel.sent.len(), 2);
    }
}
