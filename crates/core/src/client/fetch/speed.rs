//! The slowest download that goes on, as curl's `--speed-limit` and `--speed-time`: a server that
//! sends a byte now and then would hold a task, and its turn, for ever.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest time over which a rate is measured.
const SHORTEST: Duration = Duration::from_secs(1);
/// The number of parts of that time that are told apart.
const PARTS: u32 = 16;

/// The rate below which a download is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedFloor {
    /// The rate, in bytes per second; with zero, no download is too slow.
    pub bytes_per_second: u64,
    /// The time over which the rate is measured, a second at least.
    pub time: Duration,
}

impl SpeedFloor {
    fn time(self) -> Duration {
        self.time.max(SHORTEST)
    }

    /// Returns the longest wait for the next bytes: `usual`, or less if the download is too slow
    /// before.
    pub(super) fn longest_wait(self, usual: Duration) -> Duration {
        if self.bytes_per_second == 0 { usual } else { usual.min(self.time()) }
    }
}

/// The rate of one download. Only the time counts that the download waits for its server.
#[derive(Debug)]
pub(super) struct SpeedWatch {
    floor: SpeedFloor,
    /// The time waited for the server in all.
    waited: Duration,
    /// The bytes that came in all.
    bytes: u64,
    /// The time and the bytes at the beginning of the measured time.
    begin: (Duration, u64),
    /// The same at later moments.
    marks: VecDeque<(Duration, u64)>,
}

impl SpeedWatch {
    pub(super) fn new(floor: SpeedFloor) -> Self {
        let (waited, begin, marks) = (Duration::ZERO, (Duration::ZERO, 0), VecDeque::new());
        Self { floor, waited, bytes: 0, begin, marks }
    }

    /// Notes that `read` bytes came after a wait of `took`. Returns the rate, in bytes per second,
    /// if it is too low.
    pub(super) fn note(&mut self, took: Duration, read: usize) -> Option<u64> {
        if self.floor.bytes_per_second == 0 {
            return None;
        }
        self.waited += took;
        self.bytes += read as u64;
        let time = self.floor.time();
        while let Some(mark) = self.marks.front()
            && self.waited - mark.0 >= time
        {
            self.begin = *mark;
            self.marks.pop_front();
        }
        let latest = self.marks.back().unwrap_or(&self.begin).0;
        if self.waited - latest >= time / PARTS {
            self.marks.push_back((self.waited, self.bytes));
        }
        let measured = self.waited - self.begin.0;
        if measured < time {
            return None;
        }
        let millis = measured.as_millis().max(1);
        // No more than the bytes of the download.
        let rate = (u128::from(self.bytes - self.begin.1) * 1000 / millis) as u64;
        (rate < self.floor.bytes_per_second).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch(bytes_per_second: u64, seconds: u32) -> SpeedWatch {
        SpeedWatch::new(SpeedFloor { bytes_per_second, time: SECOND * seconds })
    }

    /// Returns after how many reads the download is too slow, if that is before `most`.
    fn given_up(watch: &mut SpeedWatch, took: Duration, read: usize, most: usize) -> Option<usize> {
        (1..=most).find(|_| watch.note(took, read).is_some())
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow() {
        assert_eq!(given_up(&mut watch(100, 30), 4 * SECOND, 1, 100), Some(8));
        assert_eq!(given_up(&mut watch(100, 30), SECOND / 4, 1, 1000), Some(120));
        assert_eq!(given_up(&mut watch(100, 30), SECOND, 100, 1000), None);
        assert_eq!(given_up(&mut watch(0, 30), 4 * SECOND, 1, 1000), None);
    }

    #[test]
    fn only_the_last_while_counts() {
        let mut watch = watch(100, 8);
        assert_eq!(given_up(&mut watch, SECOND / 1000, 1 << 20, 1000), None);
        let reads = given_up(&mut watch, SECOND, 1, 100).unwrap();
        assert!((8..=9).contains(&reads), "{reads}");
    }

    #[test]
    fn what_our_side_waits_does_not_count() {
        let mut watch = watch(100, 1);
        for _ in 0..10_000 {
            // However late each read comes, it finds its bytes at once.
            assert_eq!(watch.note(Duration::from_micros(10), 1), None);
        }
    }

    #[test]
    fn the_rate_is_told() {
        assert_eq!(watch(100, 2).note(2 * SECOND, 90), Some(45));
        // A time of zero is one that can be measured.
        assert_eq!(watch(100, 0).note(SECOND / 2, 0), None);
        assert_eq!(watch(100, 0).note(SECOND, 0), Some(0));
    }

    #[test]
    fn a_wait_ends_with_the_measured_time() {
        let floor = |bytes_per_second, time| SpeedFloor { bytes_per_second, time };
        assert_eq!(floor(100, 5 * SECOND).longest_wait(30 * SECOND), 5 * SECOND);
        assert_eq!(floor(100, 60 * SECOND).longest_wait(30 * SECOND), 30 * SECOND);
        assert_eq!(floor(0, 5 * SECOND).longest_wait(30 * SECOND), 30 * SECOND);
    }
}
