//! The members of one transfer: its receivers, as the sender knows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::path::Path;
use super::polls::SentPoll;
use crate::units::{Blocks, Symbols};
use crate::wire::{ReceiverId, ReceiverState, Status};

/// The bound on the symbols that are sent while a member takes part; a member above it is given up.
/// The bound is the sum of `COST_PER_GAINED` symbols for each symbol that the member says it
/// gained, `COST_IN_FILES` times the symbols of the file for losses at the beginning, and
/// `FREE_COST` symbols for small files.
const COST_PER_GAINED: u64 = 20;
const COST_IN_FILES: u64 = 8;
const FREE_COST: u64 = 8192;

/// The largest number of members. The sender does not wait for further receivers.
pub(super) const MAX_MEMBERS: usize = 10_000;

/// One receiver of the transfer.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    /// The number of blocks that the receiver can hold.
    pub(super) receive_window: u16,
    /// The size in bytes of the receiver's socket buffer, if it has told it.
    pub(super) recv_buffer: Option<u32>,
    pub(super) standing: Standing,
    /// Whether the member takes part in the present pass over the file: the sender waits for it.
    pub(super) in_pass: bool,
    pub(super) joined_at: Instant,
    /// The time of the latest frame from the member.
    pub(super) last_heard: Instant,
    /// The time that the sender has waited for the member since it last gained a symbol. Time out
    /// of the pass is not counted, and does not reset it.
    pub(super) idle: Duration,
    /// The time that the sender has waited for the member in all.
    pub(super) waited: Duration,
    /// The time for which the member has kept the sender from sending what most others had room for.
    pub(super) held_up: Duration,
    /// The poll that it had answered when it was last judged.
    pub(super) judged_round: u32,
    /// The member's latest status.
    pub(super) status: Option<Status>,
    /// The number of symbols sent before the member joined.
    pub(super) joined_sent: Symbols,
    /// The smallest number of lacking symbols that the member has ever reported.
    pub(super) least_lacking: Symbols,
    /// The time of the first status that said that the member has all symbols.
    pub(super) verifying_since: Option<Instant>,
    /// The symbols sent before the latest answered poll, and the symbols received by then. Loss is
    /// counted from here on.
    pub(super) counted: (Symbols, u64),
    pub(super) path: Path,
}

/// The standing of a member in the transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Receiving,
    Confirmed,
    /// The member is given up for ever, for this reason.
    Failed(String),
    /// The member is given up as silent. Any frame from it makes it receiving again.
    Silent,
}

impl Member {
    pub(super) fn is_receiving(&self) -> bool {
        self.standing == Standing::Receiving
    }

    /// Whether the sender waits for the member in the present pass.
    pub(super) fn is_waited_for(&self) -> bool {
        self.in_pass && self.is_receiving()
    }

    /// Whether the member should make progress: it lacks symbols of the blocks below `horizon`,
    /// does not report on all of these, or has a closed receive window.
    pub(super) fn is_expected_to_advance(&self, horizon: u32) -> bool {
        self.is_behind(horizon) || self.status.as_ref().is_some_and(|status| status.window == 0)
    }

    /// Whether the member lacks symbols of the blocks below `horizon`, or does not report on them.
    pub(super) fn is_behind(&self, horizon: u32) -> bool {
        self.status
            .as_ref()
            .is_none_or(|status| !status.runs.is_empty() || status.covered < horizon)
    }

    /// The symbols of a file of `file` symbols that the member says it has gained.
    pub(super) fn gained(&self, file: Symbols) -> Symbols {
        file.saturating_sub(self.least_lacking)
    }

