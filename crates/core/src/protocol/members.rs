//! The receivers of one transfer as its sender knows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::wire::{ReceiverId, Status};

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
    pub(super) last_progress: Instant,
    pub(super) status: Option<Status>,
    /// Symbols sent when its latest status was asked for, and what it had received.
    pub(super) counted: (u64, u64),
    /// Share of symbols lost between its last two statuses.
    pub(super) loss: f64,
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

    /// Whether something is expected of it: it lacks symbols, or cannot take any.
    fn is_expected_to_advance(&self) -> bool {
        self.status.as_ref().is_none_or(|status| !status.runs.is_empty() || status.window == 0)
    }

    pub(super) fn acknowledged_round(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.round)
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        if self.standing == Standing::Silent {
            self.standing = Standing::Receiving;
            self.last_progress = now;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) all: BTreeMap<ReceiverId, Member>,
}

impl Members {
    /// Those that the sender waits for in the present pass.
    pub(super) fn in_pass(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.in_pass && member.is_receiving())
    }

    pub(super) fn receiving(&self) -> impl Iterator<Item = &Member> {
        self.all.values().filter(|member| member.is_receiving())
    }

    pub(super) fn acknowledged_round(&self) -> Option<u32> {
        self.in_pass().map(Member::acknowledged_round).min()
    }

    pub(super) fn window(&self) -> usize {
        self.in_pass().map(|member| usize::from(member.window)).min().unwrap_or(0)
    }

    /// What is known of `block`: the worst deficit of those in the pass, `None` while one
    /// of them has not reported on it in `round` or later.
    pub(super) fn worst_deficit(&self, block: u32, round: u32) -> Option<u16> {
        let mut worst = 0;
        for member in self.in_pass() {
            let status = member.status.as_ref().filter(|status| status.round >= round)?;
            worst = worst.max(status.deficit(block)?);
        }
        Some(worst)
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
        admitted
    }

    /// Leaves behind who is late and gives up who is silent.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        stall: Duration,
        silence: Duration,
        idle: Duration,
    ) {
        for member in self.all.values_mut().filter(|member| member.is_receiving()) {
            let quiet = now.saturating_duration_since(member.last_heard);
            if quiet >= stall {
                member.in_pass = false;
            }
            if quiet >= silence {
                member.standing = Standing::Silent;
            } else if !member.is_expected_to_advance() {
                // It waits for others.
                member.last_progress = now;
            } else if now.saturating_duration_since(member.last_progress) >= idle {
                member.standing = Standing::Failed("made no progress".to_owned());
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
