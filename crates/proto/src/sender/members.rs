//! The members of one transfer: its receivers, as the sender knows them.

use std::collections::{BTreeMap, HashMap};
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

/// An answer is far later than others if it takes this many times as long, and at least so long.
const FAR_LATER: u32 = 4;
const LATE: Duration = Duration::from_millis(100);

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
    fn is_waited_for(&self) -> bool {
        self.in_pass && self.is_receiving()
    }

    /// Whether the member should make progress: it lacks symbols of the blocks below `horizon`,
    /// does not report on all of these, or has a closed receive window.
    fn is_expected_to_advance(&self, horizon: u32) -> bool {
        self.is_behind(horizon) || self.status.as_ref().is_some_and(|status| status.window == 0)
    }

    /// Whether the member lacks symbols of the blocks below `horizon`, or does not report on them.
    fn is_behind(&self, horizon: u32) -> bool {
        self.status
            .as_ref()
            .is_none_or(|status| !status.runs.is_empty() || status.covered < horizon)
    }

    /// The symbols of a file of `file` symbols that the member says it has gained.
    fn gained(&self, file: Symbols) -> Symbols {
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

/// The time limits for members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The time of silence after which the sender does not wait for the member.
    pub(super) stall: Duration,
    /// The time of silence after which the member is given up.
    pub(super) silence: Duration,
    /// The time without progress after which the member is given up.
    pub(super) idle: Duration,
    /// The time that the member may take to verify the file.
    pub(super) verifying: Duration,
    /// The time that the sender waits in all for a member: this, and more for each symbol that the
    /// member has gained.
    pub(super) waited: Duration,
    pub(super) waited_per_symbol: Duration,
    /// The time for which a member may hold up most others.
    pub(super) held_up: Duration,
}

/// The state of the transfer when its members are judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// The number of blocks that have been sent once, from block 0 on.
    pub(super) horizon: u32,
    /// Whether no further block can be sent until a member in the pass advances.
    pub(super) is_held_up: bool,
    /// Whether no further symbol can be sent until all members in the pass have answered.
    pub(super) is_congested: bool,
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
    all: BTreeMap<ReceiverId, Member>,
    slowest: Option<Slowest>,
    receive_window: Option<Blocks>,
    receiving: Option<usize>,
    /// The smallest socket buffer that a member in the pass has told, if any has.
    least_recv_buffer: Option<Option<u32>>,
    worst_loss: Option<f64>,
    /// The time of the latest check of the time limits.
    judged_at: Option<Instant>,
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
    fn clear_caches(&mut self) {
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

    /// Whether most members in the pass are not behind. Then those that are hold them up.
    fn are_most_ahead(&self, horizon: u32) -> bool {
        let behind = self.in_pass().filter(|member| member.is_behind(horizon)).count();
        behind > 0 && 2 * behind <= self.in_pass().count()
    }

    /// The time after which an answer is far later than those of most members in the pass.
    fn far_later(&self) -> Duration {
        let mut times: Vec<Duration> =
            self.in_pass().map(|member| member.path.round_trip()).collect();
        times.sort_unstable();
        let usual = times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        (usual * FAR_LATER).max(LATE)
    }

    /// Checks the time limits: late members leave the pass, silent and idle ones are given up, and
    /// those who gain too little for the time that they take. Returns the members that have held up
    /// most others for too long.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        patience: Patience,
        situation: Situation,
    ) -> Vec<ReceiverId> {
        let Situation { horizon, is_held_up, is_congested, file } = situation;
        let are_held_up = is_held_up && self.are_most_ahead(horizon);
        let far_later = is_congested.then(|| self.far_later());
        self.clear_caches();
        let passed = now.saturating_duration_since(self.judged_at.replace(now).unwrap_or(now));
        let mut latest: HashMap<SocketAddr, Instant> = HashMap::new();
        for member in self.all.values() {
            let joined = latest.entry(member.address).or_insert(member.joined_at);
            *joined = member.joined_at.max(*joined);
        }
        for member in self.all.values_mut().filter(|member| member.is_receiving()) {
            let quiet = now.saturating_duration_since(member.last_heard);
            let is_far_later = far_later.is_some_and(|late| member.path.round_trip() > late);
            if member.in_pass && (are_held_up && member.is_behind(horizon) || is_far_later) {
                member.held_up += passed;
            }
            let is_late = quiet >= patience.stall;
            let is_replaced = latest.get(&member.address) > Some(&member.last_heard);
            if quiet >= patience.silence || is_late && is_replaced {
                member.standing = Standing::Silent;
            } else if member.in_pass && member.is_expected_to_advance(horizon) {
                // A member out of the pass gets no repair, and one without a deficit waits for
                // others: neither can make progress.
                member.idle += passed;
                member.waited += passed;
                let gained = u32::try_from(member.gained(file).0).unwrap_or(u32::MAX);
                let earned = patience.waited_per_symbol.saturating_mul(gained);
                if member.idle >= patience.idle {
                    member.standing = Standing::Failed("made no progress".to_owned());
                } else if member.waited >= patience.waited.saturating_add(earned) {
                    member.standing = Standing::Failed("made too little progress".to_owned());
                }
            }
            if is_late {
                member.in_pass = false;
            }
            let verifying =
                member.verifying_since.map(|since| now.saturating_duration_since(since));
            if verifying.is_some_and(|took| took >= patience.verifying) {
                member.standing = Standing::Failed("did not finish verifying".to_owned());
            }
        }
        let held_up = self
            .all
            .iter()
            .filter(|(_, member)| member.is_waited_for() && member.held_up >= patience.held_up);
        held_up.map(|(id, _)| *id).collect()
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