    /// The number of the latest poll that the member has answered; 0 before the first.
    pub(super) fn answered_round(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.round)
    }

    fn take_status(&mut self, now: Instant, answer: Answer, congestion_window: Symbols) {
        let Answer { status, poll, lacking, file } = answer;
        if self.status.is_none() || lacking < self.least_lacking {
            self.idle = Duration::ZERO;
        }
        self.least_lacking = self.least_lacking.min(lacking);
        let gained = self.gained(file);
        let allowed = Symbols(COST_PER_GAINED * gained.0 + COST_IN_FILES * file.0 + FREE_COST);
        if poll.is_some_and(|poll| poll.sent.saturating_sub(self.joined_sent) > allowed) {
            let reason = "lacks more and more, whatever is sent".to_owned();
            self.standing = Standing::Failed(reason);
        }
        // Hashing a large file takes time without progress. A member that once reports all symbols
        // has to confirm within the time limit, whatever it reports later.
        if status.state == ReceiverState::Verifying || lacking == Symbols::ZERO {
            self.idle = Duration::ZERO;
            self.verifying_since.get_or_insert(now);
        }
        let (sent_before, received_before) = self.counted;
        if let Some(poll) = poll.filter(|poll| poll.sent > sent_before) {
            let received = status.received.saturating_sub(received_before) as f64;
            let sent = (poll.sent - sent_before).0 as f64;
            let lost = 1.0 - (received / sent).min(1.0);
            let took = now.saturating_duration_since(poll.at);
            let queue = self.path.queue(took, poll.is_repeat);
            self.path.on_answer(queue, lost, sent, congestion_window.0 as f64);
            self.counted = (poll.sent, status.received);
        }
        self.status = Some(status);
    }
}

/// A member's status, with what the sender derives from it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    /// The poll that the status answers, if it is remembered.
    pub(super) poll: Option<SentPoll>,
    /// The symbols of the file that the member lacks, those not sent yet included.
    pub(super) lacking: Symbols,
    /// The source symbols of the file.
    pub(super) file: Symbols,
}

/// The progress that all members in the pass have reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// All have answered the poll with this number or a later one.
    pub(super) round: u32,
    /// All have reported on the blocks below this one.
    pub(super) covered: u32,
}

/// The members in the pass with the oldest answer: the poll that they answered, and their number.
/// All members are searched again only when the last of these has answered a later poll.
#[derive(Debug, Clone, Copy)]
struct Slowest {
    round: u32,
    count: usize,
}

/// All members of a transfer. Values over all members are cached; `None` means that a value must be
/// computed again.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) all: BTreeMap<ReceiverId, Member>,
    slowest: Option<Slowest>,
    receive_window: Option<Blocks>,
    receiving: Option<usize>,
    /// The smallest socket buffer that a member in the pass has told, if any has.
    least_recv_buffer: Option<Option<u32>>,
    worst_loss: Option<f64>,
    /// The time of the latest check of the time limits.
    pub(super) judged_at: Option<Instant>,
}

