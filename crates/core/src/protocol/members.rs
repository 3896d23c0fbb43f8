//! The receivers of one transfer as its sender knows them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::path::Path;
use super::polls::SentPoll;
use crate::wire::{ReceiverId, ReceiverState, Status};

/// What a member may cost, in symbols sent while it takes part: so many for each one that it
/// says it gained, so many times the file for losses at the beginning, and so many for
/// small files.
const COST_PER_GAINED: u64 = 20;
const COST_IN_FILES: u64 = 8;
const FREE_COST: u64 = 8192;

/// Only this many are kept track of; more are served but not waited for.
pub(super) const MAX_MEMBERS: usize = 10_000;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) window: u16,
    pub(super) standing: Standing,
    /// Takes part in the present pass over the file: the sender waits for it.
    pub(super) in_pass: bool,
    pub(super) joined_at: Instant,
    pub(super) last_heard: Instant,
    /// For how long it was waited for, since it last gained anything; pauses do not make it less.
    pub(super) idle: Duration,
    pub(super) status: Option<Status>,
    /// Symbols sent before it took part.
    pub(super) joined_sent: u64,
    /// The fewest symbols of the file that it ever said it lacked.
    pub(super) least_lacking: u64,
    pub(super) verifying_since: Option<Instant>,
    /// Symbols sent when its latest status was asked for, and what it had received.
    pub(super) counted: (u64, u64),
    pub(super) path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Receiving,
    Confirmed,
    Failed(String),
    /// Given up for now; a word from it brings it back.
    Silent,
}

impl Member {
    pub(super) fn is_receiving(&self) -> bool {
        self.standing == Standing::Receiving
    }

    /// Whether the sender waits for it in the present pass.
    fn is_waited_for(&self) -> bool {
        self.in_pass && self.is_receiving()
    }

    /// Whether something is expected of it: it lacks symbols of the blocks below `horizon`,
    /// does not speak of them, or cannot take any.
    fn is_expected_to_advance(&self, horizon: u32) -> bool {
        self.status.as_ref().is_none_or(|status| {
            !status.runs.is_empty() || status.window == 0 || status.covered < horizon
        })
    }

    pub(super) fn answered_round(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.round)
    }

    fn take_status(&mut self, now: Instant, answer: Answer, window: u64) {
        let Answer { status, poll, lacking, file } = answer;
        if self.status.is_none() || lacking < self.least_lacking {
            self.idle = Duration::ZERO;
        }
        self.least_lacking = self.least_lacking.min(lacking);
        let gained = file.saturating_sub(self.least_lacking);
        let allowed = COST_PER_GAINED * gained + COST_IN_FILES * file + FREE_COST;
        if poll.is_some_and(|poll| poll.sent.saturating_sub(self.joined_sent) > allowed) {
            let reason = "lacks more and more, whatever is sent".to_owned();
            self.standing = Standing::Failed(reason);
        }
        // Hashing a large file takes time and shows no progress. Who says once that he has all
        // is held to it.
        if status.state == ReceiverState::Verifying || lacking == 0 {
            self.idle = Duration::ZERO;
            self.verifying_since.get_or_insert(now);
        }
        let (sent_before, received_before) = self.counted;
        if let Some(poll) = poll.filter(|poll| poll.sent > sent_before) {
            let received = status.received.saturating_sub(received_before) as f64;
            let sent = (poll.sent - sent_before) as f64;
            let lost = 1.0 - (received / sent).min(1.0);
            let took = now.saturating_duration_since(poll.at);
            let queue = self.path.queue(took, poll.is_repeat);
            self.path.on_answer(queue, lost, sent, window as f64);
            self.counted = (poll.sent, status.received);
        }
        self.status = Some(status);
    }
}

/// A status with what the sender knows of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    /// What it answers, if that is remembered.
    pub(super) poll: Option<SentPoll>,
    /// Symbols of the file that it says it lacks, those not sent yet included.
    pub(super) lacking: u64,
    /// Symbols of the file.
    pub(super) file: u64,
}

/// How long members may go on without what is expected of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Without a word: it is not waited for.
    pub(super) stall: Duration,
    /// Without a word: it is given up.
    pub(super) silence: Duration,
    /// Without a gain.
    pub(super) idle: Duration,
    /// Verifying.
    pub(super) verifying: Duration,
}

/// What everybody in the pass has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// This poll, or a later one.
    pub(super) round: u32,
    /// About the blocks below this one.
    pub(super) covered: u32,
}

/// The member or members with the oldest answer, so that a look at all is only needed when
/// the last of them has moved on.
#[derive(Debug, Clone, Copy)]
struct Slowest {
    round: u32,
    count: usize,
}

