//! Counts of dropped datagrams, by reason.

use std::collections::BTreeMap;

/// The counts by reason, since they were last reported.
#[derive(Debug, Default)]
pub(super) struct DroppedDatagrams(BTreeMap<String, u64>);

impl DroppedDatagrams {
    /// Adds `count` to a reason. A sender must not be able to choose the reason's text.
    pub(super) fn count(&mut self, reason: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.entry(reason.into()).or_default() += count;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the counts and sets them to zero.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (String, u64)> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}
