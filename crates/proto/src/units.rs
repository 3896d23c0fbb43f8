//! Types for counts that are easily confused.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// A count of encoding symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Symbols(pub(crate) u64);

impl Symbols {
    pub(crate) const ZERO: Self = Self(0);

    /// The difference, or zero if `other` is larger.
    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The number of datagrams that carry the symbols: one for each symbol.
    pub(crate) fn datagrams(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Add for Symbols {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Symbols {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Symbols {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sum for Symbols {
    fn sum<I: Iterator<Item = Self>>(symbols: I) -> Self {
        symbols.fold(Self::ZERO, Self::add)
    }
}

/// A count of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Blocks(pub(crate) usize);