impl Members {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ReceiverId, &Member)> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: ReceiverId) -> Option<&Member> {
        self.all.get(&id)
    }

    pub(super) fn insert(&mut self, id: ReceiverId, member: Member) {
        self.all.insert(id, member);
        self.clear_caches();
    }

    /// Forgets the cached values.
    pub(super) fn clear_caches(&mut self) {
        self.slowest = None;
        self.receive_window = None;
        self.receiving = None;
        self.least_recv_buffer = None;
        self.worst_loss = None;
    }

    /// Takes note of a frame from the member `id`. Returns `false` if there is no such member, or
    /// if it joined from another address than `from`.
    pub(super) fn heard(&mut self, now: Instant, id: ReceiverId, from: SocketAddr) -> bool {
        let Some(member) = self.all.get_mut(&id).filter(|member| member.address == from) else {
            return false;
        };
        member.last_heard = now;
        if member.standing == Standing::Silent {
            member.standing = Standing::Receiving;
            self.clear_caches();
        }
        true
    }

    pub(super) fn set_standing(&mut self, id: ReceiverId, standing: Standing) {
        if let Some(member) = self.all.get_mut(&id) {
            member.standing = standing;
            self.clear_caches();
        }
    }

    pub(super) fn set_receive_window(&mut self, id: ReceiverId, window: u16) {
        let Some(member) = self.all.get_mut(&id) else { return };
        let old = Blocks(std::mem::replace(&mut member.receive_window, window).into());
        if self.receive_window.is_some_and(|least| old <= least || Blocks(window.into()) < least) {
            self.receive_window = None;
        }
    }

    pub(super) fn set_recv_buffer(&mut self, id: ReceiverId, recv_buffer: u32) {
        if let Some(member) = self.all.get_mut(&id)
            && member.recv_buffer.replace(recv_buffer) != Some(recv_buffer)
        {
            self.least_recv_buffer = None;
        }
    }

    /// The size in bytes of the smallest socket buffer of the members in the pass that have told it.
    pub(super) fn least_recv_buffer(&mut self) -> Option<u32> {
        if let Some(least) = self.least_recv_buffer {
            return least;
        }
        let least = self.in_pass().filter_map(|member| member.recv_buffer).min();
        self.least_recv_buffer = Some(least);
        least
    }

    /// The symbols that all members have gained, by what they say.
    pub(super) fn gained(&self, file: Symbols) -> Symbols {
        Symbols(self.all.values().map(|member| member.gained(file).0).sum())
    }

    /// Takes a newer answer of the member `id` than the one before. `congestion_window` symbols may
    /// be on the way.
    pub(super) fn set_status(
        &mut self,
        now: Instant,
        id: ReceiverId,
        answer: Answer,
        congestion_window: Symbols,
    ) {
        let Some(member) = self.all.get_mut(&id) else { return };
        if member.in_pass
            && let Some(slowest) = &mut self.slowest
            && member.answered_round() <= slowest.round
        {
            slowest.count = slowest.count.saturating_sub(1);
        }
        member.take_status(now, answer, congestion_window);
        self.worst_loss = None;
        if !member.is_receiving() {
            self.clear_caches();
        }
        if self.slowest.is_some_and(|slowest| slowest.count == 0) {
            self.slowest = None;
        }
    }

    /// Starts the time limits of all members at `now`.
    pub(super) fn start(&mut self, now: Instant) {
        for member in self.all.values_mut() {
            member.last_heard = now;
        }
        self.judged_at = Some(now);
    }

    /// Starts a new pass with all members.
    pub(super) fn start_pass(&mut self) {
        for member in self.all.values_mut() {
            member.in_pass = true;
        }
        self.clear_caches();
    }

    /// The members for which the sender waits in the present pass.
    pub(super) fn in_pass(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.is_waited_for())
    }

    /// Whether a member that joined before sending `started` is still receiving.
    pub(super) fn is_first_receiving(&self, started: Instant) -> bool {
        self.all.values().any(|member| member.is_receiving() && member.joined_at <= started)
    }

    /// The number of members that neither have the file nor are given up.
    pub(super) fn receiving_count(&mut self) -> usize {
        if let Some(count) = self.receiving {
            return count;
        }
        let count = self.receiving().count();
        self.receiving = Some(count);
        count
    }

    fn receiving(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.is_receiving())
    }

    /// The progress that all members in the pass have reported, if it has changed.
    pub(super) fn newly_answered(&mut self) -> Option<Answered> {
        if self.slowest.is_some() {
            return None;
        }
        let round = self.in_pass().map(Member::answered_round).min()?;
        let count = self.in_pass().filter(|member| member.answered_round() == round).count();
        let statuses = self.in_pass().map(|member| member.status.as_ref());
        let covered =
            statuses.map(|status| status.map_or(0, |status| status.covered)).min().unwrap_or(0);
        self.slowest = Some(Slowest { round, count });
        Some(Answered { round, covered })
    }

    /// The smallest receive window of the members in the pass, in blocks.
    pub(super) fn receive_window(&mut self) -> Blocks {
        if let Some(window) = self.receive_window {
            return window;
        }
        let windows = self.in_pass().map(|member| Blocks(member.receive_window.into()));
        let window = windows.min().unwrap_or_default();
        self.receive_window = Some(window);
        window
    }

    /// The largest loss of a member in the pass, as a share of the symbols.
    pub(super) fn worst_loss(&mut self) -> f64 {
        if let Some(loss) = self.worst_loss {
            return loss;
        }
        let loss = self.in_pass().map(|member| member.path.loss()).fold(0.0, f64::max);
        self.worst_loss = Some(loss);
        loss
    }

    /// The member in the pass whose answers take much longer than those of all others, if any.
    pub(super) fn slowest_by_far(&self) -> Option<ReceiverId> {
        self.first_by_far(|member| member.path.round_trip().as_secs_f64())
    }

    /// The member in the pass that can hold far fewer blocks than all others, if any.
    pub(super) fn narrowest_by_far(&self) -> Option<ReceiverId> {
        self.first_by_far(|member| 1.0 / (f64::from(member.receive_window) + 1.0))
    }

    /// The member in the pass with the largest `value`, if that is far above the second largest.
    fn first_by_far(&self, value: impl Fn(&Member) -> f64) -> Option<ReceiverId> {
        const FAR: f64 = 4.0;
        let (mut first, mut second) = ((None, 0.0), 0.0);
        for (id, member) in self.all.iter().filter(|(_, member)| member.is_waited_for()) {
            let value = value(member);
            if value > first.1 {
                second = first.1;
                first = (Some(*id), value);
            } else if value > second {
                second = value;
            }
        }
        first.0.filter(|_| second > 0.0 && first.1 > second * FAR)
    }

    /// Whether a member in the pass other than `id` still needs symbols.
    pub(super) fn is_another_waiting(&self, id: ReceiverId) -> bool {
        self.all.iter().any(|(other, member)| {
            let state = member.status.as_ref().map(|status| status.state);
            let needs_symbols = state != Some(ReceiverState::Verifying);
            *other != id && member.is_waited_for() && needs_symbols
        })
    }

    /// Removes a member from the present pass: the sender does not wait for it any more.
    pub(super) fn leave_pass(&mut self, id: ReceiverId) {
        if let Some(member) = self.all.get_mut(&id) {
            member.in_pass = false;
            self.clear_caches();
        }
    }

    /// Takes note that the congestion window was cut.
    pub(super) fn on_cut(&mut self) {
        for member in self.all.values_mut() {
            member.path.on_cut();
        }
    }

    /// For each block, the largest number of symbols that a receiving member lacks.
    pub(super) fn all_deficits(&self) -> BTreeMap<u32, u16> {
        let mut deficits = BTreeMap::new();
        for status in self.receiving().filter_map(|member| member.status.as_ref()) {
            for run in &status.runs {
                for block in run.first..run.first + run.count {
                    let worst = deficits.entry(block).or_insert(0);
                    *worst = run.deficit.max(*worst);
                }
            }
        }
        deficits
    }

    /// If no member is left in the pass, lets in the receiving members that were heard within
    /// `stall`. Returns whether there were any.
    pub(super) fn admit_late(&mut self, now: Instant, stall: Duration) -> bool {
        if self.in_pass().next().is_some() {
            return false;
        }
        let mut admitted = false;
        for member in self.all.values_mut().filter(|member| member.is_receiving()) {
            if now.saturating_duration_since(member.last_heard) < stall {
                member.in_pass = true;
                admitted = true;
            }
        }
        if admitted {
            self.clear_caches();
        }
        admitted
    }

    /// Whether the member `id` has been replaced by a later one at its address, as happens when a
    /// server is started again.
    pub(super) fn is_replaced(&self, id: ReceiverId) -> bool {
        let Some(gone) = self.all.get(&id) else { return false };
        self.all.iter().any(|(other, member)| {
            *other != id && member.address == gone.address && member.joined_at > gone.last_heard
        })
    }
}
