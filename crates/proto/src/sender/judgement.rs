//! The judgement of members: who is waited for no longer, and who is given up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::members::{Member, Members, Standing};
use crate::units::Symbols;
use crate::wire::ReceiverId;

/// An answer is far later than others if it takes this many times as long, and at least so long.
const FAR_LATER: u32 = 4;
const LATE: Duration = Duration::from_millis(100);

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

impl Members {
    /// Whether most members in the pass are not behind. Then those that are hold them up.
    fn are_most_ahead(&self, horizon: u32) -> bool {
        let behind = self.in_pass().filter(|member| member.is_behind(horizon)).count();
        behind > 0 && 2 * behind <= self.in_pass().count()
    }

    /// The number of a poll that at least half of the members in the pass have answered.
    fn usual_round(&self) -> u32 {
        let mut rounds: Vec<u32> = self.in_pass().map(Member::answered_round).collect();
        rounds.sort_unstable();
        rounds.get(rounds.len() / 2).copied().unwrap_or_default()
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
        let usual_round = if is_congested { self.usual_round() } else { 0 };
        self.clear_caches();
        let passed = now.saturating_duration_since(self.judged_at.replace(now).unwrap_or(now));
        let mut latest: HashMap<SocketAddr, Instant> = HashMap::new();
        for member in self.all.values() {
            let joined = latest.entry(member.address).or_insert(member.joined_at);
            *joined = member.joined_at.max(*joined);
        }
        for member in self.all.values_mut().filter(|member| member.is_receiving()) {
            let quiet = now.saturating_duration_since(member.last_heard);
            // One that says something, but never answers a poll, has no round trip.
            let round = member.answered_round();
            let is_mute = round < usual_round && round == member.judged_round;
            member.judged_round = round;
            let is_far_later =
                is_mute || far_later.is_some_and(|late| member.path.round_trip() > late);
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
}