#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<ReceiverId, Member>,
    /// `None` when it must be looked for.
    slowest: Option<Slowest>,
    window: Option<usize>,
    receiving: Option<usize>,
    worst_loss: Option<f64>,
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
        self.look_again();
    }

    fn look_again(&mut self) {
        self.slowest = None;
        self.window = None;
        self.receiving = None;
        self.worst_loss = None;
    }

    /// A word from `id`, if it comes from the address it joined from.
    pub(super) fn heard(&mut self, now: Instant, id: ReceiverId, from: SocketAddr) -> bool {
        let Some(member) = self.all.get_mut(&id).filter(|member| member.address == from) else {
            return false;
        };
        member.last_heard = now;
        if member.standing == Standing::Silent {
            member.standing = Standing::Receiving;
            self.look_again();
        }
        true
    }

    pub(super) fn set_standing(&mut self, id: ReceiverId, standing: Standing) {
        if let Some(member) = self.all.get_mut(&id) {
            member.standing = standing;
            self.look_again();
        }
    }

    pub(super) fn set_window(&mut self, id: ReceiverId, window: u16) {
        let Some(member) = self.all.get_mut(&id) else { return };
        let old = usize::from(std::mem::replace(&mut member.window, window));
        if self.window.is_some_and(|least| old <= least || usize::from(window) < least) {
            self.window = None;
        }
    }

    /// A newer answer than the one before, to `poll` if that is remembered; `window` symbols
    /// may be on the way.
    pub(super) fn set_status(&mut self, now: Instant, id: ReceiverId, answer: Answer, window: u64) {
        let Some(member) = self.all.get_mut(&id) else { return };
        if member.in_pass
            && let Some(slowest) = &mut self.slowest
            && member.answered_round() <= slowest.round
        {
            slowest.count = slowest.count.saturating_sub(1);
        }
        member.take_status(now, answer, window);
        self.worst_loss = None;
        if !member.is_receiving() {
            self.look_again();
        }
        if self.slowest.is_some_and(|slowest| slowest.count == 0) {
            self.slowest = None;
        }
    }

    /// All are waited for from `now` on.
    pub(super) fn start(&mut self, now: Instant) {
        for member in self.all.values_mut() {
            member.last_heard = now;
        }
        self.judged_at = Some(now);
    }

    /// All take part in a new pass.
    pub(super) fn start_pass(&mut self) {
        for member in self.all.values_mut() {
            member.in_pass = true;
        }
        self.look_again();
    }

    /// Those that the sender waits for in the present pass.
    pub(super) fn in_pass(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.is_waited_for())
    }

    /// Whether anybody who was there from the beginning is still receiving.
    pub(super) fn is_first_receiving(&self, started: Instant) -> bool {
        self.all.values().any(|member| member.is_receiving() && member.joined_at <= started)
    }

    /// How many those are that have neither the file nor been given up.
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

    /// What everybody in the pass has answered, if that has changed.
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

    /// Blocks that everybody in the pass can hold.
    pub(super) fn window(&mut self) -> usize {
        if let Some(window) = self.window {
            return window;
        }
        let window = self.in_pass().map(|member| usize::from(member.window)).min().unwrap_or(0);
        self.window = Some(window);
        window
    }

    /// Loss at the member in the pass that suffers most.
    pub(super) fn worst_loss(&mut self) -> f64 {
        if let Some(loss) = self.worst_loss {
            return loss;
        }
        let loss = self.in_pass().map(|member| member.path.loss()).fold(0.0, f64::max);
        self.worst_loss = Some(loss);
        loss
    }

    /// The one in the pass whose answers take much longer than all others'.
    pub(super) fn slowest_by_far(&self) -> Option<ReceiverId> {
        self.first_by_far(|member| member.path.round_trip().as_secs_f64())
    }

    /// The one in the pass that can hold much fewer blocks than all others.
    pub(super) fn narrowest_by_far(&self) -> Option<ReceiverId> {
        self.first_by_far(|member| 1.0 / (f64::from(member.window) + 1.0))
    }

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

    /// Whether somebody in the pass besides `id` still needs symbols.
    pub(super) fn is_another_waiting(&self, id: ReceiverId) -> bool {
        self.all.iter().any(|(other, member)| {
            let state = member.status.as_ref().map(|status| status.state);
            let needs_symbols = state != Some(ReceiverState::Verifying);
            *other != id && member.is_waited_for() && needs_symbols
        })
    }

    /// It is not waited for in the present pass any more.
    pub(super) fn leave_pass(&mut self, id: ReceiverId) {
        if let Some(member) = self.all.get_mut(&id) {
            member.in_pass = false;
            self.look_again();
        }
    }

    /// The window was cut.
    pub(super) fn on_cut(&mut self) {
        for member in self.all.values_mut() {
            member.path.on_cut();
        }
    }

    /// The worst deficit of each block over all that still receive.
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

    /// When nobody is left to wait for, those that are merely late take their place.
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
            self.look_again();
        }
        admitted
    }

    /// Leaves behind who is late and gives up who is silent.
    pub(super) fn judge(&mut self, now: Instant, patience: Patience, horizon: u32) {
        self.look_again();
        let passed = now.saturating_duration_since(self.judged_at.replace(now).unwrap_or(now));
        let mut latest: HashMap<SocketAddr, Instant> = HashMap::new();
        for member in self.all.values() {
            let joined = latest.entry(member.address).or_insert(member.joined_at);
            *joined = member.joined_at.max(*joined);
        }
        for member in self.all.values_mut().filter(|member| member.is_receiving()) {
            let quiet = now.saturating_duration_since(member.last_heard);
            let is_late = quiet >= patience.stall;
            let is_replaced = latest.get(&member.address) > Some(&member.last_heard);
            if quiet >= patience.silence || is_late && is_replaced {
                member.standing = Standing::Silent;
            } else if member.in_pass && member.is_expected_to_advance(horizon) {
                // Out of the pass nobody repairs what it lacks; else it may wait for others.
                member.idle += passed;
                if member.idle >= patience.idle {
                    member.standing = Standing::Failed("made no progress".to_owned());
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
    }

    /// Whether `id` has been replaced by a later receiver at the same address: a server
    /// that was started again.
    pub(super) fn is_replaced(&self, id: ReceiverId) -> bool {
        let Some(gone) = self.all.get(&id) else { return false };
        self.all.iter().any(|(other, member)| {
            *other != id && member.address == gone.address && member.joined_at > gone.last_heard
        })
    }
}
